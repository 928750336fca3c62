//! The open catalogue: every operation as one async call.

use std::collections::BTreeSet;
use std::path::PathBuf;

use coffer_model::{
    BucketId, BucketName, CatalogKey, Digest, Execution, ObjectId, ObjectKey, RecordId, SiteId, TenantId,
    Timestamp, VersionId,
};
use rusqlite::Connection;
use tokio::task;

use crate::file::{self, Opened};
use crate::known::KnownBuckets;
use crate::operations::{buckets, challenges, deletes, facts, log, lookups, puts, rebuild};
use crate::readers::Readers;
use crate::writer::{Grouping, Writer};
use crate::{
    BucketError, BucketRow, CatalogError, ChallengeCounts, CommitError, Counts, DrawnChallenge, Leaf,
    ListRow, ManifestRow, NewChallenges, NewReservation, OpenCatalogError, RebuildBatch, ReservationRow,
    Reserved, TombstoneError, TombstoneRow,
};

/// The catalogue of one tenant. A clone is the same catalogue; when the last
/// one is dropped, what was sent is finished and the file is closed.
///
/// A change returns when it is fsynced. A caller that stops waiting for it
/// does not take it back. A read sees every change that returned before it.
#[derive(Clone)]
pub struct Catalog {
    tenant: TenantId,
    writer: Writer,
    readers: Readers,
    known: KnownBuckets,
}

impl Catalog {
    /// Makes the catalogue of `tenant` at `path`, mode 0600, and opens it. An
    /// existing file is refused and left as it is.
    ///
    /// # Errors
    /// [`OpenCatalogError`].
    pub async fn create(path: PathBuf, key: CatalogKey, tenant: TenantId) -> Result<Self, OpenCatalogError> {
        Self::create_with(path, key, tenant, Execution::Threads).await
    }

    /// [`Self::create`] with another execution than threads.
    ///
    /// # Errors
    /// [`OpenCatalogError`].
    pub async fn create_with(
        path: PathBuf,
        key: CatalogKey,
        tenant: TenantId,
        execution: Execution,
    ) -> Result<Self, OpenCatalogError> {
        let make = move || {
            file::create(&path, &key, tenant)?;
            file::open(&path, &key, tenant, execution)
        };
        Self::start(tenant, execution, make).await
    }

    /// Opens the catalogue of `tenant` at `path`. The key is wiped before this
    /// returns; a file that is refused is left as it is.
    ///
    /// # Errors
    /// [`OpenCatalogError`].
    pub async fn open(path: PathBuf, key: CatalogKey, tenant: TenantId) -> Result<Self, OpenCatalogError> {
        Self::open_with(path, key, tenant, Execution::Threads).await
    }

    /// [`Self::open`] with another execution than threads.
    ///
    /// # Errors
    /// [`OpenCatalogError`].
    pub async fn open_with(
        path: PathBuf,
        key: CatalogKey,
        tenant: TenantId,
        execution: Execution,
    ) -> Result<Self, OpenCatalogError> {
        Self::start(tenant, execution, move || file::open(&path, &key, tenant, execution)).await
    }

    async fn start(
        tenant: TenantId,
        execution: Execution,
        open: impl FnOnce() -> Result<Opened, OpenCatalogError> + Send + 'static,
    ) -> Result<Self, OpenCatalogError> {
        let (readers, writer) = match execution {
            Execution::Threads => {
                let opened = task::spawn_blocking(open).await.map_err(|_| CatalogError::Closed)??;
                let writer = Writer::start(opened.writer).map_err(|_| CatalogError::Closed)?;
                (opened.readers, writer)
            }
            Execution::Inline => {
                let opened = open()?;
                (opened.readers, Writer::inline(opened.writer))
            }
        };
        let readers = Readers::new(readers, execution);
        Ok(Self { tenant, writer, readers, known: KnownBuckets::default() })
    }

    /// Finishes what was sent before, and closes the file; returns when it is
    /// closed. Other clones answer [`CatalogError::Closed`] from then on.
    pub async fn close(self) {
        self.readers.close();
        self.writer.close().await;
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.writer
    }

    pub(crate) fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Writes a change of buckets: what is known of them is forgotten with its
    /// answer.
    pub(crate) async fn change_buckets<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<CatalogError> + Send + 'static,
    {
        let change = self.known.change();
        self.writer.write(move |db| Ok::<_, E>((work(db)?, change))).await.map(|(done, _)| done)
    }

