//! The pod adapter of the port: a site behind mutually authenticated gRPC.
//! Every call has a deadline; what a pod says is checked before it counts.

mod call;
mod discovery;
mod link;
mod refusal;

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use coffer_model::{Digest, Entropy, RecordId, ScopeId, SiteDescription, SlotId};
use coffer_proto::site::v1;
use coffer_regions::{
    Answer, Challenge, Change, Changed, Fence, ListedRecord, Reach, Receipt, Record, RecordKind, ScrubCursor,
    ScrubFinding, ScrubStep, Site, SiteError, SiteState, SlotContent, SlotListing, UnverifiedBytes,
};
use tokio::task::JoinHandle;

pub use discovery::{AsListed, Discovery, EndpointsError, EndpointsFile, Whereabouts};
pub use link::{PodConfigError, PodCredentials, is_pod_endpoint};
pub use refusal::{PodRefusal, Witness};

use crate::group::{PUT_BYTES_MAX, PUT_RECORDS_MAX, body_bytes};
use crate::slots::{SLOT_BODY_BYTES_MAX, SLOTS_MAX};
use crate::wire;
use call::Caller;
use link::Link;

/// Reads of one `get_many` that are on the way at the same time.
const READS_AT_ONCE: usize = 16;

/// How long what may take.
#[derive(Clone, Debug)]
pub struct PodTiming {
    /// TCP, TLS and the check of the certificate.
    pub connect: Duration,
    /// Every call, besides the time for its bytes.
    pub call: Duration,
    /// The slowest rate at which bytes may pass, in bytes a second.
    pub bytes_per_second: u64,
    /// Between two probes.
    pub probe_every: Duration,
    /// One probe.
    pub probe: Duration,
    /// How long a connection goes unasked.
    pub keepalive_interval: Duration,
    /// How long it may stay silent when asked.
    pub keepalive_timeout: Duration,
}

impl Default for PodTiming {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            call: Duration::from_secs(5),
            bytes_per_second: 8 << 20,
            probe_every: Duration::from_secs(1),
            probe: Duration::from_secs(2),
            keepalive_interval: Duration::from_secs(2),
            keepalive_timeout: Duration::from_secs(3),
        }
    }
}

impl PodTiming {
    /// The deadline of a call that moves so many bytes.
    pub fn deadline(&self, bytes: u64) -> Duration {
        let rate = self.bytes_per_second.max(1);
        self.call.saturating_add(Duration::from_millis(bytes.saturating_mul(1000) / rate))
    }
}

/// What a pod is reached with.
pub struct PodOptions {
    /// What the topology says about it.
    pub description: SiteDescription,
    /// `https://HOST:PORT`, unless `discovery` knows better.
    pub endpoint: String,
    /// Where the pod is now.
    pub discovery: Arc<dyn Discovery>,
    /// What this caller shows.
    pub credentials: PodCredentials,
    /// Deadlines.
    pub timing: PodTiming,
    /// For the nonces of receipts.
    pub entropy: Arc<dyn Entropy>,
    /// Is told what is refused.
    pub witness: Arc<dyn Witness>,
}

/// A site on another machine.
pub struct PodSite {
    caller: Arc<Caller>,
    entropy: Arc<dyn Entropy>,
    probe: JoinHandle<()>,
}

impl Drop for PodSite {
    fn drop(&mut self) {
        self.probe.abort();
    }
}

impl PodSite {
    /// Makes the adapter and asks the pod once, so that [`Site::answers`] is
    /// right from the beginning. A pod that is down is no error: it is asked
    /// again for as long as this lives.
    ///
    /// # Errors
    /// [`PodConfigError`], before anything is sent.
    pub async fn open(options: PodOptions) -> Result<Self, PodConfigError> {
        let PodOptions { description, endpoint, discovery, credentials, timing, entropy, witness } = options;
        let link = Arc::new(Link::new(description, &endpoint, &credentials, &timing)?);
        let caller = Arc::new(Caller::new(link, timing, discovery, witness)?);
        caller.probe().await;
        let probing = Arc::clone(&caller);
        let probe = tokio::spawn(async move {
            loop {
                tokio::time::sleep(probing.timing().probe_every).await;
                probing.probe().await;
            }
        });
        Ok(Self { caller, entropy, probe })
    }

