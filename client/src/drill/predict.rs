//! What a drill is expected to show: whether everything can come back without
//! what is lost, and how long that takes. Decides from placements and measured
//! rates; asks nobody.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::learn::{Earlier, Lesson, learn};
use super::record::NANOS_MAX;

/// One phase as it is expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictedPhase {
    /// Its name, as in the timeline.
    pub name: String,
    /// How long it should take, nanoseconds.
    pub duration_ns: u64,
    /// What each part of it would take by the rates alone, nanoseconds, in the
    /// order of [`Rates::phases`]; later drills learn from it. Absent in what
    /// older programs wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<u64>,
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
    /// Earlier drills whose measured times corrected the rates; the one that is
    /// foreseen is never among them.
    pub history: u64,
    /// By how much they did, all in all, in thousandths; 1000: not at all.
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
    /// What the look at the snapshot took while planning, nanoseconds: a
    /// restoration begins with the same.
    pub look_ns: u64,
    /// Where a service is made again first, or a reader of other people restores.
    pub beforehand: Option<Beforehand>,
}

/// What there is to do before the first byte of a tree comes back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beforehand {
    /// Bytes of the sites' disks, to be copied.
    pub copy_bytes: u64,
    /// Records of the sites, to be listed and, where they are manifests, opened.
    pub records: u64,
    /// A reader of other people restores, and no service.
    pub reader: bool,
}

const MIB: u128 = 1 << 20;

/// Where nothing was measured yet, nanoseconds: starting a process, with its
/// sites or its interpreter; a record of a rebuild; a file and a MiB by another reader; comparing
/// two lines of manifests. Orders of magnitude; the first drill corrects them.
const START_NS: u64 = 300_000_000;
const RECORD_NS: u64 = 8_000;
const READER_FILE_NS: u64 = 100_000;
const READER_MIB_NS: u64 = 12_000_000;
const COMPARE_NS: u64 = 4_000;

/// So many of something at so much each.
fn of_each(count: u64, each: u64) -> u64 {
    count.saturating_mul(each).min(NANOS_MAX)
}

/// So many bytes at so much for each MiB.
fn of_bytes(bytes: u64, mib: u64) -> u64 {
    let nanos = u128::from(bytes) * u128::from(mib) / MIB;
    u64::try_from(nanos).unwrap_or(u64::MAX).min(NANOS_MAX)
}

fn phase(name: &str, parts: Vec<u64>) -> PredictedPhase {
    let duration_ns = parts.iter().fold(0_u64, |sum, part| sum.saturating_add(*part)).min(NANOS_MAX);
    PredictedPhase { name: name.to_owned(), duration_ns, parts }
}

impl Rates {
    /// What each phase should take, in parts that add up: for each object, for
    /// their bytes, for each file, for their bytes, for making all of it durable.
    /// That fetching and writing overlap on a machine with cores to spare is
    /// learned from earlier drills, and not supposed.
    pub fn phases(&self, work: Work) -> Vec<PredictedPhase> {
        let fetch = [of_each(work.objects, self.object_ns), of_bytes(work.object_bytes, self.object_mib_ns)];
        let mut phases = self.beforehand(work);
        if work.files == 0 {
            phases.push(phase("read", fetch.to_vec()));
            return phases;
        }
        if work.beforehand.is_some_and(|before| before.reader) {
            let files = of_each(work.files, READER_FILE_NS.saturating_add(self.file_write_ns));
            let bytes = of_bytes(work.file_bytes, READER_MIB_NS.saturating_add(self.file_write_mib_ns));
            phases.push(phase("reader", vec![START_NS, files, bytes]));
        } else {
            let written =
                [of_each(work.files, self.file_write_ns), of_bytes(work.file_bytes, self.file_write_mib_ns)];
            let flushed = of_each(work.files, self.file_flush_ns)
                .saturating_add(of_bytes(work.file_bytes, self.file_flush_mib_ns))
                .saturating_add(self.sync_ns);
            phases.push(phase("plan", vec![work.look_ns]));
            phases.push(phase("restore", [&fetch[..], &written, &[flushed]].concat()));
        }
        let read = [of_each(work.files, self.file_read_ns), of_bytes(work.file_bytes, self.file_read_mib_ns)];
        phases.push(phase("read back", read.to_vec()));
        phases.push(phase("compare", vec![of_each(work.files, COMPARE_NS)]));
        phases
    }

