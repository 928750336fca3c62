//! What outlives a bucket that is removed: the policy under which its hidden
//! versions lie, for their records stay at the sites.

use coffer_model::{BucketId, ResidencyPolicy};

use crate::operations::buckets;
use crate::{Catalog, CatalogError};

impl Catalog {
    /// The policy of a removed bucket; none for one that is there, or that was
    /// removed before policies were kept.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn removed_policy(&self, id: BucketId) -> Result<Option<ResidencyPolicy>, CatalogError> {
        self.readers().read(move |db| buckets::removed_policy(db, id)).await
    }

    /// The policies of all removed buckets that were kept.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn removed_policies(&self) -> Result<Vec<(BucketId, ResidencyPolicy)>, CatalogError> {
        self.readers().read(buckets::removed_policies).await
    }

    /// Whether a bucket has any version, hidden or not, whose bytes lie as
    /// whole copies (`inline`), or as shards.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn has_versions(&self, id: BucketId, inline: bool) -> Result<bool, CatalogError> {
        self.readers().read(move |db| buckets::has_versions(db, id, inline)).await
    }
}
