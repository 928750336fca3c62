//! When a site that came back older, or with a new disk, is believed again. It must lack nothing that was reserved
//! before repair first saw it so; what tenants have written since lies at enough others, as if it had been away for that
//! long. Waiting until nothing at all is missing would keep it out for as long as they go on writing, and what they
//! write then would lack it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coffer_catalog::CatalogError;
use coffer_model::{ResidencyPolicy, SiteId, TenantId};
use coffer_regions::{Reach, Standing, Trouble, VersionInventory, VersionPlan};

use crate::inventory::Found;
use crate::service::Service;
use crate::tenant::Tenant;

/// The order that each tenant gave next at some moment.
type Orders = BTreeMap<TenantId, u64>;

/// How far orders had come in the first round of a run that saw a site which is not believed.
#[derive(Debug, Default)]
pub(super) struct Floors(BTreeMap<SiteId, Orders>);

impl Floors {
    pub(super) fn forget(&mut self, site: SiteId) {
        self.0.remove(&site);
    }
}

/// A site that is not believed, as a round found it before it compared anything.
#[derive(Clone, Copy, Debug)]
struct AsFound {
    quarantined: bool,
    refilling: bool,
    /// It must still reach that when it is believed again: who goes back meanwhile was not compared.
    reach: Option<Reach>,
    /// How often its disk had been replaced.
    replacements: u64,
}

/// The sites that are not believed, and of which of them a round found that they lack something old.
#[derive(Debug, Default)]
pub(crate) struct Unbelieved {
    sites: BTreeMap<SiteId, AsFound>,
    floors: BTreeMap<SiteId, Orders>,
    lacking: BTreeSet<SiteId>,
}

impl Unbelieved {
    /// Before anything is compared: one that is quarantined later was not. Sites that take no new data are given
    /// nothing, and are not believed for it.
    pub(super) async fn begin(
        service: &Service,
        tenants: &[Arc<Tenant>],
        floors: &mut Floors,
    ) -> Result<Self, CatalogError> {
        let mut sites = BTreeMap::new();
        for (id, guard) in service.sites.guards() {
            let (quarantined, refilling) = (guard.is_quarantined(), service.sites.is_refilling(id));
            if !(quarantined || refilling) || service.sites.standing(id) != Standing::Active {
                continue;
            }
            let replacements = service.repairs.replacements_of(id);
            let state = guard.inner().state().await;
            if state.alive {
                sites.insert(id, AsFound { quarantined, refilling, reach: state.reach, replacements });
            }
        }
        floors.0.retain(|site, _| sites.contains_key(site));
        if !sites.is_empty() {
            // After it was seen: what is reserved from now on cannot count on what it had.
            let mut now = Orders::new();
            for tenant in tenants {
                now.insert(tenant.id, tenant.catalog.next_order().await?);
            }
            for site in sites.keys() {
                floors.0.entry(*site).or_insert_with(|| now.clone());
            }
        }
        Ok(Self { sites, floors: floors.0.clone(), lacking: BTreeSet::new() })
    }

    /// Enters sites that lack something which has no layout.
    pub(super) fn lack(&mut self, sites: &BTreeSet<SiteId>) {
        self.lacking.extend(sites);
    }

    /// Holds a version against them.
    pub(super) fn add(&mut self, found: &Found, plan: &VersionPlan) {
        let order = found.row.manifest.order;
        // A tenant that was not there then has nothing that is old.
        let is_old = |orders: &Orders| orders.get(&found.tenant.id).is_some_and(|floor| order < *floor);
        for (index, site) in found.inventory.sites.iter().enumerate() {
            let old = self.floors.get(site).is_some_and(is_old);
            if old && lacks(&found.inventory, plan, index, *site) {
                self.lacking.insert(*site);
            }
        }
    }
}

/// Whether a site lacks its part of a version, other than what nobody can give it any more.
fn lacks(found: &VersionInventory, plan: &VersionPlan, index: usize, site: SiteId) -> bool {
    let beyond = plan.troubles.iter().any(|trouble| matches!(trouble, Trouble::BeyondRepair { .. }));
    let has_copy = found.copies.contains(&site) || (beyond && found.copies.is_empty());
    let at_home = |holdings: &Vec<Vec<SiteId>>| holdings.get(index).is_some_and(|at| at.contains(&site));
    !has_copy || !(beyond || found.odd.values().all(at_home))
}

impl Service {
    /// Sites of which a whole round found nothing old that they lack are believed again, if they were heard to its
    /// end; these are told.
    pub(super) async fn believe_again(
        &self,
        unbelieved: &Unbelieved,
        heard: &BTreeSet<SiteId>,
        tenants: &[Arc<Tenant>],
    ) -> Result<Vec<SiteId>, CatalogError> {
        let Unbelieved { sites, lacking, .. } = unbelieved;
        let (mut believed, mut refilled) = (Vec::new(), Vec::new());
        for (id, as_found) in sites {
            let complete = heard.contains(id) && !lacking.contains(id);
            if !complete
                || !self.knows_all(*id, sites, heard, tenants).await?
                || !self.still(*id, as_found).await
            {
                continue;
            }
            // If the log does not take it, it stays as it is for a round.
            if as_found.quarantined && self.release_site(*id).await.is_err() {
                continue;
            }
            believed.push(*id);
            if as_found.refilling && !self.sites.is_quarantined(*id) {
                refilled.push((*id, as_found.replacements));
            }
        }
        self.note_refilled(&refilled).await;
        Ok(believed)
    }

    /// Whether a site still reaches what it reached before it was compared.
    async fn still(&self, id: SiteId, as_found: &AsFound) -> bool {
        let Some(guard) = self.sites.guard(id) else { return false };
        match as_found.reach {
            Some(reach) => guard.inner().reaches(reach).await == Ok(true),
            None => true,
        }
    }

    /// Whether all that this site should have of what has no layout, such as tombstones and facts, was met by this
    /// round: under each policy that admits it every site was heard, or so few were not, and are not believed, that
    /// another one has it.
    async fn knows_all(
        &self,
        id: SiteId,
        unbelieved: &BTreeMap<SiteId, AsFound>,
        heard: &BTreeSet<SiteId>,
        tenants: &[Arc<Tenant>],
    ) -> Result<bool, CatalogError> {
        let is_met = |policy: &ResidencyPolicy| {
            let admitted = self.sites.admitted(policy);
            let unknowing =
                admitted.iter().filter(|site| !heard.contains(site) || unbelieved.contains_key(site));
            !admitted.contains(&id)
                || admitted.iter().all(|site| heard.contains(site))
                || unknowing.count() <= policy.geometry.m()
        };
        for tenant in tenants {
            let buckets = tenant.catalog.buckets().await?;
            if !is_met(&tenant.policy) || !buckets.iter().all(|bucket| is_met(&bucket.policy)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
