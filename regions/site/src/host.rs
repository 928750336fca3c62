//! Time and chance of this machine, for the binary alone.
#![expect(clippy::disallowed_methods, reason = "this module is the host adapter of the binary")]

use std::fs::File;
use std::io::Read;
use std::time::{Duration, Instant};

use coffer_model::Entropy;

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