    /// How well its commits were grouped since it was opened.
    pub fn grouping(&self) -> Grouping {
        self.writer.grouping()
    }

    /// Whose catalogue it is.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// Enters a bucket with its leaf; the position of the leaf.
    ///
    /// # Errors
    /// [`BucketError::NameTaken`], for its id as well.
    pub async fn insert_bucket(&self, bucket: BucketRow, leaf: Leaf) -> Result<u64, BucketError> {
        self.change_buckets(move |db| buckets::insert(db, &bucket, &leaf)).await
    }

    /// The bucket with this name.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn bucket(&self, name: &BucketName) -> Result<Option<BucketRow>, CatalogError> {
        let ticket = match self.known.get(name) {
            Ok(known) => return Ok(Some(known)),
            Err(ticket) => ticket,
        };
        let name = name.clone();
        let found = self.readers.read(move |db| buckets::by_name(db, &name)).await?;
        if let Some(row) = &found {
            self.known.keep(&ticket, row);
        }
        Ok(found)
    }

    /// The bucket with this id.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn bucket_by_id(&self, id: BucketId) -> Result<Option<BucketRow>, CatalogError> {
        self.readers.read(move |db| buckets::by_id(db, id)).await
    }

    /// All buckets, in order of their names.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn buckets(&self) -> Result<Vec<BucketRow>, CatalogError> {
        self.readers.read(buckets::all).await
    }

    /// Removes a bucket in which no object is visible and no put is under
    /// way, with its leaf; the position of the leaf.
    ///
    /// # Errors
    /// [`BucketError::NotEmpty`], [`BucketError::Missing`].
    pub async fn remove_bucket(&self, id: BucketId, leaf: Leaf) -> Result<u64, BucketError> {
        self.change_buckets(move |db| buckets::remove(db, id, &leaf)).await
    }

    /// Reserves a version with its intent leaf. The order is higher than any
    /// given before, in this process or an earlier one.
    ///
    /// # Errors
    /// [`CatalogError::NoBucket`], [`CatalogError::Leaving`], [`CatalogError::PolicyChanged`],
    /// [`CatalogError::VersionTaken`].
    pub async fn reserve(&self, reservation: NewReservation, leaf: Leaf) -> Result<Reserved, CatalogError> {
        self.writer.write(move |db| puts::reserve(db, reservation, &leaf)).await
    }

    /// Turns the reservation of the manifest's version into a version, with
    /// its outcome leaf; the position of the leaf.
    ///
    /// # Errors
    /// [`CommitError::NoReservation`], [`CommitError::Mismatch`].
    pub async fn commit(&self, manifest: ManifestRow, leaf: Leaf) -> Result<u64, CommitError> {
        self.commit_under(manifest, None, NewChallenges::default(), leaf).await
    }

    /// As [`Self::commit`], with the challenges that were made while the
    /// shards were at hand; with `under`, only if that is still the registry
    /// record of the bucket.
    ///
    /// # Errors
    /// Those of [`Self::commit`], and [`CatalogError::PolicyChanged`].
    pub async fn commit_under(
        &self,
        manifest: ManifestRow,
        under: Option<RecordId>,
        challenges: NewChallenges,
        leaf: Leaf,
    ) -> Result<u64, CommitError> {
        let tenant = self.tenant;
        self.writer.write(move |db| puts::commit(db, tenant, &manifest, under, &challenges, &leaf)).await
    }

    /// Enters challenges of a version; without effect if it is gone.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn add_challenges(&self, version: VersionId, new: NewChallenges) -> Result<(), CatalogError> {
        self.writer.write(move |db| challenges::add(db, version, &new)).await
    }

    /// One challenge of the site for each of `chance`, among those that were
    /// asked least often; none twice. They count as asked when this returns,
    /// so that a crash never makes a question that its site has seen look new.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn draw_challenges(
        &self,
        site: SiteId,
        chance: Vec<u64>,
    ) -> Result<Vec<DrawnChallenge>, CatalogError> {
        self.writer.write(move |db| challenges::draw(db, site, &chance)).await
    }

    /// Forgets challenges whose record is no longer where it was.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn drop_challenges(&self, ids: Vec<u64>) -> Result<(), CatalogError> {
        self.writer.write(move |db| challenges::forget(db, &ids)).await
    }

    /// Striped versions after `after` of which a shard has no challenge, in
    /// order of their ids, at most `limit`.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn unchallenged(
        &self,
        after: Option<VersionId>,
        limit: usize,
    ) -> Result<Vec<VersionId>, CatalogError> {
        self.readers.read(move |db| challenges::unchallenged(db, after, limit)).await
    }

    /// How many challenges there are; counts, so not for every request.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn challenge_counts(&self) -> Result<ChallengeCounts, CatalogError> {
        self.readers.read(challenges::counts).await
    }

    /// Takes the reservation of a failed put back, with its outcome leaf; the
    /// position of the leaf.
    ///
    /// # Errors
    /// [`CatalogError::NoReservation`].
    pub async fn abandon(&self, version: VersionId, leaf: Leaf) -> Result<u64, CatalogError> {
        self.writer.write(move |db| puts::abandon(db, version, &leaf)).await
    }

    /// All reservations that are neither committed nor abandoned, by order.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn reservations(&self) -> Result<Vec<ReservationRow>, CatalogError> {
        self.readers.read(puts::reservations).await
    }

    /// The latest visible version of a key; none if it has none.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn latest(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
    ) -> Result<Option<ManifestRow>, CatalogError> {
        let key = key.clone();
        self.readers.read(move |db| lookups::latest(db, bucket, &key)).await
    }

    /// The version of a key that was the newest visible one at `moment`,
    /// whatever was written or deleted after it; none if there was none.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn latest_at(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
        moment: Timestamp,
    ) -> Result<Option<ManifestRow>, CatalogError> {
        let key = key.clone();
        self.readers.read(move |db| lookups::latest_at(db, bucket, &key, moment)).await
    }

    /// The version with this id, whether visible or not.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn version(&self, version: VersionId) -> Result<Option<ManifestRow>, CatalogError> {
        self.readers.read(move |db| lookups::version(db, version)).await
    }

    /// The newest version that stands and that a tombstone of its object of
    /// this order would hide.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn hidden_by(&self, object: ObjectId, order: u64) -> Result<Option<ManifestRow>, CatalogError> {
        self.readers.read(move |db| lookups::hidden_by(db, object, order)).await
    }

    /// The latest visible versions whose keys begin with `prefix` and come
    /// after `after`, in bytewise order of the keys, at most `limit`.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn list(
        &self,
        bucket: BucketId,
        prefix: &[u8],
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Vec<ListRow>, CatalogError> {
        let (prefix, after) = (prefix.to_vec(), after.cloned());
        self.readers.read(move |db| lookups::list(db, bucket, &prefix, after.as_ref(), limit)).await
    }

    /// The same of the versions that were visible at `moment`.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn list_at(
        &self,
        bucket: BucketId,
        prefix: &[u8],
        after: Option<&ObjectKey>,
        limit: usize,
        moment: Timestamp,
    ) -> Result<Vec<ListRow>, CatalogError> {
        let (prefix, after) = (prefix.to_vec(), after.cloned());
        self.readers
            .read(move |db| lookups::list_at(db, bucket, &prefix, after.as_ref(), limit, moment))
            .await
    }

    /// Hides every version of the object up to the tombstone's order, with
    /// its leaf; the position of the leaf. `version` is the visible version
    /// that the caller saw; a newer one stays visible.
    ///
    /// # Errors
    /// [`TombstoneError::Missing`], [`TombstoneError::Mismatch`].
    pub async fn tombstone(
        &self,
        version: VersionId,
        tombstone: TombstoneRow,
        leaf: Leaf,
    ) -> Result<u64, TombstoneError> {
        self.writer.write(move |db| deletes::tombstone(db, version, &tombstone, &leaf)).await
    }

    /// Keeps a deletion that is about to be written to the sites as the record
    /// `record`, with its intent leaf; the position of the leaf. It stays until
    /// [`Self::tombstone`] for this record, or [`Self::drop_deletion`].
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn reserve_deletion(
        &self,
        record: RecordId,
        body: Vec<u8>,
        leaf: Leaf,
    ) -> Result<u64, CatalogError> {
        self.writer.write(move |db| deletes::reserve(db, record, &body, &leaf)).await
    }

    /// Remembers that the withdrawal of a reserved put begins, before its
    /// tombstone goes to the first site: it is never rolled forward after that.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn begin_withdrawal(&self, version: VersionId) -> Result<(), CatalogError> {
        self.put_fact(puts::WITHDRAWN, *version.as_bytes(), Vec::new()).await
    }

    /// The versions whose withdrawal has begun and not ended.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn withdrawals(&self) -> Result<BTreeSet<VersionId>, CatalogError> {
        let begun = self.facts(puts::WITHDRAWN).await?;
        Ok(begun.into_iter().map(|(id, _)| VersionId::from_bytes(id)).collect())
    }

    /// The deletions under way, record and body, in order of their records.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn deletions(&self) -> Result<Vec<(RecordId, Vec<u8>)>, CatalogError> {
        let pending = self.facts(deletes::PENDING).await?;
        Ok(pending.into_iter().map(|(id, body)| (RecordId::from_bytes(id), body)).collect())
    }

    /// Forgets a deletion that has nothing left to hide, with its outcome
    /// leaf; the position of the leaf.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn drop_deletion(&self, record: RecordId, leaf: Leaf) -> Result<u64, CatalogError> {
        self.writer.write(move |db| deletes::forget(db, record, &leaf)).await
    }

    /// Appends a leaf to the audit log; its position, counted from zero.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn append_leaf(&self, leaf: Leaf) -> Result<u64, CatalogError> {
        self.writer.write(move |db| log::append(db, &leaf)).await
    }

    /// Appends leaves to the audit log, all of them or none; the position of
    /// the first.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn append_leaves(&self, leaves: Vec<Leaf>) -> Result<u64, CatalogError> {
        self.writer.write(move |db| log::append_all(db, &leaves)).await
    }

    /// The bodies of the leaves from position `from`, at most `limit`.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn leaves(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, CatalogError> {
        self.readers.read(move |db| log::bodies(db, from, limit)).await
    }

    /// The hashes of the leaves from position `from`, at most `limit`.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn leaf_hashes(&self, from: u64, limit: usize) -> Result<Vec<Digest>, CatalogError> {
        self.readers.read(move |db| log::hashes(db, from, limit)).await
    }

    /// How many leaves the log has.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn log_size(&self) -> Result<u64, CatalogError> {
        self.readers.read(log::size).await
    }

    /// How many leaves, from the first, are safe at the sites.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn replicated_size(&self) -> Result<u64, CatalogError> {
        self.readers.read(log::replicated).await
    }

    /// Notes that the first `size` leaves are safe at the sites; a lower
    /// number than before changes nothing.
    ///
    /// # Errors
    /// [`CatalogError::BeyondLog`].
    pub async fn set_replicated_size(&self, size: u64) -> Result<(), CatalogError> {
        self.writer.write(move |db| log::set_replicated(db, size)).await
    }

    /// Enters an opaque fact, or replaces the one of its kind and id.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn put_fact(&self, kind: &str, id: [u8; 16], body: Vec<u8>) -> Result<(), CatalogError> {
        let kind = kind.to_owned();
        self.writer.write(move |db| facts::put(db, &kind, id, &body)).await
    }

    /// All facts of a kind, id and body, in order of their ids.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn facts(&self, kind: &str) -> Result<Vec<([u8; 16], Vec<u8>)>, CatalogError> {
        let kind = kind.to_owned();
        self.readers.read(move |db| facts::all(db, &kind)).await
    }

    /// Readies the catalogue for many loads: until [`Self::finish_loading`] it
    /// keeps up to `cache_mib` of its pages in memory, and nothing that is
    /// written is safe from a power cut.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn begin_loading(&self, cache_mib: u16) -> Result<(), CatalogError> {
        self.writer.alone(move |db| rebuild::begin(db, cache_mib)).await
    }

    /// Gives the memory of the loads back; returns when everything that was
    /// loaded is fsynced. Whoever marks the catalogue as whole does it after this.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn finish_loading(&self) -> Result<(), CatalogError> {
        self.writer.alone(rebuild::finish).await
    }

    /// Loads a part of what the sites hold, in one transaction and without
    /// leaves of its own; all of it or nothing.
    ///
    /// # Errors
    /// [`CatalogError::BucketNameTwice`], [`CatalogError::OtherTenant`].
    pub async fn load(&self, batch: RebuildBatch) -> Result<(), CatalogError> {
        let tenant = self.tenant;
        self.change_buckets(move |db| rebuild::load(db, tenant, &batch)).await
    }

    /// How much it holds; counts, so not for every request.
    ///
    /// # Errors
    /// [`CatalogError`].
    pub async fn counts(&self) -> Result<Counts, CatalogError> {
        self.readers.read(lookups::counts).await
    }
}
