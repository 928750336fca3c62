//! Time and chance of this machine, for the binary alone.
#![expect(clippy::disallowed_methods, reason = "this module is the host adapter of the binary")]

use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant, SystemTime};

use coffer_model::{Clock, Entropy, Timestamp};

/// Random bytes of the kernel.
pub(crate) struct HostEntropy;

impl Entropy for HostEntropy {
    fn fill(&self, out: &mut [u8]) {
        let filled = File::open("/dev/urandom").and_then(|mut source| source.read_exact(out));
        if filled.is_err() {
            // The port asks for this: a guess would be worse than no service.
            eprintln!("coffer-site: /dev/urandom cannot be read");
            std::process::abort();
        }
    }
}

/// The clocks of this machine.
pub(crate) struct HostClock(Instant);

impl Default for HostClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for HostClock {
    fn now(&self) -> Timestamp {
        // A clock before 1970 is a machine without one; zero is as wrong as it.
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
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

/// Measures time.
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    /// Starts now.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
