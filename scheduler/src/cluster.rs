//! One snapshot of nodes and of the pods bound to them.

use std::collections::{BTreeMap, BTreeSet};

use coffer_model::Country;

use crate::ranking::{Ranking, Rankings};
use crate::takings::{Takings, amounts};
use crate::whereabouts::{Places, Shunned, Whereabouts};
use crate::{
    Claim, Costs, Neighbour, NeighbourName, Node, NodeName, Pod, PodId, PodTerm, Residency, Resources,
    Runner, SetName, SiteSet, Traits,
};

/// Why a change does not fit the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// There is no such node.
    #[error("there is no node {0}")]
    NoNode(NodeName),
    /// The pod runs somewhere already.
    #[error("{0} is bound to {1} already")]
    Bound(PodId, NodeName),
    /// The pod runs nowhere.
    #[error("{0} is bound to no node")]
    Unbound(PodId),
    /// The node has not so much free.
    #[error("{0} does not fit on {1}")]
    Full(PodId, NodeName),
}

#[derive(Clone, Debug)]
struct Held {
    node: Node,
    used: Resources,
    pods: BTreeMap<PodId, Tenant>,
    /// Pods of others, and what they take together.
    neighbours: BTreeMap<NeighbourName, Neighbour>,
    taken: Resources,
    /// Room that is kept for pods that others give way to.
    claimed: BTreeMap<PodId, Claimed>,
}

/// Room that is kept for a pod.
#[derive(Clone, Debug)]
struct Claimed {
    needs: Resources,
    priority: i32,
}

/// A pod that is bound.
#[derive(Clone, Debug)]
struct Tenant {
    needs: Resources,
    traits: Traits,
}

impl Held {
    fn new(node: Node) -> Self {
        let (used, taken) = Default::default();
        let (pods, neighbours, claimed) = Default::default();
        Self { node, used, pods, neighbours, taken, claimed }
    }

    /// Everything that runs there.
    fn runners(&self) -> impl Iterator<Item = (Runner, &Traits)> {
        let pods = self.pods.iter().map(|(id, tenant)| (Runner::Pod(id.clone()), &tenant.traits));
        let others = self.neighbours.values();
        pods.chain(others.map(|one| (Runner::Neighbour(one.name.clone()), &one.traits)))
    }

    /// The same, and where.
    fn running(&self) -> impl Iterator<Item = (Runner, &Traits, &Node)> {
        self.runners().map(|(runner, traits)| (runner, traits, &self.node))
    }

    /// What nobody takes; nothing where a node has shrunk below what runs there.
    fn room(&self) -> Resources {
        self.node.total.less(&self.taken).minus(&self.used).unwrap_or_default()
    }

    /// The same without what is kept for somebody.
    fn free(&self) -> Resources {
        self.claimed.values().fold(self.room(), |room, claim| room.less(&claim.needs))
    }

    /// The same for a pod of a set: what is kept for the set itself, or for a lower priority, is no hindrance.
    fn kept_from(&self, set: &SetName, priority: i32, room: Resources) -> Resources {
        self.kept_by_others(set, priority).fold(room, |room, claim| room.less(&claim.needs))
    }

    fn kept_by_others(&self, set: &SetName, priority: i32) -> impl Iterator<Item = &Claimed> {
        let others = self.claimed.iter();
        others.filter(move |(id, claim)| id.set != *set && claim.priority >= priority).map(|(_, claim)| claim)
    }
}

/// Nodes and what runs on them, at one revision of the store.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    revision: u64,
    nodes: BTreeMap<NodeName, Held>,
    bound: BTreeMap<PodId, NodeName>,
    neighbours: BTreeMap<NeighbourName, NodeName>,
    whereabouts: Whereabouts,
    /// Sets for which room is kept, and where.
    claims: BTreeMap<SetName, Vec<Claim>>,
    rankings: Rankings,
}

impl Cluster {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The revision of the store that this is a snapshot of.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Says of which revision of the store this is a snapshot.
    pub fn set_revision(&mut self, revision: u64) {
        self.revision = revision;
    }

