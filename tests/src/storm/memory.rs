//! A site in memory, with a disk that loses what was not fsynced: the fast
//! stand-in for a directory. It passes the conformance suite of the port.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use coffer_model::{Digest, RecordId, SiteDescription, SlotId};
use coffer_regions::{
    Answer, Challenge, ListedRecord, Reach, Receipt, Record, RecordKind, ScrubCursor, ScrubFinding,
    ScrubStep, Site, SiteError, SiteState, SlotContent, SlotListing, UnverifiedBytes, answer_of,
};
use tokio::time::sleep;

use super::chance::Chance;
use super::machine::Storage;

/// The longest body of a slot.
const SLOT_BYTES_MAX: usize = 64 << 10;
/// What one fsync takes.
const SYNC: Duration = Duration::from_micros(300);

#[derive(Clone, Default)]
struct Content {
    records: BTreeMap<RecordId, (Record, bool)>,
    slots: BTreeMap<SlotId, SlotContent>,
    batches: Vec<Digest>,
}

#[derive(Clone)]
enum Change {
    Put(Record),
    Delete(RecordId),
    Slot(SlotId, SlotContent),
}

impl Content {
    fn apply(&mut self, changes: &[Change]) {
        let mut chain = blake3::Hasher::new();
        chain.update(&self.batches.last().copied().unwrap_or(Digest([0; 32])).0);
        for change in changes {
            match change {
                Change::Put(record) => {
                    chain.update(&record.digest().0);
                    self.records.insert(record.id(), (record.clone(), false));
                }
                Change::Delete(id) => {
                    chain.update(id.as_bytes());
                    self.records.remove(id);
                }
                Change::Slot(slot, content) => drop(self.slots.insert(*slot, content.clone())),
            }
        }
        self.batches.push(Digest(*chain.finalize().as_bytes()));
    }

    fn reach(&self) -> Option<Reach> {
        Some(Reach { sequence: self.batches.len() as u64, digest: *self.batches.last()? })
    }
}

#[derive(Default)]
struct Disk {
    durable: Content,
    /// Written, not fsynced.
    pending: BTreeMap<u64, Vec<Change>>,
    image: Option<Content>,
    full: bool,
    failing: bool,
    read_only: bool,
    damaged: u64,
    next: u64,
    power_cycles: u64,
}

/// The disk, which outlives the sites that run on it.
pub(crate) struct MemoryDisk {
    description: SiteDescription,
    disk: Arc<Mutex<Disk>>,
}

impl MemoryDisk {
    pub(crate) fn new(description: SiteDescription) -> Self {
        Self { description, disk: Arc::default() }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Storage for MemoryDisk {
    fn start(&self) -> Option<Arc<dyn Site>> {
        let mut disk = self.disk();
        (disk.read_only, disk.failing) = (false, false);
        let (description, power_cycles) = (self.description.clone(), disk.power_cycles);
        Some(Arc::new(MemorySite { description, disk: Arc::clone(&self.disk), power_cycles }))
    }

    fn tend(&self) -> Vec<&'static str> {
        // Nothing in memory has to be compacted.
        Vec::new()
    }

    fn power_off(&self, chance: &Chance) {
        let mut disk = self.disk();
        disk.power_cycles += 1;
        for changes in std::mem::take(&mut disk.pending).into_values() {
            if chance.permille(400) {
                disk.durable.apply(&changes);
            }
        }
    }

    fn power_fails_soon(&self, _: &Chance) {
        // Writes take time here, so that any power cut can come between.
    }

    fn take_image(&self) {
        let mut disk = self.disk();
        disk.image = Some(disk.durable.clone());
    }

    fn return_to_image(&self) -> bool {
        let mut disk = self.disk();
        let Some(image) = disk.image.clone() else { return false };
        disk.durable = image;
        true
    }

    fn rot(&self, chance: &Chance) -> bool {
        let mut disk = self.disk();
        let count = disk.durable.records.len();
        let hit = disk.durable.records.values_mut().nth(chance.index(count));
        hit.is_some_and(|(_, damaged)| !std::mem::replace(damaged, true))
    }

    fn set_full(&self, full: bool) {
        self.disk().full = full;
    }

    fn fail_syncs(&self) {
        self.disk().failing = true;
    }

    fn raw(&self) -> Vec<(String, Vec<u8>)> {
        let disk = self.disk();
        let records =
            disk.durable.records.iter().map(|(id, (record, _))| (id.to_string(), record.body().to_vec()));
        let slots = disk.durable.slots.iter().map(|(id, content)| (id.to_string(), content.body.to_vec()));
        records.chain(slots).collect()
    }
}

/// One start of a site on a [`MemoryDisk`].
struct MemorySite {
    description: SiteDescription,
    disk: Arc<Mutex<Disk>>,
    power_cycles: u64,
}

impl MemorySite {
    fn disk(&self) -> Result<MutexGuard<'_, Disk>, SiteError> {
        let disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if disk.power_cycles == self.power_cycles { Ok(disk) } else { Err(SiteError::Unreachable) }
    }

