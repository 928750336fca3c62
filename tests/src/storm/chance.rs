//! Chance and time of the storm: everything that looks random comes out of the
//! seed, everything that looks like time out of the paused clock of the runtime.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use coffer_model::{Clock, Entropy, Timestamp};
use tokio::time::Instant;

/// One stream of choices. Streams of different labels do not disturb each
/// other, so that one more choice here changes nothing there.
pub(crate) struct Chance {
    stream: Mutex<blake3::OutputReader>,
}

impl Chance {
    /// The stream of that label under the seed.
    pub(crate) fn new(seed: u64, label: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"coffer storm v1");
        hasher.update(&seed.to_be_bytes());
        hasher.update(label.as_bytes());
        Self { stream: Mutex::new(hasher.finalize_xof()) }
    }

    pub(crate) fn fill(&self, out: &mut [u8]) {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner).fill(out);
    }

    pub(crate) fn number(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }

    /// A number below `bound`, which is at least one.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.number() % bound.max(1)
    }

    /// An index into something of that length.
    pub(crate) fn index(&self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// True in so many of a thousand cases.
    pub(crate) fn permille(&self, share: u64) -> bool {
        self.below(1000) < share
    }

    pub(crate) fn pick<'a, T>(&self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.index(from.len()))
    }

    /// A duration up to `longest`, in steps of a microsecond.
    pub(crate) fn up_to(&self, longest: Duration) -> Duration {
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.below(micros.max(1)))
    }

    pub(crate) fn between(&self, shortest: Duration, longest: Duration) -> Duration {
        shortest + self.up_to(longest.saturating_sub(shortest))
    }
}

/// The service's and the clients' random numbers. Every output of 32 bytes is
/// remembered: keys have that length, and no site may ever hold one.
pub(crate) struct SeededEntropy {
    chance: Chance,
    keys: Mutex<Vec<[u8; 32]>>,
}

impl SeededEntropy {
    pub(crate) fn new(seed: u64) -> Self {
        Self { chance: Chance::new(seed, "entropy"), keys: Mutex::default() }
    }

    /// Every 32 bytes that were ever asked for.
    pub(crate) fn keys(&self) -> Vec<[u8; 32]> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, out: &mut [u8]) {
        self.chance.fill(out);
        if let Ok(key) = <[u8; 32]>::try_from(&*out) {
            self.keys.lock().unwrap_or_else(PoisonError::into_inner).push(key);
        }
    }
}

/// The wall clock: the runtime's virtual time, and a skew that jumps.
pub(crate) struct StormClock {
    start: Instant,
    skew_ms: AtomicI64,
}

/// Some day of 2030, in nanoseconds since 1970.
const BEGINNING_NS: u64 = 1_900_000_000_000_000_000;

impl StormClock {
    /// Starts now. Only inside the runtime.
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), skew_ms: AtomicI64::new(0) }
    }

    /// Moves the wall clock to so far from the truth.
    pub(crate) fn jump(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
    }

    /// Virtual milliseconds since the beginning.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Clock for StormClock {
    fn now(&self) -> Timestamp {
        let nanos = u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let skew = self.skew_ms.load(Ordering::Relaxed).saturating_mul(1_000_000);
        Timestamp(BEGINNING_NS.saturating_add(nanos).saturating_add_signed(skew))
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}
