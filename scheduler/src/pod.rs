//! A storage pod, as far as placing is concerned.

use core::fmt;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::running::is_zero;
use crate::{Affinity, Effect, NodeName, NodeTerm, Preferred, Resources, SetName, Taint};

/// Which pod of which set. It keeps its number for life: the number is the site.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodId {
    /// Its set.
    pub set: SetName,
    /// Its number in the set.
    pub ordinal: u32,
}

impl fmt::Display for PodId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.set, self.ordinal)
    }
}

/// Where a pod's shards lie already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Home {
    /// The node with its disk.
    pub node: NodeName,
    /// Bytes that would have to be moved to any other.
    pub bytes: u64,
}

/// A taint that a pod does not mind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Toleration {
    /// The taint's key.
    pub key: String,
    /// The taint's value; `None`: whatever it is.
    pub value: Option<String>,
    /// The taint's effect; `None`: whatever it is.
    pub effect: Option<Effect>,
}

impl Toleration {
    /// Whether it covers the taint.
    pub fn covers(&self, taint: &Taint) -> bool {
        self.key == taint.key
            && self.value.as_ref().is_none_or(|value| *value == taint.value)
            && self.effect.is_none_or(|effect| effect == taint.effect)
    }
}

/// One storage pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pod {
    /// Its number in its set.
    pub ordinal: u32,
    /// What it needs.
    pub needs: Resources,
    /// Labels that its node must have.
    #[serde(default)]
    pub selector: BTreeMap<String, String>,
    /// Taints that it does not mind.
    #[serde(default)]
    pub tolerations: Vec<Toleration>,
    /// Where its shards lie already, if anywhere.
    #[serde(default)]
    pub home: Option<Home>,
    /// Its labels beside those that every pod of a set has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Where it demands or prefers to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Box<Affinity>>,
    /// Its priority: it may take the room of pods with a lower one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// It waits for room, whatever its priority.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub waits: bool,
}

impl Pod {
    /// Whether both may run on the same nodes at the same price, but for where their shards lie.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        self.needs == other.needs
            && self.selector == other.selector
            && self.tolerations == other.tolerations
            && self.affinity == other.affinity
    }

    /// Whether both may run on the same nodes at the same price, leaving aside which pods run where.
    pub(crate) fn is_like_but_for_pods(&self, other: &Self) -> bool {
        self.needs == other.needs
            && self.selector == other.selector
            && self.tolerations == other.tolerations
            && self.wishes_of_nodes() == other.wishes_of_nodes()
    }

    /// What it demands and prefers of nodes alone.
    fn wishes_of_nodes(&self) -> (&[NodeTerm], &[Preferred<NodeTerm>]) {
        self.affinity.as_ref().map(|affinity| affinity.of_nodes()).unwrap_or_default()
    }

    /// Whether pods that run matter to it otherwise than by the nodes that it keeps off.
    pub(crate) fn minds_pods(&self) -> bool {
        self.affinity.as_ref().is_some_and(|affinity| !affinity.keeps_off_nodes())
    }

    /// A pod like any other, that needs so much.
    pub fn plain(ordinal: u32, needs: Resources) -> Self {
        Self {
            ordinal,
            needs,
            selector: BTreeMap::new(),
            tolerations: Vec::new(),
            home: None,
            labels: BTreeMap::new(),
            affinity: None,
            priority: 0,
            waits: false,
        }
    }

    /// Whether it does not mind the taint.
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations.iter().any(|toleration| toleration.covers(taint))
    }

    /// Bytes that have to be copied before it can run on a node.
    pub fn moved_to(&self, node: &NodeName) -> u64 {
        self.home.as_ref().filter(|home| home.node != *node).map_or(0, |home| home.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_toleration_covers_only_what_it_names() {
        let taint = Taint { key: "disk".to_owned(), value: "old".to_owned(), effect: Effect::NoSchedule };
        let named = |value: Option<&str>, effect| Toleration {
            key: "disk".to_owned(),
            value: value.map(str::to_owned),
            effect,
        };
        assert!(named(None, None).covers(&taint));
        assert!(named(Some("old"), Some(Effect::NoSchedule)).covers(&taint));
        assert!(!named(Some("new"), None).covers(&taint));
        assert!(!named(None, Some(Effect::NoExecute)).covers(&taint));
        assert!(!Toleration { key: "other".to_owned(), value: None, effect: None }.covers(&taint));
    }
}
