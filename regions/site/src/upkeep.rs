//! Compaction and checkpoints, in bounded steps. A volume with enough dead
//! bytes is emptied: its living records go through the writer into new
//! batches, so do removals that still guard an older copy; then the writer
//! notes in the ledger that it is gone, and removes it.

use std::sync::Arc;
use std::sync::PoisonError;

use coffer_model::RecordId;
use coffer_regions::{Record, SiteError};

use crate::batch::ENTRY_BYTES;
use crate::group::{PUT_RECORDS_MAX, Request};
use crate::holdings::{HeldVolume, Holdings};
use crate::index::Location;
use crate::pen::Pen;
use crate::scan::{self, Chain, Found};
use crate::shared::Shared;
use crate::volume::FIRST_BATCH;

/// Most body bytes and records that one step copies.
const STEP_BYTES: u64 = 1 << 20;
const STEP_RECORDS: usize = 512;
/// Share of a volume that is dead before it is compacted, in percent; and
/// where space is short.
const DEAD_PERCENT: u64 = 50;
const DEAD_PERCENT_WHEN_SHORT: u64 = 10;

/// What one step of [`DirectorySite::maintain`](crate::DirectorySite::maintain) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upkeep {
    /// Nothing was due.
    Nothing,
    /// The index was written as a checkpoint of so many bytes.
    Checkpoint(u64),
    /// Records with so many bytes of bodies were copied out of a volume.
    Copied(u64),
    /// The volume that was written to is closed, since much of it is dead.
    Sealed,
    /// A volume was removed; so many bytes are free again.
    Reclaimed(u64),
}

impl Upkeep {
    /// Bytes that it wrote.
    pub(crate) fn bytes(self) -> u64 {
        match self {
            Self::Checkpoint(bytes) | Self::Copied(bytes) => bytes,
            Self::Nothing | Self::Sealed | Self::Reclaimed(_) => 0,
        }
    }
}

/// What compaction does next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Task {
    Empty(u32),
    Seal,
}

/// Does one step of what is due. Only one runs at a time.
pub(crate) fn step(shared: &Shared, pen: &Pen) -> Result<Upkeep, SiteError> {
    let _alone = shared.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
    if shared.is_read_only() {
        return Err(SiteError::ReadOnly);
    }
    // Where there is no room for a checkpoint, compaction makes some.
    if shared.is_checkpoint_due()
        && let Ok(bytes) = shared.write_checkpoint()
    {
        return Ok(Upkeep::Checkpoint(bytes));
    }
    let task = next_task(shared);
    match task {
        None => Ok(Upkeep::Nothing),
        Some(Task::Seal) => pen.ask_now(|reply| Request::Seal { reply }).map(|()| Upkeep::Sealed),
        Some(Task::Empty(number)) => empty(shared, pen, number),
    }
}

/// Runs until the site is dropped: a step, then whoever waits for the site.
pub(crate) fn run(shared: &Arc<Shared>, pen: &Arc<Pen>) {
    loop {
        let seen = shared.pulse.batches();
        let goes_on = match step(shared, pen) {
            Ok(Upkeep::Nothing) | Err(_) => shared.pulse.wait_beyond(seen),
            Ok(done) => shared.pulse.wait_for_turn(done.bytes()),
        };
        if !goes_on {
            return;
        }
    }
}

/// Bytes of a volume that compaction would free. Removals count as living
/// while there is an older volume that they may guard against.
fn waste(holdings: &Holdings, held: &HeldVolume) -> u64 {
    let number = held.volume.number;
    let tally = holdings.index.tally(number);
    let oldest = holdings.volumes.keys().next().into_iter().chain(holdings.unreadable.first()).min();
    let guards = if oldest == Some(&number) { 0 } else { tally.removals * ENTRY_BYTES as u64 };
    held.length.saturating_sub(FIRST_BATCH).saturating_sub(tally.living_bytes).saturating_sub(guards)
}

/// The volume with the greatest dead share, if that is enough and there is
/// room for what lives in it. One with damage is left as it is.
fn next_task(shared: &Shared) -> Option<Task> {
    let holdings = shared.holdings();
    let used = holdings.volume_bytes();
    let free = shared.space.free(used);
    let short = shared.space.is_short(free);
    let percent = if short { DEAD_PERCENT_WHEN_SHORT } else { DEAD_PERCENT };
    let candidates = holdings.volumes.values().filter_map(|held| {
        let tally = holdings.index.tally(held.volume.number);
        let wasted = waste(&holdings, held);
        let room =
            free.is_none_or(|free| free > tally.living_bytes + tally.living_bytes / 8 + STEP_BYTES / 16);
        let sound = held.damage.is_empty() && tally.damaged == 0;
        let enough = wasted > 0 && wasted.saturating_mul(100) >= held.length.saturating_mul(percent);
        (sound && room && enough).then_some((held, wasted.saturating_mul(10_000) / held.length.max(1)))
    });
    let (current, others): (Vec<_>, Vec<_>) =
        candidates.partition(|(held, _)| holdings.current == Some(held.volume.number));
    let best = others.iter().max_by_key(|(held, share)| (*share, std::cmp::Reverse(held.volume.number)));
    if let Some((held, _)) = best {
        return Some(Task::Empty(held.volume.number));
    }
    // The current volume is closed only where it is worth a volume.
    let least = shared.space.volume_bytes / if short { 8 } else { 2 };
    current.first().filter(|(held, _)| held.length >= least).map(|_| Task::Seal)
}

