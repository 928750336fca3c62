//! Orders after a loss. A lost catalogue may have given orders to puts of which
//! no site shows anything yet: a manifest that a slow site brings to light
//! later must be older than what was put since. So the orders of a rebuilt
//! catalogue go on far above all that were found, and where they begin is a
//! fact at more sites than may be lost before the first of them is given: the
//! next rebuild goes on above that, even if nothing else was stored.

use std::sync::atomic::Ordering;

use crate::registry::{RegistryError, write_fact};
use crate::service::Service;
use crate::stored::Fact;
use crate::tenant::Tenant;

/// More orders than puts are ever under way.
pub(crate) const GAP: u64 = 1 << 32;

/// Lets a tenant's orders be given, once where they begin is safe.
pub(crate) async fn open(service: &Service, tenant: &Tenant) -> Result<(), RegistryError> {
    if tenant.orders_open.load(Ordering::Acquire) {
        return Ok(());
    }
    let _turn = tenant.changing.lock().await;
    if let Some(floor) = tenant.catalog.order_floor().await? {
        // One that too few sites took does no harm: it only lifts later orders.
        write_fact(&service.host, &service.sites, tenant, &Fact::Orders { floor }).await?;
        tenant.catalog.order_floor_kept().await?;
    }
    tenant.orders_open.store(true, Ordering::Release);
    Ok(())
}
