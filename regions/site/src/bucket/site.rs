//! The port over the objects of a bucket, and its key slots.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::PoisonError;

use async_trait::async_trait;
use coffer_model::{RecordId, ScopeId, SiteDescription, SlotId};
use coffer_regions::{
    Answer, Challenge, Change, Changed, Fence, ListedRecord, Reach, Receipt, Record, RecordKind, ScrubCursor,
    ScrubFinding, ScrubStep, Site, SiteError, SiteState, SlotContent, SlotListing, UnverifiedBytes,
    answer_of,
};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use object_store::UpdateVersion;

use super::form::{SLOT_OBJECT_BYTES_MAX, parse_id, parse_slot, slot_object};
use super::{BucketSite, Shared};
use crate::group::{PUT_BYTES_MAX, PUT_RECORDS_MAX, body_bytes};
use crate::slots::{SLOT_BODY_BYTES_MAX, SLOTS_MAX};

/// Requests of one call that are on the way at the same time.
const AT_ONCE: usize = 16;
/// How often a slot is read again when another writer was faster.
const SLOT_RACES_MAX: usize = 8;
/// Bytes that one step of a whole scrub reads.
const SCRUB_BYTES: u64 = 64 << 20;

impl Shared {
    /// A slot, and what its conditional overwrite needs.
    async fn slot(&self, slot: SlotId) -> Result<(SlotContent, UpdateVersion), SiteError> {
        let (content, version) = self.stored_slot(slot).await?;
        Ok((content.ok_or(SiteError::Damaged)?, version))
    }

    /// The object of a slot, whatever is in it: `None` where that is no content of this slot.
    async fn stored_slot(&self, slot: SlotId) -> Result<(Option<SlotContent>, UpdateVersion), SiteError> {
        let found = self.objects.read(&self.names.slot(slot), SLOT_OBJECT_BYTES_MAX).await?;
        Ok((parse_slot(slot, &found.bytes).ok(), found.version))
    }

    async fn write_slot(&self, slot: SlotId, content: &SlotContent) -> Result<(), SiteError> {
        let path = self.names.slot(slot);
        for _ in 0..SLOT_RACES_MAX {
            let version = match self.stored_slot(slot).await {
                Ok((Some(stored), _)) if stored.generation >= content.generation && stored != *content => {
                    return Err(SiteError::Conflict);
                }
                // What is damaged is written anew, and the same content once more: only the answer to
                // a write says whether versions are kept, and an earlier one may have been refused for it.
                Ok((_, version)) => Some(version),
                Err(SiteError::Missing) => None,
                Err(error) => return Err(error),
            };
            if self.objects.update(&path, slot_object(slot, content), version).await? {
                return Ok(());
            }
        }
        Err(SiteError::Conflict)
    }

    async fn slots(&self) -> Result<Vec<SlotId>, SiteError> {
        let objects = self.objects.list(&self.names.slots(), None, SLOTS_MAX + 1).await?;
        if objects.len() > SLOTS_MAX {
            return Err(SiteError::OverLimit);
        }
        Ok(objects.iter().filter_map(|object| parse_id(&object.location)).map(SlotId::from_bytes).collect())
    }
}

impl BucketSite {
    async fn store(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        if records.len() > PUT_RECORDS_MAX || body_bytes(&records) > PUT_BYTES_MAX {
            return Err(SiteError::OverLimit);
        }
        self.shared.objects.closed()?;
        let site = self.shared.description.id;
        let receipt = |record: &Record| Receipt::of(site, record);
        let receipts = records.iter().map(receipt).collect();
        let mut unique: BTreeMap<RecordId, Record> = BTreeMap::new();
        for record in records {
            if unique.get(&record.id()).is_some_and(|other| other.digest() != record.digest()) {
                return Err(SiteError::Conflict);
            }
            unique.insert(record.id(), record);
        }
        let unique: Vec<Record> = unique.into_values().collect();
        self.shared.put_all(&unique).await?;
        Ok(receipts)
    }

    async fn remove(&self, mut ids: Vec<RecordId>) -> Result<u64, SiteError> {
        if ids.len() > PUT_RECORDS_MAX {
            return Err(SiteError::OverLimit);
        }
        self.shared.objects.closed()?;
        ids.sort_unstable();
        ids.dedup();
        let removals = stream::iter(ids.into_iter().map(|id| self.shared.remove_record(id)));
        let removed: Vec<bool> = removals.buffer_unordered(AT_ONCE).try_collect().await?;
        Ok(removed.into_iter().map(u64::from).sum())
    }

    async fn overwrite(&self, slot: SlotId, content: SlotContent) -> Result<(), SiteError> {
        if content.body.len() > SLOT_BODY_BYTES_MAX {
            return Err(SiteError::OverLimit);
        }
        self.shared.objects.closed()?;
        self.shared.write_slot(slot, &content).await
    }
}

#[async_trait]
impl Site for BucketSite {
    fn description(&self) -> &SiteDescription {
        &self.shared.description
    }

