//! A site as its owner changes it: each change under the owner's epoch. A site
//! that knows a later owner ends this one. What it acknowledges is counted here,
//! where every record passes.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use coffer_model::{RecordId, ScopeId, SiteDescription, SlotId};
use coffer_regions::{
    Answer, Challenge, Change, Changed, Fence, ListedRecord, Reach, Receipt, Record, RecordKind, ScrubCursor,
    ScrubFinding, ScrubStep, Site, SiteError, SiteState, SlotContent, SlotListing, UnverifiedBytes,
};

use crate::owner::Owner;

/// Bytes of records that a site acknowledged with receipts for exactly these.
#[derive(Debug, Default)]
pub(crate) struct Written {
    data: AtomicU64,
    other: AtomicU64,
}

impl Written {
    /// Of shards and manifest records.
    pub(crate) fn data(&self) -> u64 {
        self.data.load(Ordering::Relaxed)
    }

    /// Of tombstones, facts and log runs.
    pub(crate) fn other(&self) -> u64 {
        self.other.load(Ordering::Relaxed)
    }
}

/// A record that is about to be written: the receipt that it must bring, and its bytes.
struct Awaited {
    receipt: Receipt,
    bytes: u64,
    is_data: bool,
}

/// Another site, changed by this owner alone.
pub(crate) struct Fenced {
    inner: Arc<dyn Site>,
    owner: Arc<Owner>,
    written: Arc<Written>,
}

impl Fenced {
    pub(crate) fn new(inner: Arc<dyn Site>, owner: Arc<Owner>, written: Arc<Written>) -> Self {
        Self { inner, owner, written }
    }

    fn awaited(&self, records: &[Record]) -> Vec<Awaited> {
        let site = self.inner.description().id;
        let awaited = |record: &Record| Awaited {
            receipt: Receipt::of(site, record),
            bytes: record.body().len() as u64,
            is_data: matches!(record.kind(), RecordKind::Shard | RecordKind::Manifest),
        };
        records.iter().map(awaited).collect()
    }

    fn count(&self, awaited: &[Awaited], receipts: &[Receipt]) {
        for (one, _) in awaited.iter().zip(receipts).filter(|(one, receipt)| one.receipt == **receipt) {
            let counter = if one.is_data { &self.written.data } else { &self.written.other };
            counter.fetch_add(one.bytes, Ordering::Relaxed);
        }
    }

    fn heard<T>(&self, answer: Result<T, SiteError>) -> Result<T, SiteError> {
        if matches!(answer, Err(SiteError::Superseded)) {
            self.owner.depose();
        }
        answer
    }
}

#[async_trait]
impl Site for Fenced {
    fn description(&self) -> &SiteDescription {
        self.inner.description()
    }

    fn answers(&self) -> bool {
        self.inner.answers()
    }

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        let awaited = self.awaited(&records);
        let receipts = match self.owner.fence()? {
            None => self.heard(self.inner.put(records).await),
            Some(fence) => self.change_under(fence, Change::Put(records)).await?.receipts(),
        }?;
        self.count(&awaited, &receipts);
        Ok(receipts)
    }

    async fn get(&self, id: RecordId) -> Result<Record, SiteError> {
        self.inner.get(id).await
    }

    async fn get_many(&self, ids: Vec<RecordId>) -> Vec<Result<Record, SiteError>> {
        self.inner.get_many(ids).await
    }

    async fn get_range(&self, id: RecordId, range: Range<u32>) -> Result<UnverifiedBytes, SiteError> {
        self.inner.get_range(id, range).await
    }

    async fn answer(&self, challenge: Challenge) -> Result<Answer, SiteError> {
        self.inner.answer(challenge).await
    }

    async fn list(
        &self,
        kind: RecordKind,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<ListedRecord>, SiteError> {
        self.inner.list(kind, after, limit).await
    }

    async fn delete(&self, ids: Vec<RecordId>) -> Result<u64, SiteError> {
        match self.owner.fence()? {
            None => self.heard(self.inner.delete(ids).await),
            Some(fence) => self.change_under(fence, Change::Delete(ids)).await?.removed(),
        }
    }

    async fn scrub(&self) -> Result<Vec<ScrubFinding>, SiteError> {
        self.inner.scrub().await
    }

    async fn scrub_step(&self, from: Option<ScrubCursor>, bytes_max: u64) -> Result<ScrubStep, SiteError> {
        self.inner.scrub_step(from, bytes_max).await
    }

    async fn reaches(&self, reach: Reach) -> Result<bool, SiteError> {
        self.inner.reaches(reach).await
    }

    async fn write_slot(&self, slot: SlotId, content: SlotContent) -> Result<(), SiteError> {
        match self.owner.fence()? {
            None => self.heard(self.inner.write_slot(slot, content).await),
            Some(fence) => self.change_under(fence, Change::WriteSlot(slot, content)).await.map(drop),
        }
    }

    async fn read_slot(&self, slot: SlotId) -> Result<SlotContent, SiteError> {
        self.inner.read_slot(slot).await
    }

    async fn wipe_superseded(&self, slot: SlotId) -> Result<(), SiteError> {
        match self.owner.fence()? {
            None => self.heard(self.inner.wipe_superseded(slot).await),
            Some(fence) => self.change_under(fence, Change::WipeSuperseded(slot)).await.map(drop),
        }
    }

    async fn raise(&self, fence: Fence) -> Result<(), SiteError> {
        self.heard(self.inner.raise(fence).await)
    }

    async fn epoch(&self, scope: ScopeId) -> Result<u64, SiteError> {
        self.inner.epoch(scope).await
    }

    async fn change_under(&self, fence: Fence, change: Change) -> Result<Changed, SiteError> {
        self.heard(self.inner.change_under(fence, change).await)
    }

    async fn list_slots(&self) -> Result<Vec<SlotListing>, SiteError> {
        self.inner.list_slots().await
    }

    async fn state(&self) -> SiteState {
        self.inner.state().await
    }
}
