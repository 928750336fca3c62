//! After a recovery: the rebuilt logs extend what was pinned outside.

use coffer_catalog::CatalogError;
use coffer_keys::{Checkpoint, VerifyingKey, open_checkpoint, root_of};

use crate::kit::{PinnedCheckpoint, RecoveryKit};
use crate::service::Service;
use crate::service_error::{HistoryError, OpenError, RecoverError};
use crate::tenant::Tenant;

/// Holds every pinned checkpoint against the rebuilt log of its origin.
pub(crate) async fn check(service: &Service, kit: &RecoveryKit) -> Result<(), RecoverError> {
    let key = kit.verifying_key().filter(|key| *key == service.verifying_key());
    for pinned in &kit.checkpoints {
        let refuse = |reason| RecoverError::History { origin: pinned.origin.clone(), reason };
        let key = key.as_ref().ok_or_else(|| refuse(HistoryError::Signature))?;
        let checkpoint = open(pinned, kit, key).ok_or_else(|| refuse(HistoryError::Signature))?;
        let tenant = service.all_tenants().into_iter().find(|tenant| tenant.log.origin() == pinned.origin);
        let Some(tenant) = tenant else {
            return Err(refuse(HistoryError::Short { have: 0, pinned: checkpoint.size }));
        };
        let verdict = extends(&tenant, &checkpoint).await;
        verdict.map_err(|error| RecoverError::Open(OpenError::Catalog(error)))?.map_err(refuse)?;
    }
    Ok(())
}

fn open(pinned: &PinnedCheckpoint, kit: &RecoveryKit, key: &VerifyingKey) -> Option<Checkpoint> {
    let checkpoint = open_checkpoint(&pinned.checkpoint, &kit.evidence_name, key).ok()?;
    (checkpoint.origin == pinned.origin).then_some(checkpoint)
}

async fn extends(tenant: &Tenant, pinned: &Checkpoint) -> Result<Result<(), HistoryError>, CatalogError> {
    let hashes = tenant.catalog.leaf_hashes(0, usize::MAX).await?;
    let have = hashes.len() as u64;
    let Some(prefix) = usize::try_from(pinned.size).ok().and_then(|size| hashes.get(..size)) else {
        return Ok(Err(HistoryError::Short { have, pinned: pinned.size }));
    };
    Ok(if root_of(prefix) == pinned.root { Ok(()) } else { Err(HistoryError::Root) })
}
