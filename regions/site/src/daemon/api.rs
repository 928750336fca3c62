//! The calls of `coffer.site.v1.Store`, each bounded before it costs anything.

use std::sync::Arc;

use bytes::Bytes;
use coffer_model::{RecordId, ScopeId, SlotId};
use coffer_proto::site::v1::store_server::Store;
use coffer_proto::site::v1::{
    AnswerRequest, AnswerResponse, DeleteRequest, DeleteResponse, GetEpochRequest, GetEpochResponse,
    GetRangeRequest, GetRangeResponse, GetRequest, GetResponse, ListRequest, ListResponse, ListSlotsRequest,
    ListSlotsResponse, PutHeader, PutRequest, PutResponse, RaiseEpochRequest, RaiseEpochResponse,
    ReachesRequest, ReachesResponse, ReadSlotRequest, ReadSlotResponse, Receipt as ReceiptMessage,
    ScrubStepRequest, ScrubStepResponse, SlotListing, StateRequest, StateResponse, WipeSupersededRequest,
    WipeSupersededResponse, WriteSlotRequest, WriteSlotResponse,
};
use coffer_proto::{DATA_BYTES_MAX, InvalidMessage, id};
use coffer_regions::{Challenge, Change, Changed, Fence, Receipt, Record, Site, SlotContent};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status, Streaming};

use super::pieces::{Pieces, STALL_MAX};
use super::refused::Refused;
use super::tenure::Tenure;
use crate::group::{PUT_BYTES_MAX, PUT_RECORDS_MAX};
use crate::parts::{Assembly, Parts, PartsError};
use crate::receipt::{Nonce, ReceiptSigner, SignedReceipts};
use crate::slots::SLOT_BODY_BYTES_MAX;
use crate::wire;

/// Bodies of puts that are in memory at the same time, in KiB.
const PUT_ROOM_KIB: usize = 256 << 10;
/// Bodies of reads that are in memory at the same time, at most 16 MiB each.
const READS_MAX: usize = 32;

/// The store over gRPC.
pub(super) struct StoreApi {
    site: Arc<dyn Site>,
    signer: ReceiptSigner,
    tenure: Arc<Tenure>,
    refused: Arc<Refused>,
    put_room: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

type Answer<T> = Result<Response<T>, Status>;

fn invalid(error: InvalidMessage) -> Status {
    wire::refused(&error)
}

fn over(field: &'static str) -> Status {
    invalid(InvalidMessage::OverLimit(field))
}

fn parts_refused(error: PartsError) -> Status {
    match error {
        PartsError::Cut => Status::aborted(error.to_string()),
        error => Status::invalid_argument(error.to_string()),
    }
}

fn store(error: coffer_regions::SiteError) -> Status {
    wire::status(&error)
}

/// What the header of a put announces, within the limits.
struct Announced {
    nonce: Nonce,
    fence: Option<Fence>,
    records: usize,
    body_bytes: u64,
}

/// A put that has come whole.
struct Received {
    nonce: Nonce,
    fence: Option<Fence>,
    records: Vec<Record>,
    /// What its bodies take in memory until they are written.
    _room: OwnedSemaphorePermit,
}

fn announced(header: Option<PutHeader>) -> Result<Announced, InvalidMessage> {
    let header = header.ok_or(InvalidMessage::Missing("header"))?;
    let records = usize::try_from(header.records).unwrap_or(usize::MAX);
    if records > PUT_RECORDS_MAX {
        return Err(InvalidMessage::OverLimit("records"));
    }
    if header.body_bytes > PUT_BYTES_MAX {
        return Err(InvalidMessage::OverLimit("body_bytes"));
    }
    let nonce = wire::thirty_two("nonce", &header.nonce)?;
    let fence = wire::fence(header.fence.as_ref())?;
    Ok(Announced { nonce, fence, records, body_bytes: header.body_bytes })
}

/// The next message of a put, unless nothing comes for too long.
async fn next(stream: &mut Streaming<PutRequest>) -> Result<Option<PutRequest>, Status> {
    let message = tokio::time::timeout(STALL_MAX, stream.message()).await;
    message.unwrap_or_else(|_| Err(Status::deadline_exceeded("nothing more of this put came for too long")))
}

impl StoreApi {
    pub(super) fn new(
        site: Arc<dyn Site>,
        signer: ReceiptSigner,
        tenure: Arc<Tenure>,
        refused: Arc<Refused>,
    ) -> Self {
        let put_room = Arc::new(Semaphore::new(PUT_ROOM_KIB));
        Self { site, signer, tenure, refused, put_room, reads: Arc::new(Semaphore::new(READS_MAX)) }
    }

