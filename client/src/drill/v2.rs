//! The second version of the record, and the third, which says more of what
//! was foreseen: everything that a restoration test has to state, in one signed
//! in-toto statement. The verdicts follow from the numbers and from nothing else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::moment::Moment;
use super::plan::{Person, Previous, Promise, Scenario, Scope, Subject, Trigger};
use super::predict::Prediction;
use super::record::{Differences, Measured, Phase, Shares, Software, Verdict};

/// The predicate type of this version of the record.
pub const PREDICATE_TYPE_V2: &str = "urn:coffer:drill:v2";

/// The predicate type of the third version: the second, with a prediction that
/// says what it has learned and how far off it may be.
pub const PREDICATE_TYPE_V3: &str = "urn:coffer:drill:v3";

pub(super) const SUBJECT_V2: &str = "what the drill restored";

/// A prediction holds if the measured time is within this of it, in percent.
pub const PREDICTION_PERCENT: u64 = 25;

/// A drill that takes more than this many thousandths of the middle of its
/// predecessors' times is a regression.
pub const REGRESSION_MILLI: u64 = 1500;

/// What no drill record of this version proves; part of every record.
pub const NOT_PROVEN_V2: [&str; 5] = [
    "that a later restoration will succeed or take as long",
    "that the source was what its owner wanted to keep",
    "that the clock of the restoring machine was right",
    "that a site which this drill did without is lost to anybody else: on a running service the loss is supposed, and the log is still replicated to it",
    "that the names of people are those of the people who took part",
];

/// The plan that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanNote {
    /// SHA-256 of its bytes.
    pub sha256: String,
    /// The leaf of the tenant's log that notes it.
    pub log_index: u64,
}

/// How the sample was drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drawn {
    /// The cosigned checkpoint, as text.
    pub checkpoint: String,
    /// The leaf that notes its digest.
    pub log_index: u64,
    /// The seed that it gives, 64 hexadecimal digits.
    pub seed: String,
    /// SHA-256 of the sample's list.
    pub sample_sha256: String,
}

/// Where it was restored, and what keeps that apart from the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// The kind of target: "new directory", "memory".
    pub target: String,
    /// What keeps it apart, each a fact that this program saw.
    pub separation: Vec<String>,
    /// The most bytes a second that the drill let itself read; none: no bound.
    pub max_rate: Option<u64>,
}

/// When what happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeAxis {
    /// What the times are from.
    pub clock: String,
    /// When the loss was declared.
    pub declared: Moment,
    /// When the last object or file was verified.
    pub finished: Moment,
    /// The phases.
    pub phases: Vec<Phase>,
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Results {
    /// Objects or files that were to come back.
    pub expected: u64,
    /// Their bytes.
    pub expected_bytes: u64,
    /// Those that came back and were verified.
    pub restored: u64,
    /// Their bytes.
    pub restored_bytes: u64,
    /// Objects that could not be read at all.
    pub unreadable: u64,
    /// Why, by class, with how often.
    pub failures: BTreeMap<String, u64>,
    /// SHA-256 of what was expected: the source's manifest, or the sample's list.
    pub expected_sha256: String,
    /// SHA-256 of what came back, in the same form.
    pub restored_sha256: String,
    /// In what they differ.
    pub differences: Differences,
    /// In how many reads each site answered.
    pub sites_answered: BTreeMap<String, u64>,
    /// Sites of the deployment.
    pub sites: u64,
}

/// Whose keys opened what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyEvidence {
    /// Shares that took part, by index, never what they hold.
    pub shares: Shares,
    /// The key that verifies this record and the log.
    pub log_key: String,
}

/// Something that must not have been possible.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NegativeCheck {
    /// What was tried.
    pub tried: String,
    /// How often.
    pub count: u64,
    /// How often it was possible; anything but 0 is a failure.
    pub possible: u64,
}

/// How the drill compares with those before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trend {
    /// Earlier drills of this scenario, bucket and subject.
    pub earlier: u64,
    /// The middle of their times, nanoseconds.
    pub middle_ns: u64,
    /// This one took more than [`REGRESSION_MILLI`] thousandths of it.
    pub regression: bool,
}

/// How much of the bucket has been restored, and by when all of it will be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Coverage {
    /// Objects that a satisfied drill of this cycle restored.
    pub restored: u64,
    /// Objects that are there.
    pub objects: u64,
    /// When the last of them will have been, at this pace; none without a schedule.
    pub whole_by: Option<Moment>,
}

