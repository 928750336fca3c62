//! A service double: the wire is real, the answers are chosen by the test.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use coffer_client::{Client, ConnectError, ConnectOptions, Credentials, Patience};
use coffer_keys::{
    Checkpoint, SigningKey, consistency_proof, inclusion_proof, leaf_hash, root_of, sign_checkpoint,
};
use coffer_model::{Digest, Entropy};
use coffer_proto::v1::log_server::{Log, LogServer};
use coffer_proto::v1::objects_server::{Objects, ObjectsServer};
use coffer_proto::{OWNER_METADATA, SERVER_NAME, v1};
use futures::Stream;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};
use zeroize::Zeroizing;

pub(crate) const ORIGIN: &str = "coffer-double/log/ten-1";
const CONTENT: &[u8] = b"ten bytes!";

/// What the service does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    BodyEndsEarly,
    BodyTooLong,
    BodyAltered,
    PutUnavailableTwice,
    PagesRepeat,
    LeafForged,
    /// It is a replica that owns nothing, and says that the owner is where the state says.
    NotOwner,
}

/// What the test turns and reads.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) owner: std::sync::Mutex<String>,
    /// Puts that said what they repeat.
    pub(crate) repeated: AtomicU64,
    pub(crate) notes: AtomicU64,
    pub(crate) puts: AtomicU64,
    pub(crate) whole_puts: AtomicU64,
    pub(crate) leaves: AtomicU64,
    pub(crate) forked: AtomicBool,
}

/// Who certifies doubles and their callers.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
    client_pem: String,
    client_key: String,
}

impl Authority {
    pub(crate) fn new() -> Arc<Self> {
        let ca_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca_pem = params.self_signed(&ca_key).unwrap().pem();
        let issuer = Issuer::new(params, ca_key);
        let (client_pem, client_key) = issue(&issuer, "client");
        Arc::new(Self { issuer, ca_pem, client_pem, client_key })
    }

    /// What a caller has that looks at these places.
    pub(crate) fn credentials(&self, endpoint: &str) -> Credentials {
        Credentials {
            ca_pem: self.ca_pem.clone(),
            certificate_pem: self.client_pem.clone(),
            key_pem: Zeroizing::new(self.client_key.clone()),
            endpoint: endpoint.to_owned(),
        }
    }
}

/// How the callers of doubles connect.
pub(crate) fn options() -> ConnectOptions {
    let patience = Patience { first_pause: Duration::from_millis(1), ..Patience::default() };
    ConnectOptions { patience, ..ConnectOptions::new(Arc::new(Zeros)) }
}

pub(crate) struct Double {
    pub(crate) state: Arc<State>,
    pub(crate) endpoint: String,
    authority: Arc<Authority>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    server: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
}

pub(crate) fn signing_key() -> SigningKey {
    SigningKey::danger_from_seed(Zeroizing::new([3; 32]))
}

struct Zeros;
impl Entropy for Zeros {
    fn fill(&self, out: &mut [u8]) {
        out.fill(0);
    }
}