/// One step of emptying a volume: a part of its records, or, when none is
/// left, its removals and the end.
fn empty(shared: &Shared, pen: &Pen, number: u32) -> Result<Upkeep, SiteError> {
    let (held, living) = {
        let holdings = shared.holdings();
        let Some(held) = holdings.volumes.get(&number).cloned() else { return Ok(Upkeep::Nothing) };
        (held, some_of(&holdings, number))
    };
    if !living.is_empty() {
        return copy(shared, pen, &living);
    }
    for ids in guarding(shared, &held)?.chunks(PUT_RECORDS_MAX) {
        pen.ask_now(|reply| Request::Carry { ids: ids.to_vec(), reply })?;
    }
    let retired = pen.ask_now(|reply| Request::Retire { number, reply })?;
    if retired {
        shared.want_checkpoint();
    }
    Ok(if retired { Upkeep::Reclaimed(held.length) } else { Upkeep::Nothing })
}

/// The first records of a volume, as many as one step copies.
fn some_of(holdings: &Holdings, number: u32) -> Vec<Location> {
    let mut bytes = 0;
    let some = holdings.index.in_volume(number, 0).take(STEP_RECORDS).take_while(|at| {
        let first = bytes == 0;
        bytes += u64::from(at.entry.body_bytes).max(1);
        first || bytes <= STEP_BYTES
    });
    some.collect()
}

/// Reads records, verifies them, and has them written again. A damaged one
/// is marked by the reading and stays where it is.
fn copy(shared: &Shared, pen: &Pen, living: &[Location]) -> Result<Upkeep, SiteError> {
    let mut records: Vec<(Location, Record)> = Vec::with_capacity(living.len());
    let mut bytes = 0;
    for at in living {
        match shared.read_at(at) {
            Ok(record) => {
                bytes += u64::from(at.entry.body_bytes);
                records.push((*at, record));
            }
            Err(SiteError::Damaged | SiteError::Missing) => {}
            Err(error) => return Err(error),
        }
    }
    if !records.is_empty() {
        pen.ask_now(|reply| Request::Copy { records, reply })?;
    }
    Ok(Upkeep::Copied(bytes))
}

