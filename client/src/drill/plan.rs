//! The plan of a drill: what will be lost, what is to come back, how long that
//! should take. Made, kept and noted in the log before anything is restored,
//! so that a prediction is one and a sample cannot be chosen afterwards.

use coffer_keys::{CanonicalError, parse_canonical, to_canonical};
use serde::{Deserialize, Serialize};

use super::moment::Moment;
use super::predict::Prediction;

/// The format of plans that this program writes. It reads format 1 as well,
/// whose predictions say neither what was learned nor how far off they may be.
pub const PLAN_FORMAT: u64 = 2;

/// The label under which a plan's digest is noted in the log.
pub const PLAN_LABEL: &str = "drill-plan";

/// No plan comes near. In bytes.
pub const PLAN_BYTES_MAX: usize = 1 << 20;

/// What kind of loss a drill supposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScenarioKind {
    /// Nothing is lost: the restoration alone is rehearsed.
    Rehearsal,
    /// Named sites.
    Sites,
    /// Every site in one or more places.
    Jurisdiction,
    /// The catalogue, made again from the sites.
    Catalogue,
    /// The key service: begins with its custodians, whose ceremony counts.
    KeyService,
    /// Everything was rewritten or deleted with valid credentials after a moment.
    Ransomware,
    /// The machine of the profile: only kit and shares are left.
    LostHost,
    /// The provider and its programs: an independent reader restores.
    ProviderExit,
    /// What must not come back, and what must not be reached.
    Negative,
}

impl ScenarioKind {
    /// Whether a service is made again first, from what the loss leaves.
    pub fn begins_cold(self) -> bool {
        matches!(self, Self::Catalogue | Self::KeyService | Self::LostHost)
    }

    /// Whether a reader restores that shares nothing with this program.
    pub fn is_by_another_reader(self) -> bool {
        self == Self::ProviderExit
    }
}

impl std::fmt::Display for ScenarioKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rehearsal => "rehearsal",
            Self::Sites => "sites",
            Self::Jurisdiction => "jurisdiction",
            Self::Catalogue => "catalogue",
            Self::KeyService => "key-service",
            Self::Ransomware => "ransomware",
            Self::LostHost => "lost-host",
            Self::ProviderExit => "provider-exit",
            Self::Negative => "negative",
        })
    }
}

/// What is supposed to be lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Which kind of loss.
    pub kind: ScenarioKind,
    /// Names of the sites that are lost, in order.
    pub sites_lost: Vec<String>,
    /// Jurisdictions that are lost: country codes.
    pub places_lost: Vec<String>,
    /// The moment that is restored, where it is not now.
    pub as_of: Option<Moment>,
}

/// What made somebody drill.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trigger {
    /// A schedule.
    Scheduled,
    /// Somebody wanted to know.
    SelfChallenge,
    /// Something was changed.
    Change,
    /// Something had happened.
    Incident,
}

/// Somebody who takes part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Person {
    /// As what: "operator", "approver", "witness", "custodian".
    pub role: String,
    /// Who, as the tenant calls them.
    pub name: String,
}

/// What is to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A whole tree out of a backup repository.
    Tree,
    /// Objects of a bucket, all or a sample.
    Objects,
}

/// What a drill is about, and how its sample is drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    /// The bucket.
    pub bucket: String,
    /// A tree or objects.
    pub subject: Subject,
    /// The snapshot of the tree.
    pub snapshot: Option<String>,
    /// SHA-256 of the manifest made at the source of the tree.
    pub source_manifest_sha256: Option<String>,
    /// The leaf of the log that notes it.
    pub source_note_index: Option<u64>,
    /// Objects of the bucket at that moment.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// SHA-256 of the population's list; see `SAMPLE.md`.
    pub population_sha256: String,
    /// Lines of that list: what a sample may be drawn from.
    pub population: u64,
    /// `all`, or the name of the rule by which the sample is drawn.
    pub rule: String,
    /// How many are drawn; the population where it is all.
    pub sample: u64,
    /// How many were left out, because an earlier drill of this cycle had them.
    pub covered_before: u64,
    /// The key of the tenant's own cosigner, whose signature makes the seed.
    pub cosigner: Option<String>,
}

/// What was promised, and where that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promise {
    /// Recovery time objective, seconds.
    pub rto_seconds: u64,
    /// Recovery point objective, seconds.
    pub rpo_seconds: u64,
    /// Where the objectives come from: a contract, an impact analysis.
    pub source: String,
}

/// The drill before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Previous {
    /// Its id.
    pub drill: String,
    /// SHA-256 of its record's envelope.
    pub record_sha256: String,
    /// How long it took, nanoseconds.
    pub rta_ns: u64,
    /// Whether every verdict of it was satisfied.
    pub satisfied: bool,
}

/// A plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillPlan {
    /// [`PLAN_FORMAT`], or an earlier one.
    pub format: u64,
    /// The drill's random id, 32 hexadecimal digits.
    pub drill: String,
    /// The tenant's id.
    pub tenant: String,
    /// When it was made.
    pub made: Moment,
    /// Why.
    pub trigger: Trigger,
    /// Who takes part.
    pub people: Vec<Person>,
    /// What is supposed to be lost.
    pub scenario: Scenario,
    /// What is to come back.
    pub scope: Scope,
    /// What was promised.
    pub promise: Promise,
    /// What is expected.
    pub prediction: Prediction,
    /// The last drill of the same scenario and bucket.
    pub previous: Option<Previous>,
    /// When the next one is due, where a schedule says so.
    pub next_due: Option<Moment>,
}

/// Why bytes are no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanFormatError {
    /// Not canonical JSON.
    #[error("the plan is not canonical JSON: {0}")]
    Canonical(#[from] CanonicalError),
    /// Canonical, but no plan of a format that is known.
    #[error("the plan is not one of format 1 to {PLAN_FORMAT}: {0}")]
    Form(String),
}

impl DrillPlan {
    /// The bytes that are kept and whose digest is noted.
    ///
    /// # Errors
    /// [`PlanFormatError::Canonical`] for numbers beyond canonical JSON.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PlanFormatError> {
        let value = serde_json::to_value(self).map_err(|error| PlanFormatError::Form(error.to_string()))?;
        Ok(to_canonical(&value)?)
    }

    /// Reads a plan from its canonical bytes and no others.
    ///
    /// # Errors
    /// [`PlanFormatError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PlanFormatError> {
        if bytes.len() > PLAN_BYTES_MAX {
            return Err(PlanFormatError::Form("too long".to_owned()));
        }
        let value = parse_canonical(bytes)?;
        let plan: Self =
            serde_json::from_value(value).map_err(|error| PlanFormatError::Form(error.to_string()))?;
        let form = |what: String| Err(PlanFormatError::Form(what));
        match plan.format {
            1 if plan.prediction.is_of_second_format() => form("format 1 with fields of format 2".to_owned()),
            2 if !plan.prediction.is_consistent() => form("its prediction does not add up".to_owned()),
            1 | 2 => Ok(plan),
            other => form(format!("format {other}")),
        }
    }
}
