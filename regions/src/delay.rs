//! Whether a site answers challenges from its own disk, told by its delay.
//!
//! A site that fetches a shard from elsewhere answers rightly, and every time
//! later than it used to. Its delays at enrolment are the baseline; a round of
//! answers is held against them by counting how many come within a threshold.
//! Nothing is assumed about the form of the delays: threshold, size of the
//! round and the count to reach are computed from the baseline itself, such
//! that both errors stay within their bounds although the baseline is a sample.
//! The baseline never follows the site by itself: a cheat could train it.

use std::time::Duration;

/// Fewest delays that make a baseline.
pub const BASELINE_MIN: usize = 256;
/// Most delays that a baseline keeps.
pub const BASELINE_MAX: usize = 1024;

/// The chance of a false alarm in one round for which a plan is made; the
/// promise is 0.001.
const FALSE_ALARM: f64 = 0.000_3;
/// The chance of missing a relay in one round for which a plan is made; the
/// promise is 0.01.
const MISS: f64 = 0.003;
/// Standard deviations by which a share of the baseline may be off.
const DEVIATIONS: f64 = 3.0;
/// Sizes of a round, the smallest that suffices is taken.
const SIZES: [u32; 9] = [16, 24, 32, 48, 64, 96, 128, 192, 256];
/// How many places of the baseline are tried as threshold.
const PLACES: usize = 64;

/// Why there is no baseline or no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DelayError {
    /// Too few delays were measured.
    #[error("{0} delays are no baseline; it takes {BASELINE_MIN}")]
    TooFew(usize),
    /// No round of a size that can be asked for tells the two apart.
    #[error("the delays of this site scatter too much to notice {0:?} more")]
    Indistinct(Duration),
}

/// How long a site took to answer when it was enrolled, sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline {
    sorted: Vec<Duration>,
}

impl Baseline {
    /// Takes the delays of right answers as they were measured; of more than
    /// [`BASELINE_MAX`] the first count.
    ///
    /// # Errors
    /// [`DelayError::TooFew`].
    pub fn learn(mut delays: Vec<Duration>) -> Result<Self, DelayError> {
        if delays.len() < BASELINE_MIN {
            return Err(DelayError::TooFew(delays.len()));
        }
        delays.truncate(BASELINE_MAX);
        delays.sort_unstable();
        Ok(Self { sorted: delays })
    }

    /// The delays, shortest first.
    pub fn delays(&self) -> &[Duration] {
        &self.sorted
    }

    /// The delay below which this share of the baseline lies, in thousandths.
    pub fn quantile(&self, thousandths: usize) -> Duration {
        let at = self.sorted.len().saturating_sub(1) * thousandths.min(1000) / 1000;
        self.sorted.get(at).copied().unwrap_or_default()
    }

    /// How many delays are at most `threshold`.
    fn within(&self, threshold: Duration) -> u32 {
        let count = self.sorted.partition_point(|delay| *delay <= threshold);
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    /// The smallest round that tells a site as it was from one that answers
    /// `added` later every time.
    ///
    /// # Errors
    /// [`DelayError::Indistinct`].
    pub fn plan(&self, added: Duration) -> Result<RoundPlan, DelayError> {
        let all = u32::try_from(self.sorted.len()).unwrap_or(u32::MAX);
        let mut thresholds: Vec<Duration> = (0..=PLACES)
            .flat_map(|place| {
                let quantile = self.quantile(place * 1000 / PLACES);
                (0..4).map(move |quarter| quantile + added / 4 * quarter)
            })
            .collect();
        thresholds.sort_unstable();
        thresholds.dedup();
        for answers in SIZES {
            let mut fitting = Vec::new();
            for threshold in &thresholds {
                let own = lower(self.within(*threshold), all);
                // What takes no time at all still comes later by what is added.
                let sooner = threshold.checked_sub(added).map_or(0, |sooner| self.within(sooner));
                let relayed = upper(sooner, all);
                if let Some(needed) = needed(answers, own, relayed) {
                    fitting.push(RoundPlan { threshold: *threshold, answers, needed });
                }
            }
            // The middle one bears most that is neither in the baseline nor a relay.
            if let Some(plan) = fitting.get(fitting.len() / 2) {
                return Ok(*plan);
            }
        }
        Err(DelayError::Indistinct(added))
    }
}

/// One round: how many to ask, and how to judge what came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundPlan {
    threshold: Duration,
    answers: u32,
    needed: u32,
}

/// What a round says about a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DelayVerdict {
    /// Its answers come as they did at enrolment.
    AsEnrolled,
    /// They come later: it fetches them, or its line has changed. Which of
    /// the two is for an operator to say.
    Later,
}

impl RoundPlan {
    /// How many answers one round takes.
    pub fn answers(&self) -> usize {
        usize::try_from(self.answers).unwrap_or(usize::MAX)
    }

    /// The delay that tells quick answers from late ones.
    pub fn threshold(&self) -> Duration {
        self.threshold
    }

    /// Judges the first [`Self::answers`] delays; `None` where there are fewer.
    pub fn judge(&self, delays: &[Duration]) -> Option<DelayVerdict> {
        let round = delays.get(..self.answers())?;
        let quick = round.iter().filter(|delay| **delay <= self.threshold).count();
        let enough = u32::try_from(quick).unwrap_or(u32::MAX) >= self.needed;
        Some(if enough { DelayVerdict::AsEnrolled } else { DelayVerdict::Later })
    }
}