fn issue(issuer: &Issuer<'_, KeyPair>, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    (params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

impl Double {
    pub(crate) async fn start(fault: Fault) -> Self {
        Self::of(&Authority::new(), fault, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// One of a deployment, at an address.
    pub(crate) async fn of(authority: &Arc<Authority>, fault: Fault, at: SocketAddr) -> Self {
        let (server_pem, server_key) = issue(&authority.issuer, SERVER_NAME);
        let listener = tokio::net::TcpListener::bind(at).await.unwrap();
        let endpoint = format!("https://{}", listener.local_addr().unwrap());
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(server_pem, server_key))
            .client_ca_root(Certificate::from_pem(&authority.ca_pem));
        let state = Arc::new(State::default());
        let service = Answers { fault, state: Arc::clone(&state) };
        let router = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(ObjectsServer::new(service.clone()))
            .add_service(LogServer::new(service));
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let server = tokio::spawn(router.serve_with_incoming_shutdown(incoming, async {
            // Never told, it serves to the end of the test.
            if stopped.await.is_err() {
                std::future::pending().await
            }
        }));
        Self { state, endpoint, authority: Arc::clone(authority), stop: Some(stop), server }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.endpoint.strip_prefix("https://").unwrap().parse().unwrap()
    }

    /// Nobody is there any more.
    pub(crate) async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        (&mut self.server).await.unwrap().unwrap();
    }

    pub(crate) async fn try_connect(&self, endpoint: &str) -> Result<Client, ConnectError> {
        Client::connect(&self.authority.credentials(endpoint), options()).await
    }

    pub(crate) async fn client(&self) -> Client {
        self.try_connect(&self.endpoint).await.unwrap()
    }
}

#[derive(Clone)]
struct Answers {
    fault: Fault,
    state: Arc<State>,
}

fn object(key: &[u8], size: u64) -> v1::ObjectInfo {
    v1::ObjectInfo {
        version: Bytes::from_static(&[1; 16]),
        key: Bytes::copy_from_slice(key),
        size,
        created_ns: 1,
        content_blake3: Bytes::copy_from_slice(blake3::hash(CONTENT).as_bytes()),
        metadata: Default::default(),
    }
}

type Body = std::pin::Pin<Box<dyn Stream<Item = Result<v1::GetObjectResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Objects for Answers {
    async fn put_object(
        &self,
        request: Request<Streaming<v1::PutObjectRequest>>,
    ) -> Result<Response<v1::PutObjectResponse>, Status> {
        let attempt = self.state.puts.fetch_add(1, Ordering::SeqCst);
        self.owns()?;
        if self.fault == Fault::PutUnavailableTwice && attempt < 2 {
            return Err(Status::unavailable("a site restarts"));
        }
        let mut stream = request.into_inner();
        let (mut size, mut whole) = (0, false);
        while let Some(message) = stream.message().await? {
            match message.part {
                Some(v1::put_object_request::Part::Data(piece)) => {
                    size += u64::try_from(piece.len()).unwrap()
                }
                Some(v1::put_object_request::Part::End(end)) => whole = end.size == size,
                Some(v1::put_object_request::Part::Header(header)) => self.count(&header),
                _ => {}
            }
        }
        if !whole {
            return Err(Status::cancelled("the upload broke off before its end"));
        }
        self.state.whole_puts.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(v1::PutObjectResponse {
            object: Some(object(b"a", size)),
            audit_seq: 9,
            reduced_by: 0,
        }))
    }

    async fn put_small(
        &self,
        request: Request<v1::PutSmallRequest>,
    ) -> Result<Response<v1::PutObjectResponse>, Status> {
        let attempt = self.state.puts.fetch_add(1, Ordering::SeqCst);
        self.owns()?;
        if self.fault == Fault::PutUnavailableTwice && attempt < 2 {
            return Err(Status::unavailable("a site restarts"));
        }
        self.state.whole_puts.fetch_add(1, Ordering::SeqCst);
        let request = request.into_inner();
        request.header.iter().for_each(|header| self.count(header));
        let size = u64::try_from(request.data.len()).unwrap();
        let object = Some(object(b"a", size));
        Ok(Response::new(v1::PutObjectResponse { object, audit_seq: 9, reduced_by: 0 }))
    }

    type GetObjectStream = Body;

    async fn get_object(&self, _: Request<v1::GetObjectRequest>) -> Result<Response<Body>, Status> {
        use v1::get_object_response::Part;
        let size = u64::try_from(CONTENT.len()).unwrap();
        let mut parts = vec![Part::Object(object(b"a", size))];
        let body: &[u8] = match self.fault {
            Fault::BodyEndsEarly => &CONTENT[..9],
            Fault::BodyTooLong => b"ten bytes!!",
            Fault::BodyAltered => b"Ten bytes!",
            _ => CONTENT,
        };
        parts.extend(body.chunks(4).map(|piece| Part::Data(Bytes::copy_from_slice(piece))));
        let messages = parts.into_iter().map(|part| Ok(v1::GetObjectResponse { part: Some(part) }));
        Ok(Response::new(Box::pin(futures::stream::iter(messages.collect::<Vec<_>>()))))
    }

    async fn stat_object(
        &self,
        _: Request<v1::StatObjectRequest>,
    ) -> Result<Response<v1::StatObjectResponse>, Status> {
        Err(Status::not_found("no such object"))
    }

    async fn list_objects(
        &self,
        _: Request<v1::ListObjectsRequest>,
    ) -> Result<Response<v1::ListObjectsResponse>, Status> {
        let more = self.fault == Fault::PagesRepeat;
        Ok(Response::new(v1::ListObjectsResponse { objects: vec![object(b"a", 1)], more }))
    }

    async fn delete_object(
        &self,
        _: Request<v1::DeleteObjectRequest>,
    ) -> Result<Response<v1::DeleteObjectResponse>, Status> {
        Err(Status::not_found("no such object"))
    }
}

