//! What earlier drills teach about the next: for each part of a phase, by how
//! much what was measured of it has to be multiplied. Least squares of the
//! relative error, drawn towards one common factor where the drills do not
//! tell the parts apart; what was measured just before is believed until
//! several drills agree that it is off. Pure; the same drills teach the same.

use std::time::Duration;

use super::predict::PredictedPhase;

/// How far a phase's parts are believed before earlier drills are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// They were measured just before, on the way of the drill.
    Measured,
    /// They are orders of magnitude.
    Guessed,
}

impl Trust {
    /// As how many drills the parts themselves count.
    fn counts(self) -> f64 {
        match self {
            Self::Measured => 1.0,
            Self::Guessed => 0.0,
        }
    }

    /// How strongly the parts are drawn towards their common factor: as an error
    /// of this much (squared) is counted against a part that is off by its whole.
    fn pull(self) -> f64 {
        match self {
            Self::Measured => 0.5,
            Self::Guessed => 0.01,
        }
    }
}

/// What a drill of another scenario counts against one of the same.
const UNLIKE: f64 = 0.5;

/// What an older drill counts against the one after it.
const FADING: f64 = 0.8;

/// A part is never worth less than a fiftieth, or more than fifty times, of
/// what the common factor makes of it.
const FACTORS: (f64, f64) = (0.02, 50.0);

/// Rounds of the descent: far more than it needs for a handful of parts.
const ROUNDS: usize = 200;

/// An earlier drill: what the rates said of its phases, and what they took.
#[derive(Clone, Debug, Default)]
pub struct Earlier {
    /// It was of the same scenario.
    alike: bool,
    predicted: Vec<PredictedPhase>,
    measured: Vec<(String, u64)>,
}

/// One phase of one earlier drill.
#[derive(Clone, Debug)]
pub(super) struct Lesson {
    /// What each part should have taken by the rates alone, seconds.
    parts: Vec<f64>,
    /// What the phase took, seconds.
    took: f64,
    alike: bool,
}

fn seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}

impl Earlier {
    /// From the phases as they were foreseen, and as they were measured, in
    /// nanoseconds; `alike` where the scenario was the same.
    pub fn new(alike: bool, predicted: Vec<PredictedPhase>, measured: Vec<(String, u64)>) -> Self {
        Self { alike, predicted, measured }
    }

    /// How far what was foreseen was from what was measured, in percent of it.
    pub(super) fn off_percent(&self) -> Option<u64> {
        let foreseen: u128 = self.predicted.iter().map(|phase| u128::from(phase.duration_ns)).sum();
        let named = |name: &str| self.predicted.iter().any(|phase| phase.name == name);
        let took: u128 =
            self.measured.iter().filter(|(name, _)| named(name)).map(|(_, took)| u128::from(*took)).sum();
        (foreseen.abs_diff(took) * 100).checked_div(took).and_then(|off| u64::try_from(off).ok())
    }

    /// What it says of a phase with as many parts, if it had one.
    pub(super) fn lesson(&self, about: &PredictedPhase) -> Option<Lesson> {
        let predicted = self.predicted.iter().find(|phase| phase.name == about.name)?;
        let (_, took) = self.measured.iter().find(|(name, _)| *name == about.name)?;
        let parts: Vec<f64> = predicted.parts.iter().copied().map(seconds).collect();
        // Before format 2, parts meant something else: rates without a pilot.
        let usable = parts.len() == about.parts.len() && !predicted.learned_milli.is_empty();
        let usable = usable && *took > 0 && parts.iter().sum::<f64>() > 0.0;
        usable.then(|| Lesson { parts, took: seconds(*took), alike: self.alike })
    }
}

/// The factors of a phase's parts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Factors(Vec<f64>);

impl Factors {
    /// In thousandths.
    pub(super) fn milli(&self) -> Vec<u64> {
        let milli = |factor: &f64| {
            let scaled = Duration::try_from_secs_f64(*factor).unwrap_or(Duration::from_secs(1));
            u64::try_from(scaled.as_millis()).unwrap_or(1000)
        };
        self.0.iter().map(milli).collect()
    }
}

