//! Whether a site answers: kept by the calls that are made anyway and by a
//! probe in the background, so that asking costs nothing and a dead site costs
//! its deadline once, not once for each call.

use std::sync::atomic::{AtomicBool, Ordering};

/// Closed while the site answers; open calls fail at once.
pub(crate) struct Circuit(AtomicBool);

impl Circuit {
    /// Nothing is known yet: taken for dead until it answers.
    pub(crate) fn open() -> Self {
        Self(AtomicBool::new(false))
    }

    pub(crate) fn answers(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn answered(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn failed(&self) {
        self.0.store(false, Ordering::Release);
    }
}
