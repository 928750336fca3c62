//! What earlier drills teach about the next: for each part of a phase, by how
//! much what the rates say of it has to be multiplied. Least squares of the
//! relative error, drawn towards one common factor where the drills do not
//! tell the parts apart. Pure; the same drills teach the same.

use std::time::Duration;

use super::predict::PredictedPhase;
use super::record::NANOS_MAX;

/// How strongly the parts are drawn towards their common factor: as an error
/// of a fifth is counted against a part that is off by its whole.
const PULL: f64 = 0.04;

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
}

fn seconds(nanos: u64) -> f64 {
    Duration::from_nanos(nanos).as_secs_f64()
}

impl Earlier {
    /// From the phases as they were foreseen, and as they were measured, in
    /// nanoseconds.
    pub fn new(predicted: Vec<PredictedPhase>, measured: Vec<(String, u64)>) -> Self {
        Self { predicted, measured }
    }

    /// What it says of a phase with as many parts, if it had one.
    pub(super) fn lesson(&self, about: &PredictedPhase) -> Option<Lesson> {
        let predicted = self.predicted.iter().find(|phase| phase.name == about.name)?;
        let (_, took) = self.measured.iter().find(|(name, _)| *name == about.name)?;
        let parts: Vec<f64> = predicted.parts.iter().copied().map(seconds).collect();
        let usable = parts.len() == about.parts.len() && *took > 0 && parts.iter().sum::<f64>() > 0.0;
        usable.then(|| Lesson { parts, took: seconds(*took) })
    }
}

/// The factors of a phase's parts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Factors(Vec<f64>);

impl Factors {
    /// What the parts make together, nanoseconds.
    pub(super) fn apply(&self, parts: &[u64]) -> u64 {
        let sum: f64 = parts.iter().zip(&self.0).map(|(part, factor)| seconds(*part) * factor).sum();
        let nanos = Duration::try_from_secs_f64(sum).map_or(u128::MAX, |sum| sum.as_nanos());
        u64::try_from(nanos).unwrap_or(u64::MAX).min(NANOS_MAX)
    }
}

/// The middle of the ratios, the newest first: what all parts have in common.
fn common(lessons: &[Lesson]) -> f64 {
    let mut ratios: Vec<f64> =
        lessons.iter().map(|lesson| lesson.took / lesson.parts.iter().sum::<f64>()).collect();
    ratios.sort_by(f64::total_cmp);
    ratios.get(ratios.len() / 2).copied().unwrap_or(1.0)
}

/// The factors that the lessons teach, the newest first; ones without any.
pub(super) fn learn(lessons: &[Lesson], parts: usize) -> Factors {
    let common = common(lessons);
    // Each lesson as shares of what it took: a part's error counts relatively.
    let shares: Vec<Vec<f64>> = lessons
        .iter()
        .map(|lesson| lesson.parts.iter().map(|part| part * common / lesson.took).collect())
        .collect();
    let weights: Vec<f64> =
        std::iter::successors(Some(1.0), |weight| Some(weight * FADING)).take(lessons.len()).collect();
    let mut factors = vec![1.0; parts];
    for _ in 0..ROUNDS {
        for part in 0..parts {
            let (mut pull, mut weight) = (PULL, PULL);
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
        Lesson { parts: parts.iter().copied().map(seconds).collect(), took: seconds(took) }
    }

    fn off_percent(found: u64, expected: u64) -> u64 {
        found.abs_diff(expected) * 100 / expected
    }

    #[test]
    fn without_a_lesson_nothing_is_corrected_and_one_lesson_corrects_all_parts_alike() {
        assert_eq!(learn(&[], 2).apply(&[100, 10]), 110);
        let once = learn(&[lesson(&[100_000, 900_000], 3_000_000)], 2);
        assert!(off_percent(once.apply(&[100_000, 900_000]), 3_000_000) == 0);
        assert!(off_percent(once.apply(&[200_000, 1_800_000]), 6_000_000) == 0);
    }

    #[test]
    fn drills_of_different_mixture_tell_the_parts_apart() {
        // Each object costs four times what was measured, bytes half.
        let truth = |objects: u64, bytes: u64| objects * 4 + bytes / 2;
        let mixtures =
            [(1_000_000, 9_000_000), (5_000_000, 1_000_000), (3_000_000, 3_000_000), (200_000, 8_000_000)];
        let lessons: Vec<Lesson> = mixtures.iter().map(|(o, b)| lesson(&[*o, *b], truth(*o, *b))).collect();
        let factors = learn(&lessons, 2);
        for (objects, bytes) in [(9_000_000, 100_000), (100_000, 9_000_000), (2_000_000, 6_000_000)] {
            let off = off_percent(factors.apply(&[objects, bytes]), truth(objects, bytes));
            assert!(off <= 15, "{objects} {bytes}: {off} %");
        }
    }

    #[test]
    fn rates_that_are_off_by_twenty_are_corrected_by_one_drill() {
        let factors = learn(&[lesson(&[1_000_000, 1_000_000], 40_000_000)], 2);
        assert!(off_percent(factors.apply(&[500_000, 1_500_000]), 40_000_000) <= 1);
    }

    #[test]
    fn the_newest_drill_counts_most() {
        let (slow, quick) = (lesson(&[1_000_000], 2_000_000), lesson(&[1_000_000], 1_000_000));
        let quick_last = learn(&[quick.clone(), slow.clone()], 1).apply(&[1_000_000]);
        let slow_last = learn(&[slow, quick], 1).apply(&[1_000_000]);
        assert!(quick_last < slow_last, "{quick_last} {slow_last}");
    }

    #[test]
    fn a_phase_of_other_parts_or_without_a_measured_time_teaches_nothing() {
        let phase = |name: &str, parts: &[u64]| PredictedPhase {
            name: name.to_owned(),
            duration_ns: 1,
            parts: parts.to_vec(),
        };
        let earlier = Earlier::new(vec![phase("read", &[1, 2])], vec![("read".to_owned(), 5)]);
        assert!(earlier.lesson(&phase("read", &[7, 8])).is_some());
        assert!(earlier.lesson(&phase("read", &[7])).is_none());
        assert!(earlier.lesson(&phase("restore", &[7, 8])).is_none());
        let older = Earlier::new(vec![phase("read", &[])], vec![("read".to_owned(), 5)]);
        assert!(older.lesson(&phase("read", &[7, 8])).is_none());
    }
}
