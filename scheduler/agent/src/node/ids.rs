//! User ids for pods: each pod has one that nobody else on the machine has.
//! Data keeps its owner, so a pod that comes back to its data gets it again.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Mutex;

use crate::image::ImageDigest;

/// How many ids one node has.
const RANGE: u32 = 1000;
/// How many of them are for processes that pull images, the last ones.
const PULLS: u32 = 4;

/// The user ids of one node.
pub(crate) struct UserIds {
    base: u32,
    /// The agent's own, where it is not root and can give no other.
    only: Option<u32>,
    taken: Mutex<BTreeSet<u32>>,
}

impl UserIds {
    /// Ids of the node of that name. Several agents may share a machine: each
    /// has a thousand of its own, far above those of people and services.
    pub(crate) fn of(node: &str, own: rustix::process::Uid) -> Self {
        let digest = ImageDigest::of(node.as_bytes());
        let number = digest.hex().get(..8).and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or(0);
        let only = (!own.is_root()).then(|| own.as_raw());
        Self { base: 1_000_000_000 + number % 1_000_000 * RANGE, only, taken: Mutex::new(BTreeSet::new()) }
    }

    pub(crate) fn adopt(&self, id: Option<u32>) {
        self.taken().extend(id);
    }

    /// The ids of processes that pull images; no pod gets one.
    pub(crate) fn of_pulls(&self) -> Vec<u32> {
        let last = self.base + RANGE - PULLS..self.base + RANGE;
        last.map(|id| self.only.unwrap_or(id)).collect()
    }

    /// A free id; that of the owner of `data` if it is one of this node's.
    pub(crate) fn take(&self, data: Option<&Path>) -> Option<u32> {
        if self.only.is_some() {
            return self.only;
        }
        let mut taken = self.taken();
        let range = self.base..self.base + RANGE - PULLS;
        let owner = data.and_then(|path| std::fs::metadata(path).ok()).map(|metadata| metadata.uid());
        let before = owner.filter(|id| range.contains(id) && !taken.contains(id));
        let id = before.or_else(|| range.clone().find(|id| !taken.contains(id)))?;
        taken.insert(id);
        Some(id)
    }

    pub(crate) fn give_back(&self, id: u32) {
        self.taken().remove(&id);
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, BTreeSet<u32>> {
        self.taken.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_pods_are_one_user() {
        let ids = UserIds::of("n1", rustix::process::Uid::ROOT);
        let all: BTreeSet<u32> = (0..RANGE - PULLS).map(|_| ids.take(None).unwrap()).collect();
        assert_eq!(all.len(), (RANGE - PULLS) as usize);
        assert!(ids.of_pulls().iter().all(|id| !all.contains(id)), "a pod is a process that pulls");
        assert_eq!(ids.take(None), None);
        let first = *all.first().unwrap();
        ids.give_back(first);
        assert_eq!(ids.take(None), Some(first));
    }
}
