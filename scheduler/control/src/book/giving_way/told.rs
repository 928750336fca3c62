//! What the ledger of shards last said of each set, and which of its sites could go by that.

use std::collections::{BTreeMap, BTreeSet};

use coffer_scheduler::{PodId, SetName, ShardGroup, free_to_go};

use crate::shards::Shards;

#[derive(Clone, Debug)]
pub(super) struct Of {
    pub(super) shards: Shards,
    members: BTreeSet<PodId>,
    /// Those that may go as the only one, and of these those that hold nothing.
    pub(super) free: BTreeSet<PodId>,
    empty: BTreeSet<PodId>,
}

#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<SetName, Of>);

impl Told {
    /// Takes note; whether others may go than before. How much lies where changes with every object, and is no news.
    pub(super) fn note(&mut self, set: &SetName, members: &BTreeSet<PodId>, shards: &Shards) -> bool {
        let mut held: BTreeMap<PodId, u64> = shards.held.clone();
        // One that the ledger does not list although it is known to have been asked for it never was a site.
        members.iter().for_each(|id| _ = held.entry(id.clone()).or_insert(0));
        held.retain(|id, _| members.contains(id));
        let free = free_to_go(&shards.groups, &held);
        let empty = free.iter().filter(|id| held.get(*id) == Some(&0)).cloned().collect();
        let of = Of { shards: shards.clone(), members: members.clone(), free, empty };
        let before = self.0.insert(set.clone(), of);
        let (Some(before), Some(now)) = (before, self.0.get(set)) else { return true };
        (&before.members, &before.free, &before.empty) != (&now.members, &now.free, &now.empty)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Of> {
        self.0.values()
    }

    /// What was said of a set, if anything was.
    pub(super) fn of(&self, set: &SetName) -> Option<&Of> {
        self.0.get(set)
    }

    pub(super) fn forget(&mut self, set: &SetName) {
        self.0.remove(set);
    }
}

/// Of groups that name the same of these pods the one that can spare the fewest: the others say nothing more.
pub(super) fn worst<'a>(
    groups: impl Iterator<Item = &'a ShardGroup>,
    sites: &BTreeMap<PodId, u64>,
) -> Vec<ShardGroup> {
    let mut worst: BTreeMap<Vec<&PodId>, (i128, &ShardGroup)> = BTreeMap::new();
    for group in groups {
        let named: Vec<&PodId> = group.readable.iter().filter(|id| sites.contains_key(*id)).collect();
        if named.is_empty() {
            continue;
        }
        let spare = i128::try_from(group.readable.len()).unwrap_or(i128::MAX) - i128::from(group.needed);
        let known = worst.entry(named).or_insert((spare, group));
        if spare < known.0 {
            *known = (spare, group);
        }
    }
    worst.into_values().map(|(_, group)| group.clone()).collect()
}

impl Of {
    /// How much lies on a pod.
    pub(super) fn held(&self, id: &PodId) -> u64 {
        self.shards.held.get(id).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pods(of: impl IntoIterator<Item = u32>) -> BTreeSet<PodId> {
        of.into_iter().map(|ordinal| PodId { set: "gold".parse().unwrap(), ordinal }).collect()
    }

    fn group(needed: u32, readable: impl IntoIterator<Item = u32>) -> ShardGroup {
        ShardGroup { needed, readable: pods(readable), objects: 1 }
    }

    #[test]
    fn of_many_groups_those_are_left_that_can_spare_the_fewest_of_the_same_pods() {
        let sites: BTreeMap<PodId, u64> = pods([0, 1]).into_iter().map(|id| (id, 1)).collect();
        let groups = [group(2, [0, 1, 2, 3]), group(3, [0, 1, 4, 5]), group(1, [0, 2]), group(1, [2, 3])];
        let left = worst(groups.iter(), &sites);
        assert_eq!(left, [group(1, [0, 2]), group(3, [0, 1, 4, 5])]);
    }

    #[test]
    fn only_who_else_may_go_is_news_and_not_how_much_lies_where() {
        let mut told = Told::default();
        let (set, members) = ("gold".parse().unwrap(), pods(0..3));
        let mut tell = |held: u64, needed: u32| {
            let held = members.iter().map(|id| (id.clone(), held)).collect();
            told.note(&set, &members, &Shards { groups: vec![group(needed, 0..3)], held })
        };
        let told = [tell(1, 1), tell(2, 1), tell(9, 1), tell(9, 2), tell(9, 2), tell(0, 1), tell(1, 1)];
        assert_eq!(told, [true, false, false, true, false, true, true]);
    }
}
