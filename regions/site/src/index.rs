//! Which records a site holds and where: rebuilt from the volumes when the
//! site is opened, changed only after an fsync.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use coffer_model::RecordId;
use coffer_regions::{ListedRecord, RecordKind};

use crate::batch::RecordEntry;

/// Where one record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) volume: u32,
    /// Offset of the body.
    pub(crate) offset: u64,
    pub(crate) entry: RecordEntry,
    /// Its body was read and did not match: a new put may replace it.
    pub(crate) damaged: bool,
}

/// The records of a site by id, and their ids by kind in order.
#[derive(Default)]
pub(crate) struct Index {
    records: HashMap<RecordId, Location>,
    by_kind: [BTreeSet<RecordId>; RecordKind::ALL.len()],
    damaged: u64,
    dead_bytes: u64,
}

impl Index {
    fn of_kind(&mut self, kind: RecordKind) -> Option<&mut BTreeSet<RecordId>> {
        self.by_kind.get_mut(slot_of(kind))
    }

    /// Enters a record; one with the same id gives way.
    pub(crate) fn insert(&mut self, location: Location) {
        let id = location.entry.id;
        self.remove(id);
        self.damaged += u64::from(location.damaged);
        if let Some(ids) = self.of_kind(location.entry.kind) {
            ids.insert(id);
        }
        self.records.insert(id, location);
    }

    /// Drops a record and counts its body as dead.
    pub(crate) fn remove(&mut self, id: RecordId) {
        if let Some(old) = self.records.remove(&id) {
            self.dead_bytes += u64::from(old.entry.body_bytes);
            self.damaged -= u64::from(old.damaged);
            if let Some(ids) = self.of_kind(old.entry.kind) {
                ids.remove(&id);
            }
        }
    }

    /// Where a record lies.
    pub(crate) fn get(&self, id: RecordId) -> Option<Location> {
        self.records.get(&id).copied()
    }

    /// Notes that the body at `seen` does not match; false if that was known
    /// or the record has moved since.
    pub(crate) fn mark_damaged(&mut self, seen: &Location) -> bool {
        match self.records.get_mut(&seen.entry.id) {
            Some(now) if !now.damaged && (now.volume, now.offset) == (seen.volume, seen.offset) => {
                now.damaged = true;
                self.damaged += 1;
                true
            }
            _ => false,
        }
    }

    /// Records of `kind` above `after`, in order, at most `limit`.
    pub(crate) fn list(&self, kind: RecordKind, after: Option<RecordId>, limit: usize) -> Vec<ListedRecord> {
        let lower = after.map_or(Bound::Unbounded, Bound::Excluded);
        let Some(ids) = self.by_kind.get(slot_of(kind)) else { return Vec::new() };
        ids.range((lower, Bound::Unbounded))
            .take(limit)
            .filter_map(|id| self.records.get(id))
            .map(|at| ListedRecord {
                id: at.entry.id,
                kind: at.entry.kind,
                body_bytes: at.entry.body_bytes,
                digest: at.entry.digest,
            })
            .collect()
    }

    /// Every location, in the order of the disk.
    pub(crate) fn in_disk_order(&self) -> Vec<Location> {
        let mut all: Vec<_> = self.records.values().copied().collect();
        all.sort_unstable_by_key(|at| (at.volume, at.offset));
        all
    }

    /// Records whose damage is not known.
    pub(crate) fn readable(&self) -> u64 {
        u64::try_from(self.records.len()).unwrap_or(u64::MAX).saturating_sub(self.damaged)
    }

    /// Bytes of bodies that no index entry names any more.
    pub(crate) fn dead_bytes(&self) -> u64 {
        self.dead_bytes
    }
}

fn slot_of(kind: RecordKind) -> usize {
    usize::from(kind.byte() - 1)
}