/// What each lesson counts, the newest first.
fn weights(lessons: &[Lesson]) -> Vec<f64> {
    let fading = std::iter::successors(Some(1.0), |weight| Some(weight * FADING));
    lessons
        .iter()
        .zip(fading)
        .map(|(lesson, weight)| if lesson.alike { weight } else { weight * UNLIKE })
        .collect()
}

/// The weighted middle of the ratios, what was measured beforehand among them:
/// what all parts have in common.
fn common(lessons: &[Lesson], weights: &[f64], trust: Trust) -> f64 {
    let of = |lesson: &Lesson| lesson.took / lesson.parts.iter().sum::<f64>();
    let mut ratios: Vec<(f64, f64)> = lessons.iter().map(of).zip(weights.iter().copied()).collect();
    if trust.counts() > 0.0 || ratios.is_empty() {
        ratios.push((1.0, trust.counts().max(f64::MIN_POSITIVE)));
    }
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = ratios.iter().map(|(_, weight)| weight).sum::<f64>() / 2.0;
    let at = |beyond: &dyn Fn(f64) -> bool| {
        let mut below = 0.0;
        let found = ratios.iter().find(|(_, weight)| {
            below += weight;
            beyond(below)
        });
        found.or_else(|| ratios.last()).map_or(1.0, |(ratio, _)| *ratio)
    };
    // Where two are as much the middle, it lies between them.
    (at(&|below| below >= half) * at(&|below| below > half)).sqrt()
}

