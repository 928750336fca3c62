//! What the writer, the readers, the scrub and the upkeep of one open site
//! share.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use coffer_model::{RecordId, SiteId};
use coffer_regions::{Fence, Reach, Record, ScrubFinding, SiteError};

use crate::checkpoint;
use crate::disk::{self, Disk, is_full};
use crate::epochs::{EpochError, Epochs};
use crate::holdings::{History, Holdings};
use crate::index::Location;
use crate::options::SiteOptions;
use crate::pulse::Pulse;
use crate::recover::Torn;
use crate::scan;
use crate::site_dir::{SiteDir, SiteLock};
use crate::slots::SlotStore;
use crate::space::Space;
use crate::volume::Volume;

/// A checkpoint is written no sooner than after so many times its length.
const CHECKPOINT_SPARSITY: u64 = 4;

/// The state of one open site.
pub(crate) struct Shared {
    pub(crate) site: SiteId,
    pub(crate) dir: SiteDir,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) space: Space,
    pub(crate) pulse: Pulse,
    /// Held by whoever compacts or writes a checkpoint.
    pub(crate) upkeep: Mutex<()>,
    slots: Mutex<SlotStore>,
    /// Held by whoever changes a slot, so that no owner does after another
    /// has followed him.
    epochs: Mutex<Epochs>,
    holdings: RwLock<Holdings>,
    read_only: AtomicBool,
    damaged: AtomicU64,
    fsyncs: AtomicU64,
    /// Bytes of batches that no checkpoint covers.
    uncovered: AtomicU64,
    /// Bytes of batches after which one is due.
    checkpoint_after: AtomicU64,
    checkpoint_bytes: u64,
    scanned_bytes: u64,
    /// Damage that only the opening saw, since it was cut away or left out.
    pub(crate) opening: Vec<ScrubFinding>,
    /// Keeps other openers out for as long as anything uses the directory.
    _lock: Option<SiteLock>,
}

/// What recovery found, from which the shared state is made.
pub(crate) struct Opened {
    pub(crate) site: SiteId,
    pub(crate) dir: SiteDir,
    pub(crate) slots: SlotStore,
    pub(crate) epochs: Epochs,
    pub(crate) holdings: Holdings,
    pub(crate) read_only: bool,
    pub(crate) damaged: u64,
    pub(crate) findings: Vec<ScrubFinding>,
    pub(crate) scanned_bytes: u64,
    pub(crate) torn: Vec<Torn>,
    /// `None` only for a look at a directory that has no file to lock.
    pub(crate) lock: Option<SiteLock>,
}

impl Shared {
    pub(crate) fn new(opened: Opened, options: &SiteOptions) -> Self {
        Self {
            site: opened.site,
            space: Space::new(opened.dir.root(), options),
            dir: opened.dir,
            disk: options.disk.clone(),
            pulse: Pulse::default(),
            upkeep: Mutex::new(()),
            slots: Mutex::new(opened.slots),
            epochs: Mutex::new(opened.epochs),
            holdings: RwLock::new(opened.holdings),
            read_only: AtomicBool::new(opened.read_only),
            damaged: AtomicU64::new(opened.damaged),
            fsyncs: AtomicU64::new(0),
            uncovered: AtomicU64::new(opened.scanned_bytes),
            checkpoint_after: AtomicU64::new(options.checkpoint_bytes),
            checkpoint_bytes: options.checkpoint_bytes,
            scanned_bytes: opened.scanned_bytes,
            opening: opened.findings,
            _lock: opened.lock,
        }
    }