    /// Enters a node, or what has become of it; what runs there stays.
    pub fn put_node(&mut self, node: Node) {
        let name = node.name.clone();
        let held = match self.nodes.remove(&name) {
            Some(before) => {
                if self.whereabouts.tells_apart(&before.node, &node) {
                    for (runner, traits) in before.runners() {
                        self.whereabouts.depart(&runner, traits, &before.node);
                        self.whereabouts.arrive(&runner, traits, &node);
                    }
                }
                Held { node, ..before }
            }
            None => Held::new(node),
        };
        self.rankings.rate(&held.node, &held.free());
        self.nodes.insert(name, held);
    }

    /// Forgets a node, and pods of others there; the pods that were bound to it, which run nowhere now.
    pub fn remove_node(&mut self, name: &NodeName) -> Vec<PodId> {
        let Some(held) = self.nodes.remove(name) else { return Vec::new() };
        self.rankings.forget(name);
        for (runner, traits) in held.runners() {
            self.whereabouts.depart(&runner, traits, &held.node);
        }
        held.neighbours.keys().for_each(|other| _ = self.neighbours.remove(other));
        held.pods.keys().for_each(|pod| _ = self.bound.remove(pod));
        held.pods.into_keys().collect()
    }

    /// Binds a pod of which nothing else is to be known to a node that has room for it.
    ///
    /// # Errors
    /// [`ClusterError`]; nothing was changed.
    pub fn bind(&mut self, pod: PodId, needs: Resources, name: &NodeName) -> Result<(), ClusterError> {
        self.bind_as(pod, needs, Traits::default(), name)
    }

    /// Binds a pod to a node that has room for it.
    ///
    /// # Errors
    /// [`ClusterError`]; nothing was changed.
    pub fn bind_as(
        &mut self,
        pod: PodId,
        needs: Resources,
        traits: Traits,
        name: &NodeName,
    ) -> Result<(), ClusterError> {
        if let Some(at) = self.bound.get(&pod) {
            return Err(ClusterError::Bound(pod, at.clone()));
        }
        let held = self.nodes.get_mut(name).ok_or_else(|| ClusterError::NoNode(name.clone()))?;
        // What is kept for others keeps decisions away, not pods that are bound all the same.
        if held.room().minus(&needs).is_none() {
            return Err(ClusterError::Full(pod, name.clone()));
        }
        held.used = held.used.plus(&needs);
        self.whereabouts.arrive(&Runner::Pod(pod.clone()), &traits, &held.node);
        held.pods.insert(pod.clone(), Tenant { needs, traits });
        self.rankings.rate(&held.node, &held.free());
        self.bound.insert(pod, name.clone());
        Ok(())
    }

    /// Takes note of what a bound pod is like by now.
    ///
    /// # Errors
    /// [`ClusterError::Unbound`].
    pub fn set_traits(&mut self, pod: &PodId, traits: Traits) -> Result<(), ClusterError> {
        let unbound = || ClusterError::Unbound(pod.clone());
        let name = self.bound.get(pod).ok_or_else(unbound)?.clone();
        let held = self.nodes.get_mut(&name).ok_or_else(unbound)?;
        let tenant = held.pods.get_mut(pod).ok_or_else(unbound)?;
        let runner = Runner::Pod(pod.clone());
        self.whereabouts.depart(&runner, &tenant.traits, &held.node);
        self.whereabouts.arrive(&runner, &traits, &held.node);
        tenant.traits = traits;
        Ok(())
    }

    /// What a bound pod is like.
    pub fn traits(&self, pod: &PodId) -> Option<&Traits> {
        let held = self.nodes.get(self.bound.get(pod)?)?;
        held.pods.get(pod).map(|tenant| &tenant.traits)
    }

    /// Enters a pod of somebody else, or what has become of it. It takes its room even where there is not so much.
    ///
    /// # Errors
    /// [`ClusterError::NoNode`].
    pub fn put_neighbour(&mut self, neighbour: Neighbour) -> Result<(), ClusterError> {
        if !self.nodes.contains_key(&neighbour.node) {
            return Err(ClusterError::NoNode(neighbour.node));
        }
        self.remove_neighbour(&neighbour.name);
        let (name, node) = (neighbour.name.clone(), neighbour.node.clone());
        if let Some(held) = self.nodes.get(&node) {
            self.whereabouts.arrive(&Runner::Neighbour(name.clone()), &neighbour.traits, &held.node);
        }
        self.neighbours.insert(name.clone(), node.clone());
        self.change_neighbours(&node, |all| drop(all.insert(name, neighbour)));
        Ok(())
    }

