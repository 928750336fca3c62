//! The cheapest change after which a set can be placed. Every node may be had
//! at the price of putting right what keeps a pod from it, and new nodes at a
//! higher one; the assignment of the least price then is the cheapest repair.
//! What a node is not allowed to be, in the wrong country or of too low a
//! tier, has no price: that is never the advice.

mod search;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coffer_model::{Country, FailureDomain, Jurisdiction};
use serde::{Deserialize, Serialize};

use crate::around::{Around, shunning};
use crate::assign::{Assignment, Candidate, Place, Problem};
use crate::decide::View;
use crate::explain::Relaxed;
use crate::filter::{Obstacle, may_run, obstacles};
use crate::topology::is_attested;
use crate::whereabouts::Shunned;
use crate::{
    Affinity, Attestation, Cluster, Constraint, Costs, NeighbourName, Node, NodeName, Operator, Pod,
    Resource, Resources, Runner, SiteSet, Spread, Taint, Topology,
};
use search::{STEPS_MAX, Steps};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repair {
    /// Let an operator's cordoned node take pods again.
    Uncordon(NodeName),
    /// Take a taint off a node.
    RemoveTaint(NodeName, Taint),
    /// Give a node a label.
    Label(NodeName, String, String),
    /// Bring a node's agent back.
    BringBack(NodeName),
    /// Give a node, or free on it, so much more of a resource.
    Grow(NodeName, Resource, u64),
    /// Move a pod of somebody else away, which lets no such pod near.
    MoveAway(NeighbourName),
    /// Leave a demand of the set's pods by affinity aside: `NodeAffinity`, `PodAffinity` or `PodAntiAffinity`.
    Waive(Constraint),
    /// Add a node, in a failure domain of its own, with the labels that the pods ask for.
    AddNode {
        /// Where.
        country: Country,
        /// What it must have free.
        free: Resources,
    },
    /// Let so many pods of the set share a country.
    RaisePerCountry(u32),
    /// Let the countries differ by so many pods.
    RaiseCountrySkew(u32),
}

/// What a change costs, in no unit but each other.
fn price(obstacle: &Obstacle) -> Option<i128> {
    match obstacle {
        Obstacle::Cordoned => Some(1),
        // A label changes nothing that is attested.
        Obstacle::Label(label) => (!is_attested(label)).then_some(2),
        Obstacle::Tainted(_) => Some(4),
        Obstacle::NotReady => Some(16),
        Obstacle::Lacking(_) => Some(64),
        Obstacle::Shunned(Runner::Neighbour(_)) => Some(MOVE_AWAY),
        // Where a node stands is not for sale; a demand of the set is waived for all nodes, or for none.
        Obstacle::NotAttested
        | Obstacle::Jurisdiction(_)
        | Obstacle::Tier(_)
        | Obstacle::NodeAffinity
        | Obstacle::PodAffinity(_)
        | Obstacle::PodAntiAffinity(_)
        | Obstacle::Shunned(Runner::Pod(_)) => None,
    }
}

const MOVE_AWAY: i128 = 128;
const NEW_NODE: i128 = 1024;
/// In a country where there is none yet: rather in one that is known already.
const NEW_COUNTRY: i128 = NEW_NODE + 1;
/// Pods of others of which it is tried to move them away for all pods at once.
const MOVED_MAX: usize = 4;
/// Countries with nodes, none of which would do as it is, of which it is tried to leave them alone.
const OPTIONAL_MAX: usize = 6;

/// The cheapest repairs that were found and tried, none where nothing helped; and whether something was left untried.
pub(super) fn cheapest(cluster: &Cluster, set: &SiteSet, costs: &Costs) -> (Vec<Repair>, bool) {
    let steps = Steps::new(STEPS_MAX);
    let repairs = search::cheapest(cluster, set, costs, &steps);
    (repairs, steps.is_cut_off())
}

