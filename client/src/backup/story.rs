//! The story of a backup: read, store, and only then say that it exists.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_model::{Clock, Digest, Entropy};
use rustix::io::Errno;
use std::os::unix::ffi::OsStrExt;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::ingest::{IngestError, ingest};
use super::problem::Problem;
use super::progress::Progress;
use super::repository::{ReadError, Repository};
use super::sealing::SealingError;
use super::snapshot::{Snapshot, SnapshotId, SnapshotStats};
use super::storing::{Stored, Storing};

/// What the caller decides.
#[derive(Clone, Debug)]
pub struct BackupOptions {
    /// The name of this machine, kept in the snapshot.
    pub host: String,
    /// Threads that compress and seal, beside the one that reads; at least 1.
    pub sealing_threads: usize,
    /// Packs on their way to the store at a time; at least 1. Each is 16 MiB
    /// of memory.
    pub uploads: usize,
}

impl Default for BackupOptions {
    fn default() -> Self {
        Self { host: String::new(), sealing_threads: 2, uploads: 2 }
    }
}

/// What a backup did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    /// The snapshot that now exists.
    pub snapshot: SnapshotId,
    /// Counts of what was read and what of it was new.
    pub stats: SnapshotStats,
    /// Bytes that were sent to the store: sealed packs and index.
    pub stored_bytes: u64,
    /// Packs that were sent.
    pub packs: u64,
    /// What could not be read, or changed meanwhile. Not empty: the backup is
    /// partial, and its caller exits with code 3.
    pub problems: Vec<Problem>,
    /// SHA-256 of the manifest's text.
    pub manifest_digest: Digest,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The root of the tree.
    #[error("{} cannot be opened as a directory ({errno}); name an existing directory", path.display())]
    Root {
        /// The root.
        path: PathBuf,
        /// What the system said.
        errno: Errno,
    },
    /// The repository or its store. What was already stored is found again by
    /// the next run.
    #[error("the backup stopped; run it again, what is stored already is not sent twice: {0}")]
    Repository(#[from] ReadError),
    /// This machine.
    #[error(transparent)]
    Sealing(#[from] SealingError),
    /// The manifest could not be written where the caller wants it.
    #[error("the manifest could not be written: {0}")]
    Manifest(#[source] io::Error),
    /// A worker ended without a word; a defect.
    #[error("a worker thread died; this is a defect")]
    Worker,
}

/// Backs up the tree below `path` and writes its source-time manifest, made
/// from the very bytes that were read, to `manifest`.
///
/// # Errors
/// [`BackupError`]; then there is no snapshot. Entries that could not be read
/// are no error, see [`BackupReport::problems`].
pub async fn backup(
    repository: &Repository,
    path: &Path,
    options: BackupOptions,
    manifest: &mut (dyn Write + Send),
    clock: &dyn Clock,
    entropy: Arc<dyn Entropy>,
    progress: Arc<dyn Progress>,
) -> Result<BackupReport, BackupError> {
    let time = clock.now();
    progress.stage("read the index", None, None);
    let known = repository.known_chunks().await?;

    progress.stage("back up", None, None);
    let (sender, messages) = mpsc::channel(2);
    let reading = {
        let (root, keyring) = (path.to_owned(), Arc::clone(&repository.keyring));
        spawn_blocking(move || ingest(&root, keyring, known, sender, progress))
    };
    let storing = Storing::new(repository, &options, Arc::clone(&entropy));
    let Stored { packs, bytes } = storing.run(messages, manifest).await?;
    let read = reading.await.map_err(|_| BackupError::Worker)?.map_err(|error| match error {
        IngestError::Root(errno) => BackupError::Root { path: path.to_owned(), errno },
        IngestError::Stopped => BackupError::Worker,
    })?;

    let snapshot = Snapshot {
        id: SnapshotId::generate(&*entropy),
        time,
        host: options.host,
        path: path.as_os_str().as_bytes().to_vec(),
        manifest_digest: read.manifest_digest,
        stats: read.stats,
        stream: read.stream,
    };
    repository.put_snapshot(&snapshot, &*entropy).await?;
    Ok(BackupReport {
        snapshot: snapshot.id,
        stats: read.stats,
        stored_bytes: bytes,
        packs,
        problems: read.problems,
        manifest_digest: read.manifest_digest,
    })
}
