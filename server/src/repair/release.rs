//! When a site that came back older, or with a new disk, is believed again. It must lack nothing of what was acknowledged before it was
//! compared; what tenants have written since lies at enough others, as if it had been away for that long. Waiting
//! until nothing at all is missing would keep it out for as long as they go on writing, and what they write then
//! would lack it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coffer_catalog::{CatalogError, ManifestRow};
use coffer_model::{SiteId, TenantId};
use coffer_regions::{Action, Step};

use crate::service::Service;
use crate::tenant::Tenant;

/// The order that each tenant gave next at some moment.
type Orders = BTreeMap<TenantId, u64>;

/// How far orders had come when the last rounds of a run began.
#[derive(Debug, Default)]
pub(super) struct Begun {
    last: Option<Orders>,
    last_but_one: Option<Orders>,
}

impl Begun {
    /// Another round begins. Versions of before the last round but one have arrived when the last one looked, so that
    /// it saw what they lacked.
    pub(super) async fn again(&mut self, tenants: &[Arc<Tenant>]) -> Result<Behind, CatalogError> {
        let mut now = Orders::new();
        for tenant in tenants {
            now.insert(tenant.id, tenant.catalog.next_order().await?);
        }
        let settled = std::mem::replace(&mut self.last_but_one, self.last.replace(now));
        Ok(Behind { settled, sites: BTreeSet::new() })
    }
}

/// The sites at which something older was found to be put right.
#[derive(Debug, Default)]
pub(crate) struct Behind {
    /// Versions from these orders on are too new to be held against a site; `None`: none is.
    settled: Option<Orders>,
    sites: BTreeSet<SiteId>,
}

impl Behind {
    /// Enters what is to be done for a version.
    pub(super) fn add(&mut self, tenant: TenantId, row: &ManifestRow, steps: &[Step]) {
        // A tenant that was not there then has nothing that is old.
        let settled = self.settled.as_ref().map(|orders| orders.get(&tenant).copied().unwrap_or(0));
        if settled.is_none_or(|settled| row.manifest.order < settled) {
            self.sites.extend(steps.iter().flat_map(|step| sites_of(&step.action)));
        }
    }

    pub(super) fn contains(&self, site: SiteId) -> bool {
        self.sites.contains(&site)
    }
}

/// The sites at which a step changes something.
fn sites_of(action: &Action) -> Vec<SiteId> {
    match action {
        Action::Stripe { writes, .. } => writes.iter().map(|(_, site)| *site).collect(),
        Action::Copies { to, .. } => to.clone(),
        Action::Manifest { sites, .. } => sites.clone(),
        Action::Remove(stray) => vec![stray.site],
    }
}

impl Service {
    /// Sites that came back older than they were, or with a new disk.
    pub(super) fn not_believed(&self) -> BTreeSet<SiteId> {
        let guards = self.sites.guards();
        let older = guards.iter().filter(|(_, guard)| guard.is_quarantined()).map(|(id, _)| *id);
        older.chain(self.refilling()).collect()
    }

    /// Sites of which a whole round found nothing that they lack are believed
    /// again. One that is silent now is not there to be.
    pub(super) async fn release_repaired(&self, compared: &BTreeSet<SiteId>) {
        let answers = |id: &SiteId| self.sites.for_repair(*id).is_some_and(|site| site.answers());
        let answering: Vec<SiteId> = compared.iter().copied().filter(answers).collect();
        for id in answering.iter().filter(|id| self.sites.is_quarantined(**id)) {
            // If the log does not take it, it stays as it is for a round.
            let _ = self.release_site(*id).await;
        }
        self.note_refilled(&answering).await;
    }
}
