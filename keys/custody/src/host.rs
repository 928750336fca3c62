//! The host's clock and the host's randomness: the one place that asks them.

use core::time::Duration;
use std::sync::OnceLock;
use std::time::{Instant, SystemTime};

use coffer_model::{Clock, Entropy, Timestamp};

/// The clock of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

/// The origin of monotonic time: the first question that this process asked.
static ORIGIN: OnceLock<Instant> = OnceLock::new();

#[expect(clippy::disallowed_methods, reason = "this is the adapter of the host's clock")]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        // A clock before 1970 is a machine without one; zero is as wrong as it.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        ORIGIN.get_or_init(Instant::now).elapsed()
    }

    fn since_boot(&self) -> Option<Duration> {
        since_boot()
    }
}

#[cfg(target_os = "linux")]
fn since_boot() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}

#[cfg(not(target_os = "linux"))]
fn since_boot() -> Option<Duration> {
    None
}

/// The random numbers of `aws-lc-rs`, seeded by the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsEntropy;

impl Entropy for OsEntropy {
    #[expect(clippy::disallowed_methods, reason = "this is the adapter of the host's randomness")]
    fn fill(&self, out: &mut [u8]) {
        if aws_lc_rs::rand::fill(out).is_err() {
            // A key from a failed source would be worse than no service.
            std::process::abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monotonic_time_never_goes_back() {
        let first = SystemClock.monotonic();
        assert!(SystemClock.monotonic() >= first);
    }

    #[test]
    fn the_wall_clock_is_after_the_day_this_was_written() {
        assert!(SystemClock.now() > Timestamp(1_790_000_000_000_000_000));
    }

    #[test]
    fn two_ids_are_never_the_same() {
        assert_ne!(OsEntropy.sixteen(), OsEntropy.sixteen());
    }
}
