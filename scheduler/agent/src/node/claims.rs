//! Who has a data directory. Two pods never have one at a time: a successor
//! waits until its predecessor has ended and the file system is away.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The data directories in use, by the uid of their pod.
#[derive(Default)]
pub(crate) struct Claims {
    holders: Mutex<BTreeMap<PathBuf, String>>,
}

impl Claims {
    /// Takes all of them for the pod, or none; whether it has them now.
    pub(crate) fn take(&self, directories: &[PathBuf], uid: &str) -> bool {
        let mut holders = self.holders();
        let free = |directory: &PathBuf| holders.get(directory).is_none_or(|holder| holder == uid);
        let all = directories.iter().all(free);
        if all {
            holders.extend(directories.iter().map(|directory| (directory.clone(), uid.to_owned())));
        }
        all
    }

    /// Gives back all that the pod has.
    pub(crate) fn release(&self, uid: &str) {
        self.holders().retain(|_, holder| holder != uid);
    }

    /// Whether the pod has this one.
    pub(crate) fn has(&self, directory: &PathBuf, uid: &str) -> bool {
        self.holders().get(directory).is_some_and(|holder| holder == uid)
    }

    fn holders(&self) -> MutexGuard<'_, BTreeMap<PathBuf, String>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_gets_the_data_when_its_predecessor_has_let_go() {
        let claims = Claims::default();
        let (a, b) = (PathBuf::from("a"), PathBuf::from("b"));
        assert!(claims.take(std::slice::from_ref(&a), "old"));
        assert!(!claims.take(&[b.clone(), a.clone()], "new"));
        assert!(!claims.has(&b, "new"), "all or none");
        claims.release("old");
        assert!(claims.take(&[b, a], "new"));
    }
}