impl Answers {
    fn count(&self, header: &v1::PutHeader) {
        if !header.repeats_blake3.is_empty() {
            self.state.repeated.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The refusal of who is not the owner.
    fn owns(&self) -> Result<(), Status> {
        if self.fault != Fault::NotOwner {
            return Ok(());
        }
        let mut refusal = Status::unavailable("this replica is not the owner");
        let owner = self.state.owner.lock().unwrap().clone();
        refusal.metadata_mut().insert(OWNER_METADATA, owner.parse().unwrap());
        Err(refusal)
    }

    fn leaf(&self, index: u64) -> Vec<u8> {
        let past = if self.state.forked.load(Ordering::SeqCst) { "other " } else { "" };
        format!("{past}leaf {index}").into_bytes()
    }

    fn hashes(&self) -> Vec<Digest> {
        (0..self.state.leaves.load(Ordering::SeqCst)).map(|index| leaf_hash(&self.leaf(index))).collect()
    }
}

fn wire(proof: Vec<Digest>) -> Vec<Bytes> {
    proof.iter().map(|digest| Bytes::copy_from_slice(&digest.0)).collect()
}

#[tonic::async_trait]
impl Log for Answers {
    async fn note_digest(
        &self,
        _: Request<v1::NoteDigestRequest>,
    ) -> Result<Response<v1::NoteDigestResponse>, Status> {
        self.owns()?;
        let audit_seq = self.state.notes.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(v1::NoteDigestResponse { audit_seq }))
    }

    async fn get_checkpoint(
        &self,
        request: Request<v1::GetCheckpointRequest>,
    ) -> Result<Response<v1::GetCheckpointResponse>, Status> {
        let hashes = self.hashes();
        let since = request.into_inner().since_size;
        let size = u64::try_from(hashes.len()).unwrap();
        let checkpoint = Checkpoint { origin: ORIGIN.to_owned(), size, root: root_of(&hashes) };
        // A service that went back shows what proof it likes.
        let proof = consistency_proof(&hashes, since).unwrap_or_default();
        let checkpoint = sign_checkpoint(&signing_key(), "coffer-double", &checkpoint);
        Ok(Response::new(v1::GetCheckpointResponse { checkpoint, consistency: wire(proof) }))
    }

    async fn get_leaf(
        &self,
        request: Request<v1::GetLeafRequest>,
    ) -> Result<Response<v1::GetLeafResponse>, Status> {
        let index = request.into_inner().index;
        let inclusion = wire(inclusion_proof(&self.hashes(), index).unwrap());
        let mut leaf = self.leaf(index);
        if self.fault == Fault::LeafForged {
            leaf.push(b'!');
        }
        Ok(Response::new(v1::GetLeafResponse { leaf: leaf.into(), inclusion }))
    }
}