    /// What the site holds, to read. A thread that panicked cannot leave it
    /// half changed in a way that matters, so poisoning is passed over.
    pub(crate) fn holdings(&self) -> RwLockReadGuard<'_, Holdings> {
        self.holdings.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn holdings_mut(&self) -> RwLockWriteGuard<'_, Holdings> {
        self.holdings.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn slots(&self) -> MutexGuard<'_, SlotStore> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn epochs(&self) -> MutexGuard<'_, Epochs> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a change under this epoch may be made now; a higher epoch is
    /// raised first. Whoever changes something holds what it is asked of.
    pub(crate) fn admit(&self, epochs: &mut Epochs, fence: Option<Fence>) -> Result<(), SiteError> {
        if epochs.would_rise(fence) && self.is_read_only() {
            return Err(SiteError::ReadOnly);
        }
        epochs.admit(fence).map_err(|error| match error {
            EpochError::Superseded => SiteError::Superseded,
            EpochError::OverLimit => SiteError::OverLimit,
            EpochError::Disk(error) if is_full(&error) => SiteError::Full,
            EpochError::Disk(_) => {
                self.close_for_writing();
                SiteError::ReadOnly
            }
        })
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Acquire)
    }

    /// No write is taken from now on.
    pub(crate) fn close_for_writing(&self) {
        self.read_only.store(true, Ordering::Release);
    }

    /// A batch of so many bytes was fsynced.
    pub(crate) fn count_batch(&self, bytes: u64) {
        self.fsyncs.fetch_add(1, Ordering::Relaxed);
        self.uncovered.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn fsyncs(&self) -> u64 {
        self.fsyncs.load(Ordering::Relaxed)
    }

    pub(crate) fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Bytes of volumes that the opening had to scan.
    pub(crate) fn scanned_bytes(&self) -> u64 {
        self.scanned_bytes
    }

    /// Bytes that puts may still write; `None` where nobody knows.
    pub(crate) fn free_for_puts(&self) -> Option<u64> {
        self.space.free_for_puts(self.holdings().volume_bytes())
    }

    /// How far to reserve blocks behind the end of a volume.
    pub(crate) fn preallocation(&self) -> Option<u64> {
        self.space.preallocation(self.holdings().volume_bytes())
    }

    /// Whether enough was written since the last checkpoint for another one.
    pub(crate) fn is_checkpoint_due(&self) -> bool {
        self.uncovered.load(Ordering::Relaxed) >= self.checkpoint_after.load(Ordering::Relaxed)
    }

    /// The next step of upkeep writes a checkpoint: the one there is names a
    /// volume that is gone.
    pub(crate) fn want_checkpoint(&self) {
        self.checkpoint_after.store(0, Ordering::Relaxed);
    }

    /// Whether the checkpoint there is, if any, does not cover everything.
    pub(crate) fn has_uncovered(&self) -> bool {
        self.uncovered.load(Ordering::Relaxed) > 0 || self.checkpoint_after.load(Ordering::Relaxed) == 0
    }

    /// Writes the index as a checkpoint; returns its bytes. Where that fails,
    /// the one before stays.
    pub(crate) fn write_checkpoint(&self) -> io::Result<u64> {
        let (bytes, covered, used) = {
            let holdings = self.holdings();
            let covered = self.uncovered.load(Ordering::Relaxed);
            (checkpoint::encode(self.site, &holdings), covered, holdings.volume_bytes())
        };
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let after = self.checkpoint_bytes.max(length.saturating_mul(CHECKPOINT_SPARSITY));
        // Where it fails, it is not tried again before so much more is written.
        self.checkpoint_after.store(covered.saturating_add(after), Ordering::Relaxed);
        if self.space.free(used).is_some_and(|free| free / 2 < length) {
            // What is kept free is for deletes, slots and compaction.
            return Err(io::ErrorKind::StorageFull.into());
        }
        disk::create_file(self.disk.as_ref(), &self.dir.checkpoint(), &bytes)?;
        self.uncovered.fetch_sub(covered, Ordering::Relaxed);
        self.checkpoint_after.store(after, Ordering::Relaxed);
        Ok(length)
    }

    /// Whether the history of this site holds that very batch, as far as that
    /// can still be told: where the header is gone with a compacted volume or
    /// by damage, and no neighbour says its digest, its number must do.
    pub(crate) fn reaches(&self, reach: Reach) -> Result<bool, SiteError> {
        let history = self.holdings().history(reach);
        match history {
            History::Known(reached) => Ok(reached),
            History::In(held) => {
                let digest = scan::digest_of_batch(&held.volume, held.length, reach.sequence);
                let digest = digest.map_err(|_| SiteError::Unreachable)?;
                Ok(digest.is_none_or(|digest| digest == reach.digest.0))
            }
        }
    }

    /// Where a record lies, and in which file. Both from one look, so that
    /// the file is there even if compaction removes its name meanwhile.
    fn find(&self, id: RecordId) -> Result<(Location, Option<Volume>), SiteError> {
        let holdings = self.holdings();
        let at = holdings.index.get(id).ok_or(SiteError::Missing)?;
        Ok((at, holdings.volumes.get(&at.volume).map(|held| held.volume.clone())))
    }

    /// Reads a part of a body as it lies on the disk.
    pub(crate) fn read_range(&self, id: RecordId, range: Range<u32>) -> Result<Bytes, SiteError> {
        let (at, volume) = self.find(id)?;
        if range.start > range.end || range.end > at.entry.body_bytes {
            return Err(SiteError::OverLimit);
        }
        match volume.map(|volume| scan::read_part(&volume.file, at.offset, &range)) {
            Some(Ok(Some(bytes))) => Ok(bytes),
            Some(Err(_)) => Err(SiteError::Unreachable),
            None | Some(Ok(None)) => Err(SiteError::Damaged),
        }
    }

    /// Reads the record at `at`; remembers it if it is damaged. Missing if it
    /// lies elsewhere by now and its volume is gone.
    pub(crate) fn read_at(&self, at: &Location) -> Result<Record, SiteError> {
        let volume = self.holdings().volumes.get(&at.volume).map(|held| held.volume.clone());
        self.read_from(at, volume.ok_or(SiteError::Missing)?)
    }

    fn read_from(&self, at: &Location, volume: Volume) -> Result<Record, SiteError> {
        match scan::read_body(&volume.file, at.offset, &at.entry) {
            Ok(Some(record)) => Ok(record),
            Err(_) => Err(SiteError::Unreachable),
            Ok(None) => {
                if self.holdings_mut().index.mark_damaged(at) {
                    self.damaged.fetch_add(1, Ordering::Relaxed);
                }
                Err(SiteError::Damaged)
            }
        }
    }

    /// Reads a record.
    pub(crate) fn read(&self, id: RecordId) -> Result<Record, SiteError> {
        let (at, volume) = self.find(id)?;
        self.read_from(&at, volume.ok_or(SiteError::Damaged)?)
    }

    /// Reads a small record if that needs no wait for the medium; `None`
    /// where it does, or where anything is not as it should be.
    pub(crate) fn read_cached(&self, id: RecordId) -> Option<Result<Record, SiteError>> {
        match self.find(id) {
            Ok((at, volume)) => scan::read_body_cached(&volume?.file, at.offset, &at.entry).map(Ok),
            Err(error) => Some(Err(error)),
        }
    }
}
