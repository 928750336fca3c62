//! What a report is made from: facts, a log and drill records, each verified
//! before it comes here, and the period that is reported on. The same material
//! always makes the same report, byte for byte.

use std::collections::BTreeSet;

use coffer_keys::{Checkpoint, leaf_hash, root_of};
use coffer_model::{Digest, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::facts::VerifiedFacts;
use crate::drill::{DrillRecord, DrillRecordV2, PLAN_LABEL, Verdict};
use crate::leaf::LeafView;

/// From when to when; both belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// The first moment.
    pub from: Timestamp,
    /// The last one.
    pub to: Timestamp,
}

impl Period {
    /// Whether a moment belongs to it.
    pub fn holds(&self, moment: Timestamp) -> bool {
        self.from <= moment && moment <= self.to
    }
}

/// One event of the log, as far as the checks look at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogEvent {
    /// Its place in the log.
    pub index: u64,
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// Who.
    pub actor: String,
    /// In whose log it says that it is.
    pub account: String,
    /// What.
    pub operation: String,
    /// On what.
    pub subject: String,
    /// intent, done, denied, failed.
    pub outcome: String,
}

impl LogEvent {
    /// The event in a leaf; what a leaf does not say is empty.
    pub fn read(index: u64, leaf: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(leaf).unwrap_or_default();
        let leaf = LeafView(&value);
        let text = |place| leaf.text(place).unwrap_or_default().to_owned();
        Self {
            index,
            time_ms: leaf.time_ms().unwrap_or_default(),
            actor: text(LeafView::ACTOR),
            account: leaf.account().unwrap_or_default().to_owned(),
            operation: text(LeafView::OPERATION),
            subject: text(LeafView::SUBJECT),
            outcome: text(LeafView::OUTCOME),
        }
    }

    /// When, as far as a leaf tells.
    pub fn time(&self) -> Timestamp {
        Timestamp(self.time_ms.saturating_mul(1_000_000))
    }
}

/// Every leaf up to a signed checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogExtract {
    /// The signed note.
    pub note: String,
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The leaves, from the first.
    pub leaves: Vec<Vec<u8>>,
    /// What they say.
    pub events: Vec<LogEvent>,
}

/// The leaves are not those of the checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtractError {
    /// More or fewer of them.
    #[error("the log has {found} leaves here; {signed} were signed")]
    Size {
        /// Here.
        found: u64,
        /// In the checkpoint.
        signed: u64,
    },
    /// Another content or order.
    #[error("the leaves lead to another root than was signed: one was changed, dropped or moved")]
    Root,
}

impl LogExtract {
    /// The leaves of a checkpoint whose signature was verified.
    ///
    /// # Errors
    /// [`ExtractError`].
    pub fn new(note: String, checkpoint: Checkpoint, leaves: Vec<Vec<u8>>) -> Result<Self, ExtractError> {
        let hashes: Vec<Digest> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        let found = u64::try_from(leaves.len()).unwrap_or(u64::MAX);
        if found != checkpoint.size {
            return Err(ExtractError::Size { found, signed: checkpoint.size });
        }
        if root_of(&hashes) != checkpoint.root {
            return Err(ExtractError::Root);
        }
        let events = (0..).zip(&leaves).map(|(index, leaf)| LogEvent::read(index, leaf)).collect();
        Ok(Self { note, checkpoint, leaves, events })
    }

    /// The event that notes this digest under an operation, if there is one.
    pub fn noted(&self, operation: &str, digest: &str) -> Option<&LogEvent> {
        let names = |event: &&LogEvent| {
            event.operation == operation && event.outcome == "done" && noted_digest(event) == digest
        };
        self.events.iter().find(names)
    }

    /// The leaves that sign the record of a drill which is not among these: a
    /// record that somebody left out.
    pub fn signed_elsewhere<'a>(&'a self, drills: &[DrillItem]) -> impl Iterator<Item = &'a LogEvent> {
        let here: BTreeSet<String> = drills.iter().map(|drill| drill.statement.to_string()).collect();
        let signs = |event: &&LogEvent| event.operation == "drill_sign" && event.outcome == "done";
        self.events.iter().filter(signs).filter(move |event| !here.contains(noted_digest(event)))
    }

    /// The leaves that note the plan of a drill of which none of these is the
    /// record: it was not carried out, or not to its end.
    pub fn planned_only<'a>(&'a self, drills: &[DrillItem]) -> impl Iterator<Item = &'a LogEvent> {
        let second = drills.iter().filter_map(|drill| drill.second.as_ref());
        let here: BTreeSet<String> = second.map(|record| record.plan.sha256.clone()).collect();
        let plans = |event: &&LogEvent| {
            let label = event.subject.rsplit_once(':').map(|(label, _)| label);
            event.operation == "digest_note" && event.outcome == "done" && label == Some(PLAN_LABEL)
        };
        self.events.iter().filter(plans).filter(move |event| !here.contains(noted_digest(event)))
    }

    /// Events of a period.
    pub fn within(&self, period: Period) -> impl Iterator<Item = &LogEvent> + Clone {
        self.events.iter().filter(move |event| period.holds(event.time()))
    }
}