    fn answers(&self) -> bool {
        self.shared.objects.answers()
    }

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        self.shared.unfenced()?;
        self.store(records).await
    }

    async fn get(&self, id: RecordId) -> Result<Record, SiteError> {
        self.shared.objects.closed()?;
        self.shared.read_record(id).await
    }

    async fn get_many(&self, ids: Vec<RecordId>) -> Vec<Result<Record, SiteError>> {
        stream::iter(ids.into_iter().map(|id| self.get(id))).buffered(AT_ONCE).collect().await
    }

    async fn get_range(&self, id: RecordId, range: Range<u32>) -> Result<UnverifiedBytes, SiteError> {
        self.shared.objects.closed()?;
        self.shared.read_part(id, range.start, range.end).await.map(UnverifiedBytes)
    }

    async fn answer(&self, challenge: Challenge) -> Result<Answer, SiteError> {
        let record = self.get(challenge.record).await?;
        Ok(answer_of(&challenge.key, record.body()))
    }

    async fn list(
        &self,
        kind: RecordKind,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<ListedRecord>, SiteError> {
        self.shared.objects.closed()?;
        self.shared.list_lines(kind, after, limit).await
    }

    async fn delete(&self, ids: Vec<RecordId>) -> Result<u64, SiteError> {
        self.shared.unfenced()?;
        self.remove(ids).await
    }

    async fn scrub(&self) -> Result<Vec<ScrubFinding>, SiteError> {
        self.shared.objects.closed()?;
        let (mut findings, mut from) = (Vec::new(), None);
        loop {
            let step = self.shared.scrub_from(from, SCRUB_BYTES).await?;
            findings.extend(step.findings);
            from = step.next;
            if from.is_none() {
                break;
            }
        }
        for slot in self.shared.slots().await? {
            if self.shared.slot(slot).await.map(drop) == Err(SiteError::Damaged) {
                findings.push(ScrubFinding { record: None, place: self.shared.names.slot(slot).to_string() });
            }
        }
        Ok(findings)
    }

    async fn scrub_step(&self, from: Option<ScrubCursor>, bytes_max: u64) -> Result<ScrubStep, SiteError> {
        self.shared.objects.closed()?;
        self.shared.scrub_from(from, bytes_max).await
    }

    /// A bucket keeps no history, so that it reaches nothing.
    async fn reaches(&self, _: Reach) -> Result<bool, SiteError> {
        Ok(false)
    }

    async fn write_slot(&self, slot: SlotId, content: SlotContent) -> Result<(), SiteError> {
        self.shared.unfenced()?;
        self.overwrite(slot, content).await
    }

    async fn read_slot(&self, slot: SlotId) -> Result<SlotContent, SiteError> {
        self.shared.objects.closed()?;
        self.shared.slot(slot).await.map(|(content, _)| content)
    }

    /// An overwritten object is gone: a bucket that keeps versions is refused
    /// when the site is created, and again by every write of a slot.
    async fn wipe_superseded(&self, slot: SlotId) -> Result<(), SiteError> {
        self.shared.unfenced()?;
        self.read_slot(slot).await.map(drop)
    }

    async fn raise(&self, fence: Fence) -> Result<(), SiteError> {
        self.shared.objects.closed()?;
        self.shared.raise(fence).await
    }

    async fn epoch(&self, scope: ScopeId) -> Result<u64, SiteError> {
        self.shared.objects.closed()?;
        self.shared.epoch(scope).await
    }

    async fn change_under(&self, fence: Fence, change: Change) -> Result<Changed, SiteError> {
        self.shared.objects.closed()?;
        let change = async {
            match change {
                Change::Put(records) => self.store(records).await.map(Changed::Stored),
                Change::Delete(ids) => self.remove(ids).await.map(Changed::Removed),
                Change::WriteSlot(slot, content) => {
                    self.overwrite(slot, content).await.map(|()| Changed::Slot)
                }
                Change::WipeSuperseded(slot) => self.read_slot(slot).await.map(|_| Changed::Slot),
            }
        };
        self.shared.fenced(fence, change).await
    }

    async fn list_slots(&self) -> Result<Vec<SlotListing>, SiteError> {
        self.shared.objects.closed()?;
        let slots = stream::iter(self.shared.slots().await?);
        let listings = slots.map(async |slot| {
            let generation = match self.shared.slot(slot).await {
                Ok((content, _)) => content.generation,
                // It hides no other, and is not hidden.
                Err(SiteError::Damaged) => 0,
                Err(error) => return Err(error),
            };
            Ok(SlotListing { slot, generation })
        });
        listings.buffered(AT_ONCE).try_collect().await
    }

    async fn state(&self) -> SiteState {
        if self.shared.objects.closed().is_err() {
            return SiteState::DEAD;
        }
        let Ok(counts) = self.shared.count().await else { return SiteState::DEAD };
        let damaged = self.shared.damaged.lock().unwrap_or_else(PoisonError::into_inner).len();
        SiteState {
            alive: true,
            records: counts.records,
            volume_bytes: counts.bytes,
            damaged: u64::try_from(damaged).unwrap_or(u64::MAX),
            ..SiteState::DEAD
        }
    }
}
