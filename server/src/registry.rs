//! The registry: buckets and principals as sealed facts at the sites, on more
//! of them than may be lost.

use coffer_catalog::CatalogError;
use coffer_model::{Geometry, RecordId, ResidencyPolicy, SiteId, Timestamp};
use coffer_regions::{Record, RecordKind};

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
    /// Too few sites took it, and those that did have given it up again.
    #[error("only {stored} sites stored the fact, {needed} are needed; it does not stand")]
    TooFewSites {
        /// Sites with an fsynced copy.
        stored: usize,
        /// Sites needed.
        needed: usize,
    },
    /// Too few sites took it, and one that does not answer may have it.
    #[error(
        "the outcome is undecided: only {stored} of the {needed} sites that it takes stored the fact, and one that fell silent may have it. Ask again when the others answer: what is asked for last is what counts"
    )]
    Undecided {
        /// Sites that said that they have it.
        stored: usize,
        /// Sites needed.
        needed: usize,
    },
    /// Too few sites answer for it to stand; nothing was written.
    #[error(
        "refused before anything was written: only {answering} of the {needed} sites that it takes answer; ask again when the others do"
    )]
    Silent {
        /// Sites that answer.
        answering: usize,
        /// Sites needed.
        needed: usize,
    },
    /// Too few sites took it yet, and it is not taken back.
    #[error(
        "the outcome is undecided: only {stored} of the {needed} sites that it takes stored it. Ask again when the others answer, or the next start of the service finishes it"
    )]
    Unfinished {
        /// Sites that said that they have it.
        stored: usize,
        /// Sites needed.
        needed: usize,
    },
    /// The catalogue failed.
    #[error("the catalogue failed: {0}")]
    Catalog(#[from] CatalogError),
}

/// The kind of the fact in a catalogue that holds the registry's time.
pub(crate) const TIME: &str = "registry-time";

/// The time of the next fact about a tenant's buckets: the clock's, and always
/// later than that of every fact before it, refused ones included. Without
/// that, a clock that goes back would let an old policy outlive a new one.
/// Whoever calls holds the tenant's turn.
pub(crate) async fn next_time(host: &Host, tenant: &Tenant) -> Result<Timestamp, CatalogError> {
    let known = tenant.catalog.facts(TIME).await?;
    let last = match known.first().and_then(|(_, body)| body.as_slice().try_into().ok()) {
        Some(bytes) => u64::from_be_bytes(bytes),
        // A catalogue of before: no later than what its buckets say.
        None => tenant.catalog.buckets().await?.iter().map(|bucket| bucket.created.0).max().unwrap_or(0),
    };
    let next = Timestamp(host.clock.now().0.max(last.saturating_add(1)));
    let (id, body) = time_row(next);
    tenant.catalog.put_fact(TIME, id, body).await?;
    Ok(next)
}

/// The registry's time as a catalogue keeps it.
pub(crate) fn time_row(time: Timestamp) -> ([u8; 16], Vec<u8>) {
    ([0; 16], time.0.to_be_bytes().to_vec())
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

/// Writes a fact of the tenant's registry to every site its policy admits. One
/// that too few sites took is taken back: a rebuild would believe a single copy.
pub(crate) async fn write_fact(
    host: &Host,
    sites: &Sites,
    tenant: &Tenant,
    fact: &Fact,
) -> Result<RecordId, RegistryError> {
    write_fact_without(host, sites, tenant, fact, &[]).await
}

/// The same, where these sites go with this very fact: they take it, and do not count.
pub(crate) async fn write_fact_without(
    host: &Host,
    sites: &Sites,
    tenant: &Tenant,
    fact: &Fact,
    leaving: &[SiteId],
) -> Result<RecordId, RegistryError> {
    let record = sealed(host, tenant, fact)?;
    let admitted = sites.admitted(&tenant.policy);
    let stored = sites.put_everywhere(&admitted, &record).await;
    let count = stored.by.iter().filter(|site| !leaving.contains(site)).count();
    let needed = copies_needed(&tenant.policy);
    if count >= needed {
        return Ok(record.id());
    }
    let given_up = take_back(sites, &admitted, record.id()).await;
    Err(if given_up && stored.silent.is_empty() {
        RegistryError::TooFewSites { stored: count, needed }
    } else {
        RegistryError::Undecided { stored: count, needed }
    })
}

/// Refuses a change before anything of it is written where it could not stand:
/// a rebuild would believe a single copy.
pub(crate) fn refuse_if_too_few_answer(sites: &Sites, tenant: &Tenant) -> Result<(), RegistryError> {
    let (answering, needed) = (sites.answering(&tenant.policy), copies_needed(&tenant.policy));
    if answering >= needed { Ok(()) } else { Err(RegistryError::Silent { answering, needed }) }
}

/// Writes a record to every site that the tenant's policy admits. What some
/// sites took of it stays there, and it is written again until enough have it.
pub(crate) async fn write_for_good(
    sites: &Sites,
    tenant: &Tenant,
    record: &Record,
) -> Result<(), RegistryError> {
    let stored = sites.put_everywhere(&sites.admitted(&tenant.policy), record).await.by.len();
    let needed = copies_needed(&tenant.policy);
    if stored >= needed { Ok(()) } else { Err(RegistryError::Unfinished { stored, needed }) }
}

/// A fact as its record.
pub(crate) fn sealed(host: &Host, tenant: &Tenant, fact: &Fact) -> Result<Record, RegistryError> {
    let key = tenant.secrets.registry_key();
    seal_fact(RecordKind::Registry, &key, tenant.id, fact, host.entropy.as_ref())
        .map_err(|_: EncodeError| RegistryError::Seal)
}

/// Deletes a record everywhere; whether every site acknowledged that.
async fn take_back(sites: &Sites, at: &[SiteId], record: RecordId) -> bool {
    let calls = at.iter().map(|id| async {
        match sites.get(*id) {
            Some(site) => site.delete(vec![record]).await.is_ok(),
            None => false,
        }
    });
    futures::future::join_all(calls).await.into_iter().all(|gone| gone)
}