    fn receipt(&self, record: &Record) -> Receipt {
        Receipt::of(self.description.id, record)
    }

    /// Writes, waits for the fsync, and makes the changes visible.
    async fn commit(&self, changes: Vec<Change>) -> Result<(), SiteError> {
        // Nothing new: what is acknowledged again may still be under way.
        if changes.is_empty() {
            sleep(SYNC).await;
            let disk = self.disk()?;
            return if disk.failing || disk.read_only { Err(SiteError::ReadOnly) } else { Ok(()) };
        }
        let number = {
            let mut disk = self.disk()?;
            if disk.read_only {
                return Err(SiteError::ReadOnly);
            }
            if disk.full {
                return Err(SiteError::Full);
            }
            disk.next += 1;
            let number = disk.next;
            disk.pending.insert(number, changes);
            number
        };
        sleep(SYNC).await;
        let mut disk = self.disk()?;
        if disk.failing || disk.read_only {
            disk.read_only = true;
            return Err(SiteError::ReadOnly);
        }
        if let Some(changes) = disk.pending.remove(&number) {
            disk.durable.apply(&changes);
        }
        Ok(())
    }

    /// What is, or is about to be, under an id.
    fn held(disk: &Disk, id: RecordId) -> Option<Digest> {
        let pending = disk.pending.values().flatten().rev().find_map(|change| match change {
            Change::Put(record) if record.id() == id => Some(Some(record.digest())),
            Change::Delete(deleted) if *deleted == id => Some(None),
            _ => None,
        });
        pending.unwrap_or_else(|| Some(disk.durable.records.get(&id)?.0.digest()))
    }

    fn read(&self, id: RecordId) -> Result<Record, SiteError> {
        let mut disk = self.disk()?;
        let (record, damaged) = disk.durable.records.get(&id).cloned().ok_or(SiteError::Missing)?;
        if damaged {
            disk.damaged += 1;
            return Err(SiteError::Damaged);
        }
        Ok(record)
    }
}

#[async_trait]
impl Site for MemorySite {
    fn description(&self) -> &SiteDescription {
        &self.description
    }

