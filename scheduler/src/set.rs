//! A site set: storage pods that hold shards of the same objects, and are
//! therefore placed together or not at all.

use coffer_model::{Jurisdiction, Tier};
use serde::{Deserialize, Serialize};

use crate::{Attestation, Pod, PodId, SetName};

/// Where the pods of a set may stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residency {
    /// Jurisdictions allowed; empty means every one.
    pub allow: Vec<Jurisdiction>,
    /// Jurisdictions denied; a denial beats an allowance.
    pub deny: Vec<Jurisdiction>,
    /// Lowest tier of a building.
    pub tier_min: Tier,
}

impl Residency {
    /// Whether pods of the set may stand there.
    pub fn admits(&self, attested: &Attestation) -> bool {
        self.admits_country(attested) && attested.tier >= self.tier_min
    }

    /// Whether the country of the attestation is allowed and not denied.
    pub fn admits_country(&self, attested: &Attestation) -> bool {
        let inside = |list: &[Jurisdiction]| list.iter().any(|one| one.contains(attested.country));
        (self.allow.is_empty() || inside(&self.allow)) && !inside(&self.deny)
    }
}

/// How the pods of a set are spread. Two of them never share a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// Pods in one failure domain at most; 1 for the promise that a domain is one loss.
    pub per_domain: u32,
    /// Pods in one country at most; `None`: as many as there are.
    pub per_country: Option<u32>,
    /// By how many pods the allowed countries that have nodes may differ; `None`: by any number.
    pub country_skew: Option<u32>,
}

impl Default for Spread {
    fn default() -> Self {
        Self { per_domain: 1, per_country: None, country_skew: None }
    }
}

/// A site set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteSet {
    /// Its name.
    pub name: SetName,
    /// Where its pods may stand.
    pub residency: Residency,
    /// How they are spread.
    pub spread: Spread,
    /// Its pods; no two have one number.
    pub pods: Vec<Pod>,
}

impl SiteSet {
    /// The full name of one of its pods.
    pub fn id(&self, pod: &Pod) -> PodId {
        PodId { set: self.name.clone(), ordinal: pod.ordinal }
    }
}
