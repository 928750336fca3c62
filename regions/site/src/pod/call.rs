//! One call of a pod: its deadline, its second attempt, what its answer means
//! for the circuit, and the checks that make the answer count.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coffer_model::{RecordId, SiteId};
use coffer_proto::site::v1::store_client::StoreClient;
use coffer_proto::site::v1::{self, PutHeader, PutRequest, PutResponse};
use coffer_proto::{InvalidMessage, SITE_MESSAGE_BYTES_MAX, digest, id};
use coffer_regions::{Receipt, Record, SiteError};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::PodTiming;
use super::circuit::Circuit;
use super::link::Link;
use super::refusal::{PodRefusal, Witness};
use crate::parts::{Assembly, Parts};
use crate::receipt::{Nonce, SignedReceipts};
use crate::wire;

pub(super) type Client = StoreClient<Channel>;

/// Before a call is made a second time.
const PAUSE: Duration = Duration::from_millis(50);

/// Why an attempt brought nothing.
pub(super) enum CallFailure {
    /// The pod or the way to it said no.
    Status(Status),
    /// The pod said something that is refused.
    Refused(PodRefusal),
    /// The pod has the record, and its bytes are not the record's.
    Damaged(PodRefusal),
}

impl From<Status> for CallFailure {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// Makes the calls of one pod.
pub(super) struct Caller {
    link: Arc<Link>,
    client: Client,
    circuit: Circuit,
    timing: PodTiming,
    witness: Arc<dyn Witness>,
}

impl Caller {
    pub(super) fn new(
        link: Arc<Link>,
        channel: Channel,
        timing: PodTiming,
        witness: Arc<dyn Witness>,
    ) -> Self {
        let client = StoreClient::new(channel)
            .max_decoding_message_size(SITE_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(SITE_MESSAGE_BYTES_MAX);
        Self { link, client, circuit: Circuit::open(), timing, witness }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) fn timing(&self) -> &PodTiming {
        &self.timing
    }

    pub(super) fn answers(&self) -> bool {
        self.circuit.answers()
    }

    /// Asks the pod how it is, past the circuit.
    pub(super) async fn probe(&self) {
        let mut client = self.client.clone();
        let asked = tokio::time::timeout(self.timing.probe, client.state(v1::StateRequest {}));
        match asked.await {
            Ok(Ok(_)) => self.circuit.answered(),
            Ok(Err(status)) if wire::store_error(&status).is_some() => self.circuit.answered(),
            Ok(Err(status)) => drop(self.failed(&status)),
            Err(_) => self.circuit.failed(),
        }
    }

    /// Tells the witness; what was refused counts for nothing.
    pub(super) fn refuse(&self, refusal: PodRefusal) -> SiteError {
        self.witness.refused(self.link.description().id, &refusal);
        SiteError::Untrusted
    }

    /// Refuses an answer whose field makes no sense.
    pub(super) fn malformed(&self, field: &'static str) -> SiteError {
        self.refuse(InvalidMessage::OverLimit(field).into())
    }

    /// A call that failed on the way, or before anybody's disk was asked.
    fn failed(&self, status: &Status) -> SiteError {
        match status.code() {
            Code::InvalidArgument => SiteError::OverLimit,
            Code::PermissionDenied => {
                self.circuit.failed();
                self.refuse(PodRefusal::Caller);
                SiteError::Unreachable
            }
            Code::OutOfRange => self.malformed("message"),
            _ => {
                self.circuit.failed();
                match self.link.refusal() {
                    Some(refusal) => self.refuse(refusal),
                    None => SiteError::Unreachable,
                }
            }
        }
    }

    /// One call within its deadline: `bytes` is what it moves.
    pub(super) async fn call<T, F>(
        &self,
        bytes: u64,
        twice: bool,
        attempt: impl Fn(Client) -> F + Send + Sync,
    ) -> Result<T, SiteError>
    where
        F: Future<Output = Result<T, CallFailure>> + Send,
    {
        if !self.circuit.answers() {
            return Err(match self.link.refusal() {
                Some(_) => SiteError::Untrusted,
                None => SiteError::Unreachable,
            });
        }
        let work = async {
            match attempt(self.client.clone()).await {
                // A connection that broke is made anew by the next attempt.
                Err(CallFailure::Status(status)) if twice && broke(&status) => {
                    tokio::time::sleep(PAUSE).await;
                    attempt(self.client.clone()).await
                }
                done => done,
            }
        };
        let Ok(done) = tokio::time::timeout(self.timing.deadline(bytes), work).await else {
            self.circuit.failed();
            return Err(SiteError::Unreachable);
        };
        match done {
            Ok(value) => {
                self.circuit.answered();
                Ok(value)
            }
            Err(CallFailure::Refused(refusal)) => Err(self.refuse(refusal)),
            Err(CallFailure::Damaged(refusal)) => {
                self.refuse(refusal);
                Err(SiteError::Damaged)
            }
            Err(CallFailure::Status(status)) => Err(match wire::store_error(&status) {
                Some(error) => error,
                None => self.failed(&status),
            }),
        }
    }

    /// A call with one message there and one back, which may be repeated.
    pub(super) async fn unary<Q, T, F>(
        &self,
        bytes: u64,
        request: Q,
        attempt: impl Fn(Client, Q) -> F + Send + Sync,
    ) -> Result<T, SiteError>
    where
        Q: Clone + Send + Sync,
        F: Future<Output = Result<Response<T>, Status>> + Send,
    {
        let attempt = |client| {
            let answer = attempt(client, request.clone());
            async move { Ok(answer.await?.into_inner()) }
        };
        self.call(bytes, true, attempt).await
    }

    /// Stores records; returns when a receipt for exactly these is verified.
    pub(super) async fn put(
        &self,
        records: Vec<Record>,
        bytes: u64,
        nonce: Nonce,
        expected: &[Receipt],
    ) -> Result<(), SiteError> {
        let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
        let header = PutHeader { nonce: nonce.to_vec().into(), records: count, body_bytes: bytes };
        let put = |mut client: Client| {
            let mut header = Some(header.clone());
            let messages = Parts::of(records.clone());
            let messages = messages.map(move |parts| PutRequest { header: header.take(), parts });
            async move {
                let answer = client.put(tokio_stream::iter(messages)).await?.into_inner();
                self.verify(&answer, nonce, expected).map_err(CallFailure::Refused)
            }
        };
        self.call(bytes, true, put).await
    }

    fn verify(&self, answer: &PutResponse, nonce: Nonce, expected: &[Receipt]) -> Result<(), PodRefusal> {
        if answer.nonce != nonce.as_slice() {
            return Err(PodRefusal::ReplayedReceipt);
        }
        let site: SiteId = id("site", &answer.site)?;
        if site != self.link.description().id {
            return Err(PodRefusal::ReceiptOfOtherSite(site));
        }
        if answer.receipts.len() != expected.len() {
            return Err(PodRefusal::WrongReceipt);
        }
        for (line, expected) in answer.receipts.iter().zip(expected) {
            let (record, digest) = (id("record", &line.record)?, digest("digest", &line.digest)?);
            if (Receipt { site, record, digest }) != *expected {
                return Err(PodRefusal::WrongReceipt);
            }
        }
        let reach = wire::reach(answer.reach.clone())?;
        let signed = SignedReceipts { site, nonce, receipts: expected, reach };
        let key = self.link.receipts().ok_or(PodRefusal::ForgedReceipt)?;
        if key.verifies(&signed, &answer.signature) { Ok(()) } else { Err(PodRefusal::ForgedReceipt) }
    }

    /// Reads one record, and verifies that it is that one.
    pub(super) async fn get(&self, wanted: RecordId) -> Result<Record, SiteError> {
        let get = |mut client: Client| async move {
            let request = Request::new(v1::GetRequest { id: wanted.as_bytes().to_vec().into() });
            let mut parts = client.get(request).await?.into_inner();
            let mut assembly = Assembly::of(1, Record::BODY_BYTES_MAX as u64);
            let wrong = |error| CallFailure::Damaged(PodRefusal::of_parts(error, wanted));
            while let Some(message) = parts.message().await? {
                let part =
                    message.part.ok_or(CallFailure::Refused(InvalidMessage::Missing("part").into()))?;
                assembly.take(part).map_err(wrong)?;
            }
            let record = assembly.finish().map_err(wrong)?.pop();
            record
                .filter(|record| record.id() == wanted)
                .ok_or(CallFailure::Damaged(PodRefusal::WrongRecord(wanted)))
        };
        self.call(Record::BODY_BYTES_MAX as u64, true, get).await
    }

    /// Reads a part of a body: exactly as many bytes as were asked for.
    pub(super) async fn get_range(&self, wanted: RecordId, range: Range<u32>) -> Result<Bytes, SiteError> {
        let bytes = range.end - range.start;
        let length = usize::try_from(bytes).unwrap_or(usize::MAX);
        let (start, end) = (range.start, range.end);
        let get = |mut client: Client| async move {
            let request = v1::GetRangeRequest { id: wanted.as_bytes().to_vec().into(), start, end };
            let mut pieces = client.get_range(request).await?.into_inner();
            let mut body = BytesMut::new();
            while let Some(piece) = pieces.message().await? {
                if piece.data.is_empty() || piece.data.len() > length - body.len() {
                    return Err(CallFailure::Refused(InvalidMessage::OverLimit("data").into()));
                }
                body.extend_from_slice(&piece.data);
            }
            if body.len() == length {
                Ok(body.freeze())
            } else {
                Err(CallFailure::Refused(InvalidMessage::OverLimit("data").into()))
            }
        };
        self.call(bytes.into(), true, get).await
    }
}

/// Whether the connection failed, rather than the call.
fn broke(status: &Status) -> bool {
    wire::store_error(status).is_none()
        && matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal)
}
