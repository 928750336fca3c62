//! Affinity as Kubernetes has it: which nodes a pod demands or prefers by their labels, and which pods it wants
//! to be near to or apart from. Terms over pods speak of pods outside the pod's own set: within a set two pods
//! never share a node, and how they are spread otherwise is the set's to say.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::topology::says;
use crate::{Costs, Node, PodId, Runner, Topology};

/// Label that every pod of a set has: the set.
pub const LABEL_SET: &str = "fleet.coffer/site-set";
/// Label that every pod of a set has: its number, for life.
pub const LABEL_ORDINAL: &str = "fleet.coffer/ordinal";
/// Label that every pod of a set has: its site, `SET-NUMBER`.
pub const LABEL_SITE: &str = "fleet.coffer/site";

/// A namespace, as far as affinities are concerned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Space {
    /// That of the fleet's own pods.
    Fleet,
    /// Another one.
    Named(String),
}

/// How the value of a label has to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// One of these.
    In(BTreeSet<String>),
    /// None of these, or not there.
    NotIn(BTreeSet<String>),
    /// There.
    Exists,
    /// Not there.
    DoesNotExist,
    /// A whole number above this.
    Gt(i64),
    /// A whole number below this.
    Lt(i64),
}

/// A demand on one label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// What it has to be.
    pub is: Operator,
}

impl Requirement {
    /// Whether a value meets it; `None`: there is none.
    pub fn is_met(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.is {
            Operator::In(values) => value.is_some_and(|value| values.contains(value)),
            Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt(bound) => number().is_some_and(|number| number > *bound),
            Operator::Lt(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

/// Demands on a node, all of which have to be met; none at all fits no node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeTerm {
    /// On its labels; those of jurisdiction and failure domain are what is attested.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Requirement>,
    /// On its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Operator>,
}

impl NodeTerm {
    /// Whether a node meets all of it.
    pub fn fits(&self, node: &Node) -> bool {
        let says_so = |one: &Requirement| one.is_met(says(node, &one.key).as_deref());
        let is_called = |is: &Operator| {
            let one = Requirement { key: String::new(), is: is.clone() };
            one.is_met(Some(node.name.as_str()))
        };
        let asks = !self.labels.is_empty() || !self.names.is_empty();
        asks && self.labels.iter().all(says_so) && self.names.iter().all(is_called)
    }
}

/// Pods, and where they are meant to be or not to be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PodTerm {
    /// By what two nodes are the same place.
    pub topology: Topology,
    /// Where the pods are that are meant.
    pub spaces: BTreeSet<Space>,
    /// Demands on the labels of the pods that are meant; none at all means every pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub selector: Vec<Requirement>,
}

impl PodTerm {
    /// Whether a pod of a set is meant.
    pub(crate) fn means_pod(&self, id: &PodId, labels: &BTreeMap<String, String>) -> bool {
        let own = |key: &str| match key {
            LABEL_SET => Some(Cow::Borrowed(id.set.as_str())),
            LABEL_ORDINAL => Some(id.ordinal.to_string().into()),
            LABEL_SITE => Some(id.to_string().into()),
            _ => labels.get(key).map(|value| value.as_str().into()),
        };
        self.spaces.contains(&Space::Fleet)
            && self.selector.iter().all(|one| one.is_met(own(&one.key).as_deref()))
    }

    /// Whether a pod of somebody else is meant.
    pub(crate) fn means_other(&self, space: &Space, labels: &BTreeMap<String, String>) -> bool {
        let said = |one: &Requirement| one.is_met(labels.get(&one.key).map(String::as_str));
        self.spaces.contains(space) && self.selector.iter().all(said)
    }

    /// Whether anybody who runs is meant, with such labels.
    pub(crate) fn means(&self, runner: &Runner, labels: &BTreeMap<String, String>) -> bool {
        match runner {
            Runner::Pod(id) => self.means_pod(id, labels),
            Runner::Neighbour(name) => self.means_other(&name.space, labels),
        }
    }

    /// Whether pods of such a set are meant, or some of them.
    pub fn may_mean_set(&self, set: &str, labels: &BTreeMap<String, String>) -> bool {
        let could = |one: &Requirement| match one.key.as_str() {
            LABEL_SET => one.is_met(Some(set)),
            // Which numbers there will be is not known.
            LABEL_ORDINAL | LABEL_SITE => one.is != Operator::DoesNotExist,
            key => one.is_met(labels.get(key).map(String::as_str)),
        };
        self.spaces.contains(&Space::Fleet) && self.selector.iter().all(could)
    }
}

/// A wish that has a price where it is not fulfilled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preferred<T> {
    /// From 1 to 100: what it is worth, in hundredths of a node's fullest resource.
    pub weight: u32,
    /// The wish.
    pub term: T,
}

/// Where a pod demands or prefers to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Affinity {
    /// One of these its node has to fit; none at all: every node does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeTerm>,
    /// Nodes that it prefers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefers_nodes: Vec<Preferred<NodeTerm>>,
    /// A pod of each of these has to be in the same place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub near: Vec<PodTerm>,
    /// Pods that it prefers to be near to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefers_near: Vec<Preferred<PodTerm>>,
    /// No pod of these may be in the same place; while it runs, none may come there either.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apart: Vec<PodTerm>,
    /// Pods that it prefers to be apart from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefers_apart: Vec<Preferred<PodTerm>>,
}

