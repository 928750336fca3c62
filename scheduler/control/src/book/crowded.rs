//! Sites that come again, and whose room others have taken meanwhile. To another scheduler a node is free for as long as
//! the pod is made anew; what the site has there is its disk, and of what our reservations say it knows nothing.

use coffer_scheduler::{Node, NodeName, PodId, Resource, Resources, SetName};

use super::Book;
use crate::translate::{Phase, SeenPod};

impl Book {
    /// Whether pods of others leave no room for this one on its node. It waits then: its node would refuse it, and it
    /// would be made and refused again and again. What our own pods alone are too much for is no such case.
    pub(super) fn is_crowded_out(&self, id: &PodId, pod: &SeenPod, node: &Node) -> bool {
        let there = |other: &PodId| {
            let other_pod = self.pods.get(other).filter(|one| other != id && one.phase != Phase::Ended)?;
            let is_there = other_pod.node.as_ref() == Some(&node.name) || self.on_the_way.contains(other);
            is_there.then_some(other_pod.pod.needs)
        };
        let ours = self.ledger.cluster().pods_on(&node.name).filter_map(there);
        let ours = ours.fold(pod.pod.needs, |sum, needs| sum.plus(&needs));
        let others = self.foreign_on.get(&node.name).into_iter().flatten();
        let others = others.filter_map(|name| self.foreign.get(name));
        let others = others.fold(Resources::default(), |sum, one| sum.plus(&one.neighbour.needs));
        let all = ours.plus(&others);
        let too_much = |resource: &Resource| {
            let total = node.total.of(*resource);
            ours.of(*resource) <= total && all.of(*resource) > total
        };
        Resource::ALL.iter().any(too_much)
    }

    /// A pod of the set that waits for its room, for people.
    pub(super) fn crowded_out(&self, set: &SetName) -> Option<String> {
        let waits = self.pods_of(set).filter(|(_, pod)| pod.phase == Phase::Alive && pod.node.is_none());
        let mut waits = waits.filter(|(id, _)| !self.on_the_way.contains(id));
        waits.find_map(|(id, pod)| {
            let node = self.ledger.cluster().node_of(id)?;
            let what = format!(
                "{id} waits for room on {}, where its bytes are: pods of others have taken it meanwhile, and have to go",
                node.name
            );
            self.is_crowded_out(id, pod, node).then_some(what)
        })
    }

    /// Somebody has gone from a node: who waited for his room is looked at again.
    pub(super) fn somebody_left(&mut self, node: &NodeName) {
        self.waiting.extend(self.ledger.cluster().pods_on(node).map(|pod| pod.set.clone()));
    }
}
