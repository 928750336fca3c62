//! Whether one pod may run on one node, leaving aside the others of its set;
//! if not, every reason, not only the first.

use coffer_model::{Country, Tier};
use serde::{Deserialize, Serialize};

use crate::around::Around;
use crate::topology::says;
use crate::{Cluster, Node, Pod, Residency, Resource, Resources, Runner, SiteSet, Taint, Topology};

/// What keeps a pod from a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    /// The node's agent does not report.
    #[error("the node is not ready")]
    NotReady,
    /// An operator cordoned it.
    #[error("the node is cordoned")]
    Cordoned,
    /// Nothing valid says where it stands.
    #[error("nothing attests where the node stands")]
    NotAttested,
    /// It stands where the set may not.
    #[error("the node stands in {0}, where the set may not")]
    Jurisdiction(Country),
    /// Its building is of too low a tier.
    #[error("the building is of tier {0}, which is too low")]
    Tier(Tier),
    /// A label that the pod asks for is missing or another.
    #[error("the node has no label {0} with the value that is asked for")]
    Label(String),
    /// It is none of the nodes that the pod demands.
    #[error("the node is none of those that the pod demands by affinity")]
    NodeAffinity,
    /// No pod runs in the same place that the pod has to be near to.
    #[error("no pod that the pod has to be near to runs in the same {0}")]
    PodAffinity(Topology),
    /// A pod runs in the same place that the pod has to be apart from.
    #[error("a pod that the pod has to be apart from runs in the same {0}")]
    PodAntiAffinity(Topology),
    /// A pod runs there that lets no such pod near.
    #[error("{0} runs there, and lets no such pod near")]
    Shunned(Runner),
    /// A taint that the pod does not tolerate.
    #[error("the node is tainted with {0:?}")]
    Tainted(Taint),
    /// Not enough of a resource is free.
    #[error("not enough {0:?} is free")]
    Lacking(Resource),
}

/// Everything that keeps `pod` from `node` as it is; nothing if it may run there.
pub fn may_run(cluster: &Cluster, set: &SiteSet, pod: &Pod, node: &Node) -> Vec<Obstacle> {
    let (around, free) =
        (Around::of(cluster, &set.name, pod), cluster.free_for(&set.name, pod.priority, &node.name));
    obstacles(pod, &set.residency, node, &free).chain(around.obstacles(node)).collect()
}

/// What keeps it away whatever runs around, one after the other: whoever only asks whether there is any looks no
/// further than the first.
pub(crate) fn obstacles<'a>(
    pod: &'a Pod,
    residency: &'a Residency,
    node: &'a Node,
    free: &'a Resources,
) -> impl Iterator<Item = Obstacle> + 'a {
    let not_ready = (!node.ready).then_some(Obstacle::NotReady);
    let cordoned = node.cordoned.then_some(Obstacle::Cordoned);
    let (place, tier) = match &node.attested {
        None => (Some(Obstacle::NotAttested), None),
        Some(attested) => {
            let inside = residency.admits_country(attested);
            let high_enough = attested.tier >= residency.tier_min;
            let place = (!inside).then_some(Obstacle::Jurisdiction(attested.country));
            (place, (!high_enough).then_some(Obstacle::Tier(attested.tier)))
        }
    };
    // Those of jurisdiction and failure domain are what is attested, as they are for an affinity.
    let other = |(label, value): &(&String, &String)| says(node, label).as_deref() != Some(value.as_str());
    let labels = pod.selector.iter().filter(other).map(|(label, _)| Obstacle::Label(label.clone()));
    let affinity = pod.affinity.as_ref().filter(|affinity| !affinity.takes(node));
    let affinity = affinity.map(|_| Obstacle::NodeAffinity);
    let taints = node
        .taints
        .iter()
        .filter(|taint| !pod.tolerates(taint))
        .map(|taint| Obstacle::Tainted(taint.clone()));
    let lacking = pod.needs.lacking(free).map(Obstacle::Lacking);
    let of_node = [not_ready, cordoned, place, tier].into_iter().flatten();
    of_node.chain(labels).chain(affinity).chain(taints).chain(lacking)
}
