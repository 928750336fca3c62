//! DELETE: a tombstone, authenticated, on more sites than may be lost, before
//! the answer. Reversible until retention ends: no shard is touched.

use coffer_catalog::{CatalogError, TombstoneError};
use coffer_model::{BucketName, HoldId, Layout, ObjectKey, Outcome, ResidencyPolicy, SiteId, VersionId};

use crate::audit::AuditError;
use crate::authorize::Granted;
use crate::deletion::{Deletion, SpreadError, holders_needed};
use crate::get::{GetError, locate};
use crate::hold;
use crate::leaf::leaf;
use crate::service::Service;
use crate::stored::{EncodeError, Tombstone};
use crate::sweep::tombstone_row;

/// The arguments of a DELETE.
pub(crate) struct Delete {
    pub(crate) bucket: BucketName,
    pub(crate) key: ObjectKey,
}

/// Why the object is still there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeleteError {
    #[error(transparent)]
    Locate(#[from] GetError),
    #[error(
        "the object stands: {acknowledged} of the {needed} holders that a deletion needs answer; delete again when the others do"
    )]
    TooFewHolders { acknowledged: usize, needed: usize },
    #[error(
        "the outcome is undecided: {0}. Delete again when the others answer, or the next start of the service finishes it"
    )]
    Undecided(#[from] SpreadError),
    #[error("the object stands: the tombstone cannot be sealed: {0}")]
    Seal(#[from] EncodeError),
    #[error("refused, because the audit log cannot be written: {0}")]
    Audit(#[from] AuditError),
    #[error("the object stands: it lies under the legal hold {id}, \"{reason}\"")]
    Held { id: HoldId, reason: String },
    #[error("the catalogue failed: {0}")]
    Catalog(#[from] CatalogError),
    #[error("the catalogue failed: {0}")]
    Hide(#[from] TombstoneError),
}

/// The whole story.
pub(crate) async fn delete(
    service: &Service,
    delete: Granted<Delete>,
) -> Result<(VersionId, u64), DeleteError> {
    let (delete, grant) = delete.into_parts();
    let tenant = grant.tenant();
    let found = locate(&grant, &delete.bucket, &delete.key).await.map_err(DeleteError::from);
    let (bucket, row) = grant.settled(service, found).await?;
    let looked = tenant.holding.read().await;
    if let Some(hold) = hold::on_key(tenant, bucket.id, &delete.key).await? {
        let subject = Some(format!("{} {}", row.manifest.version, hold.id));
        tenant.note(&grant.event(service, subject, Outcome::Denied)).await?;
        return Err(DeleteError::Held { id: hold.id, reason: hold.reason });
    }
    let policy = tenant.confined(&bucket.policy);
    let reachable = reachable(service, &policy, &row.manifest.layout).await;
    grant.settled(service, reachable).await?;
    let manifest = &row.manifest;
    let subject = Some(manifest.version.to_string());
    let tombstone = Tombstone {
        bucket: manifest.bucket,
        object: manifest.object,
        version: manifest.version,
        order: manifest.order,
        created: service.host.clock.now(),
        failed_put: false,
    };
    let sealed = Deletion::new(tenant, tombstone, service.host.entropy.as_ref()).map_err(DeleteError::from);
    let (record, deletion) = grant.settled(service, sealed).await?;
    let intent = leaf(&grant.event(service, subject.clone(), Outcome::Intent)).map_err(AuditError::from)?;
    tenant.catalog.reserve_deletion(record, deletion.encode()?, intent).await?;
    drop(looked);
    // From here on it is finished, if not here then by the next start.
    deletion.spread(service, record, &policy, &manifest.layout).await?;
    let outcome = leaf(&grant.event(service, subject, Outcome::Done)).map_err(AuditError::from)?;
    let row = tombstone_row(record, &deletion.tombstone);
    let seq = tenant.catalog.tombstone(manifest.version, row, outcome).await?;
    Ok((manifest.version, seq))
}

/// Refuses before any tombstone is written where too few holders answer: a
/// tombstone that was refused would still hide the object from a rebuild.
async fn reachable(service: &Service, policy: &ResidencyPolicy, layout: &Layout) -> Result<(), DeleteError> {
    let (admitted, alive) = (service.sites.admitted(policy), service.sites.alive());
    let there = |id: &&SiteId| admitted.contains(id) && alive.contains(id);
    let acknowledged = layout.sites().iter().filter(there).count();
    let needed = holders_needed(layout, &admitted);
    if acknowledged >= needed { Ok(()) } else { Err(DeleteError::TooFewHolders { acknowledged, needed }) }
}
