//! What the writer, the readers and the scrub of one open site share.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bytes::Bytes;
use coffer_model::{RecordId, SiteId};
use coffer_regions::{Reach, Record, ScrubCursor, ScrubFinding, ScrubStep, SiteError};

use crate::disk::Disk;
use crate::index::{Index, Location};
use crate::scan::{self, Chain, Found};
use crate::site_dir::SiteLock;
use crate::slots::SlotStore;
use crate::volume::{Volume, place};

/// A volume and how far it has been fsynced.
#[derive(Clone)]
pub(crate) struct DurableVolume {
    pub(crate) volume: Volume,
    /// Bytes that hold whole batches, or damage that is left where it is.
    pub(crate) length: u64,
}

/// The state of one open site.
pub(crate) struct Shared {
    pub(crate) site: SiteId,
    pub(crate) volumes_dir: PathBuf,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) slots: Mutex<SlotStore>,
    index: RwLock<Index>,
    volumes: RwLock<BTreeMap<u32, DurableVolume>>,
    read_only: AtomicBool,
    damaged: AtomicU64,
    fsyncs: AtomicU64,
    last_batch: Mutex<Option<Reach>>,
    /// Damage that only the opening saw, since it was cut away or left out.
    opening: Vec<ScrubFinding>,
    /// Keeps other openers out for as long as anything uses the directory.
    _lock: SiteLock,
}

/// What recovery found, from which the shared state is made.
pub(crate) struct Opened {
    pub(crate) site: SiteId,
    pub(crate) volumes_dir: PathBuf,
    pub(crate) slots: SlotStore,
    pub(crate) index: Index,
    pub(crate) volumes: BTreeMap<u32, DurableVolume>,
    pub(crate) read_only: bool,
    pub(crate) damaged: u64,
    pub(crate) findings: Vec<ScrubFinding>,
    pub(crate) last_batch: Option<Reach>,
    pub(crate) lock: SiteLock,
}

impl Shared {
    pub(crate) fn new(opened: Opened, disk: Arc<dyn Disk>) -> Self {
        Self {
            site: opened.site,
            volumes_dir: opened.volumes_dir,
            disk,
            slots: Mutex::new(opened.slots),
            index: RwLock::new(opened.index),
            volumes: RwLock::new(opened.volumes),
            read_only: AtomicBool::new(opened.read_only),
            damaged: AtomicU64::new(opened.damaged),
            fsyncs: AtomicU64::new(0),
            last_batch: Mutex::new(opened.last_batch),
            opening: opened.findings,
            _lock: opened.lock,
        }
    }

    /// The index, to read. A thread that panicked cannot leave it half
    /// changed in a way that matters, so poisoning is passed over.
    pub(crate) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn slots(&self) -> MutexGuard<'_, SlotStore> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn volumes(&self) -> RwLockReadGuard<'_, BTreeMap<u32, DurableVolume>> {
        self.volumes.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a volume, or its new durable length.
    pub(crate) fn set_volume(&self, volume: DurableVolume) {
        let mut volumes = self.volumes.write().unwrap_or_else(PoisonError::into_inner);
        volumes.insert(volume.volume.number, volume);
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Acquire)
    }

    /// No write is taken from now on.
    pub(crate) fn close_for_writing(&self) {
        self.read_only.store(true, Ordering::Release);
    }