/// A verdict and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judged {
    /// Satisfied or not.
    pub verdict: Verdict,
    /// The numbers that it follows from, in words.
    pub reason: String,
}

/// The predicate of a drill's statement, version 2 or 3.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillRecordV2 {
    /// The drill's id, that of its plan.
    pub drill: String,
    /// The tenant's id.
    pub tenant: String,
    /// The plan.
    pub plan: PlanNote,
    /// Why it was done.
    pub trigger: Trigger,
    /// Who took part.
    pub people: Vec<Person>,
    /// What was supposed to be lost.
    pub scenario: Scenario,
    /// What was to come back.
    pub scope: Scope,
    /// How the sample was drawn; none where all was restored.
    pub drawn: Option<Drawn>,
    /// What was promised.
    pub promise: Promise,
    /// Where it was restored.
    pub environment: Environment,
    /// When what happened.
    pub timeline: TimeAxis,
    /// What came back.
    pub results: Results,
    /// Whose keys.
    pub keys: KeyEvidence,
    /// What must not have been possible.
    pub negative: Vec<NegativeCheck>,
    /// What was expected.
    pub predicted: Prediction,
    /// What was measured.
    pub measured: Measured,
    /// In what the drill departed from its plan.
    pub deviations: Vec<String>,
    /// One verdict for each objective.
    pub verdicts: BTreeMap<String, Judged>,
    /// The drill before it.
    pub previous: Option<Previous>,
    /// How it compares with those before it.
    pub trend: Option<Trend>,
    /// How much has been restored so far; of sampled drills.
    pub coverage: Option<Coverage>,
    /// When the next one is due.
    pub next_due: Option<Moment>,
    /// The last checkpoint before, if one was remembered.
    pub checkpoint_before: Option<String>,
    /// The first one after.
    pub checkpoint_after: String,
    /// What wrote this.
    pub software: Software,
    /// [`NOT_PROVEN_V2`].
    pub not_proven: Vec<String>,
}

fn judged(met: bool, reason: String) -> Judged {
    Judged { verdict: met.into(), reason }
}

fn within(ns: u64, seconds: u64) -> bool {
    u128::from(ns) <= u128::from(seconds) * 1_000_000_000
}

/// Seconds with milliseconds, for people.
fn seconds(ns: u64) -> String {
    let millis = ns / 1_000_000;
    format!("{}.{:03} s", millis / 1000, millis % 1000)
}

impl DrillRecordV2 {
    /// Whether the loss was foreseen to cost something, and cost exactly that.
    pub fn is_foreseen_loss(&self) -> bool {
        let results = &self.results;
        let lost_as_foreseen = match self.scope.subject {
            Subject::Objects => results.unreadable == self.predicted.unrecoverable,
            Subject::Tree => results.restored == 0 && results.unreadable > 0,
        };
        self.predicted.unrecoverable > 0 && lost_as_foreseen
    }

    fn outcome(&self) -> Judged {
        let (unreadable, foreseen) = (self.results.unreadable, self.predicted.unrecoverable);
        let agree = if foreseen == 0 { unreadable == 0 } else { self.is_foreseen_loss() };
        let words =
            format!("{foreseen} objects were foreseen to be unrecoverable, {unreadable} were unreadable");
        judged(agree, words)
    }

    fn completeness(&self) -> Judged {
        let Results { expected, restored, unreadable, .. } = &self.results;
        let mut reason = format!("{restored} of {expected} came back");
        if *unreadable > 0 {
            let why: Vec<String> =
                self.results.failures.iter().map(|(class, count)| format!("{class} ({count})")).collect();
            reason = format!("{reason}; unreadable: {}", why.join(", "));
        }
        judged(expected == restored, reason)
    }

    fn integrity(&self) -> Judged {
        let differences = &self.results.differences;
        let classes: Vec<String> =
            differences.by_class.iter().map(|(class, count)| format!("{class} ({count})")).collect();
        let reason = match differences.count {
            0 => "what came back is what was expected".to_owned(),
            count => format!("{count} differences: {}", classes.join(", ")),
        };
        judged(differences.count == 0, reason)
    }

