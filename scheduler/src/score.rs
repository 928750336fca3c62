//! What it costs to put a pod on a node: bytes that have to be moved there
//! first, then how full the node becomes.

use serde::{Deserialize, Serialize};

use crate::{Node, NodeName, Pod, Resource, Resources};

/// Prices. A byte that is moved outweighs any fullness, so that a pod goes
/// back to the disk that holds its shards as long as that disk is legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Costs {
    /// Of one byte that a move copies.
    pub byte_moved: u64,
    /// Of a thousandth of a node's fullest resource.
    pub per_mille_full: u64,
}

impl Default for Costs {
    fn default() -> Self {
        Self { byte_moved: 1 << 20, per_mille_full: 1 }
    }
}

impl Costs {
    /// The price of what `pod` moves to a node.
    pub(crate) fn moving(&self, pod: &Pod, name: &NodeName) -> i128 {
        i128::from(pod.moved_to(name)) * i128::from(self.byte_moved)
    }

    /// The price of a wish of such a weight that is not fulfilled: as much as so many hundredths of a node's fullest
    /// resource.
    pub(crate) fn wish(&self, weight: u32) -> i128 {
        i128::from(weight) * 10 * i128::from(self.per_mille_full)
    }

    /// The price of a node, leaving aside what runs around and what has to be moved: of its room, and of the wishes
    /// for nodes that it does not fulfil.
    pub(crate) fn of_node(&self, pod: &Pod, node: &Node, free: &Resources) -> i128 {
        let missed = pod.affinity.as_ref().map_or(0, |affinity| affinity.missed(node, self));
        self.room(&pod.needs, &node.total, free) + missed
    }

    /// The price of the room that `needs` take on a node with so much in all and so much free.
    pub(crate) fn room(&self, needs: &Resources, total: &Resources, free: &Resources) -> i128 {
        i128::from(fullness(needs, total, free)) * i128::from(self.per_mille_full)
    }
}

/// Thousandths of the resource that is scarcest once the pod runs there.
fn fullness(needs: &Resources, total: &Resources, free: &Resources) -> u64 {
    let per_mille = |resource: Resource| {
        let (all, left) = (total.of(resource), free.of(resource).saturating_sub(needs.of(resource)));
        if all == 0 {
            0
        } else {
            1000 - u64::try_from(u128::from(left.min(all)) * 1000 / u128::from(all)).unwrap_or(0)
        }
    };
    Resource::ALL.into_iter().map(per_mille).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Home;

    #[test]
    fn a_full_node_with_the_shards_is_cheaper_than_an_empty_one_without() {
        let total = Resources { cpu_millis: 1000, memory_bytes: 1000, disk_bytes: 1000, iops: 1000 };
        let needs = Resources { disk_bytes: 10, ..Resources::default() };
        let home = Home { node: "full".parse().unwrap(), bytes: 1 };
        let pod = Pod { home: Some(home), ..Pod::plain(0, needs) };
        let costs = Costs::default();
        let tight = Resources { disk_bytes: 10, ..total };
        let price = |name: &str, free: &Resources| {
            costs.moving(&pod, &name.parse().unwrap()) + costs.room(&needs, &total, free)
        };
        let (there, elsewhere) = (price("full", &tight), price("empty", &total));
        assert!(there < elsewhere, "{there} {elsewhere}");
        assert_eq!(fullness(&needs, &total, &tight), 1000);
    }
}