    /// Makes a change under the epoch that its caller names, if any, while
    /// the lease of this pod is held. What was written and not acknowledged
    /// before it ran out is not acknowledged.
    async fn change(&self, fence: Option<Fence>, change: Change) -> Result<Changed, Status> {
        self.tenure.may_write().map_err(store)?;
        let changed = match (fence, change) {
            (Some(fence), change) => self.site.change_under(fence, change).await,
            (None, Change::Put(records)) => self.site.put(records).await.map(Changed::Stored),
            (None, Change::Delete(ids)) => self.site.delete(ids).await.map(Changed::Removed),
            (None, Change::WriteSlot(slot, content)) => {
                self.site.write_slot(slot, content).await.map(|()| Changed::Slot)
            }
            (None, Change::WipeSuperseded(slot)) => {
                self.site.wipe_superseded(slot).await.map(|()| Changed::Slot)
            }
        };
        self.tenure.may_write().map_err(store)?;
        changed.map_err(store)
    }

    async fn room(&self, body_bytes: u64) -> Result<OwnedSemaphorePermit, Status> {
        let kib = u32::try_from(body_bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.put_room).acquire_many_owned(kib).await;
        room.map_err(|_| Status::unavailable("the pod is stopping"))
    }

    async fn reading(&self) -> Result<OwnedSemaphorePermit, Status> {
        let place = Arc::clone(&self.reads).acquire_owned().await;
        place.map_err(|_| Status::unavailable("the pod is stopping"))
    }

    /// A whole put.
    async fn receive(&self, stream: &mut Streaming<PutRequest>) -> Result<Received, Status> {
        let first = next(stream).await?.ok_or_else(|| invalid(InvalidMessage::Missing("header")))?;
        let announced = announced(first.header).map_err(invalid)?;
        let room = self.room(announced.body_bytes).await?;
        let mut assembly = Assembly::of(announced.records, announced.body_bytes);
        first.parts.into_iter().try_for_each(|part| assembly.take(part)).map_err(parts_refused)?;
        while let Some(message) = next(stream).await? {
            if message.header.is_some() {
                return Err(over("header"));
            }
            message.parts.into_iter().try_for_each(|part| assembly.take(part)).map_err(parts_refused)?;
        }
        let records = assembly.finish().map_err(parts_refused)?;
        Ok(Received { nonce: announced.nonce, fence: announced.fence, records, _room: room })
    }

    async fn signed(&self, nonce: Nonce, receipts: Vec<Receipt>) -> PutResponse {
        let (site, reach) = (self.site.description().id, self.site.state().await.reach);
        let signature = self.signer.sign(&SignedReceipts { site, nonce, receipts: &receipts, reach });
        let line = |receipt: &Receipt| ReceiptMessage {
            record: receipt.record.as_bytes().to_vec().into(),
            digest: receipt.digest.0.to_vec().into(),
        };
        PutResponse {
            site: site.as_bytes().to_vec().into(),
            nonce: nonce.to_vec().into(),
            receipts: receipts.iter().map(line).collect(),
            reach: wire::reach_message(reach),
            signature: signature.to_vec().into(),
        }
    }
}

#[tonic::async_trait]
impl Store for StoreApi {
    type GetStream = Pieces<GetResponse>;
    type GetRangeStream = Pieces<GetRangeResponse>;

