//! Changes of buckets under way, as async calls: kept until they are over, so
//! that one which was cut off is finished.

use coffer_model::BucketId;

use crate::operations::{buckets, facts};
use crate::{BucketError, Catalog, CatalogError, Leaf};

impl Catalog {
    /// Keeps a change of a bucket that is about to be written to the sites,
    /// with its intent leaf; the position of the leaf. It stays until the
    /// change is entered, or [`Self::drop_bucket_change`]. A `removal` is begun
    /// only where nothing is visible and no put is under way, and from then on
    /// the bucket takes no put.
    ///
    /// # Errors
    /// [`BucketError::NotEmpty`] for a removal.
    pub async fn begin_bucket_change(
        &self,
        id: BucketId,
        body: Vec<u8>,
        removal: bool,
        leaf: Leaf,
    ) -> Result<u64, BucketError> {
        self.writer().write(move |db| buckets::begin(db, id, &body, removal, &leaf)).await
    }

    /// The changes of buckets under way: bucket and body.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn bucket_changes(&self) -> Result<Vec<(BucketId, Vec<u8>)>, CatalogError> {
        let read = self.readers().read(|db| {
            let mut all = facts::all(db, buckets::CHANGING)?;
            all.extend(facts::all(db, buckets::LEAVING)?);
            Ok::<_, CatalogError>(all)
        });
        Ok(read.await?.into_iter().map(|(id, body)| (BucketId::from_bytes(id), body)).collect())
    }

    /// Forgets a change that no site can have, or that there is nothing left
    /// to do for, with its outcome leaf; the position of the leaf.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn drop_bucket_change(&self, id: BucketId, leaf: Leaf) -> Result<u64, CatalogError> {
        self.writer().write(move |db| buckets::forget(db, id, &leaf)).await
    }
}