/// The demands by affinity that could be left aside, the fewest first.
fn waivers(set: &SiteSet) -> Vec<Vec<Repair>> {
    let has = |demands: fn(&Affinity) -> bool| {
        set.pods.iter().filter_map(|pod| pod.affinity.as_deref()).any(demands)
    };
    let kinds = [
        (Constraint::PodAffinity, has(|affinity| !affinity.near.is_empty())),
        (Constraint::PodAntiAffinity, has(|affinity| !affinity.apart.is_empty())),
        (Constraint::NodeAffinity, has(|affinity| !affinity.nodes.is_empty())),
    ];
    let mut all = vec![Vec::new()];
    for (kind, _) in kinds.into_iter().filter(|(_, demanded)| *demanded) {
        let more: Vec<Vec<Repair>> =
            all.iter().map(|some| [some.clone(), vec![Repair::Waive(kind)]].concat()).collect();
        all.extend(more);
    }
    all.sort_by_key(Vec::len);
    all
}

/// The cheapest changes of nodes with which the spread can be kept, and who of others moves away for it.
fn of_nodes(cluster: &Cluster, set: &SiteSet, costs: &Costs, steps: &Steps) -> Option<Vec<Repair>> {
    let mut best: Option<(i128, Vec<Repair>)> = None;
    for moved in subsets(&shunners(cluster, set)) {
        let mut after = Cow::Borrowed(cluster);
        let mut cost = 0;
        for name in &moved {
            after.to_mut().remove_neighbour(name);
            cost += MOVE_AWAY;
        }
        if best.as_ref().is_some_and(|(known, _)| *known <= cost) {
            continue;
        }
        let Some(purchase) = Purchase::of(&after, set, costs, steps) else { break };
        let Some((price, repairs)) = purchase.cheapest() else { continue };
        if best.as_ref().is_none_or(|(known, _)| price + cost < *known) {
            let moved = moved.into_iter().map(Repair::MoveAway);
            best = Some((price + cost, moved.chain(repairs).collect()));
        }
    }
    best.map(|(_, repairs)| repairs)
}

/// Pods of others that want one of the set's not near. Whoever shuns several of them moves away only once.
fn shunners(cluster: &Cluster, set: &SiteSet) -> Vec<NeighbourName> {
    let mut all = BTreeSet::new();
    for pod in &set.pods {
        for term in shunning(cluster, &set.name, pod) {
            let runners = cluster.shunning().get(term).into_iter().flat_map(Shunned::runners);
            all.extend(runners.filter_map(|runner| match runner {
                Runner::Neighbour(name) => Some(name.clone()),
                Runner::Pod(_) => None,
            }));
        }
    }
    all.into_iter().take(MOVED_MAX).collect()
}

/// Every choice of some of them, nobody at first.
fn subsets<T: Clone>(of: &[T]) -> Vec<Vec<T>> {
    let mut all = vec![Vec::new()];
    for one in of {
        let with: Vec<Vec<T>> = all.iter().map(|some| [some.clone(), vec![one.clone()]].concat()).collect();
        all.extend(with);
    }
    all.sort_by_key(Vec::len);
    all
}

/// What can be had at what price.
struct Purchase<'a> {
    cluster: &'a Cluster,
    set: &'a SiteSet,
    pods: Vec<&'a Pod>,
    new: BTreeMap<NodeName, (Country, FailureDomain)>,
    /// Once for pods that are alike, and which of these each pod is.
    candidates: Vec<Arc<[Candidate]>>,
    kinds: Vec<usize>,
    already: Vec<(NodeName, Place)>,
    steps: &'a Steps,
}

impl<'a> Purchase<'a> {
    /// `None` where no more steps are left.
    fn of(cluster: &'a Cluster, set: &'a SiteSet, costs: &'a Costs, steps: &'a Steps) -> Option<Self> {
        let view = View { cluster, set, costs, relaxed: Relaxed::default() };
        let pods = view.unbound();
        let (mut distinct, mut kinds): (Vec<&Pod>, Vec<usize>) = Default::default();
        let by = |pod: &Pod| shunning(cluster, &set.name, pod);
        for pod in &pods {
            let is_like = |one: &&Pod| one.is_like(pod) && one.priority == pod.priority && by(one) == by(pod);
            let known = distinct.iter().position(is_like);
            kinds.push(known.unwrap_or(distinct.len()));
            if known.is_none() {
                distinct.push(pod);
            }
        }
        if !steps.take_nodes(cluster, distinct.len()) {
            return None;
        }
        let new = new_nodes(cluster, set, &distinct, pods.len());
        let candidates = distinct.iter().map(|pod| candidates(&view, pods.len(), pod, &new).into());
        let (candidates, already) = (candidates.collect(), view.bare_problem().already);
        Some(Self { cluster, set, pods, new, candidates, kinds, already, steps })
    }