/// The digest in the subject of an event, after its label if it has one.
fn noted_digest(event: &LogEvent) -> &str {
    event.subject.rsplit_once(':').map_or(event.subject.as_str(), |(_, digest)| digest)
}

/// A drill record, verified, and the bytes that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrillItem {
    /// What it says, in the terms of the first version.
    pub record: DrillRecord,
    /// All of it, where it is of the second version.
    pub second: Option<Box<DrillRecordV2>>,
    /// The signed envelope.
    pub envelope: Vec<u8>,
    /// The RFC 6962 leaf hash of its statement.
    pub statement: Digest,
}

impl DrillItem {
    /// When the loss was declared.
    pub fn declared(&self) -> Timestamp {
        self.record.declared.timestamp().unwrap_or(Timestamp(0))
    }

    /// Whether anything came back. What did not is evidence of no restoration,
    /// however well it was foreseen.
    pub fn brought_back(&self) -> bool {
        self.record.files > 0
    }

    /// Whether something was lost exactly as the plan had foreseen: a valid
    /// outcome, and no restoration of what was promised.
    pub fn is_foreseen_loss(&self) -> bool {
        self.second.as_ref().is_some_and(|record| record.is_foreseen_loss() && record.is_as_foreseen())
    }

    /// Whether all of it came back, and as it was.
    pub fn is_whole(&self) -> bool {
        let complete = self.second.as_ref().is_none_or(|record| {
            let mut judged =
                record.verdicts.iter().filter(|(name, _)| !["rto", "rpo"].contains(&name.as_str()));
            judged.all(|(_, judged)| judged.verdict == Verdict::Satisfied)
        });
        self.brought_back() && complete && self.record.verdicts.integrity == Verdict::Satisfied
    }

    /// Whether something came back and every objective was met.
    pub fn is_satisfied(&self) -> bool {
        let verdicts = &self.record.verdicts;
        let first = [verdicts.integrity, verdicts.rto, verdicts.rpo];
        let met = first.iter().all(|verdict| *verdict == Verdict::Satisfied);
        self.is_whole() && met && self.second.as_ref().is_none_or(|record| record.is_satisfied())
    }
}

/// Where one version lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResidencyItem {
    /// The version's id.
    pub version: String,
    /// The bucket's id.
    pub bucket: String,
    /// The object's id.
    pub object: String,
    /// Since when it lies there, or somewhere.
    #[serde(with = "moment")]
    pub created: Timestamp,
    /// Zero: it never moved.
    pub revision: u32,
    /// A tombstone hides it.
    pub hidden: bool,
    /// Names of its sites.
    pub sites: Vec<String>,
    /// Their countries.
    pub countries: Vec<String>,
    /// Whether the policy admits all of them.
    pub inside: bool,
}

/// Everything that a report is made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Material {
    /// The period that is reported on.
    pub period: Period,
    /// The facts, verified.
    pub facts: VerifiedFacts,
    /// Their signed envelope.
    pub facts_envelope: Vec<u8>,
    /// The log, verified.
    pub log: LogExtract,
    /// The drill records, verified, oldest first.
    pub drills: Vec<DrillItem>,
    /// Where each version lies; `None`: it was not asked for.
    pub residency: Option<Vec<ResidencyItem>>,
    /// The keys of witnesses that the tenant names, C2SP vkeys: what the
    /// service calls a witness may be the service itself.
    pub witnesses: Vec<String>,
}

impl Material {
    /// The moment of the facts: the "now" of the report.
    pub fn now(&self) -> Timestamp {
        self.facts.facts.taken.timestamp().unwrap_or(Timestamp(0))
    }

    /// Drills of the period, oldest first.
    pub fn drills(&self) -> impl DoubleEndedIterator<Item = &DrillItem> {
        self.drills.iter().filter(|drill| self.period.holds(drill.declared()))
    }
}

/// A moment as digits in a string: nanoseconds exceed the integers of
/// canonical JSON.
mod moment {
    use coffer_model::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(&time.0.to_string())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map(Timestamp).map_err(serde::de::Error::custom)
    }
}
