//! A real S3 server on a loopback address, over files of a directory. What
//! it lacks of S3 is added here: its conditional puts look first and write
//! then, so that two of them could both succeed; here one waits for the other.
//! It writes an object in several steps; here a request that has arrived is
//! carried out to its end, whether or not anybody waits for the answer.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use hyper::body::Incoming;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};

/// What the server knows its caller by.
pub const ACCESS_KEY: &str = "AKTESTTESTTESTTEST";
/// And its secret.
pub const SECRET_KEY: &str = "secretsecretsecretsecretsecretsecretsecr";

/// A server that runs as long as this lives.
pub struct S3Server {
    /// Where it listens.
    pub address: SocketAddr,
    faults: Arc<Faults>,
    /// Dropped last: ends the server.
    _stop: watch::Sender<bool>,
}

/// What goes wrong on purpose.
#[derive(Default)]
struct Faults {
    /// Requests that are answered with 503 from now on.
    busy: AtomicU64,
    /// Requests so far.
    requests: AtomicU64,
    /// Parts of uploads so far.
    parts: AtomicU64,
    /// Uploads that were given up.
    aborts: AtomicU64,
    /// Parts are refused from now on.
    refuse_parts: AtomicBool,
    /// Parts are not answered from now on.
    hold_parts: AtomicBool,
    /// Where whoever asks is cut off for good.
    cut: OnceLock<Cut>,
    /// Whether what is overwritten is kept.
    versions: AtomicBool,
    /// Every request that is under way listens.
    under_way: watch::Sender<()>,
    conditional: Mutex<()>,
}

/// The last request that the server hears of, or the first that it does not.
#[derive(Clone, Copy)]
struct Cut {
    /// Its number, from zero.
    at: u64,
    /// Whether it arrives.
    arrives: bool,
}

impl S3Server {
    /// Serves the buckets that are directories of `root`.
    pub async fn over(root: &Path, buckets: &[&str]) -> Self {
        for bucket in buckets {
            std::fs::create_dir_all(root.join(bucket)).unwrap();
        }
        let mut builder = S3ServiceBuilder::new(FileSystem::new(root).unwrap());
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, mut stopped) = watch::channel(false);
        let faults = Arc::<Faults>::default();
        let shared = Arc::clone(&faults);
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    _ = stopped.changed() => return,
                };
                let (stream, _) = accepted.unwrap();
                stream.set_nodelay(true).unwrap();
                let (service, faults, mut stopped) = (service.clone(), Arc::clone(&shared), stopped.clone());
                tokio::spawn(async move {
                    let answer = |request| answer(service.clone(), Arc::clone(&faults), request);
                    let serving = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer));
                    tokio::select! {
                        _ = serving => {}
                        _ = stopped.changed() => {}
                    }
                });
            }
        });
        Self { address, faults, _stop: stop }
    }

    /// The next so many requests are answered with 503, as a busy bucket does.
    pub fn be_busy(&self, requests: u64) {
        self.faults.busy.store(requests, Ordering::SeqCst);
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.faults.requests.load(Ordering::SeqCst)
    }

    /// Parts of uploads so far.
    pub fn parts(&self) -> u64 {
        self.faults.parts.load(Ordering::SeqCst)
    }

    /// Uploads that were given up so far.
    pub fn aborts(&self) -> u64 {
        self.faults.aborts.load(Ordering::SeqCst)
    }

    /// From now on parts of uploads are refused.
    pub fn refuse_parts(&self) {
        self.faults.refuse_parts.store(true, Ordering::SeqCst);
    }

    /// From now on parts of uploads are not answered.
    pub fn hold_parts(&self) {
        self.faults.hold_parts.store(true, Ordering::SeqCst);
    }

    /// As if whoever asks died with the request of this number, from zero: it
    /// gets no answer, and nothing behind it arrives. `arrives`: whether it
    /// is carried out.
    pub fn cut_at(&self, at: u64, arrives: bool) {
        assert!(self.faults.cut.set(Cut { at, arrives }).is_ok(), "one dies once");
    }

    /// Waits until no request is under way any more.
    pub async fn settled(&self) {
        self.faults.under_way.closed().await;
    }

    /// From now on what is written gets a version of its own, and says so, as
    /// in a bucket with versioning.
    pub fn keep_versions(&self) {
        self.faults.versions.store(true, Ordering::SeqCst);
    }

    /// `http://ADDRESS`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

type Answer = Result<hyper::Response<s3s::Body>, s3s::HttpError>;

async fn answer(service: S3Service, faults: Arc<Faults>, request: Request<Incoming>) -> Answer {
    let under_way = faults.under_way.subscribe();
    let number = faults.requests.fetch_add(1, Ordering::SeqCst);
    let cut = faults.cut.get().copied();
    if cut.is_some_and(|cut| number > cut.at || number == cut.at && !cut.arrives) {
        return Err(no_answer());
    }
    if request.uri().query().is_some_and(|query| query.contains("partNumber=")) {
        faults.parts.fetch_add(1, Ordering::SeqCst);
        if faults.refuse_parts.load(Ordering::SeqCst) {
            return Ok(hyper::Response::builder().status(400).body(s3s::Body::empty()).unwrap());
        }
        if faults.hold_parts.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    } else if request.method() == Method::DELETE
        && request.uri().query().is_some_and(|query| query.contains("uploadId="))
    {
        faults.aborts.fetch_add(1, Ordering::SeqCst);
    }
    let busy = |left: u64| left.checked_sub(1);
    if faults.busy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, busy).is_ok() {
        let response = hyper::Response::builder().status(503).body(s3s::Body::empty());
        return Ok(response.unwrap());
    }
    let done = tokio::spawn(async move {
        let _under_way = under_way;
        carry_out(service, &faults, number, request).await
    });
    let done = done.await.unwrap();
    if cut.is_some_and(|cut| number == cut.at) { Err(no_answer()) } else { done }
}

async fn carry_out(service: S3Service, faults: &Faults, number: u64, request: Request<Incoming>) -> Answer {
    let headers = request.headers();
    let conditional = request.method() == Method::PUT
        && (headers.contains_key("if-none-match") || headers.contains_key("if-match"));
    let _alone = if conditional { Some(faults.conditional.lock().await) } else { None };
    let written = request.method() == Method::PUT;
    let mut answer = service.call(request.map(s3s::Body::from)).await?;
    if written && answer.status().is_success() && faults.versions.load(Ordering::SeqCst) {
        answer.headers_mut().insert("x-amz-version-id", number.into());
    }
    Ok(answer)
}

/// The connection ends without an answer.
fn no_answer() -> s3s::HttpError {
    s3s::HttpError::new("cut off".into())
}
