//! Pods that lie: with good certificates, and with everything else wrong.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use coffer_model::{RecordId, SiteDescription, SlotId};
use coffer_proto::site::v1::store_server::{Store, StoreServer};
use coffer_proto::site::v1::{self, PutResponse};
use coffer_regions::{
    Answer, Challenge, ListedRecord, Reach, Receipt, Record, RecordKind, ScrubCursor, ScrubFinding,
    ScrubStep, Site, SiteError, SiteState, SlotContent, SlotListing, UnverifiedBytes,
};
use coffer_site::DirectorySite;
use ed25519_dalek::Signer as _;
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

use crate::pods::{Fleet, RECEIPTS};
use crate::support;

/// A site that serves the wrong things, rightly signed.
pub(crate) struct LyingSite(pub(crate) Arc<DirectorySite>);

#[async_trait]
impl Site for LyingSite {
    fn description(&self) -> &SiteDescription {
        self.0.description()
    }
    fn answers(&self) -> bool {
        true
    }
    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        self.0.put(records).await
    }
    async fn get(&self, _: RecordId) -> Result<Record, SiteError> {
        self.0.get(support::id(2)).await
    }
    async fn get_range(&self, id: RecordId, range: Range<u32>) -> Result<UnverifiedBytes, SiteError> {
        self.0.get_range(id, range.start..range.end + 1).await
    }
    async fn answer(&self, challenge: Challenge) -> Result<Answer, SiteError> {
        self.0.answer(challenge).await
    }
    async fn list(
        &self,
        kind: RecordKind,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<ListedRecord>, SiteError> {
        let mut lines = self.0.list(kind, after, limit).await?;
        lines.reverse();
        Ok(lines)
    }
    async fn delete(&self, ids: Vec<RecordId>) -> Result<u64, SiteError> {
        self.0.delete(ids).await
    }
    async fn scrub(&self) -> Result<Vec<ScrubFinding>, SiteError> {
        self.0.scrub().await
    }
    async fn scrub_step(&self, _: Option<ScrubCursor>, _: u64) -> Result<ScrubStep, SiteError> {
        Ok(ScrubStep { records: 1, next: Some(ScrubCursor([1; 16])), ..ScrubStep::default() })
    }
    async fn reaches(&self, reach: Reach) -> Result<bool, SiteError> {
        self.0.reaches(reach).await
    }
    async fn write_slot(&self, slot: SlotId, content: SlotContent) -> Result<(), SiteError> {
        self.0.write_slot(slot, content).await
    }
    async fn read_slot(&self, slot: SlotId) -> Result<SlotContent, SiteError> {
        self.0.read_slot(slot).await
    }
    async fn wipe_superseded(&self, slot: SlotId) -> Result<(), SiteError> {
        self.0.wipe_superseded(slot).await
    }
    async fn list_slots(&self) -> Result<Vec<SlotListing>, SiteError> {
        self.0.list_slots().await
    }
    async fn state(&self) -> SiteState {
        self.0.state().await
    }
}

/// What is wrong with every receipt but the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    Replay,
    OtherSite,
    OtherDigest,
    FewerReceipts,
    OtherKey,
    OldSignature,
    ShortNonce,
    ShortDigest,
}

/// A store that keeps nothing, and signs as `regions/PODS.md` says; written
/// from the document, not with the daemon's code.
pub(crate) struct LyingStore {
    description: SiteDescription,
    lie: Lie,
    first: Mutex<Option<PutResponse>>,
}

/// Where it runs.
pub(crate) struct RunningLiar {
    pub(crate) address: SocketAddr,
}

