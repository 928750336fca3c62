//! Which pods of sets the ledger of shards lets go, each alone and some together, by one look at where shards lie:
//! of each group it matters only which of those that could go it names, and how many of these it can spare.

use std::collections::{BTreeMap, BTreeSet};

use crate::{PodId, Yielding, free_to_go};

pub(super) struct Together {
    alone: BTreeSet<PodId>,
    /// Pods of which only so many may go.
    groups: BTreeMap<BTreeSet<PodId>, usize>,
}

impl Together {
    pub(super) fn of(yielding: &Yielding) -> Self {
        let alone = free_to_go(&yielding.groups, &yielding.sites);
        let mut groups: BTreeMap<BTreeSet<PodId>, usize> = BTreeMap::new();
        for group in &yielding.groups {
            let wanted = usize::try_from(group.needed.saturating_add(1)).unwrap_or(usize::MAX);
            let spare = group.readable.len().saturating_sub(wanted);
            let named: BTreeSet<PodId> = group.readable.intersection(&alone).cloned().collect();
            if named.len() > spare {
                let known = groups.entry(named).or_insert(spare);
                *known = spare.min(*known);
            }
        }
        Self { alone, groups }
    }

    /// Whether one may go that is the only one.
    pub(super) fn may_go(&self, id: &PodId) -> bool {
        self.alone.contains(id)
    }

    /// Whether these may, all of them.
    pub(super) fn may_all_go(&self, ids: &BTreeSet<PodId>) -> bool {
        ids.iter().all(|id| self.may_go(id))
            && self.groups.iter().all(|(named, spare)| named.intersection(ids).count() <= *spare)
    }
}
