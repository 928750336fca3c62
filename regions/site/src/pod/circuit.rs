//! Whether a pod answers: kept by the calls that are made anyway and by a
//! probe in the background, so that asking costs nothing and a dead pod costs
//! its deadline once, not once for each call.

use std::sync::atomic::{AtomicBool, Ordering};

/// Closed while the pod answers; open calls fail at once.
pub(super) struct Circuit(AtomicBool);

impl Circuit {
    /// Nothing is known yet: taken for dead until it answers.
    pub(super) fn open() -> Self {
        Self(AtomicBool::new(false))
    }

    pub(super) fn answers(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn answered(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn failed(&self) {
        self.0.store(false, Ordering::Release);
    }
}
