//! What a crash or a failed put left: rolled forward where the manifest is at
//! the sites, withdrawn where it is not; deletions and changes of buckets that
//! were begun, finished. Nothing is left half there.

use coffer_catalog::{CatalogError, CommitError, ManifestRow, ReservationRow, TombstoneError, TombstoneRow};
use coffer_keys::Wrap;
use coffer_model::{
    AuditEvent, BucketId, Layout, Manifest, ObjectId, Operation, Outcome, RecordId, ResidencyPolicy, SiteId,
    VersionId,
};
use coffer_regions::{Record, RecordKind, shard_record_id};

use crate::audit::AuditError;
use crate::bucket_change;
use crate::deletion;
use crate::leaf::leaf;
use crate::rebuild::{RebuildError, withdrawn};
use crate::registry::{RegistryError, copies_needed};
use crate::service::Service;
use crate::stored::{EncodeError, ManifestBody, Tombstone, seal_fact};
use crate::tenant::Tenant;

/// Why a reservation could not be settled; it stays for the next start.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// Too few sites took the tombstone.
    #[error("only {stored} sites stored a tombstone, {needed} are needed; the reservation stays")]
    TooFewSites {
        /// Sites with an fsynced copy.
        stored: usize,
        /// Sites needed.
        needed: usize,
    },
    /// The tombstone could not be sealed.
    #[error("the tombstone cannot be sealed")]
    Seal,
    /// The catalogue failed.
    #[error("the catalogue failed: {0}")]
    Catalog(#[from] CatalogError),
    /// The catalogue refused the version that was rolled forward.
    #[error("the catalogue failed: {0}")]
    Commit(#[from] CommitError),
    /// The catalogue refused the deletion that was finished.
    #[error("the catalogue failed: {0}")]
    Hide(#[from] TombstoneError),
    /// The tombstones at the sites could not be read.
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    /// A change of a bucket could not be finished.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The log did not take the outcome.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Where an unfinished version may have left something.
pub(crate) struct Traces {
    pub(crate) bucket: BucketId,
    pub(crate) object: ObjectId,
    pub(crate) version: VersionId,
    pub(crate) order: u64,
    pub(crate) record: RecordId,
    pub(crate) locator: [u8; 32],
    pub(crate) sites: Vec<SiteId>,
}

impl From<&ReservationRow> for Traces {
    fn from(row: &ReservationRow) -> Self {
        Self {
            bucket: row.bucket,
            object: row.object,
            version: row.version,
            order: row.order,
            record: row.record,
            locator: row.locator,
            sites: row.sites.clone(),
        }
    }
}

/// Stripes in a row without a trace at any site after which none is expected:
/// more than the writer ever has in flight.
const EMPTY_STRIPES: u32 = 8;

/// Settles every change of a bucket, reservation and deletion that the last run of the service left open, and
/// counts those that it could not, because too few sites answer: they stay
/// invisible, and reading everything else must not wait for them.
pub(crate) async fn sweep(service: &Service) -> Result<u64, SweepError> {
    let mut unsettled = 0;
    for tenant in service.all_tenants() {
        unsettled += finish_changes(service, &tenant).await?;
        unsettled += deletion::finish(service, &tenant).await?;
        let reservations = tenant.catalog.reservations().await?;
        if reservations.is_empty() {
            continue;
        }
        // A withdrawal that a crash cut short is finished, never turned into
        // a version that its own tombstone would outlaw at the next rebuild.
        let versions = reservations.iter().map(|row| row.version).collect();
        let mut withdrawn = withdrawn(service, &tenant, &versions).await?;
        // The one site that has its tombstone may be silent now.
        withdrawn.extend(tenant.catalog.withdrawals().await?);
        for row in reservations {
            let event = service.own_event(
                Some(tenant.id),
                Operation::Sweep,
                row.version.to_string(),
                Outcome::Failed,
            );
            let found = manifest_at_sites(service, &tenant, &row).await;
            let policy = tenant.policy_of(row.bucket).await?;
            let stands = |(_, manifest): &(Record, Manifest)| {
                !withdrawn.contains(&row.version) && is_legal(service, &policy, &manifest.layout)
            };
            let settled = match found.filter(stands) {
                Some((record, manifest)) => roll_forward(service, &tenant, record, manifest, event).await,
                None => undo(service, &tenant, &Traces::from(&row), event).await,
            };
            match settled {
                Err(SweepError::TooFewSites { .. }) => unsettled += 1,
                settled => settled?,
            }
        }
    }
    Ok(unsettled)
}

/// Whether every site of a layout is admitted. A put that was cut off is not
/// written to more sites under a policy that was changed since.
fn is_legal(service: &Service, policy: &ResidencyPolicy, layout: &Layout) -> bool {
    let topology = service.sites.topology();
    let admitted = |id: &SiteId| topology.site(*id).is_some_and(|site| policy.admits(site));
    layout.sites().iter().all(admitted)
}

/// Finishes changes of buckets; whether one has to wait for sites.
async fn finish_changes(service: &Service, tenant: &Tenant) -> Result<u64, SweepError> {
    let _turn = tenant.changing.lock().await;
    match bucket_change::finish(service, tenant).await {
        Ok(_) => Ok(0),
        Err(RegistryError::Unfinished { .. }) => Ok(1),
        Err(error) => Err(error.into()),
    }
}

/// The manifest of a reservation, if any site that answers has it. Manifests
/// are written only when every shard is durable, so one is enough.
async fn manifest_at_sites(
    service: &Service,
    tenant: &Tenant,
    row: &ReservationRow,
) -> Option<(Record, Manifest)> {
    for id in &row.sites {
        let Some(site) = service.sites.get(*id) else { continue };
        let Ok(record) = site.get(row.record).await else { continue };
        let Ok(body) = ManifestBody::parse(&record) else { continue };
        let Ok(dek) = tenant.secrets.unwrap(row.version, &body.wrap) else { continue };
        if let Ok(manifest) = body.open(tenant.id, &dek)
            && manifest.version == row.version
        {
            return Some((record, manifest));
        }
    }
    None
}

async fn roll_forward(
    service: &Service,
    tenant: &Tenant,
    record: Record,
    manifest: Manifest,
    mut event: AuditEvent,
) -> Result<(), SweepError> {
    let before = having(service, &manifest.layout, record.id()).await;
    let stored = service.sites.put_everywhere(manifest.layout.sites(), &record).await;
    let wrap = ManifestBody::parse(&record).map(|body| body.wrap.to_bytes().to_vec()).unwrap_or_default();
    let inline = matches!(manifest.layout, Layout::Inline { .. });
    // A put gives no manifest to a site that missed a shard: who had none may
    // lack shards, until repair has looked. A small object is its manifest.
    let lacks = |id: &&SiteId| stored.missing.contains(id) || !(inline || before.contains(id));
    let reduced = manifest.layout.sites().iter().filter(lacks).count();
    let reduced = u8::try_from(reduced).unwrap_or(u8::MAX);
    event.outcome = Outcome::Done;
    let row = ManifestRow { record: record.id(), manifest, wrap, reduced, inline };
    tenant.catalog.commit(row, leaf(&event).map_err(AuditError::from)?).await?;
    Ok(())
}

/// The sites of a version that have its manifest now.
async fn having(service: &Service, layout: &Layout, record: RecordId) -> Vec<SiteId> {
    let asked = layout.sites().iter().map(|id| async {
        let site = service.sites.get(*id)?;
        site.get(record).await.ok().map(|_| *id)
    });
    futures::future::join_all(asked).await.into_iter().flatten().collect()
}

/// Withdraws a version that never was: a tombstone first, where a manifest may
/// already lie somewhere, then its records, then the reservation with its leaf.
pub(crate) async fn undo(
    service: &Service,
    tenant: &Tenant,
    traces: &Traces,
    outcome: AuditEvent,
) -> Result<(), SweepError> {
    let tombstone = Tombstone {
        bucket: traces.bucket,
        object: traces.object,
        version: traces.version,
        order: traces.order,
        created: outcome.time,
        failed_put: true,
    };
    let policy = tenant.policy_of(traces.bucket).await?;
    refuse_if_too_few_answer(service, &policy)?;
    tenant.catalog.begin_withdrawal(traces.version).await?;
    write_tombstone(service, tenant, &policy, &tombstone).await?;
    delete_records(service, traces).await;
    tenant.catalog.abandon(traces.version, leaf(&outcome).map_err(AuditError::from)?).await?;
    Ok(())
}

/// A tombstone that few sites have decides nothing and may still be met by one
/// rebuild and not by the one before it: none is written where it cannot stand.
fn refuse_if_too_few_answer(service: &Service, policy: &ResidencyPolicy) -> Result<(), SweepError> {
    let (stored, needed) = (service.sites.answering(policy), copies_needed(policy));
    if stored >= needed { Ok(()) } else { Err(SweepError::TooFewSites { stored, needed }) }
}

/// Writes a tombstone to every site that the bucket's policy admits; it
/// stands when more of them have it than may be lost.
async fn write_tombstone(
    service: &Service,
    tenant: &Tenant,
    policy: &ResidencyPolicy,
    tombstone: &Tombstone,
) -> Result<(), SweepError> {
    let key = tenant.secrets.tombstone_key();
    let record = seal_fact(RecordKind::Tombstone, &key, tenant.id, tombstone, service.host.entropy.as_ref())
        .map_err(|_: EncodeError| SweepError::Seal)?;
    let stored = service.sites.put_everywhere(&service.sites.admitted(policy), &record).await;
    let needed = copies_needed(policy);
    if stored.by.len() < needed {
        return Err(SweepError::TooFewSites { stored: stored.by.len(), needed });
    }
    Ok(())
}

/// Deletes what an unfinished version left. A site that does not answer keeps
/// its shards as garbage that no manifest names.
async fn delete_records(service: &Service, traces: &Traces) {
    let mut empty = 0;
    let mut stripe = 0_u32;
    while empty < EMPTY_STRIPES {
        let mut found = 0;
        for (index, id) in (0_u8..).zip(&traces.sites) {
            let Some(site) = service.sites.get(*id) else { continue };
            let record = shard_record_id(&traces.locator, stripe, index);
            found += site.delete(vec![record]).await.unwrap_or(0);
        }
        empty = if found == 0 { empty + 1 } else { 0 };
        stripe += 1;
    }
    for id in &traces.sites {
        if let Some(site) = service.sites.get(*id) {
            // A site that fails here keeps a manifest that the tombstone outlaws.
            let _ = site.delete(vec![traces.record]).await;
        }
    }
}

/// The catalogue's row of a tombstone.
pub(crate) fn tombstone_row(record: RecordId, tombstone: &Tombstone) -> TombstoneRow {
    TombstoneRow {
        record,
        bucket: tombstone.bucket,
        object: tombstone.object,
        version: tombstone.version,
        order: tombstone.order,
        created: tombstone.created,
    }
}

/// The wrap of a manifest row.
pub(crate) fn wrap_of(row: &ManifestRow) -> Option<Wrap> {
    Wrap::from_bytes(&row.wrap).ok()
}
