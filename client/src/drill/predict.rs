//! What a drill is expected to show: whether everything can come back without
//! what is lost, and how long that takes. Decides from placements and measured
//! rates; asks nobody.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::learn::{Earlier, Lesson, Trust, learn};
use super::pilot::Pilot;
use super::record::NANOS_MAX;

/// One phase as it is expected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictedPhase {
    /// Its name, as in the timeline.
    pub name: String,
    /// How long it should take, nanoseconds.
    pub duration_ns: u64,
    /// What each part of it would take by what was measured beforehand alone,
    /// nanoseconds, in the order of [`Rates::phases`]; later drills learn from
    /// it. Absent in what older programs wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<u64>,
    /// By how much earlier drills correct each part, in thousandths: the
    /// duration is what comes of it. Absent before plans of format 2.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learned_milli: Vec<u64>,
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
    /// The part of the tree that was restored beforehand; it is in the parts
    /// already. None before plans of format 2, of objects, and where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pilot: Option<Pilot>,
    /// How far off this may be, in percent of what is measured. None before
    /// plans of format 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread_percent: Option<u64>,
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

/// The phases that the measurement before the drill covers without a pilot.
const READ: &str = "read";
const LOOK: &str = "plan";

/// How far off a prediction may be, in percent: never said to be less than
/// this; without history, where the way was measured, and where it was not.
const SPREAD: (u64, u64, u64) = (10, 25, 75);

/// How far off: the largest of what the last drills were, as far as they tell.
fn spread(earlier: &[Earlier], measured: bool) -> u64 {
    let offs = earlier.iter().filter_map(Earlier::off_percent).take(SPREAD_FROM);
    let unknown = if measured { SPREAD.1 } else { SPREAD.2 };
    offs.max().map_or(unknown, |off| off.clamp(SPREAD.0, 1000))
}

/// So many of the last drills say how far off a prediction may be.
const SPREAD_FROM: usize = 5;

/// So many of something at so much each.
fn of_each(count: u64, each: u64) -> u64 {
    count.saturating_mul(each).min(NANOS_MAX)
}

/// So many bytes at so much for each MiB.
fn of_bytes(bytes: u64, mib: u64) -> u64 {
    let nanos = u128::from(bytes) * u128::from(mib) / MIB;
    u64::try_from(nanos).unwrap_or(u64::MAX).min(NANOS_MAX)
}

/// Each part times its factor.
fn corrected(parts: &[u64], learned_milli: &[u64]) -> u64 {
    let sum = parts
        .iter()
        .zip(learned_milli)
        .fold(0_u128, |sum, (part, milli)| sum.saturating_add(u128::from(*part) * u128::from(*milli) / 1000));
    u64::try_from(sum).unwrap_or(u64::MAX).min(NANOS_MAX)
}

fn phase(name: &str, parts: Vec<u64>) -> PredictedPhase {
    let learned_milli = vec![1000; parts.len()];
    PredictedPhase {
        name: name.to_owned(),
        duration_ns: corrected(&parts, &learned_milli),
        parts,
        learned_milli,
    }
}

