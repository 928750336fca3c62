//! What "the same place" means for affinities: a key of Kubernetes, and which value a node has of it. Keys that
//! stand for jurisdiction and failure domain are read from the signed attestation, whatever labels a node gives
//! itself.

use core::fmt;
use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::Node;

/// The key by which Kubernetes tells nodes apart.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// Keys that stand for a jurisdiction.
const COUNTRY: [&str; 2] = ["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"];
/// Keys that stand for a failure domain.
const DOMAIN: [&str; 2] = ["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"];

/// By what two nodes are the same place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Topology {
    /// Being the same node: `kubernetes.io/hostname`.
    Node,
    /// The attested country: `topology.kubernetes.io/region`.
    Country,
    /// The attested failure domain: `topology.kubernetes.io/zone`.
    Domain,
    /// The value of a label.
    Label(String),
}

impl From<&str> for Topology {
    fn from(key: &str) -> Self {
        match key {
            HOSTNAME => Self::Node,
            _ if COUNTRY.contains(&key) => Self::Country,
            _ if DOMAIN.contains(&key) => Self::Domain,
            _ => Self::Label(key.to_owned()),
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("node"),
            Self::Country => f.write_str("country"),
            Self::Domain => f.write_str("failure domain"),
            Self::Label(key) => f.write_str(key),
        }
    }
}

impl Topology {
    /// The place where a node is; `None` where nothing says it, which is no place.
    pub(crate) fn value<'a>(&self, node: &'a Node) -> Option<Cow<'a, str>> {
        let attested = node.attested.as_ref();
        match self {
            Self::Node => Some(node.name.as_str().into()),
            Self::Country => attested.map(|one| one.country.as_str().to_owned().into()),
            // Domains of two countries are two, whatever they are called.
            Self::Domain => attested.map(|one| format!("{}/{}", one.country, one.domain.0).into()),
            Self::Label(key) => node.labels.get(key).map(|value| value.as_str().into()),
        }
    }
}

/// Whether a key stands for what is attested, so that no label changes it.
pub(crate) fn is_attested(key: &str) -> bool {
    matches!(Topology::from(key), Topology::Country | Topology::Domain)
}

/// What a node's labels say of a key, as far as they are believed.
pub(crate) fn says<'a>(node: &'a Node, key: &str) -> Option<Cow<'a, str>> {
    let attested = node.attested.as_ref();
    match Topology::from(key) {
        Topology::Country => attested.map(|one| one.country.as_str().to_owned().into()),
        Topology::Domain => attested.map(|one| one.domain.0.as_str().into()),
        Topology::Node => Some(node.labels.get(key).map_or(node.name.as_str(), String::as_str).into()),
        Topology::Label(key) => node.labels.get(&key).map(|value| value.as_str().into()),
    }
}