impl Affinity {
    /// Whether a node is one of those that are demanded.
    pub(crate) fn takes(&self, node: &Node) -> bool {
        self.nodes.is_empty() || self.nodes.iter().any(|term| term.fits(node))
    }

    /// The price of the wishes for nodes that this one does not fulfil.
    pub(crate) fn missed(&self, node: &Node, costs: &Costs) -> i128 {
        let missed = self.prefers_nodes.iter().filter(|one| !one.term.fits(node));
        missed.map(|one| costs.wish(one.weight)).sum()
    }

    /// Whether it speaks of pods only so that it keeps off their nodes: then which nodes are legal is known from
    /// where these pods are, and the price depends on nodes alone.
    pub(crate) fn keeps_off_nodes(&self) -> bool {
        let wider = self.near.is_empty() && self.prefers_near.is_empty() && self.prefers_apart.is_empty();
        wider && self.apart.iter().all(|term| term.topology == Topology::Node)
    }

    /// What it says of nodes alone.
    pub(crate) fn of_nodes(&self) -> (&[NodeTerm], &[Preferred<NodeTerm>]) {
        (&self.nodes, &self.prefers_nodes)
    }

    /// Every term over pods, to be changed.
    fn pod_terms_mut(&mut self) -> impl Iterator<Item = &mut PodTerm> {
        let demanded = self.near.iter_mut().chain(&mut self.apart);
        let preferred = self.prefers_near.iter_mut().chain(&mut self.prefers_apart);
        demanded.chain(preferred.map(|one| &mut one.term))
    }

    /// Every term over pods.
    pub fn pod_terms(&self) -> impl Iterator<Item = &PodTerm> {
        let demanded = self.near.iter().chain(&self.apart);
        demanded.chain(self.prefers_near.iter().chain(&self.prefers_apart).map(|one| &one.term))
    }

    /// Says of which namespace the fleet is.
    pub fn in_fleet(&mut self, namespace: &str) {
        self.pod_terms_mut().for_each(|term| term.in_fleet(namespace));
    }
}

impl PodTerm {
    /// Says of which namespace the fleet is.
    pub fn in_fleet(&mut self, namespace: &str) {
        let spaces = std::mem::take(&mut self.spaces).into_iter();
        self.spaces = spaces.map(|one| one.in_fleet(namespace)).collect();
    }
}

impl Space {
    /// The same, where the fleet is this namespace.
    #[must_use]
    pub fn in_fleet(self, namespace: &str) -> Self {
        if matches!(&self, Self::Named(name) if name == namespace) { Self::Fleet } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(is: Operator) -> Requirement {
        Requirement { key: "size".to_owned(), is }
    }

    #[test]
    fn each_operator_says_of_a_value_and_of_none_what_kubernetes_says() {
        let list = || BTreeSet::from(["3".to_owned(), "x".to_owned()]);
        let table = [
            (Operator::In(list()), [true, true, false, false]),
            (Operator::NotIn(list()), [false, false, true, true]),
            (Operator::Exists, [true, true, true, false]),
            (Operator::DoesNotExist, [false, false, false, true]),
            (Operator::Gt(2), [true, false, true, false]),
            (Operator::Lt(4), [true, false, false, false]),
        ];
        for (is, wanted) in table {
            let values = [Some("3"), Some("x"), Some("5"), None];
            assert_eq!(values.map(|value| one(is.clone()).is_met(value)), wanted, "{is:?}");
        }
    }

    #[test]
    fn a_term_that_asks_nothing_fits_no_node() {
        let node = Node {
            name: "a".parse().unwrap(),
            total: crate::Resources::default(),
            attested: None,
            labels: BTreeMap::new(),
            taints: BTreeSet::new(),
            cordoned: false,
            ready: true,
        };
        assert!(!NodeTerm::default().fits(&node));
        let forged =
            Node { labels: [("topology.kubernetes.io/region".to_owned(), "DE".to_owned())].into(), ..node };
        let key = "topology.kubernetes.io/region".to_owned();
        let there = NodeTerm { labels: vec![Requirement { key, is: Operator::Exists }], names: Vec::new() };
        assert!(!there.fits(&forged), "a label of its own attests nothing");
    }
}
