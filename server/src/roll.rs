//! The roll of tenants: which there are, as facts of the realm of the service.
//! The key slots at the sites cannot tell alone: a site that was away when a
//! tenant was made answers without its slot, and a start that met no other
//! would take the tenant for one that never was.

use std::collections::{BTreeMap, BTreeSet};

use coffer_catalog::{CatalogError, FactRow};
use coffer_model::{Operation, TenantId};

use crate::leaf::operation_name;
use crate::leaf_text::LeafText;
use crate::registry::{RegistryError, refuse_if_too_few_answer, write_fact};
use crate::service::Service;
use crate::service_error::OpenError;
use crate::stored::Fact;
use crate::tenant::Tenant;

/// The kind of fact in the catalogue of the service's realm, under the id of
/// the tenant.
const TENANT: &str = "tenant";

/// Leaves that are read at a time.
const LEAVES: usize = 1024;

/// The body of a fact that is at the sites; empty where it is to be put there.
const AT_SITES: [u8; 1] = [1];

/// A fact from the sites, for a rebuild.
pub(crate) fn index(id: TenantId) -> FactRow {
    FactRow { kind: TENANT.to_owned(), id: *id.as_bytes(), body: AT_SITES.to_vec() }
}

/// Every tenant of the roll, and whether that is a fact at the sites.
async fn all(realm: &Tenant) -> Result<BTreeMap<TenantId, bool>, CatalogError> {
    let facts = realm.catalog.facts(TENANT).await?;
    Ok(facts.iter().map(|(id, body)| (TenantId::from_bytes(*id), *body == AT_SITES)).collect())
}

/// Every tenant whose creation the realm's log says was done.
async fn told_by_log(realm: &Tenant) -> Result<BTreeSet<TenantId>, CatalogError> {
    let (size, mut next) = (realm.catalog.log_size().await?, 0);
    let mut told = BTreeSet::new();
    while next < size {
        let leaves = realm.catalog.leaves(next, LEAVES).await?;
        if leaves.is_empty() {
            break;
        }
        next += leaves.len() as u64;
        told.extend(leaves.iter().filter_map(|leaf| made(leaf)));
    }
    Ok(told)
}

fn made(leaf: &[u8]) -> Option<TenantId> {
    let leaf = LeafText::read(leaf)?;
    let done = leaf.operation() == operation_name(Operation::TenantCreate) && leaf.outcome() == "done";
    done.then(|| leaf.subject().parse().ok()).flatten()
}

impl Service {
    /// Enters a tenant, whose keys are at enough sites, into the roll.
    pub(crate) async fn enter_on_roll(&self, realm: &Tenant, id: TenantId) -> Result<(), RegistryError> {
        write_fact(&self.host, &self.sites, realm, &Fact::TenantMade { id }).await?;
        let FactRow { kind, id, body } = index(id);
        Ok(realm.catalog.put_fact(&kind, id, body).await?)
    }

    /// The roll, brought up to date: there are deployments from before it, and
    /// a crash may have come between a tenant's keys and its place on the roll.
    async fn complete_roll(&self, realm: &Tenant) -> Result<BTreeSet<TenantId>, CatalogError> {
        let mut roll = all(realm).await?;
        // The realm's own id says that the log was looked through.
        let complete = roll.remove(&realm.id).unwrap_or(false);
        if !complete {
            for id in told_by_log(realm).await? {
                roll.entry(id).or_insert(false);
            }
        }
        for id in self.tenants_with_safe_keys(&roll).await {
            roll.insert(id, false);
        }
        let mut all_entered = true;
        let enough = refuse_if_too_few_answer(&self.sites, realm).is_ok();
        for (id, _) in roll.iter().filter(|(_, at_sites)| !**at_sites) {
            // Where too few sites answer, the catalogue knows it for now, and
            // the next start tries again.
            if !enough || self.enter_on_roll(realm, *id).await.is_err() {
                all_entered = false;
                realm.catalog.put_fact(TENANT, *id.as_bytes(), Vec::new()).await?;
            }
        }
        if !complete && enough && all_entered {
            // Last: what it stands for must be at the sites before.
            drop(self.enter_on_roll(realm, realm.id).await);
        }
        Ok(roll.into_keys().collect())
    }

    /// Tenants that are open and not on the roll, whose keys are at more sites
    /// than may be lost: what was left of a creation that was refused lies at
    /// fewer, and must not keep a later start waiting for it.
    async fn tenants_with_safe_keys(&self, roll: &BTreeMap<TenantId, bool>) -> Vec<TenantId> {
        let tenants = self.all_tenants();
        let mut fresh: Vec<_> =
            tenants.iter().filter(|it| !it.service && !roll.contains_key(&it.id)).collect();
        if fresh.is_empty() || !crate::repair::heal_slots(self).await.lacking.is_empty() {
            return Vec::new();
        }
        fresh.retain(|tenant| refuse_if_too_few_answer(&self.sites, tenant).is_ok());
        fresh.into_iter().map(|tenant| tenant.id).collect()
    }

    /// Tenants of the roll whose keys no site gave.
    pub(crate) async fn tenants_without_keys(&self) -> Result<BTreeSet<TenantId>, OpenError> {
        let realm =
            self.service_realm().ok_or_else(|| OpenError::NoRealm { silent: self.missing_sites() })?;
        let roll = self.complete_roll(&realm).await?;
        Ok(roll.into_iter().filter(|id| self.tenant(*id).is_none()).collect())
    }
}
