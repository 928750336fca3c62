//! The registry: buckets and principals as sealed facts at the sites, on more
//! of them than may be lost.

use coffer_model::{Geometry, ResidencyPolicy};
use coffer_regions::RecordKind;

use crate::service::Host;
use crate::sites::Sites;
use crate::stored::{EncodeError, Fact, seal_fact};
use crate::tenant::Tenant;

/// Why a fact does not stand.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// It could not be sealed.
    #[error("the fact cannot be sealed")]
    Seal,
    /// Too few sites took it.
    #[error("only {stored} sites stored the fact, {needed} are needed; it does not stand")]
    TooFewSites {
        /// Sites with an fsynced copy.
        stored: usize,
        /// Sites needed.
        needed: usize,
    },
}

/// Copies that a small fact needs, so that every recovery within the loss
/// budget meets at least one.
pub(crate) fn copies_needed(policy: &ResidencyPolicy) -> usize {
    policy.geometry.m() + 1
}

/// Copies that a fact of the service itself needs on these sites.
pub(crate) fn service_geometry(sites: usize) -> Geometry {
    let m = Geometry::DEFAULT.m().min(sites.saturating_sub(1)).max(1);
    let m = u8::try_from(m).unwrap_or(1);
    Geometry::new(1, m).unwrap_or(Geometry::DEFAULT)
}

/// Writes a fact of the tenant's registry to every site its policy admits.
pub(crate) async fn write_fact(
    host: &Host,
    sites: &Sites,
    tenant: &Tenant,
    fact: &Fact,
) -> Result<coffer_model::RecordId, RegistryError> {
    let key = tenant.secrets.registry_key();
    let record = seal_fact(RecordKind::Registry, &key, tenant.id, fact, host.entropy.as_ref())
        .map_err(|_: EncodeError| RegistryError::Seal)?;
    let stored = sites.put_everywhere(&sites.admitted(&tenant.policy), &record).await.by.len();
    let needed = copies_needed(&tenant.policy);
    if stored >= needed { Ok(record.id()) } else { Err(RegistryError::TooFewSites { stored, needed }) }
}