    async fn put(&self, request: Request<Streaming<PutRequest>>) -> Answer<PutResponse> {
        let mut stream = request.into_inner();
        let Received { nonce, fence, records, _room } = self.receive(&mut stream).await?;
        let stored = self.change(fence, Change::Put(records)).await?;
        Ok(Response::new(self.signed(nonce, stored.receipts().map_err(store)?).await))
    }

    async fn get(&self, request: Request<GetRequest>) -> Answer<Self::GetStream> {
        let id: RecordId = id("id", &request.get_ref().id).map_err(invalid)?;
        let place = self.reading().await?;
        let record = self.site.get(id).await.map_err(store)?;
        let messages = Parts::of(vec![record]).flatten().map(|part| GetResponse { part: Some(part) });
        Ok(Response::new(Pieces::offer(messages, place)))
    }

    async fn get_range(&self, request: Request<GetRangeRequest>) -> Answer<Self::GetRangeStream> {
        let wanted = request.into_inner();
        let id: RecordId = id("id", &wanted.id).map_err(invalid)?;
        if wanted.start > wanted.end {
            return Err(over("start"));
        }
        let place = self.reading().await?;
        let part = self.site.get_range(id, wanted.start..wanted.end).await.map_err(store)?;
        let pieces: Vec<Bytes> = (0..part.0.len())
            .step_by(DATA_BYTES_MAX)
            .map(|start| part.0.slice(start..part.0.len().min(start + DATA_BYTES_MAX)))
            .collect();
        let messages = pieces.into_iter().map(|data| GetRangeResponse { data });
        Ok(Response::new(Pieces::offer(messages, place)))
    }

    async fn answer(&self, request: Request<AnswerRequest>) -> Answer<AnswerResponse> {
        let asked = request.into_inner();
        let record = id("record", &asked.record).map_err(invalid)?;
        let key = wire::thirty_two("key", &asked.key).map_err(invalid)?;
        let _place = self.reading().await?;
        let answer = self.site.answer(Challenge { record, key }).await.map_err(store)?;
        Ok(Response::new(AnswerResponse { answer: answer.0.0.to_vec().into() }))
    }