    /// Forgets a pod of somebody else; whether there was one.
    pub fn remove_neighbour(&mut self, name: &NeighbourName) -> bool {
        let Some(node) = self.neighbours.remove(name) else { return false };
        let mut before = None;
        self.change_neighbours(&node, |all| before = all.remove(name));
        if let (Some(before), Some(held)) = (before, self.nodes.get(&node)) {
            self.whereabouts.depart(&Runner::Neighbour(name.clone()), &before.traits, &held.node);
        }
        true
    }

    fn change_neighbours(
        &mut self,
        node: &NodeName,
        change: impl FnOnce(&mut BTreeMap<NeighbourName, Neighbour>),
    ) {
        if let Some(held) = self.nodes.get_mut(node) {
            change(&mut held.neighbours);
            let all = held.neighbours.values();
            held.taken = all.fold(Resources::default(), |sum, one| sum.plus(&one.needs));
            self.rankings.rate(&held.node, &held.free());
        }
    }

    /// A pod of somebody else.
    pub fn neighbour(&self, name: &NeighbourName) -> Option<&Neighbour> {
        self.nodes.get(self.neighbours.get(name)?)?.neighbours.get(name)
    }

    /// Pods of others on a node.
    pub fn neighbours_on(&self, name: &NodeName) -> impl Iterator<Item = &Neighbour> {
        self.nodes.get(name).into_iter().flat_map(|held| held.neighbours.values())
    }

    /// Terms by which somebody who runs lets others not near, and who.
    pub(crate) fn shunning(&self) -> &BTreeMap<PodTerm, Shunned> {
        self.whereabouts.shunning()
    }

    /// Where pods are that a term means, leaving those of one set aside.
    pub(crate) fn places<'a>(&'a self, set: &'a SetName, term: &PodTerm) -> Places<'a> {
        if let Some(kept) = self.whereabouts.places(set, term) {
            return kept;
        }
        let has_one = |held: &&Held| {
            let mut pods = held.pods.iter().filter(|(id, _)| id.set != *set);
            let mut others = held.neighbours.values();
            pods.any(|(id, tenant)| term.means_pod(id, &tenant.traits.labels))
                || others.any(|one| term.means_other(&one.name.space, &one.traits.labels))
        };
        let values = self.nodes.values().filter(has_one);
        let values = values.filter_map(|held| term.topology.value(&held.node));
        Places::Listed(values.map(|value| value.into_owned()).collect())
    }

    /// Takes a pod from its node, which is returned.
    ///
    /// # Errors
    /// [`ClusterError::Unbound`].
    pub fn unbind(&mut self, pod: &PodId) -> Result<NodeName, ClusterError> {
        let name = self.bound.remove(pod).ok_or_else(|| ClusterError::Unbound(pod.clone()))?;
        if let Some(held) = self.nodes.get_mut(&name)
            && let Some(tenant) = held.pods.remove(pod)
        {
            held.used = held.used.minus(&tenant.needs).unwrap_or_default();
            self.rankings.rate(&held.node, &held.free());
            self.whereabouts.depart(&Runner::Pod(pod.clone()), &tenant.traits, &held.node);
        }
        Ok(name)
    }

    /// Keeps room for pods of a set, instead of what was kept for it before.
    pub fn claim(&mut self, set: &SetName, claims: Vec<Claim>) {
        self.release_claims(set);
        for claim in &claims {
            let id = PodId { set: set.clone(), ordinal: claim.ordinal };
            if let Some(held) = self.nodes.get_mut(&claim.node) {
                held.claimed.insert(id, Claimed { needs: claim.needs, priority: claim.priority });
                self.rankings.rate(&held.node, &held.free());
            }
        }
        self.claims.insert(set.clone(), claims);
    }

