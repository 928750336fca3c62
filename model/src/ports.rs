//! Time and chance, as ports: no crate reads the clock or random numbers
//! except through these. The host's adapters live in `coffer-custody`.

use core::time::Duration;

use crate::Timestamp;

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// The wall clock, UTC. May jump in either direction.
    fn now(&self) -> Timestamp;
    /// Time since an arbitrary origin; never goes back. For measuring.
    fn monotonic(&self) -> Duration;
    /// Time since the machine started, suspended time included, as other
    /// programs of this machine count it too; `None` where nobody counts it.
    fn since_boot(&self) -> Option<Duration> {
        None
    }
}

/// Where random numbers come from. An adapter must be cryptographically
/// strong, or belong to a test; one that cannot deliver ends the process,
/// because a key from a failed source would be worse than no service.
pub trait Entropy: Send + Sync {
    /// Fills `out` with uniformly random bytes.
    fn fill(&self, out: &mut [u8]);

    /// Sixteen random bytes, the size of every id.
    fn sixteen(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        bytes
    }
}
