//! The daemon: one site's store over gRPC, to listed callers, within limits.
//! It knows records and slots, no tenant and no key but its own two: that of
//! its TLS certificate, and that of its receipts.

mod api;
mod callers;
mod connections;
mod pieces;
mod refused;
mod tenure;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use coffer_model::{Country, SiteId};
use coffer_proto::site::v1::store_server::StoreServer;
use coffer_proto::{FRAME_BYTES, SITE_MESSAGE_BYTES_MAX};
use coffer_regions::Site;
use tokio::net::TcpListener;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use zeroize::Zeroizing;

pub use callers::{CallerError, Callers, fingerprint};
use refused::{Noticed, Refused};
use tenure::Tenure;

use crate::identity::{IdentityError, SiteIdentity};
use crate::lease::LeaseFile;
use crate::receipt::ReceiptSigner;

/// Calls of one connection that run at the same time.
const CALLS_MAX: u32 = 256;
/// The longest that a call may take, its body included.
const CALL_TIME_MAX: Duration = Duration::from_secs(120);
/// The longest that a handshake may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// Header bytes of one call.
const HEADER_BYTES_MAX: u32 = 16 << 10;
/// How long an idle connection goes unasked, and how long it may stay silent.
const KEEPALIVE: Duration = Duration::from_secs(20);
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// How long calls that are under way may go on after the word to stop.
const GRACE: Duration = Duration::from_secs(30);

/// What a pod is started with.
pub struct DaemonOptions {
    /// Its certificate, PEM; names the site, its country and its receipt key.
    pub certificate_pem: String,
    /// The certificate's private key, PEM.
    pub key_pem: Zeroizing<String>,
    /// Who certifies callers, PEM.
    pub ca_pem: String,
    /// Signs receipts; the certificate must name its public key.
    pub receipts: ReceiptSigner,
    /// Who may call.
    pub callers: Callers,
    /// Without it nothing is written; `None`: this pod needs none.
    pub lease: Option<Arc<LeaseFile>>,
    /// Is told what happened, for the log of the daemon.
    pub notices: Arc<dyn Fn(Notice) + Send + Sync>,
}

/// What the daemon's log says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A certified caller is not on the list.
    Caller {
        /// SHA-256 of its certificate, if it showed one.
        fingerprint: Option<[u8; 32]>,
    },
    /// A request that breaks a limit or has no meaning.
    Request {
        /// Who sent it, by the name on the list.
        caller: String,
        /// The answer that it got.
        answer: String,
    },
    /// There are too many connections; one was closed.
    Connections,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Caller { fingerprint: None } => f.write_str("refused a caller without a certificate"),
            Self::Caller { fingerprint: Some(print) } => {
                f.write_str("refused a caller that is not on the list: ")?;
                print.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            Self::Request { caller, answer } => write!(f, "refused a request of {caller}: {answer}"),
            Self::Connections => f.write_str("refused a connection: there are too many"),
        }
    }
}

/// Why a daemon does not serve.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// The certificate cannot be read.
    #[error("the certificate is no PEM of a certificate")]
    Pem,
    /// The certificate names no site.
    #[error("the certificate cannot be a pod's: {0}")]
    Identity(#[from] IdentityError),
    /// The certificate is another site's.
    #[error("the certificate is that of {certified}; the store is that of {stored}")]
    OtherSite {
        /// Whom the certificate names.
        certified: SiteId,
        /// Whose store it is.
        stored: SiteId,
    },
    /// The certificate names another country.
    #[error("the certificate says {certified}, not {stored}")]
    OtherCountry {
        /// What the certificate names.
        certified: Country,
        /// What the site is described with.
        stored: Country,
    },
    /// The receipt key is not the certified one.
    #[error("the certificate names another receipt key than the one in the key file")]
    ReceiptKey,
    /// Nobody could call.
    #[error("nobody may call: name at least one caller")]
    NoCallers,
    /// The transport failed.
    #[error("the pod cannot serve: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// Calls that were under way did not end.
    #[error("stopped; calls that were under way were cut off, nothing acknowledged is lost")]
    CutOff,
}

/// Serves `site` until `shutdown` completes; then finishes what is under way.
///
/// # Errors
/// [`DaemonError`].
pub async fn serve(
    site: Arc<dyn Site>,
    options: DaemonOptions,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), DaemonError> {
    check(site.as_ref(), &options)?;
    serve_unchecked(site, options, listener, shutdown).await
}

fn check(site: &dyn Site, options: &DaemonOptions) -> Result<(), DaemonError> {
    let certificate =
        CertificateDer::from_pem_slice(options.certificate_pem.as_bytes()).map_err(|_| DaemonError::Pem)?;
    let identity = SiteIdentity::of_certificate(&certificate)?;
    let (stored, country) = (site.description().id, site.description().country);
    if identity.site != stored {
        return Err(DaemonError::OtherSite { certified: identity.site, stored });
    }
    if identity.country != country {
        return Err(DaemonError::OtherCountry { certified: identity.country, stored: country });
    }
    if identity.receipts != options.receipts.key() {
        return Err(DaemonError::ReceiptKey);
    }
    if options.callers.is_empty() {
        return Err(DaemonError::NoCallers);
    }
    Ok(())
}

/// Serves with whatever identity: for tests of those who call.
///
/// # Errors
/// [`DaemonError::Transport`] and [`DaemonError::CutOff`].
pub async fn serve_unchecked(
    site: Arc<dyn Site>,
    options: DaemonOptions,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), DaemonError> {
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(&options.certificate_pem, options.key_pem.as_str()))
        .client_ca_root(Certificate::from_pem(&options.ca_pem))
        .timeout(HANDSHAKE_TIME_MAX);
    let (told_to, refused) = (options.notices, Arc::new(Refused::default()));
    let counted = Arc::clone(&refused);
    let notices: Arc<dyn Fn(Notice) + Send + Sync> = Arc::new(move |notice| {
        counted.count(&notice);
        told_to(notice);
    });
    let incoming = connections::bounded(listener, Arc::clone(&notices));
    let tenure = Arc::new(Tenure::new(options.lease));
    let api = api::StoreApi::new(site, options.receipts, Arc::clone(&tenure), refused);
    let store = StoreServer::new(api)
        .max_decoding_message_size(SITE_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(SITE_MESSAGE_BYTES_MAX);
    let store = Noticed::new(store, Arc::clone(&notices));
    let callers = options.callers;
    let admit = move |request| tenure.hear(callers.admit(request, notices.as_ref())?);
    let (told, stopping) = tokio::sync::oneshot::channel::<()>();
    let server = Server::builder()
        .tls_config(tls)?
        .timeout(CALL_TIME_MAX)
        .max_concurrent_streams(CALLS_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .add_service(InterceptedService::new(store, admit))
        .serve_with_incoming_shutdown(incoming, async move {
            shutdown.await;
            drop(told);
        });
    let grace_over = async {
        // Completes when the sender is dropped, which is the word to stop.
        let _ = stopping.await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        served = server => Ok(served?),
        () = grace_over => Err(DaemonError::CutOff),
    }
}
