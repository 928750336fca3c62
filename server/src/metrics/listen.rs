//! Where the figures are had: plain HTTP on the loopback, where whoever can
//! reach it is on this machine anyway; elsewhere TLS, for operators'
//! certificates only.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coffer_model::Role;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

use crate::authority::{AuthorityError, fingerprint};
use crate::service::Service;

/// Connections at a time; a collector has one.
const CONNECTIONS_MAX: usize = 16;
/// How long a handshake, or the head of a request, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why the figures cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The listener has no address.
    #[error("the address of the metrics is not known: {0}")]
    Address(#[from] std::io::Error),
    /// No certificate for the listener.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// TLS cannot be set up.
    #[error("the metrics cannot be served over TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The deployment's own certificate cannot be used.
    #[error("the deployment's certificate authority cannot be used for the metrics")]
    Ca,
}

/// Serves the figures on this listener until it is dropped: in clear if it is
/// on the loopback, else to operators over TLS.
///
/// # Errors
/// [`MetricsError`], before anything is served.
pub async fn serve_metrics(service: Arc<Service>, listener: TcpListener) -> Result<Infallible, MetricsError> {
    let tls = match listener.local_addr()? {
        address if is_loopback(address) => None,
        _ => Some(acceptor(&service)?),
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { continue };
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors: others must end first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (service, tls) = (Arc::clone(&service), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => converse(&service, stream).await,
                Some(tls) => admit(&service, tls, stream).await,
            }
            drop(place);
        });
    }
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

fn acceptor(service: &Service) -> Result<TlsAcceptor, MetricsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(service.ca_pem().as_bytes()).map_err(|_| MetricsError::Ca)?;
    roots.add(ca)?;
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let clients = clients.map_err(|_| MetricsError::Ca)?;
    let (certificate, key) = service.authority.certify_server()?;
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|_| MetricsError::Ca)?];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| MetricsError::Ca)?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(clients)
        .with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Goes on only for a certificate of an operator.
async fn admit(service: &Arc<Service>, tls: TlsAcceptor, stream: TcpStream) {
    let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await else { return };
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let principal = shown.and_then(|certificate| service.principal(&fingerprint(certificate)));
    if principal.is_some_and(|principal| principal.role == Role::Operator) {
        converse(service, stream).await;
    }
}

async fn converse(service: &Arc<Service>, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
    let answer = service_fn(|request| {
        let service = Arc::clone(service);
        async move { Ok::<_, Infallible>(answer(&service, &request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(stream), answer);
    // A collector that breaks off asks again.
    let _ = served.await;
}

async fn answer(service: &Service, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let status = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => StatusCode::OK,
        (_, "/metrics") => StatusCode::METHOD_NOT_ALLOWED,
        _ => StatusCode::NOT_FOUND,
    };
    let body = match status {
        StatusCode::OK => service.metrics_text().await,
        status => format!("{status}\n"),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_machine_itself_is_the_loopback() {
        for own in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(is_loopback(own.parse().unwrap()), "{own}");
        }
        for other in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[2001:db8::1]:1"] {
            assert!(!is_loopback(other.parse().unwrap()), "{other}");
        }
    }
}
