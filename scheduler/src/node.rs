//! A node, as far as placing is concerned. Where it stands is what a verified
//! attestation says, never what a label says that the node can give itself.

use std::collections::{BTreeMap, BTreeSet};

use coffer_model::{Country, FailureDomain, Tier};
use serde::{Deserialize, Serialize};

use crate::{NodeName, Resources};

/// What a signed site attestation says of a node; whoever builds one has
/// checked the signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attestation {
    /// Where its disks stand.
    pub country: Country,
    /// What it fails together with.
    pub domain: FailureDomain,
    /// Tier of the building.
    pub tier: Tier,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Effect {
    /// None is placed there.
    NoSchedule,
    /// None is placed there, and those there are moved away.
    NoExecute,
}

/// A mark on a node that keeps pods away.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Taint {
    /// Its key.
    pub key: String,
    /// Its value; may be empty.
    pub value: String,
    /// What it does.
    pub effect: Effect,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// What it has for pods altogether.
    pub total: Resources,
    /// Where it is known to stand; `None` without an attestation, or after its revocation.
    pub attested: Option<Attestation>,
    /// Labels that selectors may ask for. They decide nothing about jurisdictions.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// What keeps pods away.
    #[serde(default)]
    pub taints: BTreeSet<Taint>,
    /// An operator lets no new pod there.
    #[serde(default)]
    pub cordoned: bool,
    /// Its agent reported in time.
    pub ready: bool,
}
