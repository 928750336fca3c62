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

    /// This policy where another one holds as well: it admits what both admit,
    /// whatever sites there may ever be. How many shards there are, and what
    /// happens when not all of them can be written, is as it was.
    #[must_use]
    pub fn within(&self, outer: &Self) -> Self {
        let mut deny = self.deny.clone();
        deny.extend(outer.deny.iter().filter(|place| !self.deny.contains(place)));
        let mut allow = match (self.allow.as_slice(), outer.allow.as_slice()) {
            (own, []) => own.to_vec(),
            ([], outer) => outer.to_vec(),
            (own, outer) => common(own, outer),
        };
        if allow.is_empty() && !(self.allow.is_empty() && outer.allow.is_empty()) {
            // They have no place in common, and no list at all would mean every one.
            deny.extend(&self.allow);
            allow = self.allow.clone();
        }
        let tier_min = self.tier_min.max(outer.tier_min);
        Self { allow, deny, tier_min, geometry: self.geometry, degraded: self.degraded }
    }
}

/// What lies in a place of each list, each place once.
fn common(own: &[Jurisdiction], outer: &[Jurisdiction]) -> Vec<Jurisdiction> {
    let mut places = Vec::new();
    for place in own.iter().flat_map(|one| outer.iter().filter_map(|two| one.common(*two))) {
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FailureDomain, SiteId};

    fn policy(allow: &[&str], deny: &[&str], tier_min: Tier) -> ResidencyPolicy {
        let places = |list: &[&str]| list.iter().map(|place| place.parse().unwrap()).collect();
        ResidencyPolicy {
            allow: places(allow),
            deny: places(deny),
            tier_min,
            geometry: Geometry::DEFAULT,
            degraded: Degraded::Refuse,
        }
    }

    #[test]
    fn a_policy_within_another_admits_what_both_admit_and_nothing_else() {
        let lists: [&[&str]; 9] = [
            &[],
            &["EU"],
            &["EEA"],
            &["DE"],
            &["CH"],
            &["DE", "CH"],
            &["US", "NO"],
            &["DE", "EU"],
            &["EU", "EEA", "US"],
        ];
        let mut policies = Vec::new();
        for allow in lists {
            for deny in lists {
                policies.extend([Tier::I, Tier::III].map(|tier| policy(allow, deny, tier)));
            }
        }
        let site = |country: &str, tier| SiteDescription {
            id: SiteId::from_bytes([1; 16]),
            name: country.to_owned(),
            country: country.parse().unwrap(),
            domain: FailureDomain(country.to_owned()),
            tier,
        };
        let countries = ["DE", "FR", "NO", "CH", "US"];
        let sites = countries.iter().flat_map(|country| [Tier::I, Tier::III].map(|tier| site(country, tier)));
        let sites: Vec<SiteDescription> = sites.collect();
        for own in &policies {
            assert_eq!(own.within(own).allow, own.allow, "alone with itself it stays as it is");
            for outer in &policies {
                let both = own.within(outer);
                for site in &sites {
                    let admitted = own.admits(site) && outer.admits(site);
                    assert_eq!(both.admits(site), admitted, "{own:?} within {outer:?} at {site:?}");
                }
            }
        }
    }

    #[test]
    fn a_policy_within_another_keeps_its_own_coding() {
        let own = ResidencyPolicy { degraded: Degraded::Accept, ..policy(&[], &[], Tier::I) };
        let outer =
            ResidencyPolicy { geometry: Geometry::new(2, 1).unwrap(), ..policy(&["EU"], &[], Tier::I) };
        let both = own.within(&outer);
        assert_eq!((both.geometry, both.degraded), (own.geometry, own.degraded));
    }
}
