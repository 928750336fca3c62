//! What the pods that run already mean for one that is to be placed: places where it has to be, may not be,
//! or would rather be or not. Looked up once for a shape of pods; after that each node is one question.

use std::collections::{BTreeMap, BTreeSet};

use crate::filter::Obstacle;
use crate::{Cluster, Costs, Node, Pod, PodId, PodTerm, Runner, SetName, Topology};

/// Values of a topology.
type Places = BTreeSet<String>;

/// The surroundings of one pod.
#[derive(Debug, Default)]
pub(crate) struct Around<'a> {
    near: Vec<(&'a Topology, Places)>,
    apart: Vec<(&'a Topology, Places)>,
    /// By whom it is shunned, and where.
    shunned: Vec<(&'a Topology, BTreeMap<String, Vec<&'a Runner>>)>,
    /// What it is worth to be in one of the places, or outside of them.
    prefers: Vec<(u32, bool, &'a Topology, Places)>,
}

/// Terms of pods that run and do not want this one near.
pub(crate) fn shunning<'a>(cluster: &'a Cluster, set: &SetName, pod: &Pod) -> Vec<&'a PodTerm> {
    if cluster.shunning().is_empty() {
        return Vec::new();
    }
    let id = PodId { set: set.clone(), ordinal: pod.ordinal };
    let terms = cluster.shunning().keys();
    terms.filter(|term| term.means_pod(&id, &pod.labels)).collect()
}

impl<'a> Around<'a> {
    /// Of a pod of a set; the others of the set do not count.
    pub(crate) fn of(cluster: &'a Cluster, set: &SetName, pod: &'a Pod) -> Self {
        let mut around = Self::default();
        for term in shunning(cluster, set, pod) {
            let mut places: BTreeMap<String, Vec<&Runner>> = BTreeMap::new();
            for (runner, name) in cluster.shunning().get(term).into_iter().flatten() {
                let is_own = matches!(runner, Runner::Pod(id) if id.set == *set);
                let value = cluster.node(name).and_then(|node| term.topology.value(node));
                if let Some(value) = value.filter(|_| !is_own) {
                    places.entry(value.into_owned()).or_default().push(runner);
                }
            }
            around.shunned.push((&term.topology, places));
        }
        around.shunned.retain(|(_, places)| !places.is_empty());
        let Some(affinity) = &pod.affinity else { return around };
        let places = |term: &'a PodTerm| (&term.topology, cluster.places(set, term));
        around.near = affinity.near.iter().map(places).collect();
        around.apart = affinity.apart.iter().map(places).collect();
        let near = affinity.prefers_near.iter().map(|one| (one, true));
        for (one, inside) in near.chain(affinity.prefers_apart.iter().map(|one| (one, false))) {
            let (topology, places) = places(&one.term);
            around.prefers.push((one.weight, inside, topology, places));
        }
        around
    }

    /// Whether nothing that runs matters.
    pub(crate) fn is_empty(&self) -> bool {
        self.near.is_empty() && self.apart.is_empty() && self.shunned.is_empty() && self.prefers.is_empty()
    }

    /// What keeps the pod from a node.
    pub(crate) fn obstacles<'b>(&'b self, node: &'b Node) -> impl Iterator<Item = Obstacle> + 'b {
        let near = self.near.iter().filter(|(topology, places)| !is_in(topology, places, node));
        let near = near.map(|(topology, _)| Obstacle::PodAffinity((*topology).clone()));
        let apart = self.apart.iter().filter(|(topology, places)| is_in(topology, places, node));
        let apart = apart.map(|(topology, _)| Obstacle::PodAntiAffinity((*topology).clone()));
        let by = self.shunned.iter().filter_map(|(topology, places)| {
            let value = topology.value(node)?;
            places.get(value.as_ref())
        });
        let shunned = by.flatten().map(|runner| Obstacle::Shunned((*runner).clone()));
        near.chain(apart).chain(shunned)
    }

    /// The price of the wishes that a node does not fulfil.
    pub(crate) fn missed(&self, node: &Node, costs: &Costs) -> i128 {
        let missed = self
            .prefers
            .iter()
            .filter(|(_, inside, topology, places)| is_in(topology, places, node) != *inside);
        missed.map(|(weight, ..)| costs.wish(*weight)).sum()
    }
}

fn is_in(topology: &Topology, places: &Places, node: &Node) -> bool {
    topology.value(node).is_some_and(|value| places.contains(value.as_ref()))
}
