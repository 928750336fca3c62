//! The act of a restore: one thread opens chunks, another writes the tree.
//! Nothing counts as restored until the marker in the target is gone.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use rustix::io::Errno;
use tokio::task::spawn_blocking;

use super::entry::Entry;
use super::fetch::{ChunkSource, EntrySource, FetchError, fetch_ahead};
use super::part::Chosen;
use super::plan::RestorePlan;
use super::problem::Problem;
use super::progress::Progress;
use super::repository::Repository;
use super::target::Target;

/// Why a tree was not restored. Its target keeps the marker of an unfinished
/// restore.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Stored data could not be had back whole.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A file came out with another digest than it was stored with.
    #[error("the content of {path:?} is not what was backed up; restore another snapshot and report this")]
    Content {
        /// Escaped path.
        path: String,
    },
    /// The target changed since the plan, or the disk refuses.
    #[error("could not {step} {path:?} in the target: {errno}")]
    Target {
        /// What was tried.
        step: &'static str,
        /// Escaped path below the target, empty for the target itself.
        path: String,
        /// What the system said.
        errno: Errno,
    },
    /// The target is no longer empty.
    #[error("{} is not empty any more; plan again with an empty directory", path.display())]
    TargetNotEmpty {
        /// The target.
        path: PathBuf,
    },
    /// A worker ended without a word; a defect.
    #[error("a worker thread died; this is a defect")]
    Worker,
}

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreReport {
    /// Entries of all kinds that are there now.
    pub entries: u64,
    /// Bytes written: data extents.
    pub bytes: u64,
    /// What could not be restored of single entries: an owner without
    /// privilege, a device. Not empty: the restore is partial, and its caller
    /// exits with code 3.
    pub problems: Vec<Problem>,
}

/// From the opening to the writing thread.
enum Step {
    Entry(Entry),
    /// The next bytes of the last entry.
    Data(Vec<u8>),
}

/// Steps travel together until they hold this much.
const BATCH_BYTES: usize = 2 << 20;
const BATCH_STEPS: usize = 512;

/// Carries out a plan.
///
/// # Errors
/// [`RestoreError`]; the target is then no tree that passes as whole.
pub async fn restore(
    repository: &Repository,
    plan: RestorePlan,
    progress: Arc<dyn Progress>,
) -> Result<RestoreReport, RestoreError> {
    progress.stage("restore", Some(plan.bytes), Some(plan.entries));
    let (store, keyring) = (Arc::clone(&repository.store), Arc::clone(&repository.keyring));
    let RestorePlan { snapshot, target, schedule, index, part, .. } = plan;
    let entries = EntrySource::start(Arc::clone(&store), Arc::clone(&index), Arc::clone(&keyring), &snapshot);
    let entries = Chosen::of(entries, part);
    let chunks = ChunkSource::new(Arc::clone(&index), keyring, fetch_ahead(store, index, schedule));
    let (sender, steps) = sync_channel(2);
    let opening = spawn_blocking(move || open_all(entries, chunks, &sender));
    let writing = spawn_blocking(move || write_all(target, &steps, &*progress));

    // The writer ends when the opener is done, the opener when the writer is gone.
    let written = writing.await.map_err(|_| RestoreError::Worker)?;
    let opened = opening.await.map_err(|_| RestoreError::Worker)?;
    let (target, bytes) = written?;
    opened?;
    spawn_blocking(move || {
        target.finish().map(|(entries, problems)| RestoreReport { entries, bytes, problems })
    })
    .await
    .map_err(|_| RestoreError::Worker)?
}

fn open_all(
    mut entries: Chosen,
    mut chunks: ChunkSource,
    sender: &SyncSender<Vec<Step>>,
) -> Result<(), FetchError> {
    let mut batch = Vec::new();
    let mut batch_bytes = 0;
    while let Some(stored) = entries.next()? {
        batch.push(Step::Entry(stored.entry));
        for chunk in &stored.chunks {
            let data = chunks.read(chunk)?;
            batch_bytes += data.len();
            batch.push(Step::Data(data));
            if batch_bytes >= BATCH_BYTES {
                batch_bytes = 0;
                // If nobody listens, the writer knows why.
                if sender.send(std::mem::take(&mut batch)).is_err() {
                    return Ok(());
                }
            }
        }
        if batch.len() >= BATCH_STEPS {
            batch_bytes = 0;
            if sender.send(std::mem::take(&mut batch)).is_err() {
                return Ok(());
            }
        }
    }
    let _ = sender.send(batch);
    Ok(())
}

fn write_all(
    target: PathBuf,
    steps: &Receiver<Vec<Step>>,
    progress: &dyn Progress,
) -> Result<(Target, u64), RestoreError> {
    let mut target = Target::create(&target)?;
    let mut total = 0;
    while let Ok(batch) = steps.recv() {
        let mut items = 0;
        let mut bytes = 0;
        for step in batch {
            match step {
                Step::Entry(entry) => {
                    items += 1;
                    target.place(entry)?;
                }
                Step::Data(data) => {
                    bytes += u64::try_from(data.len()).unwrap_or(u64::MAX);
                    target.write(&data)?;
                }
            }
        }
        progress.advance(bytes, items);
        total += bytes;
    }
    Ok((target, total))
}
