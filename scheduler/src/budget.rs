//! What may be taken down without breaking the loss budget: before a drain, an
//! eviction, a rollout or a scale-down, the ledger of shards is asked. A
//! voluntary disruption never leaves fewer than k + 1 readable shards of any object.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::PodId;

/// Objects whose shards lie on the same pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardGroup {
    /// Shards that suffice to read one: k.
    pub needed: u32,
    /// The pods on which its shards can be read now.
    pub readable: BTreeSet<PodId>,
    /// How many objects these are.
    pub objects: u64,
}

/// Why a disruption is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// Objects would be left with too few readable shards.
    #[error(
        "{objects} objects would be left with {left} readable shards, {wanted} must be left; repair first, or take fewer pods down at once"
    )]
    TooFew {
        /// Readable shards that would be left of the worst.
        left: u32,
        /// Readable shards that must be left.
        wanted: u32,
        /// Objects that would have too few.
        objects: u64,
    },
}

/// The ledger of shards, as far as disruptions are concerned.
#[derive(Clone, Debug, Default)]
pub struct Budget {
    groups: Vec<ShardGroup>,
    /// Pods that were already allowed to go, and are not back yet.
    going: BTreeSet<PodId>,
}

impl Budget {
    /// From what the ledger says.
    pub fn new(groups: Vec<ShardGroup>) -> Self {
        Self { groups, going: BTreeSet::new() }
    }

    /// Allows `pods` to be taken down together, and remembers it, if every
    /// object then still has one readable shard more than it needs.
    ///
    /// # Errors
    /// [`BudgetError`]; nothing was allowed.
    pub fn allow(&mut self, pods: &BTreeSet<PodId>) -> Result<(), BudgetError> {
        let gone: BTreeSet<PodId> = self.going.union(pods).cloned().collect();
        let mut worst: Option<(u32, u32)> = None;
        let mut objects = 0_u64;
        for group in &self.groups {
            let hit = group.readable.intersection(pods).next().is_some();
            let left = u32::try_from(group.readable.difference(&gone).count()).unwrap_or(u32::MAX);
            let wanted = group.needed.saturating_add(1);
            if hit && left < wanted {
                objects = objects.saturating_add(group.objects);
                let short = |(left, wanted): (u32, u32)| wanted - left;
                if worst.is_none_or(|known| short((left, wanted)) > short(known)) {
                    worst = Some((left, wanted));
                }
            }
        }
        match worst {
            Some((left, wanted)) => Err(BudgetError::TooFew { left, wanted, objects }),
            None => {
                self.going = gone;
                Ok(())
            }
        }
    }

    /// Lets a pod go that may not stay and holds something, and remembers it, if everything can still be
    /// read without it; one shard fewer than a choice would leave. A pod that does not serve is in no group
    /// although its shards are on its disk, and may be the last ones: so every group is asked, not only those
    /// that name it.
    pub(crate) fn spare(&mut self, pod: &PodId) -> bool {
        let without = |other: &&PodId| *other != pod && !self.going.contains(*other);
        let enough = |group: &ShardGroup| {
            let left = group.readable.iter().filter(without).count();
            left >= usize::try_from(group.needed).unwrap_or(usize::MAX)
        };
        let can = self.groups.iter().all(enough);
        if can {
            self.going.insert(pod.clone());
        }
        can
    }

    /// A pod that was allowed to go serves again.
    pub fn is_back(&mut self, pod: &PodId) {
        self.going.remove(pod);
    }

    /// The order in which all of `pods` can be taken down one after the other, each back before the
    /// next goes; those that cannot go now, with why.
    pub fn one_by_one(&self, pods: &BTreeSet<PodId>) -> (Vec<PodId>, BTreeMap<PodId, BudgetError>) {
        let (mut order, mut refused) = (Vec::new(), BTreeMap::new());
        for pod in pods {
            match self.clone().allow(&BTreeSet::from([pod.clone()])) {
                Ok(()) => order.push(pod.clone()),
                Err(why) => drop(refused.insert(pod.clone(), why)),
            }
        }
        (order, refused)
    }
}

/// Of the pods that hold so much those that may go as the only one: what lies there can be read, so that it can
/// move, and everything can spare one. A pod that is not listed is not known.
pub fn free_to_go(groups: &[ShardGroup], held: &BTreeMap<PodId, u64>) -> BTreeSet<PodId> {
    let mut free: BTreeSet<&PodId> = held.iter().filter(|(_, held)| **held == 0).map(|(id, _)| id).collect();
    let mut needed: BTreeSet<&PodId> = BTreeSet::new();
    for group in groups {
        let wanted = usize::try_from(group.needed.saturating_add(1)).unwrap_or(usize::MAX);
        let named = group.readable.iter().filter(|id| held.contains_key(*id));
        if group.readable.len() > wanted { free.extend(named) } else { needed.extend(named) }
    }
    free.difference(&needed).map(|id| (*id).clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(ordinal: u32) -> PodId {
        PodId { set: "set".parse().unwrap(), ordinal }
    }

    fn pods(of: impl IntoIterator<Item = u32>) -> BTreeSet<PodId> {
        of.into_iter().map(pod).collect()
    }

    #[test]
    fn one_of_six_may_go_and_a_second_only_when_the_first_is_back() {
        let whole = ShardGroup { needed: 4, readable: pods(0..6), objects: 10 };
        let mut budget = Budget::new(vec![whole]);
        assert_eq!(budget.allow(&pods([0])), Ok(()));
        let refused = BudgetError::TooFew { left: 4, wanted: 5, objects: 10 };
        assert_eq!(budget.allow(&pods([1])), Err(refused));
        budget.is_back(&pod(0));
        assert_eq!(budget.allow(&pods([1])), Ok(()));
    }

    #[test]
    fn a_pod_goes_at_once_where_it_holds_nothing_of_what_is_short() {
        let short = ShardGroup { needed: 4, readable: pods(0..5), objects: 1 };
        let budget = Budget::new(vec![short]);
        let (order, refused) = budget.one_by_one(&pods(0..6));
        assert_eq!(order, [pod(5)]);
        assert_eq!(refused.len(), 5);
    }

    #[test]
    fn a_pod_that_cannot_be_read_now_is_not_spared_while_objects_lack_shards() {
        // Two of six are down, and the third is not ready: three are left, and it takes four.
        let short = ShardGroup { needed: 4, readable: pods(0..3), objects: 1 };
        assert!(!Budget::new(vec![short]).spare(&pod(3)));
        let enough = ShardGroup { needed: 4, readable: pods(0..4), objects: 1 };
        let mut budget = Budget::new(vec![enough]);
        assert!(budget.spare(&pod(4)));
        assert!(!budget.spare(&pod(0)));
    }

    #[test]
    fn the_refusal_names_the_worst_and_counts_all() {
        let group = |readable: BTreeSet<PodId>, objects| ShardGroup { needed: 2, readable, objects };
        let mut budget = Budget::new(vec![group(pods(0..3), 7), group(pods([0, 1, 5]), 3)]);
        let refused = BudgetError::TooFew { left: 1, wanted: 3, objects: 10 };
        assert_eq!(budget.allow(&pods([0, 1])), Err(refused));
    }
}