    async fn list(&self, request: Request<ListRequest>) -> Answer<ListResponse> {
        let asked = request.into_inner();
        let kind = wire::kind(asked.kind).map_err(invalid)?;
        let after = wire::optional_id("after", &asked.after).map_err(invalid)?;
        let limit = wire::limit(asked.limit).map_err(invalid)?;
        let lines = self.site.list(kind, after, limit).await.map_err(store)?;
        Ok(Response::new(ListResponse { records: lines.iter().map(wire::listed_message).collect() }))
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Answer<DeleteResponse> {
        let asked = request.into_inner();
        if asked.ids.len() > PUT_RECORDS_MAX {
            return Err(over("ids"));
        }
        let ids: Result<Vec<RecordId>, _> = asked.ids.iter().map(|bytes| id("ids", bytes)).collect();
        let ids = ids.map_err(invalid)?;
        let fence = wire::fence(asked.fence.as_ref()).map_err(invalid)?;
        let removed = self.change(fence, Change::Delete(ids)).await?.removed().map_err(store)?;
        Ok(Response::new(DeleteResponse { removed }))
    }

    async fn scrub_step(&self, request: Request<ScrubStepRequest>) -> Answer<ScrubStepResponse> {
        let asked = request.into_inner();
        let from = wire::cursor(&asked.from).map_err(invalid)?;
        if asked.bytes_max > wire::SCRUB_BYTES_MAX {
            return Err(over("bytes_max"));
        }
        let _place = self.reading().await?;
        let step = self.site.scrub_step(from, asked.bytes_max).await.map_err(store)?;
        Ok(Response::new(wire::scrub_step_message(step)))
    }

    async fn reaches(&self, request: Request<ReachesRequest>) -> Answer<ReachesResponse> {
        let reach = wire::reach(request.into_inner().reach).map_err(invalid)?;
        let reach = reach.ok_or_else(|| invalid(InvalidMessage::Missing("reach")))?;
        Ok(Response::new(ReachesResponse { reaches: self.site.reaches(reach).await.map_err(store)? }))
    }

    async fn write_slot(&self, request: Request<WriteSlotRequest>) -> Answer<WriteSlotResponse> {
        let asked = request.into_inner();
        let slot: SlotId = id("slot", &asked.slot).map_err(invalid)?;
        if asked.body.len() > SLOT_BODY_BYTES_MAX {
            return Err(over("body"));
        }
        let fence = wire::fence(asked.fence.as_ref()).map_err(invalid)?;
        let content = SlotContent { generation: asked.generation, body: asked.body };
        self.change(fence, Change::WriteSlot(slot, content)).await?;
        Ok(Response::new(WriteSlotResponse {}))
    }

    async fn read_slot(&self, request: Request<ReadSlotRequest>) -> Answer<ReadSlotResponse> {
        let slot: SlotId = id("slot", &request.get_ref().slot).map_err(invalid)?;
        let SlotContent { generation, body } = self.site.read_slot(slot).await.map_err(store)?;
        Ok(Response::new(ReadSlotResponse { generation, body }))
    }

    async fn wipe_superseded(
        &self,
        request: Request<WipeSupersededRequest>,
    ) -> Answer<WipeSupersededResponse> {
        let asked = request.into_inner();
        let slot: SlotId = id("slot", &asked.slot).map_err(invalid)?;
        let fence = wire::fence(asked.fence.as_ref()).map_err(invalid)?;
        self.change(fence, Change::WipeSuperseded(slot)).await?;
        Ok(Response::new(WipeSupersededResponse {}))
    }

    async fn list_slots(&self, request: Request<ListSlotsRequest>) -> Answer<ListSlotsResponse> {
        let asked = request.into_inner();
        let after: Option<SlotId> = wire::optional_id("after", &asked.after).map_err(invalid)?;
        let limit = wire::limit(asked.limit).map_err(invalid)?;
        let mut slots = self.site.list_slots().await.map_err(store)?;
        slots.sort_by_key(|line| line.slot);
        let rest = slots.iter().filter(|line| after.is_none_or(|after| line.slot > after));
        let line = |line: &coffer_regions::SlotListing| SlotListing {
            slot: line.slot.as_bytes().to_vec().into(),
            generation: line.generation,
        };
        Ok(Response::new(ListSlotsResponse { slots: rest.take(limit).map(line).collect() }))
    }

    async fn state(&self, _: Request<StateRequest>) -> Answer<StateResponse> {
        let mut state = wire::state_message(&self.site.state().await);
        state.read_only |= self.tenure.may_write().is_err();
        state.incarnation = self.tenure.incarnation();
        state.refused = Some(self.refused.message());
        Ok(Response::new(state))
    }

    async fn raise_epoch(&self, request: Request<RaiseEpochRequest>) -> Answer<RaiseEpochResponse> {
        let fence = wire::fence(request.get_ref().fence.as_ref()).map_err(invalid)?;
        let fence = fence.ok_or_else(|| invalid(InvalidMessage::Missing("fence")))?;
        self.tenure.may_write().map_err(store)?;
        self.site.raise(fence).await.map_err(store)?;
        Ok(Response::new(RaiseEpochResponse {}))
    }

    async fn get_epoch(&self, request: Request<GetEpochRequest>) -> Answer<GetEpochResponse> {
        let scope: ScopeId = id("scope", &request.get_ref().scope).map_err(invalid)?;
        Ok(Response::new(GetEpochResponse { epoch: self.site.epoch(scope).await.map_err(store)? }))
    }
}
