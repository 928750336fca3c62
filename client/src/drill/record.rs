//! What a drill record says. Field by field; the verdicts follow from the
//! numbers and from nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::moment::Moment;

/// The predicate type of this version of the record.
pub const PREDICATE_TYPE: &str = "urn:coffer:drill:v1";

pub(super) const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
pub(super) const SUBJECT_NAME: &str = "manifest of the restored tree";

/// The largest integer of canonical JSON, in nanoseconds some 104 days. A
/// longer duration is written as this one and means "at least".
pub(super) const NANOS_MAX: u64 = (1 << 53) - 1;

/// What no drill record proves; part of every record.
pub const NOT_PROVEN: [&str; 4] = [
    "that a later restoration will succeed or take as long",
    "that the source tree was what its owner wanted to keep",
    "that the clock of the restoring machine was right",
    "that lost sites and keys were destroyed outside this drill's directories",
];

/// What was promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objectives {
    /// Recovery time objective, seconds.
    pub rto_seconds: u64,
    /// Recovery point objective, seconds.
    pub rpo_seconds: u64,
}

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Recovery time actual: from the declared loss to the last verified file, nanoseconds.
    pub rta_ns: u64,
    /// Recovery point actual: from the newest recovered write to the declared loss, nanoseconds.
    pub rpa_ns: u64,
}

/// One phase of the restoration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// From the declared loss to its beginning, nanoseconds.
    pub start_ns: u64,
    /// How long it took, nanoseconds.
    pub duration_ns: u64,
    /// Bytes that it handled; 0 where bytes are not its measure.
    pub bytes: u64,
}

/// The manifests that were compared; SHA-256 as lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifests {
    /// Made at the source, while it was backed up.
    pub source_sha256: String,
    /// Made from the restored tree.
    pub restored_sha256: String,
    /// The leaf of the tenant's log in which the source's digest was noted.
    pub source_note_index: u64,
}

/// In what the trees differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Differences {
    /// How many.
    pub count: u64,
    /// How many of each class.
    pub by_class: BTreeMap<String, u64>,
    /// BLAKE3 of the list that stays with the tenant; absent when there are none.
    pub list_blake3: Option<String>,
}

/// The tenant's log around the drill: signed checkpoints as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The last one that was known before the loss, if one was pinned.
    pub checkpoint_before: Option<String>,
    /// The first one after the restoration.
    pub checkpoint_after: String,
}

/// Which shares opened which key, by index; never what they hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shares {
    /// Of the deployment's root key, at the provider's custodians.
    pub provider: Vec<u64>,
    /// Of the tenant's recovery key, with the tenant's people.
    pub tenant: Vec<u64>,
}

/// What wrote the record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Software {
    /// `coffer`.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Whether one objective was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It was.
    #[serde(rename = "satisfied")]
    Satisfied,
    /// It was not.
    #[serde(rename = "not satisfied")]
    NotSatisfied,
}

impl From<bool> for Verdict {
    fn from(met: bool) -> Self {
        if met { Self::Satisfied } else { Self::NotSatisfied }
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if *self == Self::Satisfied { "satisfied" } else { "not satisfied" })
    }
}

/// One verdict for each objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdicts {
    /// No difference between source and restored tree.
    pub integrity: Verdict,
    /// RTA within RTO; a tree with differences was not recovered in any time.
    pub rto: Verdict,
    /// RPA within RPO.
    pub rpo: Verdict,
}

/// The predicate of a drill's statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillRecord {
    /// The drill's random id, 32 hexadecimal digits.
    pub drill: String,
    /// The tenant's id.
    pub tenant: String,
    /// What was lost, in words.
    pub scenario: String,
    /// Sites of the deployment.
    pub sites: u64,
    /// Names of those that were lost.
    pub sites_lost: Vec<String>,
    /// What was promised.
    pub objectives: Objectives,
    /// What was measured.
    pub measured: Measured,
    /// When the loss was declared.
    pub declared: Moment,
    /// When the last file was verified.
    pub finished: Moment,
    /// What was done when.
    pub phases: Vec<Phase>,
    /// Regular files restored, hard links once.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// What was compared.
    pub manifests: Manifests,
    /// With what result.
    pub differences: Differences,
    /// The log before and after.
    pub evidence: Evidence,
    /// Which shares were used.
    pub shares: Shares,
    /// What wrote this.
    pub software: Software,
    /// Whether the objectives were met.
    pub verdicts: Verdicts,
    /// [`NOT_PROVEN`].
    pub not_proven: Vec<String>,
}

/// A duration as a record writes it.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).min(NANOS_MAX)
}

impl Measured {
    /// From two durations; see [`NOT_PROVEN`] about the clock.
    pub fn new(rta: Duration, rpa: Duration) -> Self {
        Self { rta_ns: nanos(rta), rpa_ns: nanos(rpa) }
    }

    /// Whether it is known how much was lost: where nothing came back, or not
    /// all and nobody can say how old the rest is, the longest time stands here.
    pub fn is_loss_known(&self) -> bool {
        self.rpa_ns < NANOS_MAX
    }
}

impl Phase {
    /// From durations.
    pub fn new(name: impl Into<String>, start: Duration, duration: Duration, bytes: u64) -> Self {
        Self {
            name: name.into(),
            start_ns: nanos(start),
            duration_ns: nanos(duration),
            bytes: bytes.min(NANOS_MAX),
        }
    }
}

impl Software {
    /// This program.
    pub fn this() -> Self {
        Self { name: "coffer".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

impl Verdicts {
    /// What the numbers say.
    pub fn of(objectives: &Objectives, measured: &Measured, differences: &Differences) -> Self {
        let within = |ns: u64, seconds: u64| u128::from(ns) <= u128::from(seconds) * 1_000_000_000;
        let whole = differences.count == 0;
        Self {
            integrity: whole.into(),
            rto: (whole && within(measured.rta_ns, objectives.rto_seconds)).into(),
            rpo: within(measured.rpa_ns, objectives.rpo_seconds).into(),
        }
    }
}

impl DrillRecord {
    /// The in-toto statement around the record.
    pub fn to_statement(&self) -> Value {
        // Serialising plain structs of strings, integers and lists cannot
        // fail; a null predicate would be refused by every verifier.
        let predicate = serde_json::to_value(self).unwrap_or_default();
        json!({
            "_type": STATEMENT_TYPE,
            "subject": [{ "name": SUBJECT_NAME, "digest": { "sha256": self.manifests.restored_sha256 } }],
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        })
    }
}
