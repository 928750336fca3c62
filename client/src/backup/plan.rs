//! The plan of a restore: everything that can be refused is refused here,
//! before the target is touched.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;
use tokio::task::spawn_blocking;

use super::entry::Kind;
use super::fetch::{EntrySource, Fetch, FetchError, FetchPlanner};
use super::index::Index;
use super::part::{Chosen, Part};
use super::repository::{ReadError, Repository};
use super::snapshot::{Snapshot, SnapshotId};
use super::target::check_target;

/// Why a restore was refused before it began.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The target is there and not empty.
    #[error("{} is not empty; restore into a new or an empty directory", path.display())]
    TargetNotEmpty {
        /// The target.
        path: PathBuf,
    },
    /// The target cannot be looked at, or is no directory.
    #[error("{} cannot be used as the target ({errno})", path.display())]
    Target {
        /// The target.
        path: PathBuf,
        /// What the system said.
        errno: Errno,
    },
    /// The repository.
    #[error(transparent)]
    Repository(#[from] ReadError),
    /// The snapshot's entries, or the chunks that it needs.
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

/// What a restore will do.
pub struct RestorePlan {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Where to.
    pub target: PathBuf,
    /// Entries of all kinds.
    pub entries: u64,
    /// Regular files, hard links once.
    pub files: u64,
    /// Names of files beyond the first.
    pub hard_links: u64,
    /// Bytes that will be written: data extents, no holes.
    pub bytes: u64,
    /// Bytes that will be fetched for them.
    pub fetch_bytes: u64,
    /// Fetches; at least one for each pack that is needed.
    pub fetches: u64,
    pub(crate) schedule: Vec<Fetch>,
    pub(crate) index: Arc<Index>,
    /// Which entries; none: all of them.
    pub(crate) part: Option<Part>,
}

/// Reads the snapshot's entries, checks them all and the target, and finds
/// where every chunk lies.
///
/// # Errors
/// [`PlanError`]; nothing was written.
pub async fn plan_restore(
    repository: &Repository,
    snapshot: &SnapshotId,
    target: &Path,
) -> Result<RestorePlan, PlanError> {
    check_target(target)?;
    let snapshot = repository.snapshot(snapshot).await?;
    let index = Arc::new(repository.load_index().await?);
    let entries = EntrySource::start(
        Arc::clone(&repository.store),
        Arc::clone(&index),
        Arc::clone(&repository.keyring),
        &snapshot,
    );
    let target = target.to_owned();
    walk(Chosen::of(entries, None), snapshot, target, index, None).await
}

impl RestorePlan {
    /// The plan of a part of the same tree, into another target.
    ///
    /// # Errors
    /// As [`plan_restore`].
    pub async fn of_part(
        &self,
        repository: &Repository,
        part: Part,
        target: &Path,
    ) -> Result<Self, PlanError> {
        check_target(target)?;
        let index = Arc::clone(&self.index);
        let (store, keyring) = (Arc::clone(&repository.store), Arc::clone(&repository.keyring));
        let entries = EntrySource::start(store, Arc::clone(&index), keyring, &self.snapshot);
        let chosen = Chosen::of(entries, Some(part.clone()));
        walk(chosen, self.snapshot.clone(), target.to_owned(), index, Some(part)).await
    }
}

async fn walk(
    entries: Chosen,
    snapshot: Snapshot,
    target: PathBuf,
    index: Arc<Index>,
    part: Option<Part>,
) -> Result<RestorePlan, PlanError> {
    spawn_blocking(move || walk_entries(entries, snapshot, target, index, part))
        .await
        .map_err(|_| FetchError::Worker)?
        .map_err(PlanError::Fetch)
}

fn walk_entries(
    mut source: Chosen,
    snapshot: Snapshot,
    target: PathBuf,
    index: Arc<Index>,
    part: Option<Part>,
) -> Result<RestorePlan, FetchError> {
    let mut planner = FetchPlanner::new();
    let (mut entries, mut files, mut hard_links, mut bytes) = (0, 0, 0, 0);
    while let Some(stored) = source.next()? {
        entries += 1;
        let is_link = stored.entry.hard_link_to.is_some();
        hard_links += u64::from(is_link);
        files += u64::from(stored.entry.kind == Kind::File && !is_link);
        for chunk in &stored.chunks {
            planner.need(index.find(&chunk.id).ok_or(FetchError::NoChunk { id: chunk.id })?);
            bytes += u64::from(chunk.bytes);
        }
    }
    let schedule = planner.fetches;
    let fetch_bytes = schedule.iter().map(|fetch| u64::from(fetch.to - fetch.from)).sum();
    let fetches = u64::try_from(schedule.len()).unwrap_or(u64::MAX);
    Ok(RestorePlan {
        snapshot,
        target,
        entries,
        files,
        hard_links,
        bytes,
        fetch_bytes,
        fetches,
        schedule,
        index,
        part,
    })
}
