//! Pods that were taken down a moment ago. The book hears of it later than whoever
//! did it; until then they would count as serving, for every set.

use std::collections::{BTreeMap, BTreeSet};

use coffer_scheduler::{PodId, SetName};

use crate::book::Book;

/// Which pods serve, as far as taking one down is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Serving {
    /// Those of the set that serve.
    pub(crate) own: BTreeSet<PodId>,
    /// Those of other sets that do not.
    pub(crate) away: BTreeSet<PodId>,
}

/// Pods that were taken down, by their uids, and that the book may still hold for serving.
#[derive(Debug, Default)]
pub(crate) struct TakenDown(BTreeMap<PodId, String>);

impl TakenDown {
    /// This one goes now.
    pub(crate) fn note(&mut self, id: PodId, uid: String) {
        self.0.insert(id, uid);
    }

    /// Which pods serve now.
    pub(crate) fn serving(&mut self, book: &Book, set: &SetName) -> Serving {
        self.0.retain(|id, uid| book.pod(id).is_some_and(|pod| pod.uid == *uid));
        let mut own = book.serving(set);
        own.retain(|id| !self.0.contains_key(id));
        let mut away = book.away(set);
        away.extend(self.0.keys().filter(|id| id.set != *set).cloned());
        Serving { own, away }
    }
}