    fn answers(&self) -> bool {
        self.disk().is_ok()
    }

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        let receipts = records.iter().map(|record| self.receipt(record)).collect();
        let changes = {
            let disk = self.disk()?;
            let mut own = BTreeMap::new();
            let mut changes = Vec::new();
            for record in records {
                let held = own.get(&record.id()).copied().or_else(|| Self::held(&disk, record.id()));
                let rotten = disk.durable.records.get(&record.id()).is_some_and(|(_, damaged)| *damaged);
                match held {
                    Some(held) if held != record.digest() => return Err(SiteError::Conflict),
                    Some(_) if !rotten => {}
                    _ => {
                        own.insert(record.id(), record.digest());
                        changes.push(Change::Put(record));
                    }
                }
            }
            changes
        };
        self.commit(changes).await?;
        Ok(receipts)
    }

    async fn get(&self, id: RecordId) -> Result<Record, SiteError> {
        self.read(id)
    }

    async fn get_range(&self, id: RecordId, range: Range<u32>) -> Result<UnverifiedBytes, SiteError> {
        let record = self.read(id)?;
        let bounds = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let part = bounds.filter(|(start, end)| start <= end && *end <= record.body().len());
        part.map(|(start, end)| UnverifiedBytes(record.body().slice(start..end))).ok_or(SiteError::OverLimit)
    }

    async fn answer(&self, challenge: Challenge) -> Result<Answer, SiteError> {
        Ok(answer_of(&challenge.key, self.read(challenge.record)?.body()))
    }

    async fn list(
        &self,
        kind: RecordKind,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<ListedRecord>, SiteError> {
        let disk = self.disk()?;
        let records = disk.durable.records.iter().filter(|(id, (record, damaged))| {
            record.kind() == kind && !damaged && after.is_none_or(|after| **id > after)
        });
        let line = |(id, (record, _)): (&RecordId, &(Record, bool))| ListedRecord {
            id: *id,
            kind,
            body_bytes: u32::try_from(record.body().len()).unwrap_or(u32::MAX),
            digest: record.digest(),
        };
        Ok(records.take(limit).map(line).collect())
    }

    async fn delete(&self, ids: Vec<RecordId>) -> Result<u64, SiteError> {
        let changes: Vec<Change> = {
            let disk = self.disk()?;
            let mut ids = ids;
            ids.sort_unstable();
            ids.dedup();
            ids.retain(|id| Self::held(&disk, *id).is_some());
            ids.into_iter().map(Change::Delete).collect()
        };
        let count = changes.len() as u64;
        self.commit(changes).await?;
        Ok(count)
    }

    async fn scrub(&self) -> Result<Vec<ScrubFinding>, SiteError> {
        Ok(self.scrub_step(None, u64::MAX).await?.findings)
    }

    async fn scrub_step(&self, from: Option<ScrubCursor>, bytes_max: u64) -> Result<ScrubStep, SiteError> {
        let disk = self.disk()?;
        let start = from.map_or(RecordId::from_bytes([0; 16]), |cursor| RecordId::from_bytes(cursor.0));
        let mut step = ScrubStep::default();
        for (id, (record, damaged)) in disk.durable.records.range(start..) {
            if step.records > 0 && step.bytes >= bytes_max {
                step.next = Some(ScrubCursor(*id.as_bytes()));
                break;
            }
            step.records += 1;
            step.bytes += record.body().len() as u64;
            if *damaged {
                step.findings.push(ScrubFinding { record: Some(*id), place: "memory".to_owned() });
            }
        }
        Ok(step)
    }

    async fn reaches(&self, reach: Reach) -> Result<bool, SiteError> {
        let disk = self.disk()?;
        let index = usize::try_from(reach.sequence).ok().and_then(|sequence| sequence.checked_sub(1));
        Ok(index.and_then(|index| disk.durable.batches.get(index)) == Some(&reach.digest))
    }

    async fn write_slot(&self, slot: SlotId, content: SlotContent) -> Result<(), SiteError> {
        if content.body.len() > SLOT_BYTES_MAX {
            return Err(SiteError::OverLimit);
        }
        match self.disk()?.durable.slots.get(&slot) {
            Some(old) if *old == content => return Ok(()),
            Some(old) if old.generation >= content.generation => return Err(SiteError::Conflict),
            _ => {}
        }
        self.commit(vec![Change::Slot(slot, content)]).await
    }

    async fn read_slot(&self, slot: SlotId) -> Result<SlotContent, SiteError> {
        self.disk()?.durable.slots.get(&slot).cloned().ok_or(SiteError::Missing)
    }

    async fn wipe_superseded(&self, slot: SlotId) -> Result<(), SiteError> {
        self.read_slot(slot).await.map(drop)
    }

    async fn list_slots(&self) -> Result<Vec<SlotListing>, SiteError> {
        let disk = self.disk()?;
        let line = |(slot, content): (&SlotId, &SlotContent)| SlotListing {
            slot: *slot,
            generation: content.generation,
        };
        Ok(disk.durable.slots.iter().map(line).collect())
    }

    async fn state(&self) -> SiteState {
        let Ok(disk) = self.disk() else { return SiteState::DEAD };
        let readable = disk.durable.records.values().filter(|(_, damaged)| !damaged);
        SiteState {
            alive: true,
            records: readable.clone().count() as u64,
            volume_bytes: readable.map(|(record, _)| record.body().len() as u64).sum(),
            damaged: disk.damaged,
            dead_bytes: 0,
            free_bytes: None,
            read_only: disk.read_only,
            reach: disk.durable.reach(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use coffer_model::{SiteId, Tier};
    use coffer_site::conformance::conformance_without_epochs;

    fn description() -> SiteDescription {
        SiteDescription {
            id: SiteId::from_bytes([9; 16]),
            name: "memory".to_owned(),
            country: "DE".parse().unwrap(),
            domain: coffer_model::FailureDomain("one".to_owned()),
            tier: Tier::I,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_keeps_the_promises_of_the_port() {
        // The storm has one service at a time: its sites hold no epochs of owners.
        conformance_without_epochs(|| async { MemoryDisk::new(description()).start().unwrap() }).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_acknowledged_survives_the_power_cut_and_the_site_that_ran_is_gone() {
        let disk = MemoryDisk::new(description());
        let site = disk.start().unwrap();
        let record = |n: u8| {
            let id = RecordId::from_bytes([n; 16]);
            Record::new(RecordKind::Log, id, Default::default(), vec![n; 9].into()).unwrap()
        };
        site.put(vec![record(1)]).await.unwrap();
        let cut_off = tokio::spawn({
            let site = Arc::clone(&site);
            async move { site.put(vec![record(2)]).await }
        });
        tokio::task::yield_now().await;
        disk.power_off(&Chance::new(1, "test"));
        assert_eq!(cut_off.await.unwrap(), Err(SiteError::Unreachable));
        assert_eq!(site.get(record(1).id()).await, Err(SiteError::Unreachable));
        let again = disk.start().unwrap();
        assert_eq!(again.get(record(1).id()).await, Ok(record(1)));
    }
}
