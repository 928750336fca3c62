//! Epochs that were given to a site and that no pod bears, because the API refused
//! the pod. They are given again: each look would raise them otherwise, and what
//! it writes is what calls the next look.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use coffer_scheduler::PodId;

/// The epochs that no pod bears, as far as this run knows.
#[derive(Default)]
pub(crate) struct Unborne(Mutex<BTreeMap<PodId, u64>>);

impl Unborne {
    fn all(&self) -> MutexGuard<'_, BTreeMap<PodId, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The epoch of this site that no pod bears.
    pub(super) fn of(&self, id: &PodId) -> Option<u64> {
        self.all().get(id).copied()
    }

    /// These are known not to be borne.
    pub(super) fn keep(&self, epochs: impl IntoIterator<Item = (PodId, u64)>) {
        self.all().extend(epochs);
    }

    /// A pod bears it, perhaps.
    pub(super) fn forget(&self, id: &PodId) {
        self.all().remove(id);
    }
}