    fn beforehand(&self, work: Work) -> Vec<PredictedPhase> {
        let Some(before) = work.beforehand else { return Vec::new() };
        let mib = self.file_read_mib_ns.saturating_add(self.file_write_mib_ns);
        let mut phases = vec![phase("copy", vec![of_bytes(before.copy_bytes, mib)])];
        if !before.reader {
            phases.push(phase("catalogue", vec![START_NS, of_each(before.records, RECORD_NS)]));
        }
        phases
    }
}

impl Prediction {
    /// From the work, the rates and the history; recoverability is entered by
    /// whoever knows the placements.
    pub fn of(work: Work, rates: Rates, earlier: &[Earlier]) -> Self {
        let mut phases = rates.phases(work);
        let bare = phases.iter().map(|phase| phase.duration_ns).sum::<u64>();
        for phase in &mut phases {
            let lessons: Vec<Lesson> = earlier.iter().filter_map(|drill| drill.lesson(phase)).collect();
            phase.duration_ns = learn(&lessons, phase.parts.len()).apply(&phase.parts);
        }
        let total_ns = phases.iter().map(|phase| phase.duration_ns).sum::<u64>().min(NANOS_MAX);
        let correction = u128::from(total_ns) * 1000 / u128::from(bare.max(1));
        Self {
            recoverable: 0,
            unrecoverable: 0,
            phases,
            total_ns,
            rates,
            history: u64::try_from(earlier.len()).unwrap_or(u64::MAX),
            correction_milli: u64::try_from(correction).unwrap_or(u64::MAX).min(NANOS_MAX),
        }
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

    fn work(objects: u64, mib: u64) -> Work {
        Work { objects, object_bytes: mib << 20, ..Work::default() }
    }

    #[test]
    fn without_history_the_rates_speak_alone() {
        let rates = Rates { object_ns: 1_000, object_mib_ns: 1_000_000, ..Rates::default() };
        let prediction = Prediction::of(work(3, 10), rates, &[]);
        assert_eq!(
            (prediction.total_ns, prediction.history, prediction.correction_milli),
            (10_003_000, 0, 1000)
        );
        assert_eq!(prediction.phases[0].parts, [3_000, 10_000_000]);
    }

    #[test]
    fn a_service_that_is_made_again_adds_its_phases_and_another_reader_its_own() {
        let rates = Rates { file_read_ns: 1, ..Rates::default() };
        let names = |beforehand| -> Vec<String> {
            let work = Work { files: 3, beforehand, ..work(3, 10) };
            rates.phases(work).into_iter().map(|phase| phase.name).collect()
        };
        let reader = |reader| Some(Beforehand { copy_bytes: 1, records: 1, reader });
        assert_eq!(names(None), ["plan", "restore", "read back", "compare"]);
        assert_eq!(names(reader(false)), ["copy", "catalogue", "plan", "restore", "read back", "compare"]);
        assert_eq!(names(reader(true)), ["copy", "reader", "read back", "compare"]);
    }

    #[test]
    fn numbers_beyond_all_measure_stay_within_what_a_record_can_say() {
        let rates = Rates { object_ns: u64::MAX, object_mib_ns: u64::MAX, ..Rates::default() };
        let work = Work { objects: u64::MAX, object_bytes: u64::MAX, ..Work::default() };
        let once = Prediction::of(work, rates, &[]);
        let earlier = [Earlier::new(once.phases.clone(), vec![("read".to_owned(), u64::MAX)])];
        let again = Prediction::of(work, rates, &earlier);
        assert!(once.total_ns <= NANOS_MAX && again.total_ns <= NANOS_MAX, "{again:?}");
    }
}
