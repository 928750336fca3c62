//! What the pods that run already mean for one that is to be placed: places where it has to be, may not be,
//! or would rather be or not. Looked up once for a shape of pods; after that each node is one question.

use std::collections::BTreeSet;

use crate::filter::Obstacle;
use crate::whereabouts::{Places, Shunned};
use crate::{Cluster, Costs, Node, Pod, PodId, PodTerm, SetName, Topology};

/// The surroundings of one pod.
#[derive(Debug)]
pub(crate) struct Around<'a> {
    set: &'a SetName,
    near: Vec<(&'a Topology, Places<'a>)>,
    apart: Vec<(&'a Topology, Places<'a>)>,
    /// By whom it is shunned, and where.
    shunned: Vec<(&'a Topology, &'a Shunned)>,
    /// What it is worth to be in one of the places, or outside of them.
    prefers: Vec<(u32, bool, &'a Topology, Places<'a>)>,
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
    pub(crate) fn of(cluster: &'a Cluster, set: &'a SetName, pod: &'a Pod) -> Self {
        let shunning = shunning(cluster, set, pod).into_iter();
        let shunned = shunning.filter_map(|term| Some((&term.topology, cluster.shunning().get(term)?)));
        // Pods of the set itself do not count.
        let shunned = shunned.filter(|(_, shunned)| shunned.is_anywhere(set)).collect();
        let (near, apart, prefers) = Default::default();
        let mut around = Self { set, near, apart, shunned, prefers };
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

    /// The nodes from which what runs keeps the pod, by name, where that is all that it means for it: nothing has a
    /// price, and nobody minds a wider place than a node. `None` where it means more.
    pub(crate) fn barred(&self) -> Option<BTreeSet<&str>> {
        let by_node = |topology: &Topology| *topology == Topology::Node;
        let is_all = self.near.is_empty()
            && self.prefers.is_empty()
            && self.apart.iter().all(|(topology, _)| by_node(topology))
            && self.shunned.iter().all(|(topology, _)| by_node(topology));
        let mut barred = BTreeSet::new();
        if is_all {
            self.apart.iter().for_each(|(_, places)| places.add_to(&mut barred));
            self.shunned.iter().for_each(|(_, shunned)| barred.extend(shunned.places(self.set)));
        }
        is_all.then_some(barred)
    }

    /// What keeps the pod from a node.
    pub(crate) fn obstacles<'b>(&'b self, node: &'b Node) -> impl Iterator<Item = Obstacle> + 'b {
        let near = self.near.iter().filter(|(topology, places)| !is_in(topology, places, node));
        let near = near.map(|(topology, _)| Obstacle::PodAffinity((*topology).clone()));
        let apart = self.apart.iter().filter(|(topology, places)| is_in(topology, places, node));
        let apart = apart.map(|(topology, _)| Obstacle::PodAntiAffinity((*topology).clone()));
        let by = self.shunned.iter().filter_map(|(topology, shunned)| {
            let value = topology.value(node)?;
            Some(shunned.at(&value, self.set))
        });
        let shunned = by.flatten().map(|runner| Obstacle::Shunned(runner.clone()));
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

fn is_in(topology: &Topology, places: &Places<'_>, node: &Node) -> bool {
    topology.value(node).is_some_and(|value| places.has(&value))
}
