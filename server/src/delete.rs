//! DELETE: a tombstone, authenticated, on more sites than may be lost, before
//! the answer. Reversible until retention ends: no shard is touched.

use coffer_catalog::TombstoneError;
use coffer_model::{BucketName, Layout, ObjectKey, Outcome, VersionId};

use crate::audit::AuditError;
use crate::authorize::Granted;
use crate::get::{GetError, locate};
use crate::leaf::leaf;
use crate::service::Service;
use crate::stored::Tombstone;
use crate::sweep::{SweepError, tombstone_row, write_tombstone};

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
    #[error("the object stands: {0}")]
    Tombstone(#[from] SweepError),
    #[error(
        "the object stands for readers: {acknowledged} of the {needed} holders that a deletion needs answer; delete again when the others do"
    )]
    TooFewHolders { acknowledged: usize, needed: usize },
    #[error("refused, because the audit log cannot be written: {0}")]
    Audit(#[from] AuditError),
    #[error("the catalogue failed: {0}")]
    Catalog(#[from] TombstoneError),
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
    let reachable = reachable(service, &row.manifest.layout).await;
    grant.settled(service, reachable).await?;
    let manifest = &row.manifest;
    let subject = Some(manifest.version.to_string());
    tenant.note(&grant.event(service, subject.clone(), Outcome::Intent)).await?;
    let tombstone = Tombstone {
        bucket: manifest.bucket,
        object: manifest.object,
        version: manifest.version,
        order: manifest.order,
        created: service.host.clock.now(),
        failed_put: false,
    };
    let (record, stored_by) = write_tombstone(service, tenant, &bucket.policy, &tombstone).await?;
    let acknowledged = manifest.layout.sites().iter().filter(|id| stored_by.contains(id)).count();
    let needed = holders_needed(&manifest.layout);
    if acknowledged < needed {
        return Err(DeleteError::TooFewHolders { acknowledged, needed });
    }
    let outcome = leaf(&grant.event(service, subject, Outcome::Done)).map_err(AuditError::from)?;
    let seq = tenant.catalog.tombstone(manifest.version, tombstone_row(record, &tombstone), outcome).await?;
    Ok((manifest.version, seq))
}

/// Refuses before any tombstone is written where too few holders answer: a
/// tombstone that was refused would still hide the object from a rebuild.
async fn reachable(service: &Service, layout: &Layout) -> Result<(), DeleteError> {
    let alive = service.sites.alive();
    let acknowledged = layout.sites().iter().filter(|id| alive.contains(id)).count();
    let needed = holders_needed(layout);
    if acknowledged >= needed { Ok(()) } else { Err(DeleteError::TooFewHolders { acknowledged, needed }) }
}

/// More than n - k of the version's sites; every holder of a small object.
fn holders_needed(layout: &Layout) -> usize {
    match layout {
        Layout::Inline { sites } => sites.len(),
        Layout::Striped { geometry, .. } => geometry.m() + 1,
    }
}
