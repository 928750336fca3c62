//! The repository: one blob that says what it is, and every other reached
//! through it under the keys of one master key.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use coffer_keys::{RecoveryPublicKey, RecoverySecret, RepositoryKey, open_sealed, seal_to};
use coffer_model::Entropy;
use serde::{Deserialize, Serialize};

use super::blob_store::{BlobStore, BlobStoreError};
use super::chunker::{CHUNK_BYTES_AVERAGE, CHUNK_BYTES_MAX, CHUNK_BYTES_MIN};
use super::index::{Index, IndexRecord, KnownChunks, PackIndex};
use super::keyring::Keyring;
use super::pack::read_trailer;
use super::sealing::{RecordName, RecordOpenError, SealingError, open_record, seal_record};
use super::snapshot::{Snapshot, SnapshotId};
use crate::digits::hex;

const CONFIG: RecordName<'static> = RecordName { label: "backup repository v1", name: "repository" };
const RECOVERY_BLOB: &str = "keys/recovery";
const RECOVERY_INFO: &[u8] = b"coffer backup repository key v1";

/// What must not change during the life of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Config {
    format: u32,
    id: [u8; 16],
    chunk_min: u32,
    chunk_average: u32,
    chunk_max: u32,
}

impl Config {
    /// The configuration of format 1.
    fn of(id: [u8; 16]) -> Self {
        let bytes = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            format: 1,
            id,
            chunk_min: bytes(CHUNK_BYTES_MIN),
            chunk_average: bytes(CHUNK_BYTES_AVERAGE),
            chunk_max: bytes(CHUNK_BYTES_MAX),
        }
    }
}

/// Why a repository could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is one already.
    #[error("the store already holds a repository; open it, or choose another place")]
    Exists,
    /// The store.
    #[error(transparent)]
    Store(#[from] BlobStoreError),
    /// This machine.
    #[error(transparent)]
    Sealing(#[from] SealingError),
    /// The recovery key does not take a seal.
    #[error("the recovery key cannot be sealed to; check that it is the public key of this tenant")]
    RecoveryKey,
}

/// Why a repository could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenRepositoryError {
    /// The store holds none.
    #[error("the store holds no repository; check the place, or create one there")]
    NoRepository,
    /// The store.
    #[error(transparent)]
    Store(BlobStoreError),
    /// The key is another repository's.
    #[error("this key does not open this repository")]
    WrongKey,
    /// The configuration is damaged or from another format.
    #[error("the repository's configuration does not open: {0}")]
    Config(RecordOpenError),
    /// Made with parameters that this program does not know.
    #[error("the repository has a format or chunk sizes that this program does not know; use a newer one")]
    Parameters,
    /// No recovery key was named when it was made.
    #[error("the repository was made without a recovery key; only its own key opens it")]
    NoRecovery,
    /// The recovery secret is another one, or the seal is damaged.
    #[error("this recovery secret does not open the repository's key")]
    Recovery,
}

