//! What a tenant was promised about where its bytes lie.

use serde::{Deserialize, Serialize};

use crate::{Geometry, Jurisdiction, SiteDescription, Tier};

/// What to do when a write cannot reach all n sites of its placement and no
/// legal substitute exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Degraded {
    /// Refuse the write.
    Refuse,
    /// Accept with at least k + 1 shards; the answer states the reduced
    /// budget and the version is listed until it is repaired.
    Accept,
}

/// Residency and durability policy of a bucket. Immutable once data lies
/// under it; a change is a new policy and a move with evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResidencyPolicy {
    /// Jurisdictions allowed; empty means every one.
    pub allow: Vec<Jurisdiction>,
    /// Jurisdictions denied; a denial beats an allowance.
    pub deny: Vec<Jurisdiction>,
    /// Lowest tier of a site.
    pub tier_min: Tier,
    /// Shards: any k of k + m restore; m is the loss budget in sites.
    pub geometry: Geometry,
    /// What to do when a placement cannot be written whole.
    pub degraded: Degraded,
}

impl ResidencyPolicy {
    /// Whether the policy allows bytes at `site`. Failure domains and the
    /// number of sites are a matter of the whole placement.
    pub fn admits(&self, site: &SiteDescription) -> bool {
        let inside = |list: &[Jurisdiction]| list.iter().any(|j| j.contains(site.country));
        (self.allow.is_empty() || inside(&self.allow)) && !inside(&self.deny) && site.tier >= self.tier_min
    }
}