fn sum(phases: &[PredictedPhase], of: impl Fn(&PredictedPhase) -> u64) -> u64 {
    phases.iter().fold(0_u64, |sum, phase| sum.saturating_add(of(phase))).min(NANOS_MAX)
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
            phases.push(phase(READ, fetch.to_vec()));
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
            phases.push(phase(LOOK, vec![work.look_ns]));
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
    /// From the work, the rates, the pilot and the history; recoverability is
    /// entered by whoever knows the placements.
    pub fn of(work: Work, rates: Rates, pilot: Option<Pilot>, earlier: &[Earlier]) -> Self {
        let mut phases = rates.phases(work);
        let timed = rates != Rates::default();
        for phase in &mut phases {
            let measured = phase.name == READ && timed
                || phase.name == LOOK
                || pilot.as_ref().is_some_and(|pilot| pilot.covers(&phase.name));
            if let Some(pilot) = &pilot {
                pilot.correct(phase);
            }
            let lessons: Vec<Lesson> = earlier.iter().filter_map(|drill| drill.lesson(phase)).collect();
            let trust = if measured { Trust::Measured } else { Trust::Guessed };
            phase.learned_milli = learn(&lessons, phase.parts.len(), trust).milli();
            phase.duration_ns = corrected(&phase.parts, &phase.learned_milli);
        }
        let history = u64::try_from(earlier.len()).unwrap_or(u64::MAX);
        let spread_percent = Some(spread(earlier, pilot.is_some() || work.files == 0 && timed));
        Self { phases, rates, history, pilot, spread_percent, ..Self::default() }.added_up()
    }

    /// The total, and by how much it was corrected, from the phases.
    fn added_up(mut self) -> Self {
        self.total_ns = sum(&self.phases, |phase| phase.duration_ns);
        let bare =
            sum(&self.phases, |phase| phase.parts.iter().fold(0, |sum, part| sum.saturating_add(*part)));
        let correction = u128::from(self.total_ns) * 1000 / u128::from(bare.max(1));
        self.correction_milli = u64::try_from(correction).unwrap_or(u64::MAX).min(NANOS_MAX);
        self
    }

    /// The same for what was drawn: a plan is made before the draw and knows
    /// only how large the objects are on the average. Follows from the plan and
    /// the sample alone.
    pub fn of_drawn(&self, objects: u64, object_bytes: u64) -> Self {
        let mut drawn = self.clone();
        let said = self.rates.phases(Work { objects, object_bytes, ..Work::default() });
        for phase in drawn.phases.iter_mut().filter(|phase| phase.name == READ) {
            // Plans of format 1 do not say what they have learned.
            if phase.learned_milli.is_empty() {
                return drawn;
            }
            if let Some(said) = said.iter().find(|said| said.name == READ) {
                phase.parts.clone_from(&said.parts);
                phase.duration_ns = corrected(&phase.parts, &phase.learned_milli);
            }
        }
        drawn.added_up()
    }

    /// Whether durations follow from parts and factors, and the total from them.
    pub fn is_consistent(&self) -> bool {
        let follows = |phase: &PredictedPhase| {
            phase.parts.len() == phase.learned_milli.len()
                && phase.duration_ns == corrected(&phase.parts, &phase.learned_milli)
        };
        self.spread_percent.is_some()
            && self.phases.iter().all(follows)
            && self.total_ns == sum(&self.phases, |phase| phase.duration_ns)
    }

    /// Whether it has what only plans of format 2 have.
    pub fn is_of_second_format(&self) -> bool {
        self.pilot.is_some()
            || self.spread_percent.is_some()
            || self.phases.iter().any(|phase| !phase.learned_milli.is_empty())
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
        let prediction = Prediction::of(work(3, 10), rates, None, &[]);
        assert_eq!(
            (prediction.total_ns, prediction.history, prediction.correction_milli),
            (10_003_000, 0, 1000)
        );
        assert_eq!(prediction.phases[0].parts, [3_000, 10_000_000]);
    }

    #[test]
    fn what_was_drawn_is_foreseen_by_the_rates_and_factors_of_its_plan_alone() {
        let rates = Rates { object_ns: 1_000, object_mib_ns: 1_000_000, ..Rates::default() };
        let first = Prediction::of(work(3, 10), rates, None, &[]);
        let earlier = [Earlier::new(true, first.phases, vec![("read".to_owned(), 30_000_000)])];
        let plan = Prediction::of(work(3, 10), rates, None, &earlier);
        let drawn = plan.of_drawn(3, 20 << 20);
        assert!(plan.is_consistent() && drawn.is_consistent());
        assert_eq!(drawn.phases[0].learned_milli, plan.phases[0].learned_milli);
        assert!(drawn.total_ns > plan.total_ns && plan.of_drawn(3, 10 << 20) == plan);
        let mut lie = plan.clone();
        lie.total_ns += 1;
        assert!(!lie.is_consistent());
    }

    #[test]
    fn a_plan_of_the_first_format_says_the_same_of_whatever_is_drawn() {
        let mut old = Prediction::of(work(3, 10), Rates { object_ns: 7, ..Rates::default() }, None, &[]);
        (old.spread_percent, old.pilot) = (None, None);
        old.phases[0].learned_milli.clear();
        assert!(!old.is_of_second_format());
        assert_eq!(old.of_drawn(1, 1), old);
    }

    #[test]
    fn how_far_off_it_may_be_is_what_the_last_drills_were_off() {
        let rates = Rates { object_ns: 1_000_000, ..Rates::default() };
        let first = Prediction::of(work(100, 0), rates, None, &[]);
        assert_eq!(first.spread_percent, Some(SPREAD.1));
        let took = |ns: u64| Earlier::new(true, first.phases.clone(), vec![("read".to_owned(), ns)]);
        let of = |times: &[u64]| {
            let earlier: Vec<Earlier> = times.iter().map(|ns| took(*ns)).collect();
            Prediction::of(work(100, 0), rates, None, &earlier).spread_percent
        };
        assert_eq!(of(&[100_000_000, 101_000_000]), Some(SPREAD.0));
        assert_eq!(of(&[100_000_000, 200_000_000]), Some(50));
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
        let once = Prediction::of(work, rates, None, &[]);
        let earlier = [Earlier::new(true, once.phases.clone(), vec![("read".to_owned(), u64::MAX)])];
        let again = Prediction::of(work, rates, None, &earlier);
        assert!(once.total_ns <= NANOS_MAX && again.total_ns <= NANOS_MAX, "{again:?}");
    }
}