    /// Keeps no room for a set any more; whether any was kept.
    pub fn release_claims(&mut self, set: &SetName) -> bool {
        let Some(claims) = self.claims.remove(set) else { return false };
        for claim in claims {
            let id = PodId { set: set.clone(), ordinal: claim.ordinal };
            if let Some(held) = self.nodes.get_mut(&claim.node) {
                held.claimed.remove(&id);
                self.rankings.rate(&held.node, &held.free());
            }
        }
        true
    }

    /// The room that is kept for a set.
    pub fn claims(&self, set: &SetName) -> &[Claim] {
        self.claims.get(set).map_or(&[], Vec::as_slice)
    }

    /// Whether any room is kept for anybody.
    pub(crate) fn keeps_room(&self) -> bool {
        !self.claims.is_empty()
    }

    /// Whether room is kept that is no hindrance to a pod of this set and priority.
    pub(crate) fn has_claims_below(&self, set: &SetName, priority: i32) -> bool {
        self.claims
            .iter()
            .any(|(other, claims)| other == set || claims.iter().any(|claim| claim.priority < priority))
    }

    /// What is free on a node for a pod of this set and priority.
    pub fn free_for(&self, set: &SetName, priority: i32, name: &NodeName) -> Resources {
        let held = self.nodes.get(name);
        held.map(|held| held.kept_from(set, priority, held.room())).unwrap_or_default()
    }

    /// What is taken of a node from a pod of this set and priority, by all but those that end.
    pub(crate) fn takings(
        &self,
        set: &SetName,
        priority: i32,
        name: &NodeName,
        ends: impl Fn(&Runner) -> bool,
    ) -> Takings {
        let Some(held) = self.nodes.get(name) else { return Takings::default() };
        let mut takings = Takings::of(&held.node.total);
        for one in held.neighbours.values().filter(|one| !ends(&Runner::Neighbour(one.name.clone()))) {
            takings.take(true, &amounts(&one.needs));
        }
        for (_, tenant) in held.pods.iter().filter(|(id, _)| !ends(&Runner::Pod(PodId::clone(id)))) {
            takings.take(false, &amounts(&tenant.needs));
        }
        held.kept_by_others(set, priority).for_each(|claim| takings.keep(&claim.needs));
        takings
    }

    /// Whether a term means somebody who runs.
    pub(crate) fn is_meant(&self, term: &PodTerm, runner: &Runner) -> bool {
        let traits = match runner {
            Runner::Pod(id) => self.traits(id),
            Runner::Neighbour(name) => self.neighbour(name).map(|one| &one.traits),
        };
        traits.is_some_and(|traits| term.means(runner, &traits.labels))
    }

    /// Pods of sets on a node, with what they need and what else is to be known of them.
    pub(crate) fn tenants_on(&self, name: &NodeName) -> impl Iterator<Item = (&PodId, Resources, &Traits)> {
        let pods = self.nodes.get(name).into_iter().flat_map(|held| &held.pods);
        pods.map(|(id, tenant)| (id, tenant.needs, &tenant.traits))
    }

    /// Takes note that the pods of a set are to be placed that run nowhere: nodes are ranked for those
    /// that are like others before them.
    pub(crate) fn rank_for(&mut self, set: &SiteSet, costs: &Costs) {
        let Self { nodes, bound, rankings, whereabouts, .. } = self;
        let unbound = set.pods.iter().filter(|pod| !bound.contains_key(&set.id(pod)));
        let mut noted: Vec<&Pod> = Vec::new();
        for pod in unbound {
            for term in pod.affinity.iter().flat_map(|affinity| affinity.pod_terms()) {
                whereabouts.note(term, nodes.values().flat_map(Held::running));
            }
            if !pod.minds_pods() && noted.iter().all(|other| !other.is_like_but_for_pods(pod)) {
                noted.push(pod);
                let nodes = || nodes.values().map(|held| (&held.node, held.free()));
                rankings.note(pod, &set.residency, costs, nodes);
            }
        }
    }

    /// The ranking of nodes for such pods, if there is one.
    pub(crate) fn ranking(&self, pod: &Pod, residency: &Residency, costs: &Costs) -> Option<&Ranking> {
        self.rankings.get(pod, residency, costs)
    }

    /// The node that a pod is bound to.
    pub fn node_of(&self, pod: &PodId) -> Option<&Node> {
        self.nodes.get(self.bound.get(pod)?).map(|held| &held.node)
    }