/// Why something in an open repository could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The store.
    #[error(transparent)]
    Store(#[from] BlobStoreError),
    /// A record does not open.
    #[error("\"{name}\" does not open: {cause}")]
    Record {
        /// The blob.
        name: String,
        /// Why.
        cause: RecordOpenError,
    },
    /// The snapshot is not there.
    #[error("the repository has no snapshot {0}; list the snapshots to see them")]
    NoSnapshot(SnapshotId),
    /// This machine.
    #[error(transparent)]
    Sealing(#[from] SealingError),
}

/// An open repository.
pub struct Repository {
    pub(crate) store: Arc<dyn BlobStore>,
    pub(crate) keyring: Arc<Keyring>,
    id: [u8; 16],
}

impl Repository {
    /// Makes a repository in an empty place and opens it. With a recovery key,
    /// the master key is sealed to it and stored beside.
    ///
    /// # Errors
    /// [`InitError`].
    pub async fn init(
        store: Arc<dyn BlobStore>,
        key: &RepositoryKey,
        recovery: Option<&RecoveryPublicKey>,
        entropy: &dyn Entropy,
    ) -> Result<Self, InitError> {
        match store.get(CONFIG.name).await {
            Ok(_) => return Err(InitError::Exists),
            Err(BlobStoreError::Missing { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let keyring = Arc::new(Keyring::derive(key));
        if let Some(public) = recovery {
            let sealed = seal_to(public, RECOVERY_INFO, key.danger_expose(), entropy)
                .map_err(|_| InitError::RecoveryKey)?;
            store.put(RECOVERY_BLOB, sealed.into()).await?;
        }
        let id = entropy.sixteen();
        // Last: what has no configuration is no repository.
        let config = seal_record(&keyring.records, entropy, &CONFIG, &Config::of(id))?;
        store.put(CONFIG.name, config.into()).await?;
        Ok(Self { store, keyring, id })
    }

    /// Opens a repository with its own key.
    ///
    /// # Errors
    /// [`OpenRepositoryError`].
    pub async fn open(store: Arc<dyn BlobStore>, key: &RepositoryKey) -> Result<Self, OpenRepositoryError> {
        let bytes = store.get(CONFIG.name).await.map_err(|error| match error {
            BlobStoreError::Missing { .. } => OpenRepositoryError::NoRepository,
            other => OpenRepositoryError::Store(other),
        })?;
        let keyring = Arc::new(Keyring::derive(key));
        let config: Config = open_record(&keyring.records, &CONFIG, &bytes).map_err(|cause| match cause {
            RecordOpenError::WrongKey => OpenRepositoryError::WrongKey,
            other => OpenRepositoryError::Config(other),
        })?;
        if config != Config::of(config.id) {
            return Err(OpenRepositoryError::Parameters);
        }
        Ok(Self { store, keyring, id: config.id })
    }

    /// Opens a repository with the tenant's recovery secret alone.
    ///
    /// # Errors
    /// [`OpenRepositoryError`].
    pub async fn open_with_recovery(
        store: Arc<dyn BlobStore>,
        secret: &RecoverySecret,
    ) -> Result<Self, OpenRepositoryError> {
        let sealed = store.get(RECOVERY_BLOB).await.map_err(|error| match error {
            BlobStoreError::Missing { .. } => OpenRepositoryError::NoRecovery,
            other => OpenRepositoryError::Store(other),
        })?;
        let master =
            open_sealed(secret, RECOVERY_INFO, &sealed).map_err(|_| OpenRepositoryError::Recovery)?;
        Self::open(store, &RepositoryKey::danger_from_bytes(master)).await
    }

    /// Sixteen random bytes that name the repository.
    pub fn id(&self) -> [u8; 16] {
        self.id
    }

    /// The same repository, reached through another store that holds it.
    pub fn through(&self, store: Arc<dyn BlobStore>) -> Self {
        Self { store, keyring: Arc::clone(&self.keyring), id: self.id }
    }

    /// All snapshots, oldest first.
    ///
    /// # Errors
    /// [`ReadError`]; a damaged one does not hide the others from
    /// [`Self::snapshot_ids`] and [`Self::snapshot`].
    pub async fn snapshots(&self) -> Result<Vec<Snapshot>, ReadError> {
        let mut found = Vec::new();
        for id in self.snapshot_ids().await? {
            found.push(self.snapshot(&id).await?);
        }
        found.sort_by_key(|snapshot| (snapshot.time, snapshot.id));
        Ok(found)
    }

    /// The ids of all snapshots, in no order.
    ///
    /// # Errors
    /// [`ReadError::Store`].
    pub async fn snapshot_ids(&self) -> Result<Vec<SnapshotId>, ReadError> {
        let names = self.store.list("snapshots/").await?;
        Ok(names.iter().filter_map(|name| name.strip_prefix("snapshots/")?.parse().ok()).collect())
    }

    /// One snapshot.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn snapshot(&self, id: &SnapshotId) -> Result<Snapshot, ReadError> {
        let name = format!("snapshots/{id}");
        let bytes = self.store.get(&name).await.map_err(|error| match error {
            BlobStoreError::Missing { .. } => ReadError::NoSnapshot(*id),
            other => ReadError::Store(other),
        })?;
        self.open_record("backup snapshot v1", name, &bytes)
    }

    /// Writes a snapshot; everything it refers to is durable by now.
    pub(crate) async fn put_snapshot(
        &self,
        snapshot: &Snapshot,
        entropy: &dyn Entropy,
    ) -> Result<(), ReadError> {
        let name = format!("snapshots/{}", snapshot.id);
        self.put_record("backup snapshot v1", &name, snapshot, entropy).await.map(drop)
    }

    /// Writes an index record under a random name; returns its length.
    pub(crate) async fn put_index(
        &self,
        record: &IndexRecord,
        entropy: &dyn Entropy,
    ) -> Result<u64, ReadError> {
        let name = format!("index/{}", hex(&entropy.sixteen()));
        self.put_record("backup index v1", &name, record, entropy).await
    }

    /// The chunks that need not be stored again: in an index, and their pack
    /// still in the store.
    pub(crate) async fn known_chunks(&self) -> Result<KnownChunks, ReadError> {
        let mut known = KnownChunks::default();
        self.each_pack(|pack| known.extend(pack.chunks.iter().map(|(id, _)| *id))).await?;
        Ok(known)
    }

    /// Where every chunk lies whose pack is in the store.
    pub(crate) async fn load_index(&self) -> Result<Index, ReadError> {
        let mut index = Index::default();
        let mut sound = true;
        self.each_pack(|pack| sound &= index.add(pack).is_some()).await?;
        if sound {
            return Ok(index);
        }
        Err(ReadError::Record { name: "index/".to_owned(), cause: RecordOpenError::Format })
    }

    /// Makes the index again from the trailers of all packs, and replaces the
    /// old one; for a repository whose index is lost or damaged. Returns the
    /// number of packs that were read; a damaged one is left out.
    ///
    /// # Errors
    /// [`ReadError`] of the store.
    pub async fn rebuild_index(&self, entropy: &dyn Entropy) -> Result<u64, ReadError> {
        let old = self.store.list("index/").await?;
        let mut record = IndexRecord::default();
        let mut packs = 0;
        for name in self.store.list("packs/").await? {
            let body = self.store.get(&name).await?;
            let Ok(pack) = read_trailer(&self.keyring, &body) else { continue };
            if pack.blob() != name {
                continue;
            }
            record.packs.push(pack);
            packs += 1;
            if record.packs.len() >= 1024 {
                self.put_index(&std::mem::take(&mut record), entropy).await?;
            }
        }
        self.put_index(&record, entropy).await?;
        for name in old {
            self.store.delete(&name).await?;
        }
        Ok(packs)
    }

    async fn each_pack(&self, mut each: impl FnMut(&PackIndex)) -> Result<(), ReadError> {
        let names = self.store.list("index/").await?;
        let present: HashSet<String> = self.store.list("packs/").await?.into_iter().collect();
        for name in names {
            let bytes = self.store.get(&name).await?;
            let record: IndexRecord = self.open_record("backup index v1", name, &bytes)?;
            record.packs.iter().filter(|pack| present.contains(&pack.blob())).for_each(&mut each);
        }
        Ok(())
    }

    async fn put_record<T: Serialize>(
        &self,
        label: &'static str,
        name: &str,
        record: &T,
        entropy: &dyn Entropy,
    ) -> Result<u64, ReadError> {
        let body: Bytes =
            seal_record(&self.keyring.records, entropy, &RecordName { label, name }, record)?.into();
        let bytes = u64::try_from(body.len()).unwrap_or(u64::MAX);
        self.store.put(name, body).await?;
        Ok(bytes)
    }

    fn open_record<T: serde::de::DeserializeOwned>(
        &self,
        label: &'static str,
        name: String,
        bytes: &[u8],
    ) -> Result<T, ReadError> {
        open_record(&self.keyring.records, &RecordName { label, name: &name }, bytes)
            .map_err(|cause| ReadError::Record { name, cause })
    }
}
