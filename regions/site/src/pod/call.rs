//! One call of a pod: its deadline, its second attempt, what its answer means
//! for the circuit, and the checks that make the answer count.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coffer_model::{RecordId, SiteId};
use coffer_proto::site::v1::store_client::StoreClient;
use coffer_proto::site::v1::{self, PutHeader, PutRequest, PutResponse};
use coffer_proto::{InvalidMessage, SITE_MESSAGE_BYTES_MAX, digest, id};
use coffer_regions::{Fence, Receipt, Record, SiteError};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use super::PodTiming;
use super::discovery::Discovery;
use super::link::{Link, PodConfigError};
use super::refusal::{PodRefusal, Witness};
use crate::circuit::Circuit;
use crate::parts::{Assembly, Parts};
use crate::receipt::{Nonce, ReceiptKey, SignedReceipts};
use crate::wire;

pub(super) type Client = StoreClient<InterceptedService<Channel, Known>>;

/// The highest incarnation of the pod that is known, stated with each call.
#[derive(Clone, Default)]
pub(super) struct Known(Arc<AtomicU64>);

impl Known {
    fn highest(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn learn(&self, incarnation: u64) {
        self.0.fetch_max(incarnation, Ordering::AcqRel);
    }
}

impl Interceptor for Known {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let known = self.highest();
        if known > 0 {
            request.metadata_mut().insert(wire::INCARNATION_KEY, known.into());
        }
        Ok(request)
    }
}

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
    client: RwLock<Client>,
    known: Known,
    /// How often the pod has moved: what an earlier place answers is late.
    moves: AtomicU64,
    /// What it refused by the last that it said.
    refused: Mutex<v1::Refused>,
    circuit: Circuit,
    timing: PodTiming,
    discovery: Arc<dyn Discovery>,
    witness: Arc<dyn Witness>,
}

impl Caller {
    pub(super) fn new(
        link: Arc<Link>,
        timing: PodTiming,
        discovery: Arc<dyn Discovery>,
        witness: Arc<dyn Witness>,
    ) -> Result<Self, PodConfigError> {
        let known = Known::default();
        let client = RwLock::new(client(link.channel(&timing)?, &known));
        let (moves, circuit) = (AtomicU64::new(0), Circuit::open());
        let refused = Mutex::default();
        Ok(Self { link, client, known, moves, refused, circuit, timing, discovery, witness })
    }

