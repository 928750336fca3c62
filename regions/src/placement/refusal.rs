//! Why there is no placement, in sentences that a person can act on.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};

use coffer_model::{Country, FailureDomain, Jurisdiction, ResidencyPolicy, SiteDescription, Tier, Topology};

/// Why no site got a byte.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// The topology can never satisfy the policy, whatever is alive: add
    /// sites, or make a bucket with another policy.
    #[error("{0}")]
    Unsatisfiable(Unmet),
    /// The topology could, but too many sites are down: wait, or revive them.
    #[error(
        "{alive} legal sites in distinct failure domains are alive, and at least {floor} of {needed} must be; \
         not alive: {}. Nothing was written; try again when they are back", dead.join(", ")
    )]
    TooFewAlive {
        /// Sites of a whole placement.
        needed: usize,
        /// Distinct failure domains with a legal site that is alive.
        alive: usize,
        /// The fewest with which the policy lets a write go on.
        floor: usize,
        /// Names of the legal sites that are not alive.
        dead: Vec<String>,
    },
}

/// Why one site may not hold a shard, or not as well as another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// Its country is in no jurisdiction that the policy allows.
    OutsideAllowed {
        /// Where its disks stand.
        country: Country,
        /// What the policy allows.
        allow: Vec<Jurisdiction>,
    },
    /// Its country is in a jurisdiction that the policy denies.
    InsideDenied {
        /// Where its disks stand.
        country: Country,
        /// The denied jurisdiction.
        deny: Jurisdiction,
    },
    /// Its building is below the lowest tier.
    BelowTier {
        /// Its tier.
        tier: Tier,
        /// The lowest tier that the policy admits.
        tier_min: Tier,
    },
    /// It is legal, but fails together with another legal site.
    SharesDomain {
        /// The failure domain.
        domain: FailureDomain,
        /// The name of the other site.
        with: String,
    },
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutsideAllowed { country, allow } => {
                let allow: Vec<String> = allow.iter().map(Jurisdiction::to_string).collect();
                write!(f, "{country} is outside {}", allow.join(", "))
            }
            Self::InsideDenied { country, deny: Jurisdiction::Country(_) } => {
                write!(f, "{country} is denied")
            }
            Self::InsideDenied { country, deny } => write!(f, "{country} is inside {deny}, which is denied"),
            Self::BelowTier { tier, tier_min } => write!(f, "tier {tier} is below {tier_min}"),
            Self::SharesDomain { domain, with } => {
                write!(f, "it shares the failure domain \"{}\" with {with}", domain.0)
            }
        }
    }
}

/// What a policy needs and a topology does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// Sites in distinct failure domains that a placement needs.
    pub needed: usize,
    /// Sites that the policy admits.
    pub admitted: usize,
    /// Failure domains among the admitted.
    pub distinct_domains: usize,
    /// The name of each site that cannot add to a placement, and why.
    pub denied: Vec<(String, Denial)>,
}

impl Unmet {
    pub(super) fn explain(needed: usize, topology: &Topology, policy: &ResidencyPolicy) -> Self {
        let mut seen = BTreeSet::new();
        let mut domains: BTreeMap<&FailureDomain, &str> = BTreeMap::new();
        let mut unmet = Self { needed, admitted: 0, distinct_domains: 0, denied: Vec::new() };
        for site in topology.sites.iter().filter(|site| seen.insert(site.id)) {
            if !policy.admits(site) {
                unmet.denied.push((site.name.clone(), illegal(site, policy)));
                continue;
            }
            unmet.admitted += 1;
            if let Some(with) = domains.get(&site.domain) {
                let denial = Denial::SharesDomain { domain: site.domain.clone(), with: (*with).to_owned() };
                unmet.denied.push((site.name.clone(), denial));
            } else {
                domains.insert(&site.domain, &site.name);
            }
        }
        unmet.distinct_domains = domains.len();
        unmet
    }
}

/// The reason for which `policy` does not admit `site`; a denial first, as it
/// beats an allowance.
fn illegal(site: &SiteDescription, policy: &ResidencyPolicy) -> Denial {
    let country = site.country;
    if let Some(deny) = policy.deny.iter().find(|deny| deny.contains(country)) {
        return Denial::InsideDenied { country, deny: *deny };
    }
    if site.tier < policy.tier_min {
        return Denial::BelowTier { tier: site.tier, tier_min: policy.tier_min };
    }
    Denial::OutsideAllowed { country, allow: policy.allow.clone() }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the policy needs {} sites in distinct failure domains, and the deployment has {}: \
             it admits {} sites in {} failure domains",
            self.needed, self.distinct_domains, self.admitted, self.distinct_domains
        )?;
        for (at, (name, denial)) in self.denied.iter().enumerate() {
            let lead = if at == 0 { ". Excluded: " } else { "; " };
            write!(f, "{lead}{name}: {denial}")?;
        }
        f.write_str(". Add sites, or choose another policy")
    }
}

impl core::error::Error for Unmet {}
