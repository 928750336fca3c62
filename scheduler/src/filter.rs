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
    let mut obstacles = Vec::new();
    if !node.ready {
        obstacles.push(Obstacle::NotReady);
    }
    if node.cordoned {
        obstacles.push(Obstacle::Cordoned);
    }
    match &node.attested {
        None => obstacles.push(Obstacle::NotAttested),
        Some(attested) => {
            if !residency.admits_country(attested) {
                obstacles.push(Obstacle::Jurisdiction(attested.country));
            }
            if attested.tier < residency.tier_min {
                obstacles.push(Obstacle::Tier(attested.tier));
            }
        }
    }
    for (label, value) in &pod.selector {
        if node.labels.get(label) != Some(value) {
            obstacles.push(Obstacle::Label(label.clone()));
        }
    }
    for taint in &node.taints {
        if !pod.tolerations.iter().any(|toleration| toleration.covers(taint)) {
            obstacles.push(Obstacle::Tainted(taint.clone()));
        }
    }
    obstacles.extend(pod.needs.lacking(free).map(Obstacle::Lacking));
    obstacles
}
