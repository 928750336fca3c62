//! The node's own small endpoint, for `kubectl logs` and `top` of an API that
//! is elsewhere: the paths of a kubelet, over mutual TLS. Whoever has no
//! certificate of the given authority is not heard.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use k8s_openapi::jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

use crate::access::NodeLogs;
use crate::clock;
use crate::logs::LogOptions;

/// How long a client may take for its handshake and for its request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at a time.
const CONNECTIONS: usize = 64;

/// Who the endpoint is, and whom it hears; PEM.
#[derive(Clone)]
pub struct NodeTls {
    /// The node's certificate, and those above it.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// The authority whose certificates are heard.
    pub clients: String,
}

/// Why the endpoint does not open.
#[derive(Debug, thiserror::Error)]
pub enum NodeTlsError {
    /// A text is not the PEM that it should be.
    #[error("{0} is not PEM as it should be: {1}")]
    Pem(&'static str, pem::Error),
    /// The authority is none.
    #[error("the authority of the clients: {0}")]
    Authority(#[from] VerifierBuilderError),
    /// Certificate and key do not go together, or are refused.
    #[error("certificate and key: {0}")]
    Rustls(#[from] rustls::Error),
}

type Answer = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

/// Serves the node's logs and usage on `listener` until it is dropped.
///
/// # Errors
/// The certificates are not usable.
pub async fn serve(listener: TcpListener, tls: &NodeTls, logs: NodeLogs) -> Result<Infallible, NodeTlsError> {
    let acceptor = TlsAcceptor::from(Arc::new(server(tls)?));
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { continue };
        let Ok((socket, _)) = listener.accept().await else {
            // Out of descriptors, most likely: others must end first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (acceptor, logs) = (acceptor.clone(), logs.clone());
        tokio::spawn(async move {
            let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, acceptor.accept(socket)).await else {
                return;
            };
            let service = service_fn(move |request| {
                let logs = logs.clone();
                async move { Ok::<Answer, Infallible>(answer(&request, &logs).await) }
            });
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(16 << 10);
            // A client that goes away ends its own connection only.
            drop(http.serve_connection(TokioIo::new(stream), service).await);
            drop(place);
        });
    }
}

fn server(tls: &NodeTls) -> Result<ServerConfig, NodeTlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in certificates("the authority of the clients", &tls.clients)? {
        roots.add(certificate)?;
    }
    let clients =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build()?;
    let chain = certificates("the node's certificate", &tls.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(tls.key.as_bytes())
        .map_err(|error| NodeTlsError::Pem("the node's key", error))?;
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_client_cert_verifier(clients).with_single_cert(chain, key)?)
}

fn certificates(what: &'static str, text: &str) -> Result<Vec<CertificateDer<'static>>, NodeTlsError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    all.map_err(|error| NodeTlsError::Pem(what, error))
}

async fn answer(request: &Request<Incoming>, logs: &NodeLogs) -> Answer {
    if request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "only GET");
    }
    let parts: Vec<&str> = request.uri().path().trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["healthz"] => plain(StatusCode::OK, "ok"),
        ["stats", "summary"] => {
            let body = logs.usage().await.to_string();
            let answer = Response::builder().header("content-type", "application/json");
            answer.body(whole(body)).unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR, "headers"))
        }
        ["containerLogs", namespace, pod, container] => {
            let Some(Wanted { options, follow, previous }) =
                wanted(request.uri().query().unwrap_or_default())
            else {
                return plain(
                    StatusCode::BAD_REQUEST,
                    "tailLines, sinceSeconds, sinceTime or limitBytes is none",
                );
            };
            match logs.log((namespace, pod, container), previous, follow, options) {
                Err(none) => plain(StatusCode::NOT_FOUND, &none.to_string()),
                Ok(log) => Response::new(streamed(log)),
            }
        }
        _ => plain(
            StatusCode::NOT_FOUND,
            "there are /containerLogs/NAMESPACE/POD/CONTAINER and /stats/summary",
        ),
    }
}

fn streamed(log: crate::access::LogStream) -> UnsyncBoxBody<Bytes, std::io::Error> {
    let frames = stream::unfold(Some(log), |log| async move {
        let mut log = log?;
        match log.next().await {
            Ok(None) => None,
            Ok(Some(bytes)) => Some((Ok(Frame::data(Bytes::from(bytes))), Some(log))),
            Err(error) => Some((Err(error), None)),
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

fn whole(text: impl Into<Bytes>) -> UnsyncBoxBody<Bytes, std::io::Error> {
    Full::new(text.into()).map_err(|never| match never {}).boxed_unsync()
}

fn plain(code: StatusCode, text: &str) -> Answer {
    let mut answer = Response::new(whole(format!("{text}\n")));
    *answer.status_mut() = code;
    answer
}

struct Wanted {
    options: LogOptions,
    follow: bool,
    previous: bool,
}

/// The query of a kubelet's log path; `None` if a number or time is none.
fn wanted(query: &str) -> Option<Wanted> {
    let mut wanted = Wanted { options: LogOptions::default(), follow: false, previous: false };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, "true"));
        let yes = value == "true" || value == "1";
        match name {
            "follow" => wanted.follow = yes,
            "previous" => wanted.previous = yes,
            "timestamps" => wanted.options.timestamps = yes,
            "tailLines" => wanted.options.tail = Some(value.parse().ok()?),
            "limitBytes" => wanted.options.limit_bytes = Some(value.parse().ok()?),
            "sinceSeconds" => {
                let since = clock::wall().saturating_sub(Duration::from_secs(value.parse().ok()?));
                wanted.options.since =
                    Some(clock::timestamp(Duration::from_secs(since.as_secs())).to_string());
            }
            // A colon may come as %3A; nothing else in a time needs escaping.
            "sinceTime" => {
                let time: Timestamp =
                    value.replace("%3A", ":").replace("%3a", ":").replace("%2B", "+").parse().ok()?;
                wanted.options.since = Some(time.to_string());
            }
            _ => {}
        }
    }
    Some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_of_kubectl_are_read_and_nonsense_is_refused() {
        let read = wanted("follow=true&tailLines=5&sinceTime=2026-01-01T01%3A00%3A00%2B01:00").unwrap();
        assert!(read.follow && !read.previous);
        assert_eq!(read.options.tail, Some(5));
        assert_eq!(read.options.since.as_deref(), Some("2026-01-01T00:00:00Z"));
        assert!(wanted("tailLines=-1").is_none());
        assert!(wanted("sinceTime=yesterday").is_none());
    }
}
