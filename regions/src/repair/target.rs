//! Where a version should lie: at the sites of its layout as far as they are
//! legal and stay, and else at the best free ones, so that nothing moves that
//! need not.

use std::collections::BTreeSet;

use coffer_model::{FailureDomain, SiteDescription, SiteId, Topology};

use super::{RepairSite, SiteTable, Standing, VersionInventory};
use crate::placement::ranked;

/// A layout to come.
pub(super) struct Target {
    /// The sites, in shard order.
    pub(super) sites: Vec<SiteId>,
    /// Sites of the old layout that should be left, and are not, because no
    /// other one is free.
    pub(super) stuck: Vec<SiteId>,
}

/// Chooses it.
pub(super) fn choose(found: &VersionInventory, sites: &SiteTable<'_>) -> Target {
    let mut decided: Vec<Option<SiteId>> = Vec::with_capacity(found.sites.len());
    let mut domains: BTreeSet<&FailureDomain> = BTreeSet::new();
    for id in &found.sites {
        let stays = sites.get(*id).filter(|site| stays(found, site) && domains.insert(&site.site.domain));
        decided.push(stays.map(|_| *id));
    }
    let mut stuck = Vec::new();
    if decided.iter().any(Option::is_none) {
        let ranking = Ranking::new(found, sites);
        for index in 0..found.sites.len() {
            if decided.get(index).is_none_or(Option::is_some) {
                continue;
            }
            let free = ranking.best(found, sites, &decided, index);
            if let Some(slot) = decided.get_mut(index) {
                *slot = free;
            }
            if free.is_none()
                && let Some(old) = found.sites.get(index)
            {
                stuck.push(*old);
            }
        }
    }
    let sites = decided.into_iter().zip(&found.sites).map(|(new, old)| new.unwrap_or(*old)).collect();
    Target { sites, stuck }
}

/// Whether a site of the layout keeps its shard.
fn stays(found: &VersionInventory, site: &RepairSite) -> bool {
    matches!(site.standing, Standing::Active | Standing::Quarantined) && found.policy.admits(&site.site)
}

/// The sites that may take something of this version, best first.
struct Ranking {
    sites: Vec<SiteDescription>,
}

impl Ranking {
    fn new(found: &VersionInventory, sites: &SiteTable<'_>) -> Self {
        let takers = sites.by_id.values().filter(|site| site.takes(&found.policy));
        let topology = Topology { sites: takers.map(|site| site.site.clone()).collect() };
        let best_first = ranked(found.version.as_bytes(), &topology, &found.policy);
        Self { sites: best_first.into_iter().cloned().collect() }
    }

    /// The best site for shard `index` whose domain no other shard has; one
    /// that holds much of it already comes before one that holds less.
    fn best(
        &self,
        found: &VersionInventory,
        sites: &SiteTable<'_>,
        decided: &[Option<SiteId>],
        index: usize,
    ) -> Option<SiteId> {
        // A shard that is not decided yet may have to stay where it is.
        let others = decided.iter().zip(&found.sites).enumerate().filter(|(other, _)| *other != index);
        let others: Vec<SiteId> = others.map(|(_, (new, old))| new.unwrap_or(*old)).collect();
        let occupied: BTreeSet<&FailureDomain> =
            others.iter().filter_map(|id| sites.get(*id)).map(|site| &site.site.domain).collect();
        let held = |id: SiteId| {
            let has = |holdings: &&super::Holdings| holdings.get(index).is_some_and(|at| at.contains(&id));
            found.odd.values().filter(has).count()
        };
        let free = self.sites.iter().filter(|site| !occupied.contains(&site.domain));
        // The first of several equal ones is the best ranked.
        free.map(|site| (held(site.id), site.id)).fold(None, better).map(|(_, id)| id)
    }
}

fn better(best: Option<(usize, SiteId)>, next: (usize, SiteId)) -> Option<(usize, SiteId)> {
    match best {
        Some(best) if best.0 >= next.0 => Some(best),
        _ => Some(next),
    }
}
