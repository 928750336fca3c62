//! How long a site takes to answer, learnt from the reads that were made: a
//! histogram over powers of two whose old samples fade. Pure.

use std::time::Duration;

/// Steps within one power of two: an estimate is at most an eighth too high.
const STEPS: u64 = 8;

/// Times of two minutes and more are one bucket.
const BUCKETS: usize = 200;

/// What one fresh sample weighs; it halves sixteen times before it is gone.
const WEIGHT: u32 = 1 << 16;

/// When this many fresh samples' worth is at hand, all of it weighs half.
const MEMORY: u32 = 128;

/// The latencies of one kind of read at one site.
#[derive(Clone, Debug)]
pub(crate) struct Latency {
    weights: Vec<u32>,
    total: u32,
    /// Samples since the last forgetting, up to [`Latency::SAMPLES_MIN`].
    samples: u32,
}

impl Default for Latency {
    fn default() -> Self {
        Self { weights: vec![0; BUCKETS], total: 0, samples: 0 }
    }
}

impl Latency {
    /// Fewer samples than this say nothing.
    pub(crate) const SAMPLES_MIN: u32 = 8;

    /// Takes in how long one read took.
    pub(crate) fn record(&mut self, took: Duration) {
        if let Some(weight) = self.weights.get_mut(bucket(took)) {
            *weight += WEIGHT;
            self.total += WEIGHT;
        }
        self.samples = (self.samples + 1).min(Self::SAMPLES_MIN);
        if self.total >= WEIGHT * MEMORY {
            self.weights.iter_mut().for_each(|weight| *weight /= 2);
            self.total = self.weights.iter().sum();
        }
    }

    /// The time that `per_mille` of the recent reads did not exceed, rounded
    /// up to its bucket; nothing while there are too few.
    pub(crate) fn quantile(&self, per_mille: u32) -> Option<Duration> {
        if self.samples < Self::SAMPLES_MIN {
            return None;
        }
        let rank = (u64::from(self.total) * u64::from(per_mille)).div_ceil(1000).max(1);
        let mut below = 0;
        let position = self.weights.iter().position(|weight| {
            below += u64::from(*weight);
            below >= rank
        });
        position.map(upper_end)
    }

    /// What nineteen of twenty recent reads did not exceed.
    pub(crate) fn p95(&self) -> Option<Duration> {
        self.quantile(950)
    }
}

/// Buckets are linear up to eight microseconds, then eight for each power of two.
fn bucket(took: Duration) -> usize {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    let octave = u64::from(micros.max(1).ilog2()).saturating_sub(STEPS.ilog2().into());
    let index = octave * STEPS + (micros >> octave);
    usize::try_from(index).unwrap_or(usize::MAX).min(BUCKETS - 1)
}

/// The first time above a bucket.
fn upper_end(bucket: usize) -> Duration {
    let bucket = bucket as u64;
    let octave = (bucket / STEPS).saturating_sub(1);
    Duration::from_micros((bucket - octave * STEPS + 1) << octave)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The naive way: every sample is kept, with a weight that halves.
    #[derive(Default)]
    struct Oracle(Vec<(Duration, f64)>);

    impl Oracle {
        fn record(&mut self, took: Duration) {
            self.0.push((took, 1.0));
            if self.0.iter().map(|(_, weight)| weight).sum::<f64>() >= f64::from(MEMORY) {
                self.0.iter_mut().for_each(|(_, weight)| *weight /= 2.0);
            }
        }

        fn quantile(&mut self, share: f64) -> Duration {
            self.0.sort_by_key(|(took, _)| *took);
            let total: f64 = self.0.iter().map(|(_, weight)| weight).sum();
            let mut below = 0.0;
            let found = self.0.iter().find(|(_, weight)| {
                below += weight;
                below >= total * share
            });
            found.or_else(|| self.0.last()).unwrap().0
        }
    }

    /// Numbers that are the same at every run.
    fn numbers(seed: u64, count: usize) -> Vec<u64> {
        let mut bytes = vec![0; count * 8];
        blake3::Hasher::new().update(&seed.to_be_bytes()).finalize_xof().fill(&mut bytes);
        bytes.as_chunks::<8>().0.iter().map(|chunk| u64::from_be_bytes(*chunk)).collect()
    }

    #[test]
    fn an_estimate_lies_within_a_bucket_of_what_keeping_every_sample_gives() {
        for seed in 0..20 {
            let (mut sketch, mut oracle) = (Latency::default(), Oracle::default());
            for (n, random) in numbers(seed, 3000).into_iter().enumerate() {
                // From microseconds to seconds, with a change of the scale on the way.
                let scale = if n < 1500 { seed % 7 } else { seed % 5 };
                let took = Duration::from_micros((random >> 40) >> (2 * scale + random % 9));
                sketch.record(took);
                oracle.record(took);
                if n % 97 == 0 && n > 100 {
                    for share in [500, 950] {
                        let share_at = f64::from(share) / 1000.0;
                        let (low, high) =
                            (oracle.quantile(share_at - 0.02), oracle.quantile(share_at + 0.02));
                        let found = sketch.quantile(share).unwrap();
                        let most = high + high / 8 + Duration::from_micros(1);
                        assert!(
                            low <= found && found <= most,
                            "seed {seed}, {n}: {low:?} {found:?} {most:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn every_time_lies_below_the_end_of_its_bucket_and_not_below_that_of_the_one_before() {
        for micros in (0..5000).chain(numbers(1, 1000).into_iter().map(|n| n >> 38)) {
            let took = Duration::from_micros(micros);
            let at = bucket(took);
            assert!(took < upper_end(at), "{micros} us");
            assert!(at == 0 || took >= upper_end(at - 1), "{micros} us");
        }
    }

    #[test]
    fn too_few_samples_say_nothing_and_the_longest_time_is_still_a_sample() {
        let mut latency = Latency::default();
        for _ in 0..Latency::SAMPLES_MIN {
            assert_eq!(latency.p95(), None);
            latency.record(Duration::MAX);
        }
        assert!(latency.p95().is_some_and(|p95| p95 > Duration::from_secs(60)));
    }

    #[test]
    fn a_site_that_turns_slow_shows_within_ten_reads_and_old_times_fade() {
        let mut latency = Latency::default();
        (0..1000).for_each(|_| latency.record(Duration::from_millis(2)));
        assert!(latency.p95() < Some(Duration::from_millis(3)));
        (0..10).for_each(|_| latency.record(Duration::from_millis(100)));
        assert!(latency.p95() >= Some(Duration::from_millis(100)));
        (0..600).for_each(|_| latency.record(Duration::from_millis(2)));
        assert!(latency.p95() < Some(Duration::from_millis(3)));
    }
}