    fn client(&self) -> Client {
        self.client.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Goes where the pod is now. What is under way to where it was counts
    /// for nothing from here on.
    async fn follow(&self) {
        let found = self.discovery.find(self.link.description().id).await;
        if let Some(incarnation) = found.as_ref().and_then(|found| found.incarnation) {
            self.known.learn(incarnation);
        }
        let endpoint = found.as_ref().map(|found| found.endpoint.as_str());
        // Somewhere that is nowhere: it stays where it was.
        let Ok(true) = self.link.move_to(endpoint) else { return };
        let Ok(channel) = self.link.channel(&self.timing) else { return };
        *self.client.write().unwrap_or_else(PoisonError::into_inner) = client(channel, &self.known);
        self.moves.fetch_add(1, Ordering::AcqRel);
        self.circuit.failed();
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

    /// Asks the pod how it is, past the circuit, where it is now.
    pub(super) async fn probe(&self) {
        self.follow().await;
        let mut client = self.client();
        let asked = tokio::time::timeout(self.timing.probe, client.state(v1::StateRequest {}));
        match asked.await {
            Ok(Ok(answer)) if self.is_latest(answer.get_ref()) => {
                self.pass_on(answer.get_ref().refused);
                self.circuit.answered();
            }
            Ok(Ok(_)) => self.circuit.failed(),
            Ok(Err(status)) if wire::store_error(&status).is_some() => self.circuit.answered(),
            Ok(Err(status)) => drop(self.failed(&status)),
            Err(_) => self.circuit.failed(),
        }
    }

    /// Whether no later incarnation than the one that answers is known.
    fn is_latest(&self, state: &v1::StateResponse) -> bool {
        let (found, known) = (state.incarnation.unwrap_or(0), self.known.highest());
        if found < known {
            let refusal = PodRefusal::EarlierIncarnation { found, known };
            self.link.refuse(refusal.clone());
            self.refuse(refusal);
            return false;
        }
        self.known.learn(found);
        self.link.forgive();
        true
    }

    /// Tells the witness what the pod refused since it was asked last. What it
    /// refused before it was asked for the first time, by this process or at
    /// all, was told before, or is told now: twice is better than never.
    fn pass_on(&self, refused: Option<v1::Refused>) {
        let Some(now) = refused else { return };
        let before = {
            let mut before = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *before, now)
        };
        let kinds = [
            ("caller-refused-there", before.callers, now.callers),
            ("request-refused-there", before.requests, now.requests),
            ("connection-refused-there", before.connections, now.connections),
        ];
        for (kind, before, now) in kinds {
            // Fewer than before: it was started again.
            let more = now.checked_sub(before).unwrap_or(now);
            if more > 0 {
                self.witness.refused_there(self.link.description().id, kind, more);
            }
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
            // An older program does not know the call.
            Code::InvalidArgument | Code::Unimplemented => SiteError::OverLimit,
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
        let moves = self.moves.load(Ordering::Acquire);
        let work = async {
            match attempt(self.client()).await {
                // A connection that broke is made anew by the next attempt.
                Err(CallFailure::Status(status)) if twice && broke(&status) => {
                    tokio::time::sleep(PAUSE).await;
                    attempt(self.client()).await
                }
                done => done,
            }
        };
        let Ok(done) = tokio::time::timeout(self.timing.deadline(bytes), work).await else {
            self.circuit.failed();
            return Err(SiteError::Unreachable);
        };
        if self.moves.load(Ordering::Acquire) != moves {
            // It was asked where the pod is no more.
            return Err(SiteError::Unreachable);
        }
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
        fence: Option<Fence>,
        records: Vec<Record>,
        bytes: u64,
        nonce: Nonce,
        expected: &[Receipt],
    ) -> Result<(), SiteError> {
        let count = u32::try_from(records.len()).unwrap_or(u32::MAX);
        let fence = wire::fence_message(fence);
        let header = PutHeader { nonce: nonce.to_vec().into(), records: count, body_bytes: bytes, fence };
        let put = |mut client: Client| {
            let mut header = Some(header.clone());
            let messages = Parts::of(records.clone());
            let messages = messages.map(move |parts| PutRequest { header: header.take(), parts });
            async move {
                let answer = client.put(tokio_stream::iter(messages)).await?.into_inner();
                let key = self.link.receipts().ok_or(CallFailure::Refused(PodRefusal::ForgedReceipt))?;
                verify(&answer, self.link.description().id, nonce, expected, key)
                    .map_err(CallFailure::Refused)
            }
        };
        self.call(bytes, true, put).await
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

fn client(channel: Channel, known: &Known) -> Client {
    StoreClient::with_interceptor(channel, known.clone())
        .max_decoding_message_size(SITE_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(SITE_MESSAGE_BYTES_MAX)
}

/// Holds the answer to a put against what was sent.
fn verify(
    answer: &PutResponse,
    asked: SiteId,
    nonce: Nonce,
    expected: &[Receipt],
    key: ReceiptKey,
) -> Result<(), PodRefusal> {
    if answer.nonce != nonce.as_slice() {
        return Err(PodRefusal::ReplayedReceipt);
    }
    let site: SiteId = id("site", &answer.site)?;
    if site != asked {
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
    let signed =
        SignedReceipts { site, nonce, receipts: expected, reach: wire::reach(answer.reach.clone())? };
    if key.verifies(&signed, &answer.signature) { Ok(()) } else { Err(PodRefusal::ForgedReceipt) }
}

/// Whether the connection failed, rather than the call.
fn broke(status: &Status) -> bool {
    wire::store_error(status).is_none()
        && matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal)
}