    fn without_lost(&self) -> Judged {
        let lost = &self.scenario.sites_lost;
        let asked: Vec<&String> =
            self.results.sites_answered.keys().filter(|name| lost.contains(name)).collect();
        let reason = match asked.as_slice() {
            [] => format!("none of the {} lost sites answered a read", lost.len()),
            some => format!("lost sites answered: {some:?}"),
        };
        judged(asked.is_empty(), reason)
    }

    fn negative_checks(&self) -> Judged {
        let possible: Vec<String> = self
            .negative
            .iter()
            .filter(|check| check.possible > 0)
            .map(|check| format!("{} ({} of {})", check.tried, check.possible, check.count))
            .collect();
        let tried: u64 = self.negative.iter().map(|check| check.count).sum();
        let reason = match possible.as_slice() {
            [] => format!("nothing of {tried} attempts was possible"),
            some => format!("possible, and must not be: {}", some.join("; ")),
        };
        judged(possible.is_empty() && tried > 0, reason)
    }

    /// The verdicts that the numbers give.
    pub fn verdicts_of_numbers(&self) -> BTreeMap<String, Judged> {
        let whole = self.integrity().verdict == Verdict::Satisfied
            && self.completeness().verdict == Verdict::Satisfied;
        let (promise, measured) = (&self.promise, &self.measured);
        let rto = judged(
            whole && within(measured.rta_ns, promise.rto_seconds),
            format!(
                "{} of {} s{}",
                seconds(measured.rta_ns),
                promise.rto_seconds,
                if whole { "" } else { ", and not whole" }
            ),
        );
        let rpo = judged(
            within(measured.rpa_ns, promise.rpo_seconds),
            format!("{} of {} s", seconds(measured.rpa_ns), promise.rpo_seconds),
        );
        let mut all = BTreeMap::from([
            ("completeness".to_owned(), self.completeness()),
            ("integrity".to_owned(), self.integrity()),
            ("outcome as foreseen".to_owned(), self.outcome()),
            ("rpo".to_owned(), rpo),
            ("rto".to_owned(), rto),
            ("without what is lost".to_owned(), self.without_lost()),
        ]);
        if !self.negative.is_empty() {
            all.insert("negative".to_owned(), self.negative_checks());
        }
        all
    }

    /// Whether every objective was met.
    pub fn is_satisfied(&self) -> bool {
        self.verdicts.values().all(|judged| judged.verdict == Verdict::Satisfied)
    }

    /// Whether the drill ended as its plan foresaw: satisfied, or a loss that
    /// was predicted beforehand and was exactly that.
    pub fn is_as_foreseen(&self) -> bool {
        let ignored = ["completeness", "rpo", "rto"];
        let others = self.verdicts.iter().filter(|(name, _)| !ignored.contains(&name.as_str()));
        self.is_satisfied()
            || self.is_foreseen_loss() && others.into_iter().all(|(_, j)| j.verdict == Verdict::Satisfied)
    }

    /// What the phases took that were predicted, nanoseconds.
    pub fn predicted_part_ns(&self) -> u64 {
        let named = |name: &str| self.predicted.phases.iter().any(|phase| phase.name == name);
        let phases = self.timeline.phases.iter().filter(|phase| named(&phase.name));
        phases.map(|phase| phase.duration_ns).sum()
    }

    /// How far the measured time was from the predicted one in the phases
    /// that were predicted, in percent of it; none where nothing was predicted.
    pub fn prediction_error_percent(&self) -> Option<u64> {
        let (measured, predicted) = (self.predicted_part_ns(), self.predicted.total_ns);
        (predicted > 0 && measured > 0).then(|| {
            let off = u128::from(measured.abs_diff(predicted)) * 100 / u128::from(measured);
            u64::try_from(off).unwrap_or(u64::MAX)
        })
    }

    /// The predicate type of its version.
    pub fn predicate_type(&self) -> &'static str {
        if self.predicted.is_of_second_format() { PREDICATE_TYPE_V3 } else { PREDICATE_TYPE_V2 }
    }

    /// The in-toto statement around the record.
    pub fn to_statement(&self) -> Value {
        // Plain structs of strings and integers: see the first version.
        let predicate = serde_json::to_value(self).unwrap_or_default();
        json!({
            "_type": super::record::STATEMENT_TYPE,
            "subject": [{ "name": SUBJECT_V2, "digest": { "sha256": self.results.restored_sha256 } }],
            "predicateType": self.predicate_type(),
            "predicate": predicate,
        })
    }
}
