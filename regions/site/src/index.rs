//! Which records a site holds and where: rebuilt from the volumes when the
//! site is opened, changed only after an fsync. Also what still lies in the
//! volumes and is dead, which compaction has to know.
//!
//! Memory for each record: 72 bytes by id, 32 by place, and what the trees
//! leave free; `examples/open_time.rs` measures the sum. For each dead copy: 20.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use coffer_model::{Digest, RecordId};
use coffer_regions::{ClearGeometry, ListedRecord, RecordKind};

use crate::batch::{ENTRY_BYTES, RecordEntry};

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

impl Location {
    /// Whether both are the same bytes of the disk.
    pub(crate) fn is_place_of(&self, other: &Self) -> bool {
        (self.volume, self.offset) == (other.volume, other.offset)
    }
}

/// A location without what its keys say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    offset: u64,
    volume: u32,
    body_bytes: u32,
    digest: Digest,
    geometry: ClearGeometry,
    damaged: bool,
}

impl Held {
    fn location(&self, kind: RecordKind, id: RecordId) -> Location {
        let Self { offset, volume, body_bytes, digest, geometry, damaged } = *self;
        Location { volume, offset, entry: RecordEntry { kind, id, geometry, body_bytes, digest }, damaged }
    }
}

/// What lies in one volume.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Records that are held.
    pub(crate) living: u64,
    /// Bytes of their entries and bodies.
    pub(crate) living_bytes: u64,
    /// Of them, records that are known to be damaged.
    pub(crate) damaged: u64,
    /// Bytes of bodies that were removed or replaced.
    pub(crate) dead_bytes: u64,
    /// Removals.
    pub(crate) removals: u64,
}

/// Bytes that a record takes in a volume.
fn bytes_of(body_bytes: u32) -> u64 {
    u64::from(body_bytes) + ENTRY_BYTES as u64
}

/// The records of a site: of each kind by id, and by place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Index {
    kinds: [BTreeMap<RecordId, Held>; RecordKind::ALL.len()],
    by_place: BTreeSet<(u32, u64, RecordId)>,
    /// Copies that are held no more and still lie in a volume.
    dead: BTreeSet<(RecordId, u32)>,
    tallies: BTreeMap<u32, Tally>,
}

impl Index {
    fn find(&self, id: RecordId) -> Option<(RecordKind, &Held)> {
        let mut kinds = RecordKind::ALL.into_iter().zip(&self.kinds);
        kinds.find_map(|(kind, records)| records.get(&id).map(|held| (kind, held)))
    }

    fn tally_mut(&mut self, volume: u32) -> &mut Tally {
        self.tallies.entry(volume).or_default()
    }

    /// Enters a record; one with the same id gives way.
    pub(crate) fn insert(&mut self, location: Location) {
        let Location { volume, offset, entry, damaged } = location;
        let RecordEntry { kind, id, geometry, body_bytes, digest } = entry;
        self.drop_record(id);
        let tally = self.tally_mut(volume);
        tally.living += 1;
        tally.living_bytes += bytes_of(body_bytes);
        tally.damaged += u64::from(damaged);
        self.by_place.insert((volume, offset, id));
        if let Some(records) = self.kinds.get_mut(slot_of(kind)) {
            records.insert(id, Held { offset, volume, body_bytes, digest, geometry, damaged });
        }
    }

    /// Takes note of a removal that lies in `volume`.
    pub(crate) fn remove(&mut self, id: RecordId, volume: u32) {
        self.drop_record(id);
        self.tally_mut(volume).removals += 1;
    }

    fn drop_record(&mut self, id: RecordId) {
        let Some(old) = self.kinds.iter_mut().find_map(|records| records.remove(&id)) else { return };
        self.by_place.remove(&(old.volume, old.offset, id));
        self.dead.insert((id, old.volume));
        let tally = self.tally_mut(old.volume);
        tally.living -= 1;
        tally.living_bytes -= bytes_of(old.body_bytes);
        tally.damaged -= u64::from(old.damaged);
        tally.dead_bytes += u64::from(old.body_bytes);
    }

    /// Where a record lies.
    pub(crate) fn get(&self, id: RecordId) -> Option<Location> {
        self.find(id).map(|(kind, held)| held.location(kind, id))
    }

    /// Notes that the body at `seen` does not match; false if that was known
    /// or the record has moved since.
    pub(crate) fn mark_damaged(&mut self, seen: &Location) -> bool {
        let records = self.kinds.get_mut(slot_of(seen.entry.kind));
        match records.and_then(|records| records.get_mut(&seen.entry.id)) {
            Some(now) if !now.damaged && (now.volume, now.offset) == (seen.volume, seen.offset) => {
                now.damaged = true;
                self.tally_mut(seen.volume).damaged += 1;
                true
            }
            _ => false,
        }
    }