    pub(crate) fn count_fsync(&self) {
        self.fsyncs.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn fsyncs(&self) -> u64 {
        self.fsyncs.load(Ordering::Relaxed)
    }

    pub(crate) fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    pub(crate) fn volume_bytes(&self) -> u64 {
        self.volumes().values().map(|volume| volume.length).sum()
    }

    /// The last batch that was fsynced.
    pub(crate) fn last_batch(&self) -> Option<Reach> {
        *self.last_batch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_last_batch(&self, reach: Option<Reach>) {
        *self.last_batch.lock().unwrap_or_else(PoisonError::into_inner) = reach;
    }

    /// Whether the history of this site goes at least so far; the last batch
    /// itself must be the very one.
    pub(crate) fn reaches(&self, reach: Reach) -> bool {
        self.last_batch().is_some_and(|last| last == reach || last.sequence > reach.sequence)
    }

    /// Reads a part of a body as it lies on the disk.
    pub(crate) fn read_range(&self, id: RecordId, range: Range<u32>) -> Result<Bytes, SiteError> {
        let at = self.index().get(id).ok_or(SiteError::Missing)?;
        if range.start > range.end || range.end > at.entry.body_bytes {
            return Err(SiteError::OverLimit);
        }
        let file = self.volumes().get(&at.volume).map(|volume| volume.volume.file.clone());
        let read = file.map(|file| scan::read_part(&file, at.offset, &range));
        match read {
            Some(Ok(Some(bytes))) => Ok(bytes),
            Some(Err(_)) => Err(SiteError::Unreachable),
            None | Some(Ok(None)) => Err(SiteError::Damaged),
        }
    }

    /// Verifies records from a place of the disk on, oldest first.
    pub(crate) fn scrub_step(
        &self,
        from: Option<ScrubCursor>,
        bytes_max: u64,
    ) -> Result<ScrubStep, SiteError> {
        let (volume, offset) = from.map_or((0, 0), scrub_place);
        let all = self.index().in_disk_order();
        let start = all.partition_point(|at| (at.volume, at.offset) < (volume, offset));
        let mut step = ScrubStep::default();
        for at in all.get(start..).unwrap_or_default() {
            if step.records > 0 && step.bytes >= bytes_max {
                step.next = Some(scrub_cursor(at.volume, at.offset));
                break;
            }
            step.records += 1;
            step.bytes += u64::from(at.entry.body_bytes);
            let damaged = self.read_at(at) == Err(SiteError::Damaged);
            if damaged && self.index().get(at.entry.id).is_some_and(|now| now.offset == at.offset) {
                step.findings
                    .push(ScrubFinding { record: Some(at.entry.id), place: place(at.volume, at.offset) });
            }
        }
        Ok(step)
    }

    /// Reads the record at `at`; remembers it if it is damaged.
    pub(crate) fn read_at(&self, at: &Location) -> Result<Record, SiteError> {
        let file = self.volumes().get(&at.volume).map(|volume| volume.volume.file.clone());
        let record = file.map(|file| scan::read_body(&file, at.offset, &at.entry));
        match record {
            Some(Ok(Some(record))) => Ok(record),
            Some(Err(_)) => Err(SiteError::Unreachable),
            None | Some(Ok(None)) => {
                if self.index_mut().mark_damaged(at) {
                    self.damaged.fetch_add(1, Ordering::Relaxed);
                }
                Err(SiteError::Damaged)
            }
        }
    }

    /// Reads a record. The index is asked again if the record moved meanwhile.
    pub(crate) fn read(&self, id: RecordId) -> Result<Record, SiteError> {
        let at = self.index().get(id).ok_or(SiteError::Missing)?;
        self.read_at(&at)
    }

    /// Reads the headers and tables of every volume.
    pub(crate) fn check_framing(&self) -> Result<Vec<ScrubFinding>, SiteError> {
        let mut findings = self.opening.clone();
        let volumes: Vec<DurableVolume> = self.volumes().values().cloned().collect();
        let mut chain = Chain::START;
        for durable in &volumes {
            scan_framing(durable, &mut chain, &mut findings).map_err(|_| SiteError::Unreachable)?;
        }
        Ok(findings)
    }

    /// Reads everything: the framing of every volume, the body of every
    /// record that is not removed, every slot.
    pub(crate) fn scrub(&self) -> Result<Vec<ScrubFinding>, SiteError> {
        let mut findings = self.check_framing()?;
        let snapshot = self.index().in_disk_order();
        for at in snapshot {
            // A record that was removed or replaced meanwhile is no finding.
            let here = |now: &Location| (now.volume, now.offset) == (at.volume, at.offset);
            if self.read_at(&at) == Err(SiteError::Damaged)
                && self.index().get(at.entry.id).is_some_and(|now| here(&now))
            {
                findings.push(ScrubFinding { record: Some(at.entry.id), place: place(at.volume, at.offset) });
            }
        }
        findings.extend(self.slots().scrub());
        Ok(findings)
    }
}

/// A cursor is the place on the disk: volume, then offset, big-endian.
fn scrub_cursor(volume: u32, offset: u64) -> ScrubCursor {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&volume.to_be_bytes());
    bytes[8..].copy_from_slice(&offset.to_be_bytes());
    ScrubCursor(bytes)
}

fn scrub_place(cursor: ScrubCursor) -> (u32, u64) {
    (
        u32::from_be_bytes(crate::batch::field(&cursor.0, 4)),
        u64::from_be_bytes(crate::batch::field(&cursor.0, 8)),
    )
}

/// Adds the damage in the headers and tables of one volume to `findings`.
fn scan_framing(
    durable: &DurableVolume,
    chain: &mut Chain,
    findings: &mut Vec<ScrubFinding>,
) -> io::Result<()> {
    let volume = &durable.volume;
    let whole = crate::volume::read_header(&volume.file)?;
    if !matches!(whole, Ok((_, false))) {
        findings.push(ScrubFinding { record: None, place: place(volume.number, 0) });
    }
    let mut found = |found| {
        if let Found::Damage { volume, offset, .. } = found {
            findings.push(ScrubFinding { record: None, place: place(volume, offset) });
        }
    };
    let end = scan::scan_volume(volume, durable.length, chain, &mut found)?;
    match end.tail {
        scan::Tail::Clean => {}
        scan::Tail::Short(at) | scan::Tail::Unknown { at, .. } => {
            chain.previous = None;
            findings.push(ScrubFinding { record: None, place: place(volume.number, at) });
        }
    }
    Ok(())
}