    fn solve(&self, spread: Spread, shut: &BTreeSet<Country>) -> Option<Assignment> {
        let open = |one: &&Candidate| one.place.country.is_none_or(|country| !shut.contains(&country));
        let of_kind = |all: &Arc<[Candidate]>| match shut.is_empty() {
            true => Arc::clone(all),
            false => all.iter().filter(open).cloned().collect(),
        };
        let kinds: Vec<Arc<[Candidate]>> = self.candidates.iter().map(of_kind).collect();
        let of_pod = |kind: &usize| kinds.get(*kind).cloned().unwrap_or_default();
        let candidates = self.kinds.iter().map(of_pod).collect();
        let problem = Problem { candidates, spread, already: self.already.clone() };
        self.steps.take(problem.steps()).then(|| problem.solve()).flatten()
    }

    fn cheapest(&self) -> Option<(i128, Vec<Repair>)> {
        let spread = self.set.spread;
        let unbound = self.solve(Spread { country_skew: None, ..spread }, &BTreeSet::new())?;
        let best = match spread.country_skew {
            None => unbound,
            Some(_) => self.within_skew(unbound.cost)?,
        };
        Some((best.cost, self.repairs(&best)?))
    }

    /// Countries count for the skew that could take a pod. One where something would have to be put right for that
    /// counts only if it is: so each choice of such countries that are left alone is one to try, down to what it
    /// would cost without a skew.
    fn within_skew(&self, least: i128) -> Option<Assignment> {
        let mut best: Option<Assignment> = None;
        for shut in self.left_alone() {
            let found = self.solve(self.set.spread, &shut);
            if let Some(found) = found.filter(|found| best.as_ref().is_none_or(|best| found.cost < best.cost))
            {
                let is_least = found.cost <= least;
                best = Some(found);
                if is_least {
                    break;
                }
            }
        }
        best
    }

    fn left_alone(&self) -> Vec<BTreeSet<Country>> {
        let mut cheapest: BTreeMap<Country, i128> = BTreeMap::new();
        for candidate in self.candidates.iter().flat_map(|one| one.iter()) {
            if let Some(country) = candidate.place.country {
                let known = cheapest.entry(country).or_insert(candidate.cost);
                *known = (*known).min(candidate.cost);
            }
        }
        let held: BTreeSet<Country> = self.already.iter().filter_map(|(_, place)| place.country).collect();
        let known = self.cluster.countries();
        let priced = cheapest.iter().filter(|(country, cost)| **cost > 0 && !held.contains(country));
        let (mut old, foreign): (Vec<Country>, Vec<Country>) =
            priced.map(|(country, _)| *country).partition(|country| known.contains(country));
        old.truncate(OPTIONAL_MAX);
        let mut all = Vec::new();
        // New countries are alike, as far as the skew is concerned: only how many there are matters.
        for left in (0..=foreign.len()).rev() {
            let without: Vec<Country> = foreign.iter().rev().take(left).copied().collect();
            let some = subsets(&old).into_iter();
            all.extend(some.map(|some| some.into_iter().chain(without.iter().copied()).collect()));
        }
        all
    }

    fn repairs(&self, assignment: &Assignment) -> Option<Vec<Repair>> {
        let mut repairs = BTreeSet::new();
        let mut added = Vec::new();
        for (pod, name) in self.pods.iter().zip(&assignment.nodes) {
            match self.cluster.node(name) {
                Some(node) => repairs.extend(put_right(self.cluster, self.set, pod, node)),
                None => {
                    let (country, _) = self.new.get(name)?;
                    added.push(Repair::AddNode { country: *country, free: pod.needs });
                }
            }
        }
        Some(repairs.into_iter().chain(added).collect())
    }
}

