//! The search for the cheapest repair: which changes of the set are tried in which order, and how much is tried at all.
//! Somebody waits meanwhile for what the decisions look at, so that a search ends after so many steps, found or not.

use std::cell::Cell;
use std::ops::RangeInclusive;

use super::{Repair, of_nodes, waivers};
use crate::decide::decide;
use crate::{Cluster, Costs, SiteSet, Spread};

/// Steps of one search: arcs of networks that are looked at for a pod, a node that is looked at as [`OF_NODE`] of them.
/// About a second. What is under way then is ended, so that the first attempt is always whole.
pub(super) const STEPS_MAX: u64 = 1 << 28;
/// What it costs to look at a node, beside an arc.
const OF_NODE: u64 = 64;

/// What is left of the steps of a search.
pub(super) struct Steps {
    left: Cell<u64>,
    cut_off: Cell<bool>,
}

impl Steps {
    pub(super) fn new(most: u64) -> Self {
        Self { left: Cell::new(most), cut_off: Cell::new(false) }
    }

    /// Whether this may be done still.
    pub(super) fn take(&self, steps: u64) -> bool {
        let left = self.left.get();
        self.left.set(left.saturating_sub(steps));
        if left == 0 {
            self.cut_off.set(true);
        }
        left > 0
    }

    /// The same, in nodes that are looked at.
    pub(super) fn take_nodes(&self, cluster: &Cluster, times: usize) -> bool {
        let nodes = cluster.nodes().count().saturating_mul(times);
        self.take(u64::try_from(nodes).unwrap_or(u64::MAX).saturating_mul(OF_NODE))
    }

    /// Whether something was left untried.
    pub(super) fn is_cut_off(&self) -> bool {
        self.cut_off.get()
    }
}

/// A search in front of a snapshot.
struct Search<'a> {
    cluster: &'a Cluster,
    set: &'a SiteSet,
    costs: &'a Costs,
    steps: &'a Steps,
}

/// The cheapest repairs that were found and tried; none where nothing helped. With as few demands waived as can be, then
/// with no bound raised, one of them, or both, and by as little as can be.
pub(super) fn cheapest(cluster: &Cluster, set: &SiteSet, costs: &Costs, steps: &Steps) -> Vec<Repair> {
    let search = Search { cluster, set, costs, steps };
    waivers(set).iter().find_map(|waived| search.with(waived)).unwrap_or_default()
}

impl Search<'_> {
    /// The first raise that helps. Who raises further forbids nothing that was allowed before; so where not even the
    /// furthest leaves a way nothing is tried, and the least that leaves one is found by halving.
    fn with(&self, waived: &[Repair]) -> Option<Vec<Repair>> {
        let (skews, mosts) = (self.above(|one| one.country_skew), self.above(|one| one.per_country));
        let skew = |skew: u32| Repair::RaiseCountrySkew(skew);
        let most = |most: u32| Repair::RaisePerCountry(most);
        let raised = |raises: &[Repair]| [waived, raises].concat();
        let is_way = |raises: &[Repair]| self.of_nodes(&raised(raises)).is_some();
        let (last_skew, last_most) = (*skews.end(), *mosts.end());
        let mut furthest = Vec::new();
        furthest.extend((!skews.is_empty()).then(|| skew(last_skew)));
        furthest.extend((!mosts.is_empty()).then(|| most(last_most)));
        if !furthest.is_empty() && !is_way(&furthest) {
            return None;
        }
        if let Some(found) = self.tried(raised(&[])) {
            return Some(found);
        }
        let mut of_skew = from_least(skews.clone(), |one| is_way(&[skew(one)]));
        if let Some(found) = of_skew.find_map(|one| self.tried(raised(&[skew(one)]))) {
            return Some(found);
        }
        let mut of_most = from_least(mosts.clone(), |one| is_way(&[most(one)]));
        if let Some(found) = of_most.find_map(|one| self.tried(raised(&[most(one)]))) {
            return Some(found);
        }
        if skews.is_empty() || mosts.is_empty() {
            return None;
        }
        let mut rows = from_least(skews, |one| is_way(&[skew(one), most(last_most)]));
        rows.find_map(|row| {
            let mut of_row = from_least(mosts.clone(), |one| is_way(&[skew(row), most(one)]));
            of_row.find_map(|one| self.tried(raised(&[skew(row), most(one)])))
        })
    }

    /// Everything above a bound of the set that allows more. Where it is as high as there are pods it keeps nobody away.
    fn above(&self, bound: fn(&Spread) -> Option<u32>) -> RangeInclusive<u32> {
        let pods = u32::try_from(self.set.pods.len()).unwrap_or(u32::MAX);
        bound(&self.set.spread).unwrap_or(u32::MAX).saturating_add(1)..=pods.min(u32::MAX - 1)
    }

    /// The changes of nodes beside these of the set.
    fn of_nodes(&self, of_set: &[Repair]) -> Option<Vec<Repair>> {
        let mut revised = self.set.clone();
        of_set.iter().for_each(|repair| repair.apply_to_set(&mut revised));
        of_nodes(self.cluster, &revised, self.costs, self.steps)
    }

    /// These changes of the set with those of nodes, if they help.
    fn tried(&self, of_set: Vec<Repair>) -> Option<Vec<Repair>> {
        let of_nodes = self.of_nodes(&of_set)?;
        // The set first: a new node has the labels that are asked for then.
        let repairs = [of_set, of_nodes].concat();
        self.helps(&repairs).then_some(repairs)
    }

    /// Whether the set can be placed after the repairs.
    fn helps(&self, repairs: &[Repair]) -> bool {
        if !self.steps.take_nodes(self.cluster, 2) {
            return false;
        }
        let (mut cluster, mut set) = (self.cluster.clone(), self.set.clone());
        for (number, repair) in repairs.iter().enumerate() {
            repair.apply(&mut cluster, &mut set, number);
        }
        decide(&cluster, &set, self.costs).is_ok()
    }
}

/// The rest of a range from the first on that will do, where all beyond one that will do will do; empty where none does.
fn from_least(range: RangeInclusive<u32>, will_do: impl Fn(u32) -> bool) -> RangeInclusive<u32> {
    let (mut low, high) = range.into_inner();
    if low > high || !will_do(high) {
        // An empty one.
        return RangeInclusive::new(1, 0);
    }
    let mut known = high;
    while low < known {
        let middle = low + (known - low) / 2;
        if will_do(middle) { known = middle } else { low = middle + 1 }
    }
    known..=high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_that_will_do_is_found_by_halving() {
        for least in 3..=10 {
            let asked = Cell::new(0);
            let found = from_least(3..=9, |one| {
                asked.set(asked.get() + 1);
                one >= least
            });
            assert_eq!(found.clone().next(), (least <= 9).then_some(least), "{found:?}");
            assert!(asked.get() <= 4);
        }
        assert_eq!(from_least(RangeInclusive::new(u32::MAX, 7), |_| true).count(), 0);
    }
}