/// The number of quick answers among `answers` that a site with quick share
/// `own` reaches, and one with `relayed` does not, each with its error
/// bounded; the middle of those that do.
fn needed(answers: u32, own: f64, relayed: f64) -> Option<u32> {
    if own <= relayed {
        return None;
    }
    let (own, relayed) = (tails(answers, own), tails(answers, relayed));
    let fits: Vec<u32> = (1..=answers)
        .zip(own.iter().zip(&relayed))
        .filter(|(_, (below, missed))| **below <= FALSE_ALARM && 1.0 - **missed <= MISS)
        .map(|(needed, _)| needed)
        .collect();
    fits.get(fits.len() / 2).copied()
}

/// The chances that fewer than 1, 2, … `answers` of `answers` are quick, each
/// being it with the chance `share`, which is neither 0 nor 1.
fn tails(answers: u32, share: f64) -> Vec<f64> {
    let (quick, slow) = (share.ln(), (1.0 - share).ln());
    let mut choose = 0.0;
    let mut sum = 0.0;
    (0..answers)
        .map(|k| {
            if k > 0 {
                choose += f64::from(answers - k + 1).ln() - f64::from(k).ln();
            }
            sum += (choose + f64::from(k) * quick + f64::from(answers - k) * slow).exp();
            sum
        })
        .collect()
}

/// The least and the largest share that a count of a sample speaks for:
/// Wilson's interval, which neither reaches 0 nor 1 from inside.
fn wilson(count: u32, all: u32, sign: f64) -> f64 {
    let (n, z2) = (f64::from(all), DEVIATIONS * DEVIATIONS);
    let share = f64::from(count) / n;
    let middle = share + z2 / (2.0 * n);
    let spread = DEVIATIONS * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    ((middle + sign * spread) / (1.0 + z2 / n)).clamp(1e-9, 1.0 - 1e-9)
}

fn lower(count: u32, all: u32) -> f64 {
    wilson(count, all, -1.0)
}

fn upper(count: u32, all: u32) -> f64 {
    wilson(count, all, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDED: Duration = Duration::from_millis(20);

    fn even(from_us: u64, to_us: u64, count: u64) -> Vec<Duration> {
        (0..count).map(|i| Duration::from_micros(from_us + (to_us - from_us) * i / count)).collect()
    }

    #[test]
    fn too_few_delays_are_no_baseline() {
        assert_eq!(Baseline::learn(even(1, 2, 255)), Err(DelayError::TooFew(255)));
        assert_eq!(Baseline::learn(even(1, 2, 9999)).unwrap().delays().len(), BASELINE_MAX);
    }

    #[test]
    fn a_steady_site_needs_the_smallest_round_and_has_room_on_both_sides() {
        let baseline = Baseline::learn(even(200, 400, 512)).unwrap();
        let plan = baseline.plan(ADDED).unwrap();
        assert_eq!(plan.answers(), 16);
        assert!(plan.threshold() > Duration::from_millis(5) && plan.threshold() < Duration::from_millis(16));
        assert_eq!(plan.judge(&even(200, 3_000, 16)), Some(DelayVerdict::AsEnrolled));
        assert_eq!(plan.judge(&even(20_200, 20_400, 16)), Some(DelayVerdict::Later));
        assert_eq!(plan.judge(&even(200, 400, 15)), None, "fifteen answers are no round");
    }

    #[test]
    fn a_site_that_answers_at_once_has_a_plan_too() {
        let plan = Baseline::learn(vec![Duration::ZERO; 256]).unwrap().plan(ADDED).unwrap();
        assert_eq!(plan.judge(&[ADDED; 16]), Some(DelayVerdict::Later));
        assert_eq!(plan.judge(&[Duration::ZERO; 16]), Some(DelayVerdict::AsEnrolled));
    }

    #[test]
    fn a_few_late_answers_are_no_relay_and_a_few_quick_ones_no_excuse() {
        let baseline = Baseline::learn(even(200, 400, 512)).unwrap();
        let plan = baseline.plan(ADDED).unwrap();
        let mixed = |late: u64| [even(50_000, 90_000, late), even(200, 400, 16 - late)].concat();
        assert_eq!(plan.judge(&mixed(2)), Some(DelayVerdict::AsEnrolled));
        assert_eq!(plan.judge(&mixed(14)), Some(DelayVerdict::Later));
    }

    #[test]
    fn what_scatters_more_takes_more_answers_and_what_scatters_too_much_is_said_to() {
        let wide = Baseline::learn(even(1_000, 60_000, 1024)).unwrap();
        assert!(wide.plan(ADDED).unwrap().answers() > 16);
        let hopeless = Baseline::learn(even(1_000, 900_000, 1024)).unwrap();
        assert_eq!(hopeless.plan(ADDED), Err(DelayError::Indistinct(ADDED)));
    }

    #[test]
    fn the_tails_are_those_of_coins_and_dice() {
        // Fewer than 1 and fewer than 2 heads of 4 fair coins: 1/16 and 5/16.
        let coins = tails(4, 0.5);
        assert!((coins[0] - 1.0 / 16.0).abs() < 1e-12 && (coins[1] - 5.0 / 16.0).abs() < 1e-12);
        // No six in three dice: 125/216.
        assert!((tails(3, 1.0 / 6.0)[0] - 125.0 / 216.0).abs() < 1e-12);
    }
}