/// Of the nodes that can be put right those that a cheapest repair can need, and new ones.
fn candidates(
    view: &View<'_>,
    pods: usize,
    pod: &Pod,
    new: &BTreeMap<NodeName, (Country, FailureDomain)>,
) -> Vec<Candidate> {
    let View { cluster, set, .. } = view;
    let around = Around::of(cluster, &set.name, pod);
    let (known, _) = view.scan(pods, |node, _| {
        let free = cluster.free_for(&set.name, pod.priority, &node.name);
        let all = obstacles(pod, &set.residency, node, &free).chain(around.obstacles(node));
        all.map(|obstacle| price(&obstacle)).sum()
    });
    let countries: BTreeSet<Country> = new.values().map(|(country, _)| *country).collect();
    let would_do = |country: &Country| would_do(set, pod, &around, *country);
    let countries: BTreeSet<Country> = countries.into_iter().filter(would_do).collect();
    let bought = new.iter().filter(|(_, (country, _))| countries.contains(country));
    let known_countries = cluster.countries();
    let bought = bought.map(|(name, (country, domain))| Candidate {
        node: name.clone(),
        place: Place { country: Some(*country), domain: domain.clone() },
        cost: if known_countries.contains(country) { NEW_NODE } else { NEW_COUNTRY },
    });
    known.into_iter().chain(bought).collect()
}

/// Whether a new node in a country would be one for a pod.
fn would_do(set: &SiteSet, pod: &Pod, around: &Around<'_>, country: Country) -> bool {
    new_node(set, country, pod.needs, 0).is_some_and(|node| {
        let mut all = obstacles(pod, &set.residency, &node, &pod.needs).chain(around.obstacles(&node));
        all.next().is_none()
    })
}

/// What has to change on a node before a pod may run there.
fn put_right(cluster: &Cluster, set: &SiteSet, pod: &Pod, node: &Node) -> Vec<Repair> {
    let free = cluster.free_for(&set.name, pod.priority, &node.name);
    let name = || node.name.clone();
    let repair = |obstacle: Obstacle| match obstacle {
        Obstacle::Cordoned => Some(Repair::Uncordon(name())),
        Obstacle::NotReady => Some(Repair::BringBack(name())),
        Obstacle::Tainted(taint) => Some(Repair::RemoveTaint(name(), taint)),
        Obstacle::Label(label) => {
            let value = pod.selector.get(&label).cloned().unwrap_or_default();
            Some(Repair::Label(name(), label, value))
        }
        Obstacle::Lacking(resource) => {
            let more = pod.needs.of(resource).saturating_sub(free.of(resource));
            Some(Repair::Grow(name(), resource, more))
        }
        Obstacle::Shunned(Runner::Neighbour(name)) => Some(Repair::MoveAway(name)),
        Obstacle::NotAttested
        | Obstacle::Jurisdiction(_)
        | Obstacle::Tier(_)
        | Obstacle::NodeAffinity
        | Obstacle::PodAffinity(_)
        | Obstacle::PodAntiAffinity(_)
        | Obstacle::Shunned(Runner::Pod(_)) => None,
    };
    may_run(cluster, set, pod, node).into_iter().filter_map(repair).collect()
}

