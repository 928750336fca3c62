//! One mutually authenticated connection to a deployment.

use std::sync::Arc;
use std::time::Duration;

use coffer_model::Entropy;
use coffer_proto::{FRAME_BYTES, MESSAGE_BYTES_MAX, READ_BYTES, SERVER_NAME, v1};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tower::ServiceExt as _;
use zeroize::Zeroizing;

use crate::call::Patience;

/// In flight on one stream before the receiver has to answer, in bytes.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
/// In flight on the connection, in bytes.
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Who calls, and whom.
pub struct Credentials {
    /// Certificate of the deployment's CA, PEM.
    pub ca_pem: String,
    /// The caller's certificate, PEM.
    pub certificate_pem: String,
    /// The caller's private key, PEM.
    pub key_pem: Zeroizing<String>,
    /// For example `https://127.0.0.1:7420`.
    pub endpoint: String,
}

/// Time and chance of a connection.
#[derive(Clone)]
pub struct ConnectOptions {
    /// How long the connection itself may take.
    pub connect_timeout: Duration,
    /// How long calls may take and how they are repeated. Streams of object
    /// data have no deadline as a whole.
    pub patience: Patience,
    /// Moves the pauses between repetitions.
    pub entropy: Arc<dyn Entropy>,
}

impl ConnectOptions {
    /// Ten seconds to connect, the default patience.
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self { connect_timeout: Duration::from_secs(10), patience: Patience::default(), entropy }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The endpoint is no address of the form `https://HOST:PORT`.
    #[error("\"{0}\" is not an endpoint; it reads https://HOST:PORT")]
    Endpoint(String),
    /// A certificate or key is not valid PEM.
    #[error("the credentials cannot be used: {0}")]
    Credentials(String),
    /// Nobody answers there, or not with a certificate of this deployment.
    #[error("{endpoint} cannot be reached: {reason}; is the service running, and is it this deployment's?")]
    Unreachable {
        /// The endpoint that was tried.
        endpoint: String,
        /// What the transport said.
        reason: String,
    },
}

/// An authenticated connection; clones share it.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    pub(crate) patience: Patience,
    pub(crate) entropy: Arc<dyn Entropy>,
}

impl Client {
    /// Connects and authenticates both sides.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(credentials: &Credentials, options: ConnectOptions) -> Result<Self, ConnectError> {
        let endpoint = &credentials.endpoint;
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&credentials.ca_pem))
            .identity(Identity::from_pem(&credentials.certificate_pem, credentials.key_pem.as_str()))
            .domain_name(SERVER_NAME);
        let channel = Endpoint::from_shared(endpoint.clone())
            .map_err(|_| ConnectError::Endpoint(endpoint.clone()))?
            .tls_config(tls)
            .map_err(|error| ConnectError::Credentials(with_causes(&error)))?
            .connect_timeout(options.connect_timeout)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(60))
            .keep_alive_while_idle(true)
            .connect_with_connector(tcp(options.connect_timeout).map_response(read_long))
            .await
            .map_err(|error| {
                let reason = with_causes(&error);
                ConnectError::Unreachable { endpoint: endpoint.clone(), reason }
            })?;
        Ok(Self { channel, patience: options.patience, entropy: options.entropy })
    }

    /// A client over a channel that the caller made and authenticated by other
    /// means: inside one process, for example.
    pub fn over(channel: Channel, options: ConnectOptions) -> Self {
        Self { channel, patience: options.patience, entropy: options.entropy }
    }

    pub(crate) fn tenants(&self) -> v1::tenants_client::TenantsClient<Channel> {
        v1::tenants_client::TenantsClient::new(self.channel.clone())
    }

    pub(crate) fn buckets(&self) -> v1::buckets_client::BucketsClient<Channel> {
        let client = v1::buckets_client::BucketsClient::new(self.channel.clone());
        client.max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn objects(&self) -> v1::objects_client::ObjectsClient<Channel> {
        let client = v1::objects_client::ObjectsClient::new(self.channel.clone());
        client.max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn log_calls(&self) -> v1::log_client::LogClient<Channel> {
        v1::log_client::LogClient::new(self.channel.clone())
    }

    pub(crate) fn hold_calls(&self) -> v1::holds_client::HoldsClient<Channel> {
        let client = v1::holds_client::HoldsClient::new(self.channel.clone());
        client.max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn audit_calls(&self) -> v1::audit_client::AuditClient<Channel> {
        let client = v1::audit_client::AuditClient::new(self.channel.clone());
        client.max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn site_calls(&self) -> v1::sites_client::SitesClient<Channel> {
        v1::sites_client::SitesClient::new(self.channel.clone())
    }

    pub(crate) fn repair_calls(&self) -> v1::repair_client::RepairClient<Channel> {
        let client = v1::repair_client::RepairClient::new(self.channel.clone());
        client.max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn scrub_calls(&self) -> v1::scrub_client::ScrubClient<Channel> {
        v1::scrub_client::ScrubClient::new(self.channel.clone())
    }

    pub(crate) fn evidence_calls(&self) -> v1::evidence_client::EvidenceClient<Channel> {
        let client = v1::evidence_client::EvidenceClient::new(self.channel.clone());
        client.max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn drill_calls(&self) -> v1::drills_client::DrillsClient<Channel> {
        v1::drills_client::DrillsClient::new(self.channel.clone())
    }
}

/// Connects to the first address that answers.
fn tcp(timeout: Duration) -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(timeout));
    connector
}

/// TLS asks its socket for 4 KiB at a time, four times for each record; these
/// short reads come out of one long one.
fn read_long(stream: TokioIo<TcpStream>) -> TokioIo<BufReader<TcpStream>> {
    TokioIo::new(BufReader::with_capacity(READ_BYTES, stream.into_inner()))
}

/// The transport's error and its causes: its own text is "transport error".
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = inner.source();
    }
    text
}
