//! What a repair asks of an open catalogue, as async calls.

use coffer_model::{RecordId, VersionId};

use crate::operations::repair;
use crate::{
    BucketError, BucketRow, Catalog, CatalogError, Content, Leaf, ManifestRow, ReplaceError, VersionRow,
};

impl Catalog {
    /// Versions after `after` in order of their ids, hidden or not, at most
    /// `limit`; none when there are no more.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn versions(
        &self,
        after: Option<VersionId>,
        limit: usize,
    ) -> Result<Vec<VersionRow>, CatalogError> {
        self.readers().read(move |db| repair::versions(db, after, false, limit)).await
    }

    /// The same, only those that were accepted below their promise and are
    /// not repaired yet. Looks at every version.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn reduced_versions(
        &self,
        after: Option<VersionId>,
        limit: usize,
    ) -> Result<Vec<VersionRow>, CatalogError> {
        self.readers().read(move |db| repair::versions(db, after, true, limit)).await
    }

    /// Puts a newer manifest of a version in the place of the one whose record
    /// is `old`, with its leaf; the position of the leaf.
    ///
    /// # Errors
    /// [`ReplaceError::Superseded`] if `old` is not its record any more.
    pub async fn replace_manifest(
        &self,
        old: RecordId,
        manifest: ManifestRow,
        leaf: Leaf,
    ) -> Result<u64, ReplaceError> {
        let tenant = self.tenant();
        self.writer()
            .write(move |db| {
                if manifest.manifest.tenant != tenant {
                    return Err(CatalogError::OtherTenant(manifest.manifest.tenant).into());
                }
                repair::replace(db, old, &manifest, &leaf)
            })
            .await
    }

    /// Notes how many sites each of these versions, as their records describe
    /// them, is short of its promise; one leaf for all, and its position.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn set_reduced(
        &self,
        versions: Vec<(VersionId, RecordId, u8)>,
        leaf: Leaf,
    ) -> Result<u64, CatalogError> {
        self.writer().write(move |db| repair::set_reduced(db, &versions, &leaf)).await
    }

    /// Gives a bucket another policy, with its leaf; the position of the leaf.
    ///
    /// # Errors
    /// [`BucketError::Missing`].
    pub async fn set_bucket_policy(&self, bucket: BucketRow, leaf: Leaf) -> Result<u64, BucketError> {
        self.change_buckets(move |db| repair::set_policy(db, &bucket, &leaf)).await
    }

    /// Whether the tombstone with this record stands.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn has_tombstone(&self, record: RecordId) -> Result<bool, CatalogError> {
        self.readers().read(move |db| repair::has_tombstone(db, record)).await
    }

    /// How many versions there are, hidden ones included.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn version_count(&self) -> Result<u64, CatalogError> {
        self.readers().read(repair::version_count).await
    }

    /// How many versions are striped, and how long they are; a look at every
    /// row, so not for every request.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn striped(&self) -> Result<Content, CatalogError> {
        self.readers().read(repair::striped).await
    }

    /// How many versions there are, hidden ones included, and how long they
    /// are together; a look at every row, so not for every request.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn content(&self) -> Result<Content, CatalogError> {
        self.readers().read(repair::content).await
    }

    /// Whether a version is there and no tombstone covers it.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn stands(&self, version: VersionId) -> Result<bool, CatalogError> {
        self.readers().read(move |db| repair::stands(db, version)).await
    }

    /// Versions after `after` with their manifest records, in order of their
    /// ids, at most `limit`.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn manifest_records(
        &self,
        after: Option<VersionId>,
        limit: usize,
    ) -> Result<Vec<(VersionId, RecordId)>, CatalogError> {
        self.readers().read(move |db| repair::manifest_records(db, after, limit)).await
    }
}
