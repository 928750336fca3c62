//! The records on the shelf, verified: what earlier drills took, which one was
//! the last, and which objects they have restored.

use std::collections::BTreeSet;

use coffer_keys::VerifierName;
use coffer_model::VersionId;
use futures::{StreamExt as _, TryStreamExt as _, stream};

use super::learn::Earlier;
use super::plan::{Previous, ScenarioKind, Subject};
use super::sample::parse_list;
use super::shelf::{Shelf, ShelfError, drill_file};
use super::v2::{DrillRecordV2, REGRESSION_MILLI, Trend};
use super::verify::{AnyRecord, VerifyRecordError, verify_any_record};
use crate::digits::sha256_hex;
use crate::objects::ObjectInfo;

/// The last so many drills make a trend.
const REMEMBERED: usize = 5;

/// The last so many drills correct a prediction.
const LEARNED_FROM: usize = 12;

/// Records that are asked for at once.
const ASKED_AT_ONCE: usize = 8;

/// One drill of the shelf.
pub struct Shelved {
    /// Its id: the folder's name.
    pub drill: String,
    /// The record, or why it is not believed; none: not carried out yet.
    pub record: Option<Result<AnyRecord, VerifyRecordError>>,
    /// SHA-256 of the envelope.
    pub sha256: String,
}

/// Every drill of the shelf, oldest first as far as their records say.
pub struct History {
    /// The drills.
    pub drills: Vec<Shelved>,
}

/// The ids of the drills on the shelf that begin so.
async fn ids(shelf: &Shelf<'_>, beginning: &str) -> Result<BTreeSet<String>, ShelfError> {
    let names = shelf.names(&format!("drills/{beginning}")).await?;
    Ok(names.iter().filter_map(|name| name.split('/').nth(1)).map(str::to_owned).collect())
}

impl History {
    /// Reads and verifies every record.
    ///
    /// # Errors
    /// [`ShelfError`]; a record that does not verify is no error but a finding.
    pub async fn read(shelf: &Shelf<'_>, signer: &VerifierName) -> Result<Self, ShelfError> {
        Self::beginning_with(shelf, signer, "").await
    }

    /// Reads and verifies the records of the drills whose id begins so.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn beginning_with(
        shelf: &Shelf<'_>,
        signer: &VerifierName,
        beginning: &str,
    ) -> Result<Self, ShelfError> {
        let one = |drill: String| async move {
            let envelope = shelf.get(&drill_file(&drill, "record.json")).await?;
            let sha256 = envelope.as_deref().map(sha256_hex).unwrap_or_default();
            let record = envelope.map(|bytes| verify_any_record(&bytes, signer));
            Ok::<_, ShelfError>(Shelved { drill, record, sha256 })
        };
        let reads: Vec<_> = ids(shelf, beginning).await?.into_iter().map(one).collect();
        let mut drills: Vec<Shelved> = stream::iter(reads).buffered(ASKED_AT_ONCE).try_collect().await?;
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
    /// What the last ones that came back whole took, newest first, and what
    /// was measured before each; those of one scenario are alike.
    pub fn lessons(&self, kind: ScenarioKind) -> Vec<Earlier> {
        let whole =
            self.drills.iter().rev().filter_map(Shelved::v2).filter(|record| record.results.unreadable == 0);
        let lesson = |record: &DrillRecordV2| {
            let phases = record.timeline.phases.iter();
            let measured = phases.map(|phase| (phase.name.clone(), phase.duration_ns)).collect();
            Earlier::new(record.scenario.kind == kind, record.predicted.phases.clone(), measured)
        };
        whole.filter(|record| record.environment.max_rate.is_none()).take(LEARNED_FROM).map(lesson).collect()
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
    ///
    /// # Errors
    /// [`ShelfError`].
    pub async fn covered(
        &self,
        shelf: &Shelf<'_>,
        objects: &[ObjectInfo],
    ) -> Result<BTreeSet<VersionId>, ShelfError> {
        let there: BTreeSet<VersionId> = objects.iter().map(|info| info.version).collect();
        let mut covered = BTreeSet::new();
        for record in self.drills.iter().filter_map(Shelved::v2).filter(|record| record.is_satisfied()) {
            covered.extend(sample_of(shelf, record).await?.intersection(&there));
            if covered.len() == there.len() {
                covered.clear();
            }
        }
        Ok(covered)
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

/// The versions of a drill's sample, if it drew one and the file is the one
/// that its record names.
async fn sample_of(shelf: &Shelf<'_>, record: &DrillRecordV2) -> Result<BTreeSet<VersionId>, ShelfError> {
    let Some(drawn) = &record.drawn else { return Ok(BTreeSet::new()) };
    let text = shelf.get(&drill_file(&record.drill, "sample.txt")).await?.unwrap_or_default();
    let named = drawn.sample_sha256 == sha256_hex(&text);
    let lines = parse_list(&String::from_utf8_lossy(&text), false).unwrap_or_default();
    Ok(lines.into_iter().filter(|_| named).map(|line| line.version).collect())
}
