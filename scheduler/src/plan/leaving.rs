//! Which pods of a set have to go, and why.

use std::collections::BTreeMap;

use coffer_model::Country;

use super::{Fleet, Managed, Why};
use crate::{Effect, Node, Pod, decide};

/// Pods that go, in the order in which they are chosen.
#[derive(Default)]
pub(super) struct Leaving(Vec<(u32, Why)>);

impl Leaving {
    pub(super) fn contains(&self, pod: &Pod) -> bool {
        self.0.iter().any(|(ordinal, _)| *ordinal == pod.ordinal)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Why)> {
        self.0.iter().copied()
    }
}

/// Pods that cannot stay where they are, those that are too many, and one that
/// stands where too many do.
pub(super) fn leaving(fleet: &Fleet<'_>, managed: &Managed) -> Leaving {
    let must = managed.set.pods.iter().filter_map(|pod| Some((pod.ordinal, must_go(fleet, managed, pod)?)));
    let mut must: Vec<(u32, Why)> = must.collect();
    // Where a pod may not stand it is first: nobody who could wait is to cost it a look, or what the ledger can spare.
    must.sort_by_key(|(_, why)| *why);
    let mut leaving = Leaving(must);
    // Before those that are too many: the one that takes its place is one of them at first.
    if leaving.0.is_empty()
        && let Some(pod) = unbalanced(fleet, managed)
    {
        leaving.0.push((pod.ordinal, Why::Unbalanced));
    }
    let stay = managed.set.pods.len() - leaving.0.len();
    for _ in managed.size..stay {
        if let Some(pod) = too_many(fleet, managed, &leaving) {
            leaving.0.push((pod.ordinal, Why::ScaledDown));
        }
    }
    leaving
}

fn must_go(fleet: &Fleet<'_>, managed: &Managed, pod: &Pod) -> Option<Why> {
    let id = managed.set.id(pod);
    let node = fleet.cluster.node_of(&id)?;
    let legal = |node: &Node| {
        let residency = &managed.set.residency;
        node.attested.as_ref().is_some_and(|stands| residency.admits(stands))
    };
    let driven_out = |node: &Node| {
        let mut taints = node.taints.iter().filter(|taint| taint.effect == Effect::NoExecute);
        taints.any(|taint| !pod.tolerates(taint))
    };
    if !legal(node) || fleet.abroad.contains(&id) {
        Some(Why::OutOfPlace)
    } else if fleet.lost.contains(&node.name) {
        Some(Why::NodeLost)
    } else if fleet.drained.contains(&node.name) || driven_out(node) {
        Some(Why::Drained)
    } else if fleet.preempted.contains(&id) {
        Some(Why::Preempted)
    } else {
        None
    }
}

/// The pod that is missed least: one without a node; else one without which the set keeps to its spread; of
/// those one that holds little beside the others, as whoever stood in for a node that came back does; then
/// one of the country with the most; of those the one that joined last.
fn too_many<'a>(fleet: &Fleet<'_>, managed: &'a Managed, leaving: &Leaving) -> Option<&'a Pod> {
    let stay = || managed.set.pods.iter().filter(|pod| !leaving.contains(pod));
    let mut counts: BTreeMap<Country, usize> = BTreeMap::new();
    stay()
        .filter_map(|pod| country(fleet, managed, pod))
        .for_each(|own| *counts.entry(own).or_default() += 1);
    let held = |pod: &Pod| fleet.held.get(&managed.set.id(pod)).copied().unwrap_or(0);
    let most_held = stay().map(held).max().unwrap_or(0);
    let rank = |pod: &Pod| {
        let own = country(fleet, managed, pod);
        let count = own.and_then(|own| counts.get(&own)).copied().unwrap_or(0);
        // What moves has a price, and half of what others hold is the least that is worth a rule.
        let light = held(pod).saturating_mul(2) < most_held;
        let even = own.is_none_or(|own| stays_even(managed, &counts, own));
        (own.is_none(), even, light, count, pod.ordinal)
    };
    stay().max_by_key(|pod| rank(pod))
}

/// Whether countries differ by no more than they may when one pod of this one has gone.
fn stays_even(managed: &Managed, counts: &BTreeMap<Country, usize>, own: Country) -> bool {
    let Some(skew) = managed.set.spread.country_skew else { return true };
    let left = counts.iter().map(|(country, count)| count - usize::from(*country == own));
    let (least, most) = left.fold((usize::MAX, 0), |(least, most), one| (least.min(one), most.max(one)));
    most.saturating_sub(least) <= usize::try_from(skew).unwrap_or(usize::MAX)
}

/// With a bound on how far countries may differ: a pod of the country with the
/// most, if another one in its place would go to a country that has at least two
/// fewer. Each such move makes the countries more alike, so that they end.
fn unbalanced<'a>(fleet: &Fleet<'_>, managed: &'a Managed) -> Option<&'a Pod> {
    let skew = usize::try_from(managed.set.spread.country_skew?).ok()?;
    let count = |of: Country| {
        let pods = managed.set.pods.iter().filter(|pod| country(fleet, managed, pod) == Some(of));
        pods.count()
    };
    let bound = managed.set.pods.iter().filter(|pod| country(fleet, managed, pod).is_some());
    let pod = bound.max_by_key(|pod| (country(fleet, managed, pod).map(count), pod.ordinal))?;
    let own = country(fleet, managed, pod)?;
    // Another one in its place, unless one has joined already.
    let mut set = managed.set.clone();
    set.pods.retain(|other| other.ordinal != pod.ordinal);
    let waits = |pod: &&Pod| country(fleet, managed, pod).is_none();
    if !set.pods.iter().any(|pod| waits(&pod)) {
        let ordinal = set.pods.iter().map(|pod| pod.ordinal + 1).max().unwrap_or(0).max(pod.ordinal + 1);
        set.pods.push(Pod { ordinal, ..managed.template.clone() });
    }
    let decision = decide(fleet.cluster, &set, fleet.costs).ok()?;
    let node = fleet.cluster.node(&decision.placed.first()?.node)?;
    let other = count(node.attested.as_ref()?.country);
    (count(own) > other + skew.max(1)).then_some(pod)
}

fn country(fleet: &Fleet<'_>, managed: &Managed, pod: &Pod) -> Option<Country> {
    let node = fleet.cluster.node_of(&managed.set.id(pod))?;
    node.attested.as_ref().map(|attested| attested.country)
}
