//! What can be recovered when sites are lost: a count made before anything is
//! touched, so that a recovery either begins with enough or says what it lacks.

use core::fmt;
use std::collections::BTreeSet;

use coffer_model::{Geometry, SiteDescription, SiteId, Topology};

/// Which sites of a topology answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Sites that answer, in the topology's order.
    pub present: Vec<SiteId>,
    /// Sites that do not, in the topology's order.
    pub missing: Vec<SiteDescription>,
}

/// What is missing for a complete recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryShortfall {
    /// Names of the sites that do not answer.
    pub missing: Vec<String>,
    /// Versions with fewer than k holders that answer, those for good included.
    pub versions_lost: u64,
    /// Whichever missing sites return: this many of them suffice for every
    /// version that missing sites can bring back. Zero if they can bring back none.
    pub more_needed: usize,
    /// Of the lost versions, those which even all missing sites together
    /// cannot bring back, because holders have left the topology.
    pub versions_gone: u64,
}

impl Survey {
    /// Asks `alive` once for every site of `topology`.
    pub fn new(topology: &Topology, alive: impl Fn(SiteId) -> bool) -> Self {
        let mut survey = Self { present: Vec::new(), missing: Vec::new() };
        for site in &topology.sites {
            if alive(site.id) {
                survey.present.push(site.id);
            } else {
                survey.missing.push(site.clone());
            }
        }
        survey
    }

    /// What is missing to recover every version of `needed`, each given by
    /// its geometry and its sites; nothing if all of them can be recovered.
    /// A small version, whole at m + 1 sites, has the geometry 1+m.
    pub fn shortfall(&self, needed: &[(Geometry, Vec<SiteId>)]) -> Option<RecoveryShortfall> {
        let present: BTreeSet<SiteId> = self.present.iter().copied().collect();
        let missing: BTreeSet<SiteId> = self.missing.iter().map(|site| site.id).collect();
        let mut shortfall = RecoveryShortfall {
            missing: self.missing.iter().map(|site| site.name.clone()).collect(),
            versions_lost: 0,
            more_needed: 0,
            versions_gone: 0,
        };
        for (geometry, sites) in needed {
            // A set: a site that a list names twice is lost once, too.
            let sites: BTreeSet<SiteId> = sites.iter().copied().collect();
            let lacking = geometry.k().saturating_sub(sites.intersection(&present).count());
            if lacking == 0 {
                continue;
            }
            shortfall.versions_lost += 1;
            let helpful = sites.intersection(&missing).count();
            if helpful < lacking {
                shortfall.versions_gone += 1;
            } else {
                // The worst order of return: first all that do not hold it.
                shortfall.more_needed = shortfall.more_needed.max(missing.len() - helpful + lacking);
            }
        }
        (shortfall.versions_lost > 0).then_some(shortfall)
    }
}

impl fmt::Display for RecoveryShortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.versions_lost {
            1 => f.write_str("1 version cannot be recovered")?,
            lost => write!(f, "{lost} versions cannot be recovered")?,
        }
        if !self.missing.is_empty() {
            write!(f, "; missing sites: {}", self.missing.join(", "))?;
        }
        if self.more_needed > 0 {
            write!(f, "; with any {} of them back, all would be", self.more_needed)?;
            if self.versions_gone > 0 {
                write!(f, " but {} that no missing site can bring back", self.versions_gone)?;
            }
        } else {
            f.write_str("; no missing site can bring them back")?;
        }
        f.write_str(". Nothing was changed")
    }
}

impl core::error::Error for RecoveryShortfall {}