impl LyingStore {
    pub(crate) async fn serve(fleet: &Fleet, description: &SiteDescription, lie: Lie) -> RunningLiar {
        let certified = fleet.certificate(description);
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(certified.certificate.pem(), &certified.key_pem))
            .client_ca_root(Certificate::from_pem(&fleet.authority.ca_pem));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let store = Self { description: description.clone(), lie, first: Mutex::default() };
        let server = Server::builder().tls_config(tls).unwrap().add_service(StoreServer::new(store));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        RunningLiar { address }
    }

    fn signed(&self, nonce: &[u8], receipts: &[v1::Receipt], seed: [u8; 32]) -> Vec<u8> {
        let mut message = b"coffer site receipt v1\n".to_vec();
        message.extend_from_slice(self.description.id.as_bytes());
        message.extend_from_slice(nonce);
        message.extend_from_slice(&u64::try_from(receipts.len()).unwrap().to_le_bytes());
        for receipt in receipts {
            message.extend_from_slice(&receipt.record);
            message.extend_from_slice(&receipt.digest);
        }
        message.push(0);
        ed25519_dalek::SigningKey::from_bytes(&seed).sign(&message).to_bytes().to_vec()
    }

    fn answer(&self, nonce: &[u8], mut receipts: Vec<v1::Receipt>) -> PutResponse {
        let mut first = self.first.lock().unwrap();
        let honest = |receipts: Vec<v1::Receipt>, seed| PutResponse {
            site: self.description.id.as_bytes().to_vec().into(),
            nonce: nonce.to_vec().into(),
            signature: self.signed(nonce, &receipts, seed).into(),
            receipts,
            reach: None,
        };
        let Some(old) = first.as_ref() else {
            let answer = honest(receipts, RECEIPTS);
            *first = Some(answer.clone());
            return answer;
        };
        match self.lie {
            Lie::Replay => old.clone(),
            Lie::OtherSite => PutResponse { site: vec![9; 16].into(), ..honest(receipts, RECEIPTS) },
            Lie::OtherDigest => {
                receipts[0].digest = vec![9; 32].into();
                honest(receipts, RECEIPTS)
            }
            Lie::FewerReceipts => honest(Vec::new(), RECEIPTS),
            Lie::OtherKey => honest(receipts, [1; 32]),
            Lie::OldSignature => {
                PutResponse { signature: old.signature.clone(), ..honest(receipts, RECEIPTS) }
            }
            Lie::ShortNonce => {
                PutResponse { nonce: nonce[1..].to_vec().into(), ..honest(receipts, RECEIPTS) }
            }
            Lie::ShortDigest => {
                receipts[0].digest = vec![9; 31].into();
                honest(receipts, RECEIPTS)
            }
        }
    }
}

type Reply<T> = Result<Response<T>, Status>;

fn nothing<T>() -> Reply<T> {
    Err(Status::unimplemented("this liar only takes puts"))
}

#[tonic::async_trait]
impl Store for LyingStore {
    type GetStream = ReceiverStream<Result<v1::GetResponse, Status>>;
    type GetRangeStream = ReceiverStream<Result<v1::GetRangeResponse, Status>>;

    async fn put(&self, request: Request<Streaming<v1::PutRequest>>) -> Reply<PutResponse> {
        let mut stream = request.into_inner();
        let (mut nonce, mut receipts) = (Vec::new(), Vec::new());
        while let Some(message) = stream.next().await {
            let message = message?;
            if let Some(header) = message.header {
                nonce = header.nonce.to_vec();
            }
            let headers = message.parts.into_iter().filter_map(|part| part.header);
            receipts.extend(headers.map(|header| v1::Receipt { record: header.id, digest: header.digest }));
        }
        Ok(Response::new(self.answer(&nonce, receipts)))
    }
    async fn get(&self, _: Request<v1::GetRequest>) -> Reply<Self::GetStream> {
        nothing()
    }
    async fn get_range(&self, _: Request<v1::GetRangeRequest>) -> Reply<Self::GetRangeStream> {
        nothing()
    }
    async fn answer(&self, _: Request<v1::AnswerRequest>) -> Reply<v1::AnswerResponse> {
        nothing()
    }
    async fn list(&self, _: Request<v1::ListRequest>) -> Reply<v1::ListResponse> {
        nothing()
    }
    async fn delete(&self, _: Request<v1::DeleteRequest>) -> Reply<v1::DeleteResponse> {
        nothing()
    }
    async fn scrub_step(&self, _: Request<v1::ScrubStepRequest>) -> Reply<v1::ScrubStepResponse> {
        nothing()
    }
    async fn reaches(&self, _: Request<v1::ReachesRequest>) -> Reply<v1::ReachesResponse> {
        nothing()
    }
    async fn write_slot(&self, _: Request<v1::WriteSlotRequest>) -> Reply<v1::WriteSlotResponse> {
        nothing()
    }
    async fn read_slot(&self, _: Request<v1::ReadSlotRequest>) -> Reply<v1::ReadSlotResponse> {
        nothing()
    }
    async fn wipe_superseded(
        &self,
        _: Request<v1::WipeSupersededRequest>,
    ) -> Reply<v1::WipeSupersededResponse> {
        nothing()
    }
    async fn list_slots(&self, _: Request<v1::ListSlotsRequest>) -> Reply<v1::ListSlotsResponse> {
        nothing()
    }
    async fn raise_epoch(&self, _: Request<v1::RaiseEpochRequest>) -> Reply<v1::RaiseEpochResponse> {
        nothing()
    }
    async fn get_epoch(&self, _: Request<v1::GetEpochRequest>) -> Reply<v1::GetEpochResponse> {
        nothing()
    }
    async fn state(&self, _: Request<v1::StateRequest>) -> Reply<v1::StateResponse> {
        Ok(Response::new(v1::StateResponse::default()))
    }
}
