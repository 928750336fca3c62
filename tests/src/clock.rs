//! A clock that a story moves by hand: ahead as time passes, and the wall
//! clock alone, as somebody who sets it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use coffer_custody::SystemClock;
use coffer_model::{Clock, Timestamp};

/// The clock of this machine, moved; or one that stands still beside that.
#[derive(Default)]
pub struct HandClock {
    moved: Mutex<Moved>,
    still: Option<Timestamp>,
}

#[derive(Clone, Copy, Default)]
struct Moved {
    passed: Duration,
    back: Duration,
}

impl HandClock {
    /// A clock that stands still unless it is moved.
    pub fn still() -> Self {
        Self { moved: Mutex::default(), still: Some(SystemClock.now()) }
    }

    fn moved(&self) -> Moved {
        *self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets time pass.
    pub fn pass(&self, time: Duration) {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner).passed += time;
    }

    /// Sets the wall clock back.
    pub fn set_back(&self, time: Duration) {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner).back += time;
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        let moved = self.moved();
        let ahead = self.still.unwrap_or_else(|| SystemClock.now()).plus(moved.passed);
        Timestamp(ahead.0.saturating_sub(Timestamp(0).plus(moved.back).0))
    }

    fn monotonic(&self) -> Duration {
        let own = if self.still.is_some() { Duration::ZERO } else { SystemClock.monotonic() };
        own + self.moved().passed
    }
}
