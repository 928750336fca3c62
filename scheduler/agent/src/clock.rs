//! The kernel's clocks: the port `Clock` of the model, and the time since boot,
//! which nobody can set back and which counts suspended time too.

use std::time::Duration;

use coffer_model::{Clock, Timestamp};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Reads the kernel's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct KernelClock;

impl Clock for KernelClock {
    fn now(&self) -> Timestamp {
        timestamp(span(clock_gettime(ClockId::Realtime)))
    }

    fn monotonic(&self) -> Duration {
        span(clock_gettime(ClockId::Monotonic))
    }

    fn since_boot(&self) -> Option<Duration> {
        Some(boottime())
    }
}

/// The wall clock, as time since 1970.
pub(crate) fn wall() -> Duration {
    span(clock_gettime(ClockId::Realtime))
}

/// Time since the machine started, suspended time included.
pub(crate) fn boottime() -> Duration {
    span(clock_gettime(ClockId::Boottime))
}

/// Whole milliseconds, for files that other programs read.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// A span since 1970 as the model's moment.
pub(crate) fn timestamp(since: Duration) -> Timestamp {
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

fn span(time: Timespec) -> Duration {
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}