    /// A node.
    pub fn node(&self, name: &NodeName) -> Option<&Node> {
        self.nodes.get(name).map(|held| &held.node)
    }

    /// What nobody takes of a node, whether it is kept for somebody or not; nothing where there is none.
    pub fn room(&self, name: &NodeName) -> Resources {
        self.nodes.get(name).map(Held::room).unwrap_or_default()
    }

    /// What is free on a node for whoever comes; nothing where there is none.
    pub fn free(&self, name: &NodeName) -> Resources {
        self.nodes.get(name).map(Held::free).unwrap_or_default()
    }

    /// What runs on a node.
    pub fn pods_on(&self, name: &NodeName) -> impl Iterator<Item = &PodId> {
        self.nodes.get(name).into_iter().flat_map(|held| held.pods.keys())
    }

    /// Every node with what is free there, by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&Node, Resources)> {
        self.nodes.values().map(|held| (&held.node, held.free()))
    }

    /// Every bound pod with its node.
    pub fn bound(&self) -> impl Iterator<Item = (&PodId, &NodeName)> {
        self.bound.iter()
    }

    /// Countries with attested nodes.
    pub fn countries(&self) -> BTreeSet<Country> {
        self.nodes.values().filter_map(|held| Some(held.node.attested.as_ref()?.country)).collect()
    }
}

#[cfg(test)]
mod tests {
    use coffer_model::{FailureDomain, Tier};

    use super::*;
    use crate::{Affinity, Attestation, Operator, Requirement, Space, Spread, Topology};

    fn node(name: &str, country: &str) -> Node {
        Node {
            name: name.parse().unwrap(),
            total: Resources { cpu_millis: 10, ..Resources::default() },
            attested: Some(Attestation {
                country: country.parse().unwrap(),
                domain: FailureDomain(name.to_owned()),
                tier: Tier::III,
            }),
            labels: BTreeMap::new(),
            taints: BTreeSet::new(),
            cordoned: false,
            ready: true,
        }
    }

    fn pod(ordinal: u32) -> PodId {
        PodId { set: "set".parse().unwrap(), ordinal }
    }

    #[test]
    fn a_node_never_gets_more_than_it_has_and_a_pod_is_in_one_place() {
        let mut cluster = Cluster::new();
        cluster.put_node(node("a", "DE"));
        let (name, needs) = ("a".parse().unwrap(), Resources { cpu_millis: 6, ..Resources::default() });
        assert_eq!(cluster.bind(pod(0), needs, &name), Ok(()));
        assert_eq!(cluster.bind(pod(0), needs, &name), Err(ClusterError::Bound(pod(0), name.clone())));
        assert_eq!(cluster.bind(pod(1), needs, &name), Err(ClusterError::Full(pod(1), name.clone())));
        assert_eq!(cluster.unbind(&pod(0)), Ok(name.clone()));
        assert_eq!(cluster.unbind(&pod(0)), Err(ClusterError::Unbound(pod(0))));
        assert_eq!(cluster.bind(pod(1), needs, &name), Ok(()));
    }

    #[test]
    fn a_node_that_moves_to_another_country_leaves_no_trace_in_the_first() {
        let mut cluster = Cluster::new();
        cluster.put_node(node("a", "DE"));
        let name: NodeName = "a".parse().unwrap();
        cluster.bind(pod(0), Resources::default(), &name).unwrap();
        cluster.put_node(node("a", "FR"));
        assert_eq!(cluster.countries(), ["FR".parse().unwrap()].into());
        assert_eq!(cluster.pods_on(&name).count(), 1);
        assert_eq!(cluster.remove_node(&name), [pod(0)]);
        assert!(cluster.countries().is_empty() && cluster.bound().next().is_none());
    }

