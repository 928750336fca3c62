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
        let due = self.due_after(bytes);
        self.wait(|beats| self.is_turn(beats, due))
    }

    /// Foreground bytes in all, once upkeep that moved `bytes` just now has
    /// left the foreground its share.
    fn due_after(&self, bytes: u64) -> u64 {
        self.beats().bytes.saturating_add(bytes.saturating_mul(FOREGROUND_SHARE))
    }

    fn is_turn(&self, beats: &Beats, due: u64) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0 || beats.bytes >= due
    }

    fn wait(&self, ready: impl Fn(&Beats) -> bool) -> bool {
        let waits = |beats: &mut Beats| !beats.stopped && !ready(beats);
        let beats = self.changed.wait_while(self.beats(), waits);
        !beats.unwrap_or_else(PoisonError::into_inner).stopped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upkeep_has_its_turn_at_once_while_nobody_waits() {
        let pulse = Pulse::default();
        let due = pulse.due_after(u64::MAX);
        assert!(pulse.is_turn(&pulse.beats(), due));
        assert!(pulse.wait_for_turn(u64::MAX));
        pulse.asked();
        assert!(!pulse.is_turn(&pulse.beats(), due));
        pulse.beat(1, 0);
        assert!(pulse.wait_for_turn(u64::MAX), "who was answered waits no more");
    }

    #[test]
    fn while_somebody_waits_upkeep_has_its_turn_after_four_times_its_bytes_and_no_sooner() {
        let pulse = Pulse::default();
        pulse.asked();
        pulse.beat(1, 1000);
        // One of them is answered with each batch, the other waits all the time.
        pulse.asked();
        let due = pulse.due_after(100);
        assert!(!pulse.is_turn(&pulse.beats(), due), "what was written before does not count");
        for written in [1, 398] {
            pulse.asked();
            pulse.beat(1, written);
            assert!(!pulse.is_turn(&pulse.beats(), due), "{written}");
        }
        pulse.beat(0, 1 << 40);
        assert!(!pulse.is_turn(&pulse.beats(), due), "upkeep's own batches are no foreground");
        pulse.asked();
        pulse.beat(1, 1);
        assert!(pulse.is_turn(&pulse.beats(), due), "four times as many bytes are written");
        let due = pulse.due_after(100);
        pulse.beat(1, 0);
        assert!(pulse.is_turn(&pulse.beats(), due), "nobody waits");
    }

    /// What the foreground wrote while upkeep waited that had moved `bytes`;
    /// it writes one byte at a time, and always has another request.
    fn written_meanwhile(bytes: u64) -> u64 {
        let pulse = Pulse::default();
        pulse.asked();
        std::thread::scope(|scope| {
            let upkeep = scope.spawn(|| {
                let before = pulse.beats().bytes;
                assert!(pulse.wait_for_turn(bytes));
                pulse.beats().bytes - before
            });
            while !upkeep.is_finished() {
                pulse.asked();
                pulse.beat(1, 1);
            }
            upkeep.join().unwrap()
        })
    }

    #[test]
    fn upkeep_sleeps_until_the_foreground_has_written_its_share() {
        // Many times: without the wait, chance alone would have to bring the bytes.
        for _ in 0..50 {
            assert!(written_meanwhile(100) >= 400);
        }
    }

    #[test]
    fn upkeep_that_waits_goes_on_when_the_last_request_is_answered() {
        let pulse = Pulse::default();
        pulse.asked();
        std::thread::scope(|scope| {
            let upkeep = scope.spawn(|| pulse.wait_for_turn(u64::MAX));
            pulse.beat(1, 1);
            assert!(upkeep.join().unwrap());
        });
    }

    #[test]
    fn stopping_ends_every_wait_and_says_so() {
        let pulse = Pulse::default();
        pulse.asked();
        std::thread::scope(|scope| {
            let waits = [scope.spawn(|| pulse.wait_for_turn(1)), scope.spawn(|| pulse.wait_beyond(7))];
            pulse.stop();
            assert!(waits.into_iter().all(|wait| !wait.join().unwrap()));
        });
        assert!(!pulse.wait_for_turn(0), "for good");
    }
}
