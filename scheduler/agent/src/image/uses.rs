//! What of a node's images somebody is about to use: pods that are being started,
//! and pulls that bring something. What is removed is taken away under the same
//! lock, and only if nobody came since it was looked at, so that a pod that
//! finds an image has it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ImageDigest;

/// Who uses what, on one node.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Images that pods are started from, and how many pods.
    wanted: BTreeMap<ImageDigest, usize>,
    /// Blobs of pulls under way. What names them comes last, so that nothing on the disk says that they are used.
    coming: BTreeMap<ImageDigest, usize>,
    /// Images and blobs of that kind since somebody asked for them last.
    lately: Lately,
    /// Grows whenever what is on the disk may be used otherwise than it says.
    changes: u64,
}

/// What was used for a while, and is perhaps not used any more.
#[derive(Debug, Default, Clone)]
pub(crate) struct Lately {
    /// Images, by the digest that a pod names.
    pub(crate) images: BTreeSet<ImageDigest>,
    /// Blobs.
    pub(crate) blobs: BTreeSet<ImageDigest>,
}

/// What was so at one moment.
#[derive(Debug)]
pub(crate) struct Looked {
    changes: u64,
    /// Images that pods are started from.
    pub(crate) wanted: Vec<ImageDigest>,
    /// Blobs of pulls under way.
    pub(crate) coming: Vec<ImageDigest>,
    /// What was used since the look before.
    pub(crate) lately: Lately,
}

/// An image that nobody removes as long as this is held.
#[derive(Debug)]
pub(crate) struct Wanted {
    uses: Arc<Uses>,
    digest: ImageDigest,
}

/// Blobs that nobody removes as long as this is held.
#[derive(Debug)]
pub(crate) struct Coming {
    uses: Arc<Uses>,
    digests: Vec<ImageDigest>,
}

impl Uses {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an image from now on, also one that is not there yet.
    pub(crate) fn want(self: &Arc<Self>, digest: &ImageDigest) -> Wanted {
        let mut state = self.state();
        more(&mut state.wanted, digest);
        state.changes = state.changes.wrapping_add(1);
        Wanted { uses: Arc::clone(self), digest: digest.clone() }
    }

    /// Keeps blobs from now on, also those that are not there yet.
    pub(crate) fn coming(self: &Arc<Self>, digests: Vec<ImageDigest>) -> Coming {
        let mut state = self.state();
        for digest in &digests {
            more(&mut state.coming, digest);
        }
        state.changes = state.changes.wrapping_add(1);
        Coming { uses: Arc::clone(self), digests }
    }

    /// What is so now. What was used since the last look is told once.
    pub(crate) fn look(&self) -> Looked {
        let mut state = self.state();
        Looked {
            changes: state.changes,
            wanted: state.wanted.keys().cloned().collect(),
            coming: state.coming.keys().cloned().collect(),
            lately: std::mem::take(&mut state.lately),
        }
    }

    /// Does something that nobody may come in between, unless somebody has come since that look.
    pub(crate) fn unless_changed<T>(&self, since: &Looked, take: impl FnOnce() -> T) -> Option<T> {
        let state = self.state();
        (state.changes == since.changes).then(take)
    }
}

fn more(counts: &mut BTreeMap<ImageDigest, usize>, digest: &ImageDigest) {
    let count = counts.entry(digest.clone()).or_default();
    *count = count.saturating_add(1);
}

fn fewer(counts: &mut BTreeMap<ImageDigest, usize>, digest: &ImageDigest) {
    if let Some(count) = counts.get_mut(digest) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(digest);
        }
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        let mut state = self.uses.state();
        fewer(&mut state.wanted, &self.digest);
        state.lately.images.insert(self.digest.clone());
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        let mut state = self.uses.state();
        for digest in &self.digests {
            fewer(&mut state.coming, digest);
            state.lately.blobs.insert(digest.clone());
        }
        // What they belong to is there by now, and says itself that they are used: whoever looked before does not know.
        state.changes = state.changes.wrapping_add(1);
    }
}
