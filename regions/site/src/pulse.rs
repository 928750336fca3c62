//! How the upkeep of a site learns what the foreground does: it works while
//! nobody waits, and otherwise gets a fixed share of the bytes written.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes that the foreground may write for each byte of upkeep.
const FOREGROUND_SHARE: u64 = 4;

#[derive(Default)]
struct Beats {
    batches: u64,
    bytes: u64,
    stopped: bool,
}

/// Counts batches and who waits for them.
#[derive(Default)]
pub(crate) struct Pulse {
    beats: Mutex<Beats>,
    changed: Condvar,
    /// Requests from outside that are not answered yet.
    waiting: AtomicU64,
}

impl Pulse {
    fn beats(&self) -> MutexGuard<'_, Beats> {
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request from outside has been made.
    pub(crate) fn asked(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// A batch of `bytes` is done, with it that many requests from outside.
    pub(crate) fn beat(&self, answered: u64, bytes: u64) {
        self.waiting.fetch_sub(answered, Ordering::Relaxed);
        let mut beats = self.beats();
        beats.batches += 1;
        beats.bytes = beats.bytes.saturating_add(if answered > 0 { bytes } else { 0 });
        drop(beats);
        self.changed.notify_all();
    }

    /// Ends all waiting, for good.
    pub(crate) fn stop(&self) {
        self.beats().stopped = true;
        self.changed.notify_all();
    }

    /// Batches so far.
    pub(crate) fn batches(&self) -> u64 {
        self.beats().batches
    }

    /// Waits for a batch after the first `seen`; false when stopped.
    pub(crate) fn wait_beyond(&self, seen: u64) -> bool {
        self.wait(|beats| beats.batches > seen)
    }

    /// Waits until upkeep that moved `bytes` may go on; false when stopped.
    pub(crate) fn wait_for_turn(&self, bytes: u64) -> bool {
        let due = self.beats().bytes.saturating_add(bytes.saturating_mul(FOREGROUND_SHARE));
        self.wait(|beats| self.waiting.load(Ordering::Relaxed) == 0 || beats.bytes >= due)
    }

    fn wait(&self, ready: impl Fn(&Beats) -> bool) -> bool {
        let waits = |beats: &mut Beats| !beats.stopped && !ready(beats);
        let beats = self.changed.wait_while(self.beats(), waits);
        !beats.unwrap_or_else(PoisonError::into_inner).stopped
    }
}
