//! One connection to a service: TCP, TLS with the fixed name of services
//! whatever the address, HTTP/2. This is a network adapter.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use coffer_proto::{FRAME_BYTES, READ_BYTES, SERVER_NAME};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::book::Target;
use super::kept::Kept;
use crate::connect::Credentials;

/// In flight on one stream before the receiver has to answer, in bytes.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// In flight on the connection, in bytes.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Why the credentials cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnusableCredentials {
    #[error("they are no PEM: {0}")]
    Pem(#[from] pem::Error),
    #[error("{0}")]
    Tls(#[from] rustls::Error),
    #[error("the name of services is none")]
    Name,
}

/// Why one address did not become a connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoLine {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("no answer in time")]
    Late,
    /// It is there, and somebody else's.
    #[error(
        "who answers there has no certificate of this deployment ({0}); it is another service, and was asked nothing"
    )]
    Stranger(rustls::CertificateError),
    #[error("it speaks no HTTP/2")]
    Protocol,
    #[error("the connection: {0}")]
    Http(#[from] hyper::Error),
}

/// How a connection notices that nobody is at its other end.
#[derive(Clone, Copy)]
pub(super) struct Pulse {
    pub(super) every: Duration,
    pub(super) patience: Duration,
}

/// What sends requests over an open connection.
pub(super) type Sender = http2::SendRequest<Kept>;

/// Makes connections.
pub(super) struct Link {
    tls: TlsConnector,
    name: ServerName<'static>,
    timeout: Duration,
}

impl Link {
    pub(super) fn new(credentials: &Credentials, timeout: Duration) -> Result<Self, UnusableCredentials> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(credentials.ca_pem.as_bytes()) {
            roots.add(certificate?)?;
        }
        let chain = CertificateDer::pem_slice_iter(credentials.certificate_pem.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(credentials.key_pem.as_bytes())?;
        let mut tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let name = SERVER_NAME.try_into().map_err(|_| UnusableCredentials::Name)?;
        Ok(Self { tls: TlsConnector::from(Arc::new(tls)), name, timeout })
    }

    /// A connection to this socket, if this deployment's service is there.
    pub(super) async fn open(&self, target: &Target, pulse: Pulse) -> Result<Sender, NoLine> {
        let opened = tokio::time::timeout(self.timeout, self.shake_hands(target, pulse)).await;
        opened.unwrap_or(Err(NoLine::Late))
    }

    async fn shake_hands(&self, target: &Target, pulse: Pulse) -> Result<Sender, NoLine> {
        let stream = TcpStream::connect(target.socket).await?;
        stream.set_nodelay(true)?;
        // TLS asks its socket for 4 KiB at a time, four times for each record;
        // these short reads come out of one long one.
        let stream = BufReader::with_capacity(READ_BYTES, stream);
        let stream = self.tls.connect(self.name.clone(), stream).await.map_err(of_tls)?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(NoLine::Protocol);
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .keep_alive_interval(pulse.every)
            .keep_alive_timeout(pulse.patience)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await?;
        // It ends with its last stream once nobody can send on it; who waits
        // for an answer is told its error.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}

/// A certificate that is not believed is another thing than no connection.
fn of_tls(error: io::Error) -> NoLine {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(reason)) => NoLine::Stranger(reason.clone()),
        _ => NoLine::Io(error),
    }
}
