//! After a recovery: the rebuilt logs extend what was pinned outside.

use coffer_catalog::CatalogError;
use coffer_keys::{Checkpoint, Tree, VerifyingKey, open_checkpoint};

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

/// Leaf hashes in memory at once.
const HASHES: usize = 1 << 16;

/// Whether the log begins with the pinned one; hashed in pieces, so that a
/// long log takes no more memory than a short one.
async fn extends(tenant: &Tenant, pinned: &Checkpoint) -> Result<Result<(), HistoryError>, CatalogError> {
    let have = tenant.catalog.log_size().await?;
    if have < pinned.size {
        return Ok(Err(HistoryError::Short { have, pinned: pinned.size }));
    }
    let mut tree = Tree::new();
    while tree.size() < pinned.size {
        let wanted = usize::try_from(pinned.size - tree.size()).unwrap_or(HASHES).min(HASHES);
        let hashes = tenant.catalog.leaf_hashes(tree.size(), wanted).await?;
        if hashes.is_empty() {
            return Ok(Err(HistoryError::Short { have: tree.size(), pinned: pinned.size }));
        }
        hashes.into_iter().for_each(|hash| tree.append(hash));
    }
    Ok(if tree.root() == pinned.root { Ok(()) } else { Err(HistoryError::Root) })
}
