//! When to try again: of containers that end, and of an API that is away.

use std::time::Duration;

/// When a container that ended is started again: after `first`, then twice as
/// long each time up to `most`; from the beginning once it ran for `reset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first end.
    pub first: Duration,
    /// At most.
    pub most: Duration,
    /// A run this long makes up for all before it.
    pub reset: Duration,
}

impl Default for Backoff {
    /// Those of Kubernetes: 10 s, 5 min, 10 min.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(10),
            most: Duration::from_secs(300),
            reset: Duration::from_secs(600),
        }
    }
}

impl Backoff {
    /// How long to wait after `failures` ends in a row, the last one counted.
    pub fn after(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.most)
    }
}

/// When to ask an API again that did not answer: soon, then every five seconds.
/// It never gives up, and a success makes it forget.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    failures: u32,
}

impl Retry {
    const TIMES: Backoff =
        Backoff { first: Duration::from_millis(100), most: Duration::from_secs(5), reset: Duration::ZERO };

    /// How long to wait after one more failure.
    pub(crate) fn pause(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        Self::TIMES.after(self.failures)
    }
}

impl Iterator for Retry {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.pause())
    }
}

impl kube::runtime::utils::Backoff for Retry {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_that_keeps_ending_is_started_ever_more_rarely_up_to_a_bound() {
        let backoff = Backoff::default();
        let seconds: Vec<u64> = (1..=7).map(|failures| backoff.after(failures).as_secs()).collect();
        assert_eq!(seconds, [10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(backoff.after(u32::MAX).as_secs(), 300);
    }
}
