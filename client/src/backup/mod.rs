//! The backup engine: a tree on disk becomes sealed packs in a blob store,
//! and comes back exactly. It knows no network: the store is a port.
//!
//! The stories are [`backup`] and [`plan_restore`] / [`restore`]; what a
//! restored tree is judged by is the [`Manifest`] made at the source and
//! [`compare`]. The stored formats are described in `client/BACKUP.md`.

mod blob_store;
mod chunk;
mod chunker;
mod compare;
mod entry;
mod entry_stream;
mod fetch;
#[cfg(test)]
mod hostile;
mod index;
mod ingest;
mod keyring;
mod manifest;
mod manifest_line;
mod memory_store;
mod metadata;
mod pack;
mod part;
mod plan;
mod problem;
mod progress;
mod removal;
mod repository;
mod restore;
mod scan;
mod sealing;
mod snapshot;
mod source_file;
mod storing;
mod story;
mod target;
mod target_file;
mod target_metadata;

pub use blob_store::{BlobStore, BlobStoreError};
pub use chunk::ChunkError;
pub use chunk::{ChunkId, ChunkRef};
pub use chunker::{Chunker, Cutter};
pub use compare::{Difference, DifferenceClass, compare, compare_streams};
pub use entry::{Entry, Kind, Mtime, PathError, check_relative_path, path_order};
pub use entry_stream::EntryError;
pub use fetch::FetchError;
pub use manifest::{Manifest, ManifestError, ManifestReader, ManifestWriter, ReadBack};
pub use memory_store::MemoryStore;
pub use part::Part;
pub use plan::{PlanError, RestorePlan, plan_restore};
pub use problem::{Problem, Trouble};
pub use progress::{Progress, Quiet};
pub use removal::remove_tree;
pub use repository::{InitError, OpenRepositoryError, ReadError, Repository};
pub use restore::{RestoreError, RestoreReport, restore};
pub use scan::{ScanError, TreeManifest, manifest_in_memory, manifest_of_tree};
pub use sealing::{RecordOpenError, SealingError};
pub use snapshot::SnapshotIdError;
pub use snapshot::{Snapshot, SnapshotId, SnapshotStats};
pub use story::{BackupError, BackupOptions, BackupReport, backup};
pub use target::UNFINISHED_MARKER;
