//! The records on the shelf, verified: what earlier drills took, which one was
//! the last, and which objects they have restored.

use std::collections::BTreeSet;

use coffer_keys::VerifierName;
use coffer_model::VersionId;

use super::plan::{Previous, ScenarioKind, Subject};
use super::sample::parse_list;
use super::shelf::{Shelf, ShelfError, drill_file};
use super::v2::{DrillRecordV2, REGRESSION_MILLI, Trend};
use super::verify::{AnyRecord, VerifyRecordError, verify_any_record};
use crate::digits::sha256_hex;
use crate::objects::ObjectInfo;

/// The last so many drills correct a prediction and make a trend.
const REMEMBERED: usize = 5;

/// One drill of the shelf.
pub struct Shelved {
    /// Its id: the folder's name.
    pub drill: String,
    /// The record, or why it is not believed; none: not carried out yet.
    pub record: Option<Result<AnyRecord, VerifyRecordError>>,
    /// SHA-256 of the envelope.
    pub sha256: String,
    /// The versions that its sample names.
    sample: BTreeSet<VersionId>,
}

/// Every drill of the shelf, oldest first as far as their records say.
pub struct History {
    /// The drills.
    pub drills: Vec<Shelved>,
}

impl History {
    /// Reads and verifies everything.
    ///
    /// # Errors
    /// [`ShelfError`]; a record that does not verify is no error but a finding.
    pub async fn read(shelf: &Shelf<'_>, signer: &VerifierName) -> Result<Self, ShelfError> {
        let names = shelf.names("drills/").await?;
        let ids: BTreeSet<&str> = names.iter().filter_map(|name| name.split('/').nth(1)).collect();
        let mut drills = Vec::new();
        for id in ids {
            let envelope = shelf.get(&drill_file(id, "record.json")).await?;
            let sha256 = envelope.as_deref().map(sha256_hex).unwrap_or_default();
            let record = envelope.map(|bytes| verify_any_record(&bytes, signer));
            let sampled = matches!(&record, Some(Ok(AnyRecord::V2(record))) if record.drawn.is_some());
            let text = match sampled {
                true => shelf.get(&drill_file(id, "sample.txt")).await?.unwrap_or_default(),
                false => Vec::new(),
            };
            let lines = parse_list(&String::from_utf8_lossy(&text), false).unwrap_or_default();
            let named = matches!(&record, Some(Ok(AnyRecord::V2(record)))
                if record.drawn.as_ref().is_some_and(|drawn| drawn.sample_sha256 == sha256_hex(&text)));
            let sample = lines.into_iter().filter(|_| named).map(|line| line.version).collect();
            drills.push(Shelved { drill: id.to_owned(), record, sha256, sample });
        }
        drills.sort_by_key(|shelved| shelved.v2().and_then(|record| record.timeline.declared.timestamp()));
        Ok(Self { drills })
    }

    /// Those of one bucket and subject whose records are believed.
    pub fn of(self, bucket: &str, subject: Subject) -> Related {
        let of = |shelved: &Shelved| {
            shelved
                .v2()
                .is_some_and(|record| record.scope.bucket == bucket && record.scope.subject == subject)
        };
        Related { drills: self.drills.into_iter().filter(of).collect() }
    }
}

impl Shelved {
    /// The record, if it is one of the second version that is believed.
    pub fn v2(&self) -> Option<&DrillRecordV2> {
        match &self.record {
            Some(Ok(AnyRecord::V2(record))) => Some(record),
            _ => None,
        }
    }
}

/// Earlier drills of one bucket and subject, oldest first.
pub struct Related {
    drills: Vec<Shelved>,
}

impl Related {
    /// What the last ones took, and what rates alone would have said.
    pub fn times(&self) -> Vec<(u64, u64)> {
        let whole =
            self.drills.iter().rev().filter_map(Shelved::v2).filter(|record| record.results.unreadable == 0);
        let pair = |record: &DrillRecordV2| (record.predicted_part_ns(), record.predicted.uncorrected_ns());
        whole.take(REMEMBERED).map(pair).collect()
    }

    /// The last drill of a scenario.
    pub fn last_of(&self, kind: ScenarioKind) -> Option<Previous> {
        let shelved = self.drills.iter().rev().find(|s| s.v2().is_some_and(|r| r.scenario.kind == kind))?;
        let record = shelved.v2()?;
        Some(Previous {
            drill: shelved.drill.clone(),
            record_sha256: shelved.sha256.clone(),
            rta_ns: record.measured.rta_ns,
            satisfied: record.is_satisfied(),
        })
    }

    /// The objects that satisfied samples of this cycle have restored. When
    /// they are all, a new cycle begins and none has been.
    pub fn covered(&self, objects: &[ObjectInfo]) -> BTreeSet<VersionId> {
        let there: BTreeSet<VersionId> = objects.iter().map(|info| info.version).collect();
        let mut covered = BTreeSet::new();
        for shelved in self.drills.iter().filter(|s| s.v2().is_some_and(DrillRecordV2::is_satisfied)) {
            covered.extend(shelved.sample.intersection(&there));
            if covered.len() == there.len() {
                covered.clear();
            }
        }
        covered
    }

    /// How a time of this scenario compares with the ones before.
    pub fn trend(&self, kind: ScenarioKind, rta_ns: u64) -> Option<Trend> {
        let same = self
            .drills
            .iter()
            .rev()
            .filter_map(Shelved::v2)
            .filter(|record| record.scenario.kind == kind && record.results.unreadable == 0);
        let mut times: Vec<u64> = same.take(REMEMBERED).map(|record| record.measured.rta_ns).collect();
        times.sort_unstable();
        let middle_ns = *times.get(times.len() / 2)?;
        let bound = u128::from(middle_ns) * u128::from(REGRESSION_MILLI) / 1000;
        let earlier = u64::try_from(times.len()).unwrap_or(u64::MAX);
        Some(Trend { earlier, middle_ns, regression: u128::from(rta_ns) > bound })
    }
}
