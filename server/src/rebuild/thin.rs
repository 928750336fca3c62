//! Deletions that fewer sites know of than may be lost: what one rebuild has
//! met, and callers have seen, the next one must meet too.

use std::sync::Arc;

use coffer_model::{BucketId, RecordId, SiteId};

use super::RebuildError;
use crate::service::Service;
use crate::stored::{Tombstone, open_fact};
use crate::tenant::Tenant;

/// A tombstone that too few sites list.
pub(super) struct Thin {
    pub(super) record: RecordId,
    pub(super) bucket: BucketId,
    pub(super) holders: Vec<SiteId>,
}

/// Writes them to every site that their bucket's policy admits, from the first
/// holder whose copy opens: who lists one may give anything. Where those do
/// not answer it stays as it was: the tombstone may be all that is left of one
/// that was at enough sites, so that what it says holds either way.
pub(super) async fn spread(
    service: &Service,
    tenant: &Arc<Tenant>,
    thin: Vec<Thin>,
) -> Result<(), RebuildError> {
    let key = tenant.secrets.tombstone_key();
    for Thin { record, bucket, holders } in thin {
        let admitted = service.sites.admitted(&tenant.policy_of(bucket).await?);
        for holder in holders {
            let Some(site) = service.sites.get(holder) else { continue };
            let Ok(record) = site.get(record).await else { continue };
            if open_fact::<Tombstone>(&record, &key, tenant.id).is_ok() {
                service.sites.put_everywhere(&admitted, &record).await;
                break;
            }
        }
    }
    Ok(())
}