/// Nodes that could be added: in every country with nodes where the set may stand, and in others where they would be
/// ones for its pods, one for each pod.
fn new_nodes(
    cluster: &Cluster,
    set: &SiteSet,
    kinds: &[&Pod],
    pods: usize,
) -> BTreeMap<NodeName, (Country, FailureDomain)> {
    let legal = |country: &Country| {
        let domain = FailureDomain(String::new());
        let attested = Attestation { country: *country, domain, tier: set.residency.tier_min };
        set.residency.admits_country(&attested)
    };
    let mut countries: Vec<Country> = cluster.countries().into_iter().filter(legal).collect();
    let around: Vec<(&Pod, Around<'_>)> =
        kinds.iter().map(|pod| (*pod, Around::of(cluster, &set.name, pod))).collect();
    let is_one = |country: &Country| around.iter().any(|(pod, around)| would_do(set, pod, around, *country));
    let others: Vec<Country> = every_country()
        .filter(|one| legal(one) && !countries.contains(one) && is_one(one))
        .take(pods)
        .collect();
    countries.extend(others);
    let mut new = BTreeMap::new();
    for (index, country) in countries.into_iter().enumerate() {
        for number in 0..pods {
            let name = format!("new-{index}-{number}");
            if let Ok(node) = name.parse::<NodeName>()
                && cluster.node(&node).is_none()
            {
                new.insert(node, (country, FailureDomain(name)));
            }
        }
    }
    new
}

/// Every code that a country could have; groups know their members.
fn every_country() -> impl Iterator<Item = Country> {
    let letters = || b'A'..=b'Z';
    let codes = letters().flat_map(move |a| letters().map(move |b| [a, b]));
    codes.filter_map(|code| match str::from_utf8(&code).ok()?.parse::<Jurisdiction>() {
        Ok(Jurisdiction::Country(country)) => Some(country),
        _ => None,
    })
}

impl Repair {
    /// Makes the change in a snapshot and a set, to try what it does. `number`
    /// tells changes of one list apart.
    pub fn apply(&self, cluster: &mut Cluster, set: &mut SiteSet, number: usize) {
        match self {
            Self::Uncordon(name) => change(cluster, name, |node| node.cordoned = false),
            Self::BringBack(name) => change(cluster, name, |node| node.ready = true),
            Self::RemoveTaint(name, taint) => change(cluster, name, |node| {
                node.taints.remove(taint);
            }),
            Self::Label(name, label, value) => change(cluster, name, |node| {
                node.labels.insert(label.clone(), value.clone());
            }),
            Self::Grow(name, resource, more) => change(cluster, name, |node| {
                let amount = node.total.of_mut(*resource);
                *amount = amount.saturating_add(*more);
            }),
            Self::AddNode { country, free } => {
                if let Some(node) = new_node(set, *country, *free, number) {
                    cluster.put_node(node);
                }
            }
            Self::MoveAway(name) => _ = cluster.remove_neighbour(name),
            Self::Waive(_) | Self::RaisePerCountry(_) | Self::RaiseCountrySkew(_) => self.apply_to_set(set),
        }
    }

    /// Makes the change, if it is one of the set.
    fn apply_to_set(&self, set: &mut SiteSet) {
        match self {
            Self::Waive(kind) => {
                for affinity in set.pods.iter_mut().filter_map(|pod| pod.affinity.as_deref_mut()) {
                    waive(affinity, *kind);
                }
            }
            Self::RaisePerCountry(most) => set.spread.per_country = Some(*most),
            Self::RaiseCountrySkew(skew) => set.spread.country_skew = Some(*skew),
            _ => {}
        }
    }
}

fn waive(affinity: &mut Affinity, kind: Constraint) {
    match kind {
        Constraint::NodeAffinity => affinity.nodes.clear(),
        Constraint::PodAffinity => affinity.near.clear(),
        Constraint::PodAntiAffinity => affinity.apart.clear(),
        _ => {}
    }
}

fn change(cluster: &mut Cluster, name: &NodeName, what: impl FnOnce(&mut Node)) {
    if let Some(node) = cluster.node(name) {
        let mut node = node.clone();
        what(&mut node);
        cluster.put_node(node);
    }
}

/// Labels with which a node would be one that a pod asks for, as far as labels do it.
fn asked_labels(pod: &Pod) -> BTreeMap<String, String> {
    let mut labels = pod.selector.clone();
    labels.retain(|label, _| !is_attested(label));
    let term = pod.affinity.as_ref().and_then(|affinity| affinity.nodes.first());
    for one in term.into_iter().flat_map(|term| &term.labels) {
        let value = match &one.is {
            Operator::In(values) => values.first().cloned(),
            Operator::Exists => Some(String::new()),
            Operator::Gt(bound) => Some(bound.saturating_add(1).to_string()),
            Operator::Lt(bound) => Some(bound.saturating_sub(1).to_string()),
            Operator::NotIn(_) | Operator::DoesNotExist => None,
        };
        // What stands for a place is attested, not labelled.
        if let (Topology::Node | Topology::Label(_), Some(value)) = (Topology::from(one.key.as_str()), value)
        {
            labels.insert(one.key.clone(), value);
        }
    }
    labels
}

/// A node as the advice means it: whatever labels the set's pods ask for, alone in its domain.
fn new_node(set: &SiteSet, country: Country, free: Resources, number: usize) -> Option<Node> {
    let name = format!("added-{number}");
    let labels = set.pods.iter().flat_map(asked_labels).collect();
    let domain = FailureDomain(name.clone());
    let attested = Some(Attestation { country, domain, tier: set.residency.tier_min });
    let name = name.parse().ok()?;
    Some(Node { name, total: free, attested, labels, taints: BTreeSet::new(), cordoned: false, ready: true })
}
