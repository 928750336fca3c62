//! How a directory site is opened: on which disk, in which threads, how large.

use std::sync::Arc;

use coffer_model::Execution;

use crate::disk::{Disk, HostDisk};

/// How a [`DirectorySite`](crate::DirectorySite) is opened.
#[derive(Clone)]
pub struct SiteOptions {
    /// What it writes to.
    pub disk: Arc<dyn Disk>,
    /// Who does the work. Without threads, compaction and checkpoints happen
    /// only in [`DirectorySite::maintain`](crate::DirectorySite::maintain) and,
    /// the checkpoint, when the site is dropped.
    pub execution: Execution,
    /// Bytes that the site may occupy; `None`: as many as the file system has.
    pub capacity_bytes: Option<u64>,
    /// Length at which a volume takes no further batch, at most 1 GiB; `None`:
    /// 1 GiB, less on a small file system. Smaller volumes are for tests.
    pub volume_bytes: Option<u64>,
    /// Bytes of batches after which the index is written as a checkpoint; no
    /// less than four times what that takes.
    pub checkpoint_bytes: u64,
}

impl Default for SiteOptions {
    /// The disk of this machine, threads, no bound but that of the file
    /// system, a checkpoint each 64 MiB.
    fn default() -> Self {
        Self {
            disk: Arc::new(HostDisk),
            execution: Execution::Threads,
            capacity_bytes: None,
            volume_bytes: None,
            checkpoint_bytes: 64 << 20,
        }
    }
}
