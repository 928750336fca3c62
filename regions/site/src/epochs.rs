//! The epochs of the owners of a site, highest for each scope: in memory for
//! every change to be held against, and on the disk before one counts.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use coffer_model::{ScopeId, SlotId};
use coffer_regions::{Fence, ScrubFinding, SlotContent};

use crate::disk::Disk;
use crate::slots::{SlotError, SlotStore};

/// Scopes of one site: far more than tenants that one deployment has.
const SCOPES_MAX: usize = 4096;

/// Why an epoch does not let a change pass.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EpochError {
    #[error("a later epoch is known")]
    Superseded,
    #[error("an epoch is at least 1, and a site keeps at most {SCOPES_MAX} scopes")]
    OverLimit,
    #[error("the disk failed: {0}")]
    Disk(#[from] io::Error),
}

/// What is known, and the files that it is kept in: one as of a key slot for
/// each scope, whose generation is the epoch.
pub(crate) struct Epochs {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    files: SlotStore,
    known: BTreeMap<ScopeId, u64>,
}

/// An epoch's file has nothing but its generation.
fn content(epoch: u64) -> SlotContent {
    SlotContent { generation: epoch, body: Bytes::new() }
}

fn file_of(scope: ScopeId) -> SlotId {
    SlotId::from_bytes(*scope.as_bytes())
}

impl Epochs {
    /// Reads what is there, and changes nothing; most sites have nothing. A file that cannot be
    /// read is a finding: its scope counts as unknown.
    pub(crate) fn open(dir: PathBuf, disk: Arc<dyn Disk>) -> io::Result<(Self, Vec<ScrubFinding>)> {
        let files = SlotStore::new(dir.clone(), Arc::clone(&disk));
        let mut epochs = Self { dir, disk, files, known: BTreeMap::new() };
        if !epochs.dir.exists() {
            return Ok((epochs, Vec::new()));
        }
        let listed = epochs.files.list()?;
        // None is raised to 0: that is one that cannot be read.
        let read = listed.iter().filter(|line| line.generation > 0);
        epochs.known =
            read.map(|line| (ScopeId::from_bytes(*line.slot.as_bytes()), line.generation)).collect();
        let findings = epochs.files.scrub();
        Ok((epochs, findings))
    }

    /// The epoch of a scope; 0: none was raised.
    pub(crate) fn of(&self, scope: ScopeId) -> u64 {
        self.known.get(&scope).copied().unwrap_or(0)
    }

    /// Raises an epoch, durably; the same again is no error.
    pub(crate) fn raise(&mut self, fence: Fence) -> Result<(), EpochError> {
        let known = self.of(fence.scope);
        if fence.epoch == 0 || (known == 0 && self.known.len() >= SCOPES_MAX) {
            return Err(EpochError::OverLimit);
        }
        if fence.epoch < known {
            return Err(EpochError::Superseded);
        }
        if fence.epoch > known {
            self.store(fence)?;
            self.known.insert(fence.scope, fence.epoch);
        }
        Ok(())
    }

    /// Whether a change may pass; a higher epoch is raised first. Where any
    /// epoch is known, a change without one is nobody's.
    pub(crate) fn admit(&mut self, fence: Option<Fence>) -> Result<(), EpochError> {
        match fence {
            None if self.known.is_empty() => Ok(()),
            None => Err(EpochError::Superseded),
            Some(fence) => self.raise(fence),
        }
    }

    /// Whether letting this change pass writes something.
    pub(crate) fn would_rise(&self, fence: Option<Fence>) -> bool {
        fence.is_some_and(|fence| fence.epoch > self.of(fence.scope))
    }

    fn store(&mut self, fence: Fence) -> Result<(), EpochError> {
        if !self.dir.exists() {
            self.disk.make_dir(&self.dir)?;
            if let Some(parent) = self.dir.parent() {
                self.disk.sync_dir(parent)?;
            }
        }
        let file = file_of(fence.scope);
        let stored = self.files.write(file, &content(fence.epoch));
        // Without the older half, rot makes the epoch unknown, which the scrub
        // reports, and never an older one, which nothing would.
        let stored = stored.and_then(|()| self.files.wipe_superseded(file));
        stored.map_err(|error| match error {
            SlotError::Disk(error) => EpochError::Disk(error),
            // The disk knows a later one than memory: somebody else wrote there.
            SlotError::Conflict => EpochError::Superseded,
            SlotError::Missing | SlotError::Damaged | SlotError::OverLimit => {
                EpochError::Disk(io::ErrorKind::InvalidData.into())
            }
        })
    }

    /// Files that do not match their digest.
    pub(crate) fn scrub(&self) -> Vec<ScrubFinding> {
        if self.dir.exists() { self.files.scrub() } else { Vec::new() }
    }
}
