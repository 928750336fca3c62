//! How long things took, in buckets; used for appends to logs and for calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use coffer_model::Clock;

/// Upper bounds of the buckets, in seconds.
pub(super) const BOUNDS: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0, 60.0, 600.0];

/// Durations by bucket; the last bucket is that of everything longer.
#[derive(Debug, Default)]
pub(super) struct Durations {
    counts: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

impl Durations {
    pub(super) fn note(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    pub(super) fn sum_seconds(&self) -> f64 {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)).as_secs_f64()
    }
}

/// How long single leaves waited until they were durable in their catalogue,
/// over all logs.
pub(crate) struct Appends {
    clock: Arc<dyn Clock>,
    pub(super) took: Durations,
    failed: AtomicU64,
}

impl Appends {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, took: Durations::default(), failed: AtomicU64::new(0) }
    }

    /// Hands on what appending came to, and notes how long it took.
    pub(crate) async fn timed<T, E>(&self, append: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let began = self.clock.monotonic();
        let outcome = append.await;
        match &outcome {
            Ok(_) => self.took.note(self.clock.monotonic().saturating_sub(began)),
            Err(_) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        outcome
    }

    pub(super) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}