    /// A generator of numbers (Knuth's MMIX), for tests alone.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, end: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % end
        }
    }

    fn term(n: u64) -> PodTerm {
        let rack = || Topology::Label("rack".to_owned());
        let topology = [Topology::Node, Topology::Domain, Topology::Country, rack()];
        let is = Operator::In([format!("app-{}", n / 4 % 3)].into());
        let spaces = [Space::Fleet, Space::Named("shop".to_owned())];
        PodTerm {
            topology: topology[usize::try_from(n % 4).unwrap()].clone(),
            spaces: spaces.into_iter().skip(usize::from(n.is_multiple_of(5))).collect(),
            selector: vec![Requirement { key: "app".to_owned(), is }],
        }
    }

    fn traits(numbers: &mut Numbers) -> Traits {
        let labels = [("app".to_owned(), format!("app-{}", numbers.below(3)))].into();
        let apart = (0..numbers.below(3)).map(|_| term(numbers.below(12))).collect();
        Traits { labels, apart, priority: 0 }
    }

    fn any_node(numbers: &mut Numbers) -> Node {
        let country = ["DE", "FR"][usize::try_from(numbers.below(2)).unwrap()];
        let mut node = node(&format!("n{}", numbers.below(6)), country);
        if let Some(attested) = &mut node.attested {
            attested.domain = FailureDomain(format!("d{}", numbers.below(3)));
        }
        node.attested = node.attested.filter(|_| numbers.below(6) > 0);
        if numbers.below(3) > 0 {
            node.labels.insert("rack".to_owned(), format!("r{}", numbers.below(2)));
        }
        node
    }

    fn happen(cluster: &mut Cluster, numbers: &mut Numbers) {
        let at: NodeName = format!("n{}", numbers.below(6)).parse().unwrap();
        let id = PodId { set: format!("s{}", numbers.below(3)).parse().unwrap(), ordinal: 0 };
        let id = PodId { ordinal: u32::try_from(numbers.below(6)).unwrap(), ..id };
        let space = Space::Named("shop".to_owned());
        let name = NeighbourName { space, name: format!("o{}", numbers.below(5)) };
        match numbers.below(10) {
            0 | 1 => cluster.put_node(any_node(numbers)),
            2 if numbers.below(4) == 0 => _ = cluster.remove_node(&at),
            3..=5 => _ = cluster.bind_as(id, Resources::default(), traits(numbers), &at),
            6 => _ = cluster.unbind(&id),
            7 => _ = cluster.set_traits(&id, traits(numbers)),
            8 => _ = cluster.remove_neighbour(&name),
            _ => {
                let (needs, traits) = (Resources::default(), traits(numbers));
                _ = cluster.put_neighbour(Neighbour { name, node: at, needs, traits });
            }
        }
    }

    /// Pods that ask for every term.
    fn asking() -> SiteSet {
        let affinity = Affinity { apart: (0..12).map(term).collect(), ..Affinity::default() };
        let one = Pod { affinity: Some(Box::new(affinity)), ..Pod::plain(9, Resources::default()) };
        let residency = Residency { allow: Vec::new(), deny: Vec::new(), tier_min: Tier::I };
        SiteSet { name: "s1".parse().unwrap(), residency, spread: Spread::default(), pods: vec![one] }
    }

    #[test]
    fn where_those_are_that_terms_mean_is_what_going_through_everything_finds() {
        let (mut cluster, mut numbers, asking) = (Cluster::new(), Numbers(7), asking());
        let (mut at_places, mut kept) = (0, 0);
        for step in 0..3000 {
            happen(&mut cluster, &mut numbers);
            if step % 500 == 99 {
                cluster.rank_for(&asking, &Costs::default());
            }
            let mut again = Whereabouts::default();
            for held in cluster.nodes.values() {
                held.runners().for_each(|(runner, traits)| again.arrive(&runner, traits, &held.node));
            }
            assert_eq!(cluster.whereabouts.shunning(), again.shunning(), "step {step}");
            let copy = cluster.clone();
            for term in (0..12).map(term) {
                let (quick, slow) = (cluster.places(&asking.name, &term), copy.places(&asking.name, &term));
                kept += usize::from(matches!(quick, Places::Kept(..)));
                for value in cluster.nodes.values().filter_map(|held| term.topology.value(&held.node)) {
                    assert_eq!(quick.has(&value), slow.has(&value), "step {step}: {term:?} at {value}");
                    at_places += usize::from(quick.has(&value));
                }
            }
        }
        assert!(kept > 30_000 && at_places > 10_000, "{kept} {at_places}");
    }
}
