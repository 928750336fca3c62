//! What a drill is expected to show: whether everything can come back without
//! what is lost, and how long that takes. Decides from placements and measured
//! rates; asks nobody.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::record::NANOS_MAX;

/// One phase as it is expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictedPhase {
    /// Its name, as in the timeline.
    pub name: String,
    /// How long it should take, nanoseconds.
    pub duration_ns: u64,
}

/// What is expected of a drill.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prediction {
    /// Objects that can be read without what is lost.
    pub recoverable: u64,
    /// Objects that cannot: fewer than k of their shards, or no copy, would be left.
    pub unrecoverable: u64,
    /// The phases.
    pub phases: Vec<PredictedPhase>,
    /// All of them together, nanoseconds.
    pub total_ns: u64,
    /// The rates that it was computed from.
    pub rates: Rates,
    /// Earlier drills whose measured times corrected the rates.
    pub history: u64,
    /// By how much they did, in thousandths; 1000: not at all.
    pub correction_milli: u64,
}

/// What was measured on the same path before the drill; all in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rates {
    /// Reading one object, whatever its size.
    pub object_ns: u64,
    /// Reading a MiB of objects.
    pub object_mib_ns: u64,
    /// Making one file.
    pub file_write_ns: u64,
    /// Writing a MiB of files.
    pub file_write_mib_ns: u64,
    /// Making one file durable, with all others together.
    pub file_flush_ns: u64,
    /// Making a MiB of files durable.
    pub file_flush_mib_ns: u64,
    /// Making nothing durable: what a sync of the disk costs of itself.
    pub sync_ns: u64,
    /// Looking at one file.
    pub file_read_ns: u64,
    /// Reading back a MiB of files.
    pub file_read_mib_ns: u64,
}

/// How one object lies, as its description says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lies {
    /// `k+m`, or `whole x n`.
    pub geometry: String,
    /// Its sites, in shard order.
    pub sites: Vec<String>,
}

impl Lies {
    /// Shards that are needed; nothing if the geometry is none that we know.
    fn needed(&self) -> Option<usize> {
        if self.geometry.starts_with("whole x ") {
            return Some(1);
        }
        self.geometry.split_once('+').and_then(|(k, _)| k.parse().ok())
    }

    /// Whether enough would be left without the sites that are lost.
    pub fn survives(&self, lost: &BTreeSet<String>) -> bool {
        let left = self.sites.iter().filter(|site| !lost.contains(*site)).count();
        self.needed().is_some_and(|needed| left >= needed)
    }
}

/// How much there is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Objects to read.
    pub objects: u64,
    /// Their bytes.
    pub object_bytes: u64,
    /// Files to make and to look at; 0: only objects are read.
    pub files: u64,
    /// Their bytes.
    pub file_bytes: u64,
}

const MIB: u128 = 1 << 20;

fn linear(count: u64, each: u64, bytes: u64, mib: u64) -> u64 {
    let nanos = u128::from(count) * u128::from(each) + u128::from(bytes) * u128::from(mib) / MIB;
    u64::try_from(nanos).unwrap_or(u64::MAX).min(NANOS_MAX)
}

impl Rates {
    /// What each phase should take. A tree is fetched and written at the same
    /// time, so that its restoration takes as long as the slower of both.
    pub fn phases(&self, work: Work) -> Vec<PredictedPhase> {
        let fetch = linear(work.objects, self.object_ns, work.object_bytes, self.object_mib_ns);
        let phase = |name: &str, duration_ns: u64| PredictedPhase { name: name.to_owned(), duration_ns };
        if work.files == 0 {
            return vec![phase("read", fetch)];
        }
        let write = linear(work.files, self.file_write_ns, work.file_bytes, self.file_write_mib_ns);
        let read = linear(work.files, self.file_read_ns, work.file_bytes, self.file_read_mib_ns);
        // All of it is made durable at the end, by one sync.
        let flush = linear(work.files, self.file_flush_ns, work.file_bytes, self.file_flush_mib_ns);
        let restore = fetch.max(write).saturating_add(flush).saturating_add(self.sync_ns).min(NANOS_MAX);
        vec![phase("restore", restore), phase("read back", read)]
    }
}

