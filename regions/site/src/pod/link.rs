//! One TLS connection to a pod: who answers there is held against the
//! topology before a byte is asked of it. This is a network adapter.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coffer_model::SiteDescription;
use coffer_proto::{FRAME_BYTES, READ_BYTES, SITE_SERVER_NAME};
use hyper_util::rt::TokioIo;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use tonic::transport::{Channel, Endpoint};
use zeroize::Zeroizing;

use super::PodTiming;
use super::refusal::PodRefusal;
use crate::identity::SiteIdentity;
use crate::receipt::ReceiptKey;

/// What a caller of pods shows, and whom it believes.
pub struct PodCredentials {
    /// Who certifies pods, PEM.
    pub ca_pem: String,
    /// The caller's certificate, PEM.
    pub certificate_pem: String,
    /// The certificate's private key, PEM.
    pub key_pem: Zeroizing<String>,
}

/// Why a pod cannot be called at all.
#[derive(Debug, thiserror::Error)]
pub enum PodConfigError {
    /// Not an address.
    #[error("\"{0}\" is not the endpoint of a pod; it reads https://HOST:PORT")]
    Endpoint(String),
    /// A certificate or key that is no PEM.
    #[error("the credentials for pods cannot be read: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// A certificate or key that cannot be used.
    #[error("the credentials for pods cannot be used: {0}")]
    Tls(#[from] rustls::Error),
    /// The fixed server name is none; never with the constants of this program.
    #[error("the server name of pods is none")]
    ServerName,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("no connection: {0}")]
    Io(#[from] std::io::Error),
    #[error("no connection within the deadline")]
    Late,
    #[error("refused: {0}")]
    Refused(PodRefusal),
}

/// A connection whose short reads by TLS come out of long ones of the socket.
type Secured = TlsStream<BufReader<TcpStream>>;

/// Makes connections, and remembers what the last one showed.
pub(super) struct Link {
    description: SiteDescription,
    /// Where the topology says that it is.
    listed: String,
    /// Where it is.
    authority: Mutex<String>,
    tls: TlsConnector,
    server_name: ServerName<'static>,
    connect: Duration,
    shown: Mutex<Shown>,
}

/// What the last connection showed.
#[derive(Default)]
struct Shown {
    receipts: Option<ReceiptKey>,
    refusal: Option<PodRefusal>,
}

impl Link {
    pub(super) fn new(
        description: SiteDescription,
        endpoint: &str,
        credentials: &PodCredentials,
        timing: &PodTiming,
    ) -> Result<Self, PodConfigError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(credentials.ca_pem.as_bytes()) {
            roots.add(certificate?)?;
        }
        let chain = CertificateDer::pem_slice_iter(credentials.certificate_pem.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(credentials.key_pem.as_bytes())?;
        let mut tls =
            ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self {
            description,
            listed: authority(endpoint)?.to_owned(),
            authority: Mutex::new(authority(endpoint)?.to_owned()),
            tls: TlsConnector::from(Arc::new(tls)),
            server_name: SITE_SERVER_NAME.try_into().map_err(|_| PodConfigError::ServerName)?,
            connect: timing.connect,
            shown: Mutex::default(),
        })
    }

    /// A channel that connects when it is used, and again when it broke.
    pub(super) fn channel(self: &Arc<Self>, timing: &PodTiming) -> Result<Channel, PodConfigError> {
        // Plain to the channel's eyes: the connector below brings its own TLS.
        let authority = self.authority();
        let endpoint = Endpoint::from_shared(format!("http://{authority}"))
            .map_err(|_| PodConfigError::Endpoint(authority))?
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .http2_keep_alive_interval(timing.keepalive_interval)
            .keep_alive_timeout(timing.keepalive_timeout)
            .keep_alive_while_idle(true);
        let link = Arc::clone(self);
        let connector = tower::service_fn(move |_: tonic::transport::Uri| {
            let link = Arc::clone(&link);
            async move { link.connect().await.map(TokioIo::new) }
        });
        Ok(endpoint.connect_with_connector_lazy(connector))
    }

