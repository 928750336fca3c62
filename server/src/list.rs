//! STAT and LIST: what the catalogue knows, for its tenant.

use coffer_catalog::{CatalogError, ListRow, ManifestRow};
use coffer_model::{BucketName, ObjectKey, Outcome, Timestamp};

use crate::audit::AuditError;
use crate::authorize::Granted;
use crate::get::{GetError, locate_at};
use crate::service::Service;

/// The most lines of one page.
pub(crate) const PAGE_MAX: usize = 1000;

/// The arguments of a LIST.
pub(crate) struct List {
    pub(crate) bucket: BucketName,
    pub(crate) prefix: Vec<u8>,
    pub(crate) after: Option<ObjectKey>,
    pub(crate) limit: usize,
    /// Of which moment; none: of now.
    pub(crate) as_of: Option<Timestamp>,
}

/// The arguments of a STAT.
pub(crate) struct Stat {
    pub(crate) bucket: BucketName,
    pub(crate) key: ObjectKey,
    /// Of which moment; none: of now.
    pub(crate) as_of: Option<Timestamp>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListError {
    #[error("there is no bucket {0}")]
    NoBucket(BucketName),
    #[error("refused, because the audit log cannot be written: {0}")]
    Audit(#[from] AuditError),
    #[error("the catalogue failed: {0}")]
    Catalog(#[from] CatalogError),
}

/// One page of keys, and whether more follow.
pub(crate) async fn list(service: &Service, list: Granted<List>) -> Result<(Vec<ListRow>, bool), ListError> {
    let (list, grant) = list.into_parts();
    let catalog = &grant.tenant().catalog;
    let found = catalog.bucket(&list.bucket).await?.ok_or(ListError::NoBucket(list.bucket));
    let bucket = grant.settled(service, found).await?;
    grant.tenant().note(&grant.event(service, Some(bucket.id.to_string()), Outcome::Done)).await?;
    let (after, most) = (list.after.as_ref(), list.limit + 1);
    let mut rows = match list.as_of {
        None => catalog.list(bucket.id, &list.prefix, after, most).await?,
        Some(moment) => catalog.list_at(bucket.id, &list.prefix, after, most, moment).await?,
    };
    let more = rows.len() > list.limit;
    rows.truncate(list.limit);
    Ok((rows, more))
}

/// The newest version of one key.
pub(crate) async fn stat(service: &Service, stat: Granted<Stat>) -> Result<ManifestRow, GetError> {
    let (Stat { bucket, key, as_of }, grant) = stat.into_parts();
    let found = locate_at(&grant, &bucket, &key, as_of).await;
    let (_, row) = grant.settled(service, found).await?;
    let subject = Some(row.manifest.version.to_string());
    grant.tenant().note(&grant.event(service, subject, Outcome::Done)).await?;
    Ok(row)
}
