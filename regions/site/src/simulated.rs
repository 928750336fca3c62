//! A site that is far away, slow or dead: any other site behind a simulated
//! link. For the embedded default, tests and measurements.

use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use coffer_model::{RecordId, ScopeId, SiteDescription, SlotId};
use coffer_regions::{
    Answer, Challenge, Change, Changed, Fence, ListedRecord, Reach, Receipt, Record, RecordKind, ScrubCursor,
    ScrubFinding, ScrubStep, Site, SiteError, SiteState, SlotContent, SlotListing, UnverifiedBytes,
};
use tokio::time::{Instant, sleep, sleep_until};

use crate::group::body_bytes;

/// Another site behind a link with latency and bandwidth, which can be cut.
///
/// Every request waits `latency` (concurrent ones wait at the same time);
/// record bodies also pass one after the other at `bytes_per_second`, which
/// all requests of the site share.
pub struct SimulatedSite {
    inner: Arc<dyn Site>,
    latency: Duration,
    bytes_per_second: Option<NonZeroU64>,
    dead: AtomicBool,
    /// When the link has carried everything promised so far.
    link_free: Mutex<Option<Instant>>,
}

impl SimulatedSite {
    /// Puts `inner` behind a link; `None` is a link of infinite bandwidth.
    pub fn new(inner: Arc<dyn Site>, latency: Duration, bytes_per_second: Option<NonZeroU64>) -> Self {
        Self { inner, latency, bytes_per_second, dead: AtomicBool::new(false), link_free: Mutex::new(None) }
    }

    /// Cuts the link: every request fails with [`SiteError::Unreachable`],
    /// also one that is under way. What the site stored, it keeps.
    pub fn kill(&self) {
        self.dead.store(true, Ordering::Release);
    }

    /// Restores the link.
    pub fn revive(&self) {
        self.dead.store(false, Ordering::Release);
    }

    fn alive(&self) -> Result<(), SiteError> {
        if self.dead.load(Ordering::Acquire) { Err(SiteError::Unreachable) } else { Ok(()) }
    }

    async fn carry(&self, bytes: u64) {
        let Some(rate) = self.bytes_per_second.filter(|_| bytes > 0) else { return };
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.get());
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let done = {
            let mut free = self.link_free.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let done = free.unwrap_or(now).max(now) + takes;
            *free = Some(done);
            done
        };
        sleep_until(done).await;
    }

    /// One request: `sent` bytes there, the work, what came back.
    async fn request<T>(
        &self,
        sent: u64,
        work: impl Future<Output = Result<T, SiteError>> + Send,
        returned: impl Fn(&T) -> u64,
    ) -> Result<T, SiteError> {
        self.alive()?;
        if !self.latency.is_zero() {
            sleep(self.latency).await;
        }
        self.carry(sent).await;
        self.alive()?;
        let answer = work.await;
        if let Ok(value) = &answer {
            self.carry(returned(value)).await;
        }
        self.alive()?;
        answer
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[async_trait]
impl Site for SimulatedSite {
    fn description(&self) -> &SiteDescription {
        self.inner.description()
    }

    fn answers(&self) -> bool {
        self.alive().is_ok() && self.inner.answers()
    }

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        let bytes = body_bytes(&records);
        self.request(bytes, self.inner.put(records), |_| 0).await
    }

    async fn get(&self, id: RecordId) -> Result<Record, SiteError> {
        self.request(0, self.inner.get(id), |record| length(record.body().len())).await
    }

    async fn get_many(&self, ids: Vec<RecordId>) -> Vec<Result<Record, SiteError>> {
        let count = ids.len();
        let work = async { Ok(self.inner.get_many(ids).await) };
        let bodies = |records: &Vec<Result<Record, SiteError>>| {
            records.iter().flatten().map(|record| length(record.body().len())).sum()
        };
        self.request(0, work, bodies).await.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn get_range(&self, id: RecordId, range: Range<u32>) -> Result<UnverifiedBytes, SiteError> {
        self.request(0, self.inner.get_range(id, range), |bytes| length(bytes.0.len())).await
    }

    async fn answer(&self, challenge: Challenge) -> Result<Answer, SiteError> {
        self.request(0, self.inner.answer(challenge), |_| 0).await
    }

    async fn list(
        &self,
        kind: RecordKind,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<ListedRecord>, SiteError> {
        self.request(0, self.inner.list(kind, after, limit), |_| 0).await
    }

    async fn delete(&self, ids: Vec<RecordId>) -> Result<u64, SiteError> {
        self.request(0, self.inner.delete(ids), |_| 0).await
    }

    async fn scrub(&self) -> Result<Vec<ScrubFinding>, SiteError> {
        self.request(0, self.inner.scrub(), |_| 0).await
    }

    async fn scrub_step(&self, from: Option<ScrubCursor>, bytes_max: u64) -> Result<ScrubStep, SiteError> {
        self.request(0, self.inner.scrub_step(from, bytes_max), |_| 0).await
    }

    async fn reaches(&self, reach: Reach) -> Result<bool, SiteError> {
        self.request(0, self.inner.reaches(reach), |_| 0).await
    }

    async fn write_slot(&self, slot: SlotId, content: SlotContent) -> Result<(), SiteError> {
        let bytes = length(content.body.len());
        self.request(bytes, self.inner.write_slot(slot, content), |_| 0).await
    }

    async fn read_slot(&self, slot: SlotId) -> Result<SlotContent, SiteError> {
        self.request(0, self.inner.read_slot(slot), |content| length(content.body.len())).await
    }

    async fn wipe_superseded(&self, slot: SlotId) -> Result<(), SiteError> {
        self.request(0, self.inner.wipe_superseded(slot), |()| 0).await
    }

    async fn raise(&self, fence: Fence) -> Result<(), SiteError> {
        self.request(0, self.inner.raise(fence), |()| 0).await
    }

    async fn epoch(&self, scope: ScopeId) -> Result<u64, SiteError> {
        self.request(0, self.inner.epoch(scope), |_| 0).await
    }

    async fn change_under(&self, fence: Fence, change: Change) -> Result<Changed, SiteError> {
        let bytes = match &change {
            Change::Put(records) => body_bytes(records),
            Change::WriteSlot(_, content) => length(content.body.len()),
            Change::Delete(_) | Change::WipeSuperseded(_) => 0,
        };
        self.request(bytes, self.inner.change_under(fence, change), |_| 0).await
    }

    async fn list_slots(&self) -> Result<Vec<SlotListing>, SiteError> {
        self.request(0, self.inner.list_slots(), |_| 0).await
    }

    async fn state(&self) -> SiteState {
        let state = self.inner.state().await;
        SiteState { alive: state.alive && self.alive().is_ok(), ..state }
    }
}