    /// Why the last connection was refused, if it was.
    pub fn refusal(&self) -> Option<PodRefusal> {
        self.caller.link().refusal()
    }

    async fn list_page(
        &self,
        kind: RecordKind,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<ListedRecord>, SiteError> {
        let request = v1::ListRequest {
            kind: kind.byte().into(),
            after: after.map(|id| id.as_bytes().to_vec()).unwrap_or_default().into(),
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
        };
        let answer = self
            .caller
            .unary(0, request, |mut store, request| async move { store.list(request).await })
            .await?;
        let lines: Result<Vec<_>, _> = answer.records.iter().map(|line| wire::listed(kind, line)).collect();
        let lines = lines.map_err(|error| self.caller.refuse(error.into()))?;
        let ascending = lines.windows(2).all(|pair| pair[0].id < pair[1].id)
            && lines.first().is_none_or(|first| after.is_none_or(|after| first.id > after));
        if ascending && lines.len() <= limit { Ok(lines) } else { Err(self.caller.malformed("records")) }
    }

    async fn slots_page(&self, after: Option<SlotId>) -> Result<Vec<SlotListing>, SiteError> {
        let request = v1::ListSlotsRequest {
            after: after.map(|id| id.as_bytes().to_vec()).unwrap_or_default().into(),
            limit: u32::try_from(wire::LINES_MAX).unwrap_or(u32::MAX),
        };
        let answer = self
            .caller
            .unary(0, request, |mut store, request| async move { store.list_slots(request).await })
            .await?;
        let lines: Result<Vec<_>, _> = answer.slots.iter().map(wire::slot_listing).collect();
        let lines = lines.map_err(|error| self.caller.refuse(error.into()))?;
        let ascending = lines.windows(2).all(|pair| pair[0].slot < pair[1].slot)
            && lines.first().is_none_or(|first| after.is_none_or(|after| first.slot > after));
        if ascending { Ok(lines) } else { Err(self.caller.malformed("slots")) }
    }

    async fn store(&self, fence: Option<Fence>, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        let bytes = body_bytes(&records);
        if records.len() > PUT_RECORDS_MAX || bytes > PUT_BYTES_MAX {
            return Err(SiteError::OverLimit);
        }
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let site = self.description().id;
        let receipt = |record: &Record| Receipt::of(site, record);
        let expected: Vec<Receipt> = records.iter().map(receipt).collect();
        let mut nonce = [0; 32];
        self.entropy.fill(&mut nonce);
        self.caller.put(fence, records, bytes, nonce, &expected).await?;
        Ok(expected)
    }

    async fn remove(&self, fence: Option<Fence>, ids: Vec<RecordId>) -> Result<u64, SiteError> {
        if ids.len() > PUT_RECORDS_MAX {
            return Err(SiteError::OverLimit);
        }
        let wanted = length(ids.len());
        let ids = ids.iter().map(|id| id.as_bytes().to_vec().into()).collect();
        let request = v1::DeleteRequest { ids, fence: wire::fence_message(fence) };
        // Not repeated: the second answer would count what the first removed.
        let once = |mut store: call::Client| {
            let request = request.clone();
            async move { Ok(store.delete(request).await?.into_inner()) }
        };
        let removed = self.caller.call(0, false, once).await?.removed;
        if removed <= wanted { Ok(removed) } else { Err(self.caller.malformed("removed")) }
    }

    async fn overwrite(
        &self,
        fence: Option<Fence>,
        slot: SlotId,
        content: SlotContent,
    ) -> Result<(), SiteError> {
        if content.body.len() > SLOT_BODY_BYTES_MAX {
            return Err(SiteError::OverLimit);
        }
        let request = v1::WriteSlotRequest {
            slot: slot.as_bytes().to_vec().into(),
            generation: content.generation,
            body: content.body,
            fence: wire::fence_message(fence),
        };
        self.caller
            .unary(0, request, |mut store, request| async move { store.write_slot(request).await })
            .await
            .map(drop)
    }

    async fn wipe(&self, fence: Option<Fence>, slot: SlotId) -> Result<(), SiteError> {
        let (slot, fence) = (slot.as_bytes().to_vec().into(), wire::fence_message(fence));
        let request = v1::WipeSupersededRequest { slot, fence };
        self.caller
            .unary(0, request, |mut store, request| async move { store.wipe_superseded(request).await })
            .await
            .map(drop)
    }

    /// Slots are no records: each is read, which verifies it.
    async fn scrub_slots(&self) -> Result<Vec<ScrubFinding>, SiteError> {
        let mut findings = Vec::new();
        for line in self.list_slots().await? {
            match self.read_slot(line.slot).await {
                Ok(_) | Err(SiteError::Missing) => {}
                Err(SiteError::Damaged) => {
                    findings.push(ScrubFinding { record: None, place: line.slot.to_string() });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(findings)
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[async_trait]
impl Site for PodSite {
    fn description(&self) -> &SiteDescription {
        self.caller.link().description()
    }

    fn answers(&self) -> bool {
        self.caller.answers()
    }

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        self.store(None, records).await
    }

    async fn get(&self, id: RecordId) -> Result<Record, SiteError> {
        self.caller.get(id).await
    }

    /// Many at the same time: one after the other would wait for the way
    /// there and back each time.
    async fn get_many(&self, ids: Vec<RecordId>) -> Vec<Result<Record, SiteError>> {
        let reads = futures::stream::iter(ids.into_iter().map(|id| self.caller.get(id)));
        futures::StreamExt::collect(futures::StreamExt::buffered(reads, READS_AT_ONCE)).await
    }

    async fn get_range(&self, id: RecordId, range: Range<u32>) -> Result<UnverifiedBytes, SiteError> {
        if range.start > range.end || length(Record::BODY_BYTES_MAX) < u64::from(range.end) {
            return Err(SiteError::OverLimit);
        }
        self.caller.get_range(id, range).await.map(UnverifiedBytes)
    }

    async fn answer(&self, challenge: Challenge) -> Result<Answer, SiteError> {
        let request = v1::AnswerRequest {
            record: challenge.record.as_bytes().to_vec().into(),
            key: challenge.key.to_vec().into(),
        };
        let answer = self
            .caller
            .unary(0, request, |mut store, request| async move { store.answer(request).await })
            .await?;
        let digest = wire::thirty_two("answer", &answer.answer);
        digest.map(|bytes| Answer(Digest(bytes))).map_err(|error| self.caller.refuse(error.into()))
    }

    async fn list(
        &self,
        kind: RecordKind,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<ListedRecord>, SiteError> {
        let mut all: Vec<ListedRecord> = Vec::new();
        while all.len() < limit {
            let wanted = (limit - all.len()).min(wire::LINES_MAX);
            let page = self.list_page(kind, all.last().map(|line| line.id).or(after), wanted).await?;
            let last = page.len() < wanted;
            all.extend(page);
            if last {
                break;
            }
        }
        Ok(all)
    }

    async fn delete(&self, ids: Vec<RecordId>) -> Result<u64, SiteError> {
        self.remove(None, ids).await
    }

    async fn scrub(&self) -> Result<Vec<ScrubFinding>, SiteError> {
        let (mut findings, mut from) = (Vec::new(), None);
        loop {
            let step = self.scrub_step(from, wire::SCRUB_BYTES_MAX).await?;
            findings.extend(step.findings);
            if step.next.is_none() {
                break;
            }
            from = step.next;
        }
        findings.extend(self.scrub_slots().await?);
        Ok(findings)
    }

    async fn scrub_step(&self, from: Option<ScrubCursor>, bytes_max: u64) -> Result<ScrubStep, SiteError> {
        let bytes_max = bytes_max.min(wire::SCRUB_BYTES_MAX);
        let request = v1::ScrubStepRequest {
            from: from.map(|cursor| cursor.0.to_vec()).unwrap_or_default().into(),
            bytes_max,
        };
        let reads = bytes_max + length(Record::BODY_BYTES_MAX);
        let answer = self
            .caller
            .unary(reads, request, |mut store, request| async move { store.scrub_step(request).await })
            .await?;
        let step = wire::scrub_step(answer).map_err(|error| self.caller.refuse(error.into()))?;
        // A pass that does not go on would never end.
        if step.next.is_some() && step.next <= from {
            return Err(self.caller.malformed("next"));
        }
        Ok(step)
    }

    async fn reaches(&self, reach: Reach) -> Result<bool, SiteError> {
        let request = v1::ReachesRequest { reach: wire::reach_message(Some(reach)) };
        let answer = self
            .caller
            .unary(0, request, |mut store, request| async move { store.reaches(request).await })
            .await?;
        Ok(answer.reaches)
    }

    async fn write_slot(&self, slot: SlotId, content: SlotContent) -> Result<(), SiteError> {
        self.overwrite(None, slot, content).await
    }

    async fn read_slot(&self, slot: SlotId) -> Result<SlotContent, SiteError> {
        let request = v1::ReadSlotRequest { slot: slot.as_bytes().to_vec().into() };
        let answer = self
            .caller
            .unary(0, request, |mut store, request| async move { store.read_slot(request).await })
            .await?;
        if answer.body.len() > SLOT_BODY_BYTES_MAX {
            return Err(self.caller.malformed("body"));
        }
        Ok(SlotContent { generation: answer.generation, body: answer.body })
    }

    async fn wipe_superseded(&self, slot: SlotId) -> Result<(), SiteError> {
        self.wipe(None, slot).await
    }

    async fn raise(&self, fence: Fence) -> Result<(), SiteError> {
        if fence.epoch == 0 {
            return Err(SiteError::OverLimit);
        }
        let request = v1::RaiseEpochRequest { fence: wire::fence_message(Some(fence)) };
        self.caller
            .unary(0, request, |mut store, request| async move { store.raise_epoch(request).await })
            .await
            .map(drop)
    }

    async fn epoch(&self, scope: ScopeId) -> Result<u64, SiteError> {
        let request = v1::GetEpochRequest { scope: scope.as_bytes().to_vec().into() };
        let answer = self
            .caller
            .unary(0, request, |mut store, request| async move { store.get_epoch(request).await })
            .await?;
        Ok(answer.epoch)
    }

    async fn change_under(&self, fence: Fence, change: Change) -> Result<Changed, SiteError> {
        let fence = Some(fence);
        match change {
            Change::Put(records) => self.store(fence, records).await.map(Changed::Stored),
            Change::Delete(ids) => self.remove(fence, ids).await.map(Changed::Removed),
            Change::WriteSlot(slot, content) => {
                self.overwrite(fence, slot, content).await.map(|()| Changed::Slot)
            }
            Change::WipeSuperseded(slot) => self.wipe(fence, slot).await.map(|()| Changed::Slot),
        }
    }

    async fn list_slots(&self) -> Result<Vec<SlotListing>, SiteError> {
        let mut all: Vec<SlotListing> = Vec::new();
        loop {
            let page = self.slots_page(all.last().map(|line| line.slot)).await?;
            let last = page.len() < wire::LINES_MAX;
            all.extend(page);
            if all.len() > SLOTS_MAX {
                return Err(self.caller.malformed("slots"));
            }
            if last {
                return Ok(all);
            }
        }
    }

    async fn state(&self) -> SiteState {
        let request = v1::StateRequest {};
        let answer = self
            .caller
            .unary(0, request, |mut store, request| async move { store.state(request).await })
            .await;
        answer.ok().and_then(|answer| wire::state(answer).ok()).unwrap_or(SiteState::DEAD)
    }
}
