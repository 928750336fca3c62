//! A registry on the loopback that is as honest as the test lets it be, and
//! remembers what it was asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use coffer_agent::ImageDigest;
use futures::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::picture::Picture;

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, std::io::Error>>;
type Odd = dyn Fn(&Seen) -> Option<Answer> + Send + Sync;

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) query: String,
    pub(super) authorization: Option<String>,
    pub(super) range: Option<String>,
}

#[derive(Default)]
struct State {
    /// By digest: type and content.
    things: BTreeMap<String, (String, Vec<u8>)>,
    seen: Vec<Seen>,
}

/// A registry that serves until the test ends.
#[derive(Clone)]
pub(super) struct Served {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Served {
    /// One that is honest about this image.
    pub(super) async fn honest(picture: &Picture) -> Self {
        Self::odd(picture, |_| None).await
    }

    /// One that answers as `odd` says, and honestly where that says nothing.
    pub(super) async fn odd(
        picture: &Picture,
        odd: impl Fn(&Seen) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        Self::start(picture, odd, None).await
    }

    pub(super) async fn start(
        picture: &Picture,
        odd: impl Fn(&Seen) -> Option<Answer> + Send + Sync + 'static,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let served = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        served.add(picture);
        let (state, odd): (_, Arc<Odd>) = (Arc::clone(&served.state), Arc::new(odd));
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let (state, odd, tls) = (Arc::clone(&state), Arc::clone(&odd), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => connection(socket, state, odd).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(socket).await {
                                connection(stream, state, odd).await;
                            }
                        }
                    }
                });
            }
        });
        served
    }

    pub(super) fn add(&self, picture: &Picture) {
        let mut state = self.state.lock().unwrap();
        let blobs = picture.blobs.iter().map(|blob| ("application/octet-stream".to_owned(), blob.clone()));
        for (kind, content) in picture.documents.iter().cloned().chain(blobs) {
            state.things.insert(ImageDigest::of(&content).to_string(), (kind, content));
        }
    }

    /// Stores it under a digest that it does not have.
    pub(super) fn forge(&self, digest: &ImageDigest, kind: &str, content: &[u8]) {
        let forged = (kind.to_owned(), content.to_vec());
        self.state.lock().unwrap().things.insert(digest.to_string(), forged);
    }

    pub(super) fn host(&self) -> String {
        self.address.to_string()
    }

    /// As an operator names it.
    pub(super) fn plain(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    pub(super) fn asked_for(&self, what: &str) -> usize {
        self.seen().iter().filter(|seen| seen.path.contains(what)).count()
    }
}

async fn connection<S>(stream: S, state: Arc<Mutex<State>>, odd: Arc<Odd>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let (state, odd) = (Arc::clone(&state), Arc::clone(&odd));
        async move {
            let header = |name: &str| {
                request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
            };
            let seen = Seen {
                path: request.uri().path().to_owned(),
                query: request.uri().query().unwrap_or_default().to_owned(),
                authorization: header("authorization"),
                range: header("range"),
            };
            state.lock().unwrap().seen.push(seen.clone());
            Ok::<_, std::convert::Infallible>(odd(&seen).unwrap_or_else(|| honestly(&state, &seen)))
        }
    });
    // Whoever breaks off has its reasons.
    drop(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
}

fn honestly(state: &Mutex<State>, seen: &Seen) -> Answer {
    let digest = seen.path.rsplit('/').next().unwrap_or_default();
    let Some((kind, content)) = state.lock().unwrap().things.get(digest).cloned() else {
        return status(StatusCode::NOT_FOUND);
    };
    let from =
        seen.range.as_ref().and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let from: usize = from.unwrap_or(0);
    let response = Response::builder().header("content-type", kind);
    let response = if from > 0 {
        let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
        response.status(StatusCode::PARTIAL_CONTENT).header("content-range", range)
    } else {
        response
    };
    response.body(full(&content[from..])).unwrap()
}

pub(super) fn full(bytes: &[u8]) -> UnsyncBoxBody<Bytes, std::io::Error> {
    Full::new(Bytes::copy_from_slice(bytes)).map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn status(status: StatusCode) -> Answer {
    Response::builder().status(status).body(full(b"")).unwrap()
}

/// An answer of this type.
pub(super) fn typed(kind: &str, content: &[u8]) -> Answer {
    Response::builder().header("content-type", kind).body(full(content)).unwrap()
}

pub(super) fn redirect(to: &str) -> Answer {
    Response::builder().status(StatusCode::TEMPORARY_REDIRECT).header("location", to).body(full(b"")).unwrap()
}

/// A body of these pieces, one after the other, without a length.
pub(super) fn streamed(
    kind: &str,
    pieces: impl futures::Stream<Item = std::io::Result<Bytes>> + Send + 'static,
) -> Answer {
    let frames = pieces.map(|piece| piece.map(Frame::data));
    let body = StreamBody::new(frames).boxed_unsync();
    Response::builder().header("content-type", kind).body(body).unwrap()
}

/// A body that never ends.
pub(super) fn endless(kind: &str) -> Answer {
    streamed(kind, futures::stream::repeat_with(|| Ok(Bytes::from_static(&[b' '; 4096]))))
}
