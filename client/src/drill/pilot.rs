//! What a part of the tree took, restored, read back and compared just before
//! the drill by the code that the drill runs: it corrects what rates alone say.
//! Pure; the restoring is in `probe.rs`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::predict::{PredictedPhase, Rates, Work};
use super::record::NANOS_MAX;

/// What a pilot says of a phase is never believed beyond these: the bounds of
/// what rates can be off by.
const RATIO_MILLI: (u64, u64) = (20, 50_000);

/// One phase of a pilot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PilotPhase {
    /// Its name, as in the timeline.
    pub name: String,
    /// What the rates say that this part takes, nanoseconds.
    pub rates_ns: u64,
    /// What it took, nanoseconds.
    pub took_ns: u64,
}

/// A part of the tree, restored beforehand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pilot {
    /// How often, each time other entries.
    pub runs: u64,
    /// Entries, of all runs.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The phases, each the sum of all runs.
    pub phases: Vec<PilotPhase>,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).min(NANOS_MAX)
}

impl Pilot {
    /// Enters a run: how much it had to do, and what its phases took.
    pub fn add(&mut self, rates: &Rates, work: Work, took: &[(&str, Duration)]) {
        self.runs = self.runs.saturating_add(1);
        self.entries = self.entries.saturating_add(work.files);
        self.bytes = self.bytes.saturating_add(work.file_bytes);
        let said = rates.phases(work);
        for (name, took) in took {
            let rates_ns = said.iter().find(|phase| phase.name == *name).map_or(0, |phase| phase.duration_ns);
            let at = self.phases.iter().position(|phase| phase.name == *name).unwrap_or_else(|| {
                self.phases.push(PilotPhase { name: (*name).to_owned(), rates_ns: 0, took_ns: 0 });
                self.phases.len() - 1
            });
            if let Some(phase) = self.phases.get_mut(at) {
                phase.rates_ns = phase.rates_ns.saturating_add(rates_ns).min(NANOS_MAX);
                phase.took_ns = phase.took_ns.saturating_add(nanos(*took)).min(NANOS_MAX);
            }
        }
    }

    /// What all runs took, nanoseconds.
    pub fn took_ns(&self) -> u64 {
        self.phases.iter().fold(0_u64, |sum, phase| sum.saturating_add(phase.took_ns)).min(NANOS_MAX)
    }

    /// Whether it says something of this phase.
    pub(super) fn covers(&self, name: &str) -> bool {
        self.phases.iter().any(|phase| phase.name == name && phase.rates_ns > 0 && phase.took_ns > 0)
    }

    /// Corrects the parts of a phase by what this one took of it.
    pub(super) fn correct(&self, phase: &mut PredictedPhase) {
        let of = |found: &&PilotPhase| found.name == phase.name && self.covers(&found.name);
        let Some(found) = self.phases.iter().find(of) else { return };
        let milli = u128::from(found.took_ns) * 1000 / u128::from(found.rates_ns);
        let milli = u64::try_from(milli).unwrap_or(u64::MAX).clamp(RATIO_MILLI.0, RATIO_MILLI.1);
        for part in &mut phase.parts {
            let corrected = u128::from(*part) * u128::from(milli) / 1000;
            *part = u64::try_from(corrected).unwrap_or(u64::MAX).min(NANOS_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates() -> Rates {
        Rates { file_write_ns: 1000, file_read_ns: 100, ..Rates::default() }
    }

    fn work(files: u64) -> Work {
        Work { files, ..Work::default() }
    }

    #[test]
    fn what_a_part_took_corrects_its_phases_in_proportion_and_no_other() {
        let mut pilot = Pilot::default();
        let micros = Duration::from_micros;
        pilot.add(&rates(), work(10), &[("restore", micros(30)), ("read back", micros(1))]);
        pilot.add(&rates(), work(30), &[("restore", micros(90)), ("read back", micros(3))]);
        assert_eq!((pilot.runs, pilot.entries, pilot.took_ns()), (2, 40, 124_000));
        let mut phases = rates().phases(work(1000));
        phases.iter_mut().for_each(|phase| pilot.correct(phase));
        let sum =
            |name: &str| phases.iter().find(|phase| phase.name == name).unwrap().parts.iter().sum::<u64>();
        assert_eq!((sum("restore"), sum("read back")), (3_000_000, 100_000));
        assert!(pilot.covers("restore") && !pilot.covers("compare"));
        assert_eq!(sum("compare"), rates().phases(work(1000)).last().unwrap().duration_ns);
    }

    #[test]
    fn a_pilot_that_measured_nothing_corrects_nothing() {
        let mut pilot = Pilot::default();
        pilot.add(&Rates::default(), work(10), &[("restore", Duration::from_secs(1))]);
        let mut phases = rates().phases(work(10));
        let before = phases.clone();
        phases.iter_mut().for_each(|phase| pilot.correct(phase));
        assert_eq!(phases, before);
    }
}