    fn authority(&self) -> String {
        self.authority.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections from now on go there; `None`: where the topology says.
    /// Whether that is somewhere else than before.
    pub(super) fn move_to(&self, endpoint: Option<&str>) -> Result<bool, PodConfigError> {
        let there = endpoint.map_or(Ok(self.listed.as_str()), authority)?.to_owned();
        let mut now = self.authority.lock().unwrap_or_else(PoisonError::into_inner);
        let moved = *now != there;
        *now = there;
        Ok(moved)
    }

    /// Remembers why what answers is not believed; a new connection forgets it.
    pub(super) fn refuse(&self, refusal: PodRefusal) {
        self.shown().refusal = Some(refusal);
    }

    /// What answers is believed again.
    pub(super) fn forgive(&self) {
        self.shown().refusal = None;
    }

    async fn connect(&self) -> Result<Secured, LinkError> {
        let connected = tokio::time::timeout(self.connect, self.handshake()).await;
        let connected = connected.unwrap_or(Err(LinkError::Late));
        let mut shown = self.shown();
        match connected {
            Ok((stream, receipts)) => {
                *shown = Shown { receipts: Some(receipts), refusal: None };
                Ok(stream)
            }
            Err(error) => {
                shown.refusal = match &error {
                    LinkError::Refused(refusal) => Some(refusal.clone()),
                    _ => None,
                };
                Err(error)
            }
        }
    }

    async fn handshake(&self) -> Result<(Secured, ReceiptKey), LinkError> {
        let stream = TcpStream::connect(self.authority()).await?;
        stream.set_nodelay(true)?;
        let stream = BufReader::with_capacity(READ_BYTES, stream);
        let stream = self.tls.connect(self.server_name.clone(), stream).await.map_err(tls_error)?;
        let (_, session) = stream.get_ref();
        let leaf = session.peer_certificates().and_then(|list| list.first());
        let leaf = leaf.map(|der| der.as_ref()).unwrap_or_default();
        let receipts = self.identify(leaf).map_err(LinkError::Refused)?;
        Ok((stream, receipts))
    }

    /// Holds a certificate that the TLS library believes against the topology.
    fn identify(&self, der: &[u8]) -> Result<ReceiptKey, PodRefusal> {
        let identity = SiteIdentity::of_certificate(der)?;
        if identity.site != self.description.id {
            return Err(PodRefusal::OtherSite(identity.site));
        }
        if identity.country != self.description.country {
            let promised = self.description.country;
            return Err(PodRefusal::OtherCountry { found: identity.country, promised });
        }
        Ok(identity.receipts)
    }

    fn shown(&self) -> std::sync::MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key of the receipts, from the certificate of the last connection.
    pub(super) fn receipts(&self) -> Option<ReceiptKey> {
        self.shown().receipts
    }

    /// Why the last connection was refused, if it was.
    pub(super) fn refusal(&self) -> Option<PodRefusal> {
        self.shown().refusal.clone()
    }

    pub(super) fn description(&self) -> &SiteDescription {
        &self.description
    }
}

const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// `HOST:PORT` of an endpoint.
fn authority(endpoint: &str) -> Result<&str, PodConfigError> {
    let wrong = || PodConfigError::Endpoint(endpoint.to_owned());
    let authority = endpoint.strip_prefix("https://").ok_or_else(wrong)?;
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    let (host, port) = authority.rsplit_once(':').ok_or_else(wrong)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_[]:".contains(c);
    if host.is_empty() || !host.chars().all(plain) || port.parse::<u16>().is_err() {
        return Err(wrong());
    }
    Ok(authority)
}

/// Whether an endpoint has the form `https://HOST:PORT`.
pub fn is_pod_endpoint(endpoint: &str) -> bool {
    authority(endpoint).is_ok()
}

fn tls_error(error: std::io::Error) -> LinkError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(reason)) => {
            LinkError::Refused(PodRefusal::Certificate(reason.clone()))
        }
        _ => LinkError::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_have_a_host_and_a_port_and_nothing_more() {
        for good in ["https://127.0.0.2:7441", "https://pod.example:1/", "https://[::1]:7441"] {
            assert!(is_pod_endpoint(good), "{good}");
        }
        for bad in [
            "http://a:1",
            "https://a",
            "https://:1",
            "https://a:70000",
            "https://a:1/path",
            "https://u@a:1",
            "",
        ] {
            assert!(!is_pod_endpoint(bad), "{bad}");
        }
    }
}
