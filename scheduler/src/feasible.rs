//! What a decision had to choose from, as the ledger keeps it: how many nodes
//! were legal, a digest of which, and what the cheapest of them cost.

use serde::{Deserialize, Serialize};

use crate::{Affinity, Costs, NodeName, SiteSet};

/// Nodes that are named with their price. Where more are legal, these are the cheapest.
pub(crate) const NAMED_MAX: usize = 16;

/// A node that was legal, and its price for one pod, before what has to be moved: that of its room, and of the
/// wishes that it does not fulfil.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scored {
    /// The node.
    pub node: NodeName,
    /// The price of the room there, and of wishes that are not fulfilled.
    pub room: u64,
}

/// The nodes that were legal for pods that are alike, leaving aside the others of their set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feasible {
    /// The numbers of the pods.
    pub pods: Vec<u32>,
    /// How many nodes.
    pub count: u64,
    /// Which: the sum of the BLAKE3 digests of their names, as four numbers of 64 bits, little-endian, each modulo
    /// 2^64; in hexadecimal digits.
    pub digest: String,
    /// All of them where there are few; else the cheapest.
    pub cheapest: Vec<Scored>,
}

/// What a pod costs where it was put, by component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Of the room that it takes.
    pub room: u64,
    /// Of the bytes that have to be moved there.
    pub moving: u64,
    /// Of the wishes that are not fulfilled there; not in records of formats 1 and 2.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub wishes: u64,
}

fn is_nothing(number: &u64) -> bool {
    *number == 0
}

/// A price as the ledger keeps it.
pub(crate) fn price(cost: i128) -> u64 {
    u64::try_from(cost.max(0)).unwrap_or(u64::MAX)
}

/// The digest of what the decision had to keep to: residency, spread and prices, and affinities where there are any.
pub(crate) fn policy(set: &SiteSet, costs: &Costs) -> String {
    let affinities: Vec<(u32, &Affinity)> =
        set.pods.iter().filter_map(|pod| Some((pod.ordinal, pod.affinity.as_deref()?))).collect();
    // Structures of numbers, texts and lists always have a JSON form.
    let text = if affinities.is_empty() {
        serde_json::to_vec(&(&set.residency, &set.spread, costs))
    } else {
        serde_json::to_vec(&(&set.residency, &set.spread, costs, affinities))
    };
    let text = text.unwrap_or_default();
    blake3::hash(&text).to_hex().to_string()
}

/// A set of names, by a digest that follows each coming and going in one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names([u64; 4]);

impl Names {
    pub(crate) fn add(&mut self, name: &NodeName) {
        self.each(name, u64::wrapping_add);
    }

    pub(crate) fn take(&mut self, name: &NodeName) {
        self.each(name, u64::wrapping_sub);
    }

    fn each(&mut self, name: &NodeName, step: fn(u64, u64) -> u64) {
        let digest = blake3::hash(name.as_str().as_bytes());
        let (parts, _) = digest.as_bytes().as_chunks::<8>();
        for (sum, part) in self.0.iter_mut().zip(parts) {
            *sum = step(*sum, u64::from_le_bytes(*part));
        }
    }

    pub(crate) fn digest(&self) -> String {
        self.0.iter().flat_map(|part| part.to_le_bytes()).map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The legal nodes of one shape, while they are gone through.
#[derive(Clone, Debug, Default)]
pub(crate) struct Legal {
    pub(crate) count: u64,
    pub(crate) names: Names,
    /// Those that are named, cheapest first.
    pub(crate) cheapest: Vec<(i128, NodeName)>,
}

impl Legal {
    /// One more.
    pub(crate) fn add(&mut self, name: &NodeName, cost: i128) {
        self.count += 1;
        self.names.add(name);
        let at = self.cheapest.partition_point(|(known, other)| (*known, other) < (cost, name));
        if at < NAMED_MAX {
            self.cheapest.truncate(NAMED_MAX - 1);
            self.cheapest.insert(at, (cost, name.clone()));
        }
    }

    pub(crate) fn into_feasible(self, pods: Vec<u32>) -> Feasible {
        let scored = |(cost, node): (i128, NodeName)| Scored { node, room: price(cost) };
        Feasible {
            pods,
            count: self.count,
            digest: self.names.digest(),
            cheapest: self.cheapest.into_iter().map(scored).collect(),
        }
    }
}