/// Ids that a volume says are removed, while an older copy of them lies in an
/// older volume, or may lie in the damaged part of one.
fn guarding(shared: &Shared, held: &HeldVolume) -> Result<Vec<RecordId>, SiteError> {
    let mut ids = Vec::new();
    let mut chain = Chain { next: 0, previous: None };
    scan::scan_volume(&held.volume, FIRST_BATCH, held.length, &mut chain, &mut |found| {
        if let Found::Removal(id) = found {
            ids.push(id);
        }
    })
    .map_err(|_| SiteError::Unreachable)?;
    let number = held.volume.number;
    let holdings = shared.holdings();
    let hidden = holdings.unreadable.range(..number).next().is_some()
        || holdings.volumes.range(..number).any(|(_, older)| !older.damage.is_empty());
    ids.retain(|id| hidden || holdings.index.has_dead_copy_before(*id, number));
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use coffer_model::Execution;
    use coffer_regions::ClearGeometry;

    use super::*;
    use crate::faults::RecordingDisk;
    use crate::recover;
    use crate::site_dir::SiteDir;
    use crate::write_faults::{Zeros, description};
    use crate::writer::Writer;
    use crate::{Disk, SiteOptions};

    const BODY_BYTES: u64 = 1000;
    const FOREGROUND_BYTES: u64 = 40;
    const VOLUME_BYTES: u64 = 32 << 10;
    const RECORDS: u64 = 200;

    /// A site of several volumes, each half dead, and where its records lie.
    struct HalfDead {
        shared: Arc<Shared>,
        pen: Arc<Pen>,
        lay: BTreeMap<RecordId, u32>,
        _dir: tempfile::TempDir,
    }

    fn id(n: u64) -> RecordId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        RecordId::from_bytes(bytes)
    }

    impl HalfDead {
        fn new() -> Self {
            let temporary = tempfile::TempDir::new().unwrap();
            let disk: Arc<dyn Disk> = Arc::new(RecordingDisk::default());
            let (dir, site) = (SiteDir::new(temporary.path()), description().id);
            dir.create(site, disk.as_ref()).unwrap();
            let lock = dir.lock().unwrap();
            let (opened, current) = recover::open(&dir, site, lock, &disk).unwrap();
            let options = SiteOptions {
                disk,
                volume_bytes: Some(VOLUME_BYTES),
                checkpoint_bytes: u64::MAX,
                ..SiteOptions::default()
            };
            let shared = Arc::new(Shared::new(opened, &options));
            let writer = Writer::new(shared.clone(), Arc::new(Zeros), current);
            let pen = Arc::new(Pen::new(writer, Execution::Inline).unwrap());
            let mut held = Self { shared, pen, lay: BTreeMap::new(), _dir: temporary };
            for n in 0..RECORDS {
                held.put(n);
            }
            // Of every three, two are dead.
            let dead = (0..RECORDS).filter(|n| n % 3 != 0).map(id).collect();
            held.shared.pulse.asked();
            held.pen.ask_now(|reply| Request::Delete { ids: dead, fence: None, reply }).unwrap();
            held.lay = held.places();
            held
        }

        fn put(&self, n: u64) {
            let body = Bytes::from(vec![1; usize::try_from(BODY_BYTES).unwrap()]);
            let record =
                Record::new(coffer_regions::RecordKind::Shard, id(n), ClearGeometry::default(), body);
            self.shared.pulse.asked();
            let records = vec![record.unwrap()];
            self.pen.ask_now(|reply| Request::Put { records, fence: None, reply }).unwrap();
        }

        fn places(&self) -> BTreeMap<RecordId, u32> {
            let holdings = self.shared.holdings();
            let shards = holdings.index.of_kind(coffer_regions::RecordKind::Shard);
            shards.map(|at| (at.entry.id, at.volume)).collect()
        }

        /// Bytes of bodies that compaction has copied.
        fn copied(&self) -> u64 {
            let now = self.places();
            let moved = now.iter().filter(|(id, volume)| self.lay.get(*id) != Some(*volume));
            BODY_BYTES * u64::try_from(moved.count()).unwrap()
        }

        /// Most that one step copies: what lives in one volume.
        fn largest_step(&self) -> u64 {
            let in_volume = |volume| self.lay.values().filter(|lies| *lies == volume).count();
            BODY_BYTES * u64::try_from(self.lay.values().map(in_volume).max().unwrap()).unwrap()
        }

        /// Bytes that there are to copy: all of them, but for the volume that
        /// is written to.
        fn to_copy(&self) -> u64 {
            let last = self.lay.values().max();
            let moving = self.lay.values().filter(|volume| Some(*volume) != last);
            BODY_BYTES * u64::try_from(moving.count()).unwrap()
        }
    }

    #[test]
    fn compaction_copies_one_byte_for_each_four_of_a_foreground_that_always_waits() {
        let site = HalfDead::new();
        let pulse = &site.shared.pulse;
        // Somebody waits from now on.
        pulse.asked();
        let seen = pulse.batches();
        std::thread::scope(|scope| {
            let keeper = scope.spawn(|| run(&site.shared, &site.pen));
            // The first step waits for nobody: what it costs comes after it.
            assert!(pulse.wait_beyond(seen));
            let (mut foreground, mut copied) = (0, site.copied());
            // The last step has not been waited for yet.
            let step = site.largest_step();
            let keeps_to_its_share = |copied, foreground| 4 * copied <= foreground + 4 * step;
            while copied < site.to_copy() && keeps_to_its_share(copied, foreground) {
                pulse.asked();
                // So little that whoever does not wait for it gets ahead.
                pulse.beat(1, FOREGROUND_BYTES);
                foreground += FOREGROUND_BYTES;
                copied = site.copied();
            }
            pulse.stop();
            keeper.join().unwrap();
            assert!(keeps_to_its_share(copied, foreground), "{copied} beside {foreground}");
        });
    }

    #[test]
    fn compaction_needs_no_foreground_where_nobody_waits() {
        let site = HalfDead::new();
        let pulse = &site.shared.pulse;
        std::thread::scope(|scope| {
            let keeper = scope.spawn(|| run(&site.shared, &site.pen));
            let mut seen = 0;
            while site.copied() < site.to_copy() {
                // Only its own batches wake this.
                assert!(pulse.wait_beyond(seen));
                seen = pulse.batches();
            }
            pulse.stop();
            keeper.join().unwrap();
        });
    }
}
