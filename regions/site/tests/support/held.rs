//! A store whose reads are held back and counted, and serve records that
//! lie in memory: what is tested with it is the daemon before it.

use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use coffer_model::{RecordId, SiteDescription, SlotId};
use coffer_regions::{
    Answer, Challenge, ListedRecord, Reach, Receipt, Record, RecordKind, ScrubCursor, ScrubFinding,
    ScrubStep, Site, SiteError, SiteState, SlotContent, SlotListing, UnverifiedBytes,
};
use coffer_site::DirectorySite;
use tokio::sync::watch;

/// Every record that was not put into `inner` is made by `record`.
pub(crate) struct HeldSite {
    inner: DirectorySite,
    record: Box<dyn Fn(RecordId) -> Record + Send + Sync>,
    open: watch::Sender<bool>,
    /// Reads that are here, and the most that ever were.
    here: watch::Sender<(usize, usize)>,
}

impl HeldSite {
    /// Every record is this one.
    pub(crate) fn new(inner: DirectorySite, record: Record) -> Arc<Self> {
        Self::making(inner, Box::new(move |_| record.clone()))
    }

    /// The same where each record is made when it is read.
    pub(crate) fn making(
        inner: DirectorySite,
        record: Box<dyn Fn(RecordId) -> Record + Send + Sync>,
    ) -> Arc<Self> {
        let (open, here) = (watch::Sender::new(true), watch::Sender::new((0, 0)));
        Arc::new(Self { inner, record, open, here })
    }

    /// Holds back the reads that come, or lets them go on.
    pub(crate) fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }

    /// Returns once so many reads are here.
    pub(crate) async fn holds(&self, reads: usize) {
        // The sender lives as long as this.
        let _ = self.here.subscribe().wait_for(|(now, _)| *now >= reads).await;
    }

    /// The most reads that were ever here at the same time.
    pub(crate) fn most(&self) -> usize {
        self.here.borrow().1
    }

    /// One read: it is counted, waits, and leaves.
    async fn pass(&self) {
        self.here.send_modify(|(now, most)| {
            *now += 1;
            *most = (*most).max(*now);
        });
        let _ = self.open.subscribe().wait_for(|open| *open).await;
        self.here.send_modify(|(now, _)| *now -= 1);
    }
}

#[async_trait]
impl Site for HeldSite {
    fn description(&self) -> &SiteDescription {
        self.inner.description()
    }
    fn answers(&self) -> bool {
        true
    }
    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        self.inner.put(records).await
    }
    async fn get(&self, id: RecordId) -> Result<Record, SiteError> {
        self.pass().await;
        let found = self.inner.get(id).await;
        if found == Err(SiteError::Missing) { Ok((self.record)(id)) } else { found }
    }
    async fn get_range(&self, id: RecordId, range: Range<u32>) -> Result<UnverifiedBytes, SiteError> {
        self.pass().await;
        self.inner.get_range(id, range).await
    }
    async fn answer(&self, challenge: Challenge) -> Result<Answer, SiteError> {
        self.pass().await;
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
        self.inner.delete(ids).await
    }
    async fn scrub(&self) -> Result<Vec<ScrubFinding>, SiteError> {
        self.inner.scrub().await
    }
    async fn scrub_step(&self, from: Option<ScrubCursor>, bytes_max: u64) -> Result<ScrubStep, SiteError> {
        self.pass().await;
        self.inner.scrub_step(from, bytes_max).await
    }
    async fn reaches(&self, reach: Reach) -> Result<bool, SiteError> {
        self.inner.reaches(reach).await
    }
    async fn write_slot(&self, slot: SlotId, content: SlotContent) -> Result<(), SiteError> {
        self.inner.write_slot(slot, content).await
    }
    async fn read_slot(&self, slot: SlotId) -> Result<SlotContent, SiteError> {
        self.inner.read_slot(slot).await
    }
    async fn wipe_superseded(&self, slot: SlotId) -> Result<(), SiteError> {
        self.inner.wipe_superseded(slot).await
    }
    async fn list_slots(&self) -> Result<Vec<SlotListing>, SiteError> {
        self.inner.list_slots().await
    }
    async fn state(&self) -> SiteState {
        self.inner.state().await
    }
}