/// The middle of what earlier drills took, as a multiple of what was expected
/// of them before any correction, in thousandths; 1000 where there are none.
/// Each pair is (measured, expected by rates alone) in nanoseconds.
pub fn correction(earlier: &[(u64, u64)]) -> u64 {
    let mut ratios: Vec<u128> = earlier
        .iter()
        .filter(|(_, expected)| *expected > 0)
        .map(|(measured, expected)| u128::from(*measured) * 1000 / u128::from(*expected))
        .collect();
    ratios.sort_unstable();
    let middle = ratios.get(ratios.len() / 2).copied().unwrap_or(1000);
    u64::try_from(middle).unwrap_or(1000).clamp(50, 20_000)
}

impl Prediction {
    /// From the work, the rates and the history; recoverability is entered by
    /// whoever knows the placements.
    pub fn of(work: Work, rates: Rates, earlier: &[(u64, u64)]) -> Self {
        let correction_milli = correction(earlier);
        let mut phases = rates.phases(work);
        for phase in &mut phases {
            let corrected = u128::from(phase.duration_ns) * u128::from(correction_milli) / 1000;
            phase.duration_ns = u64::try_from(corrected).unwrap_or(u64::MAX).min(NANOS_MAX);
        }
        let total_ns = phases.iter().map(|phase| phase.duration_ns).sum::<u64>().min(NANOS_MAX);
        let history = u64::try_from(earlier.len()).unwrap_or(u64::MAX);
        Self { recoverable: 0, unrecoverable: 0, phases, total_ns, rates, history, correction_milli }
    }

    /// What the rates alone would have said.
    pub fn uncorrected_ns(&self) -> u64 {
        let back = u128::from(self.total_ns) * 1000 / u128::from(self.correction_milli.max(1));
        u64::try_from(back).unwrap_or(u64::MAX)
    }

    /// Whether everything is expected to come back.
    pub fn is_whole(&self) -> bool {
        self.unrecoverable == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn an_object_survives_while_k_shards_or_one_copy_are_left_and_no_longer() {
        let sites: Vec<String> = ["a", "b", "c", "d", "e", "f"].map(str::to_owned).to_vec();
        let striped = Lies { geometry: "4+2".to_owned(), sites: sites.clone() };
        assert!(striped.survives(&lost(&["a", "f"])));
        assert!(!striped.survives(&lost(&["a", "b", "f"])));
        assert!(striped.survives(&lost(&["x", "y", "z"])));
        let whole = Lies { geometry: "whole x 3".to_owned(), sites: sites[..3].to_vec() };
        assert!(whole.survives(&lost(&["a", "b", "d", "e", "f"])));
        assert!(!whole.survives(&lost(&["a", "b", "c"])));
        let unknown = Lies { geometry: "odd".to_owned(), sites };
        assert!(!unknown.survives(&lost(&[])));
    }

    #[test]
    fn history_corrects_by_its_middle_and_no_history_by_nothing() {
        assert_eq!(correction(&[]), 1000);
        assert_eq!(correction(&[(200, 100), (900, 100), (300, 100)]), 3000);
        assert_eq!(correction(&[(1, 0)]), 1000);
        let rates = Rates { object_mib_ns: 1_000_000, ..Rates::default() };
        let work = Work { objects: 3, object_bytes: 10 << 20, ..Work::default() };
        let prediction = Prediction::of(work, rates, &[(300, 100)]);
        assert_eq!((prediction.total_ns, prediction.uncorrected_ns()), (30_000_000, 10_000_000));
    }

    #[test]
    fn numbers_beyond_all_measure_stay_within_what_a_record_can_say() {
        let rates = Rates { object_ns: u64::MAX, object_mib_ns: u64::MAX, ..Rates::default() };
        let work = Work { objects: u64::MAX, object_bytes: u64::MAX, ..Work::default() };
        assert_eq!(Prediction::of(work, rates, &[(u64::MAX, 1)]).total_ns, NANOS_MAX);
    }
}