/// The factors that the lessons teach, the newest first; ones without any.
pub(super) fn learn(lessons: &[Lesson], parts: usize, trust: Trust) -> Factors {
    let weights = weights(lessons);
    let common = common(lessons, &weights, trust);
    // Each lesson as shares of what it took: a part's error counts relatively.
    let shares: Vec<Vec<f64>> = lessons
        .iter()
        .map(|lesson| lesson.parts.iter().map(|part| part * common / lesson.took).collect())
        .collect();
    let mut factors = vec![1.0; parts];
    for _ in 0..ROUNDS {
        for part in 0..parts {
            let (mut pull, mut weight) = (trust.pull(), trust.pull());
            for (line, counts) in shares.iter().zip(&weights) {
                let own = line.get(part).copied().unwrap_or_default();
                let all: f64 = line.iter().zip(&factors).map(|(share, factor)| share * factor).sum();
                let others = all - own * factors.get(part).copied().unwrap_or_default();
                pull += counts * own * (1.0 - others);
                weight += counts * own * own;
            }
            if let Some(factor) = factors.get_mut(part) {
                *factor = (pull / weight).clamp(FACTORS.0, FACTORS.1);
            }
        }
    }
    Factors(factors.into_iter().map(|factor| factor * common).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lesson(parts: &[u64], took: u64) -> Lesson {
        Lesson { parts: parts.iter().copied().map(seconds).collect(), took: seconds(took), alike: true }
    }

    fn unlike(parts: &[u64], took: u64) -> Lesson {
        Lesson { alike: false, ..lesson(parts, took) }
    }

    fn apply(factors: &Factors, parts: &[u64]) -> u64 {
        parts.iter().zip(factors.milli()).map(|(part, milli)| part * milli / 1000).sum()
    }

    fn off_percent(found: u64, expected: u64) -> u64 {
        found.abs_diff(expected) * 100 / expected
    }

    #[test]
    fn without_a_lesson_nothing_is_corrected_and_one_lesson_corrects_all_parts_of_a_guess_alike() {
        for trust in [Trust::Measured, Trust::Guessed] {
            assert_eq!(learn(&[], 2, trust), Factors(vec![1.0, 1.0]));
        }
        let once = learn(&[lesson(&[100_000, 900_000], 3_000_000)], 2, Trust::Guessed);
        assert!(off_percent(apply(&once, &[100_000, 900_000]), 3_000_000) == 0);
        assert!(off_percent(apply(&once, &[200_000, 1_800_000]), 6_000_000) == 0);
    }

    #[test]
    fn drills_of_different_mixture_tell_the_parts_apart() {
        // Each object costs four times what was measured, bytes half.
        let truth = |objects: u64, bytes: u64| objects * 4 + bytes / 2;
        let mixtures =
            [(1_000_000, 9_000_000), (5_000_000, 1_000_000), (3_000_000, 3_000_000), (200_000, 8_000_000)];
        let lessons: Vec<Lesson> = mixtures.iter().map(|(o, b)| lesson(&[*o, *b], truth(*o, *b))).collect();
        let factors = learn(&lessons, 2, Trust::Guessed);
        for (objects, bytes) in [(9_000_000, 100_000), (100_000, 9_000_000), (2_000_000, 6_000_000)] {
            let off = off_percent(apply(&factors, &[objects, bytes]), truth(objects, bytes));
            assert!(off <= 15, "{objects} {bytes}: {off} %");
        }
    }

    #[test]
    fn guesses_that_are_off_by_twenty_are_corrected_by_one_drill() {
        let factors = learn(&[lesson(&[1_000_000, 1_000_000], 40_000_000)], 2, Trust::Guessed);
        assert!(off_percent(apply(&factors, &[500_000, 1_500_000]), 40_000_000) <= 1);
    }

    #[test]
    fn one_drill_that_others_disturbed_does_not_outvote_what_was_just_measured() {
        let disturbed = lesson(&[1_000_000], 8_000_000);
        let quiet = lesson(&[1_000_000], 1_050_000);
        let factors = learn(&[disturbed.clone(), quiet.clone(), quiet.clone()], 1, Trust::Measured);
        assert!(off_percent(apply(&factors, &[1_000_000]), 1_050_000) <= 10, "{factors:?}");
        let other = learn(&[unlike(&[1_000_000], 8_000_000)], 1, Trust::Measured);
        assert!(apply(&other, &[1_000_000]) < 2_000_000, "{other:?}");
    }

    #[test]
    fn what_several_drills_of_the_scenario_agree_on_corrects_what_was_measured() {
        let lessons: Vec<Lesson> = (0..4).map(|_| lesson(&[700_000, 300_000], 2_000_000)).collect();
        let factors = learn(&lessons, 2, Trust::Measured);
        assert!(off_percent(apply(&factors, &[700_000, 300_000]), 2_000_000) <= 5, "{factors:?}");
    }

    #[test]
    fn the_newest_drill_counts_most_and_one_of_another_scenario_less() {
        let (slow, quick) = (lesson(&[1_000_000], 2_000_000), lesson(&[1_000_000], 1_000_000));
        let of = |lessons: &[Lesson]| apply(&learn(lessons, 1, Trust::Guessed), &[1_000_000]);
        assert!(of(&[quick.clone(), slow.clone()]) < of(&[slow, quick.clone()]));
        assert!(
            of(&[unlike(&[1_000_000], 2_000_000), quick.clone()])
                < of(&[quick, lesson(&[1_000_000], 2_000_000)])
        );
    }

    #[test]
    fn a_phase_of_other_parts_of_the_first_format_or_without_a_measured_time_teaches_nothing() {
        let phase = |name: &str, parts: &[u64]| PredictedPhase {
            name: name.to_owned(),
            duration_ns: 1,
            parts: parts.to_vec(),
            learned_milli: vec![1000; parts.len()],
        };
        let of = |predicted| Earlier::new(true, vec![predicted], vec![("read".to_owned(), 5)]);
        let earlier = of(phase("read", &[1, 2]));
        assert!(earlier.lesson(&phase("read", &[7, 8])).is_some());
        assert!(earlier.lesson(&phase("read", &[7])).is_none());
        assert!(earlier.lesson(&phase("restore", &[7, 8])).is_none());
        let older = of(PredictedPhase { learned_milli: vec![], ..phase("read", &[1, 2]) });
        assert!(older.lesson(&phase("read", &[7, 8])).is_none());
    }
}
