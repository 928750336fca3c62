//! Whether one pod may run on one node, leaving aside the others of its set;
//! if not, every reason, not only the first.

use coffer_model::{Country, Tier};
use serde::{Deserialize, Serialize};

use crate::{Node, Pod, Residency, Resource, Resources, Taint};

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
    /// A taint that the pod does not tolerate.
    #[error("the node is tainted with {0:?}")]
    Tainted(Taint),
    /// Not enough of a resource is free.
    #[error("not enough {0:?} is free")]
    Lacking(Resource),
}

/// Everything that keeps `pod` from `node` with so much `free`; nothing if it may run there.
pub fn may_run(pod: &Pod, residency: &Residency, node: &Node, free: &Resources) -> Vec<Obstacle> {
    obstacles(pod, residency, node, free).collect()
}

/// The same, one after the other: whoever only asks whether there is any looks no further than the first.
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
    let other = |(label, value): &(&String, &String)| node.labels.get(*label) != Some(*value);
    let labels = pod.selector.iter().filter(other).map(|(label, _)| Obstacle::Label(label.clone()));
    let taints = node
        .taints
        .iter()
        .filter(|taint| !pod.tolerates(taint))
        .map(|taint| Obstacle::Tainted(taint.clone()));
    let lacking = pod.needs.lacking(free).map(Obstacle::Lacking);
    let of_node = [not_ready, cordoned, place, tier].into_iter().flatten();
    of_node.chain(labels).chain(taints).chain(lacking)
}