    /// Records of `kind` above `after`, in order, at most `limit`.
    pub(crate) fn list(&self, kind: RecordKind, after: Option<RecordId>, limit: usize) -> Vec<ListedRecord> {
        let lower = after.map_or(Bound::Unbounded, Bound::Excluded);
        let Some(records) = self.kinds.get(slot_of(kind)) else { return Vec::new() };
        let line = |(id, held): (&RecordId, &Held)| ListedRecord {
            id: *id,
            kind,
            body_bytes: held.body_bytes,
            digest: held.digest,
        };
        records.range((lower, Bound::Unbounded)).take(limit).map(line).collect()
    }

    /// The records from a place of the disk on, in the order of the disk.
    pub(crate) fn by_place(&self, from: Bound<(u32, u64, RecordId)>) -> impl Iterator<Item = Location> {
        self.by_place.range((from, Bound::Unbounded)).filter_map(|(_, _, id)| self.get(*id))
    }

    /// The records of one volume from an offset on, in the order of the disk.
    pub(crate) fn in_volume(&self, volume: u32, offset: u64) -> impl Iterator<Item = Location> {
        let from = Bound::Included((volume, offset, RecordId::from_bytes([0; 16])));
        self.by_place(from).take_while(move |at| at.volume == volume)
    }

    /// The records of one kind in order of id.
    pub(crate) fn of_kind(&self, kind: RecordKind) -> impl ExactSizeIterator<Item = Location> {
        let records = self.kinds.get(slot_of(kind)).unwrap_or(&self.kinds[0]);
        records.iter().map(move |(id, held)| held.location(kind, *id))
    }

    /// Copies that are held no more and still lie in a volume.
    pub(crate) fn dead(&self) -> &BTreeSet<(RecordId, u32)> {
        &self.dead
    }

    /// Whether a dead copy of `id` lies in a volume before `volume`, which
    /// would be taken for a record if nothing said that it was removed.
    pub(crate) fn has_dead_copy_before(&self, id: RecordId, volume: u32) -> bool {
        self.dead.range((id, 0)..(id, volume)).next().is_some()
    }

    /// What lies in one volume.
    pub(crate) fn tally(&self, volume: u32) -> Tally {
        self.tallies.get(&volume).copied().unwrap_or_default()
    }

    /// Forgets what is dead in a volume that is no more.
    pub(crate) fn forget_volume(&mut self, volume: u32) {
        self.tallies.remove(&volume);
        self.dead.retain(|(_, lies)| *lies != volume);
    }

    /// Records whose damage is not known.
    pub(crate) fn readable(&self) -> u64 {
        self.tallies.values().map(|tally| tally.living - tally.damaged).sum()
    }

    /// Bytes of bodies that no index entry names any more.
    pub(crate) fn dead_bytes(&self) -> u64 {
        self.tallies.values().map(|tally| tally.dead_bytes).sum()
    }

    /// The index with these records, each id once, and these dead copies;
    /// dead bytes and removals for each volume come with them.
    pub(crate) fn assemble(
        records: [Vec<Location>; RecordKind::ALL.len()],
        dead: BTreeSet<(RecordId, u32)>,
        buried: &BTreeMap<u32, Tally>,
    ) -> Self {
        let mut index = Self { dead, ..Self::default() };
        for (volume, tally) in buried {
            let Tally { dead_bytes, removals, .. } = *tally;
            index.tallies.insert(*volume, Tally { dead_bytes, removals, ..Tally::default() });
        }
        let mut places = Vec::with_capacity(records.iter().map(Vec::len).sum());
        for (kind, locations) in records.into_iter().enumerate() {
            for at in &locations {
                let tally = index.tally_mut(at.volume);
                tally.living += 1;
                tally.living_bytes += bytes_of(at.entry.body_bytes);
                places.push((at.volume, at.offset, at.entry.id));
            }
            let held = locations.into_iter().map(|at| {
                let Location { volume, offset, entry, damaged } = at;
                let RecordEntry { id, geometry, body_bytes, digest, .. } = entry;
                (id, Held { offset, volume, body_bytes, digest, geometry, damaged })
            });
            index.kinds[kind] = held.collect();
        }
        index.by_place = places.into_iter().collect();
        index
    }
}

fn slot_of(kind: RecordKind) -> usize {
    usize::from(kind.byte() - 1)
}
