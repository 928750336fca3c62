//! A mutually authenticated connection to a deployment, wherever it is.

use std::sync::Arc;
use std::time::Duration;

use coffer_model::Entropy;
use coffer_proto::{MESSAGE_BYTES_MAX, v1};
use tonic::transport::Channel;
use zeroize::Zeroizing;

use crate::call::{CallError, Patience, repeat};
use crate::ways::{Address, FirstError, Names, OnStranger, SystemNames, Ways};

/// Who calls, and whom.
pub struct Credentials {
    /// Certificate of the deployment's CA, PEM.
    pub ca_pem: String,
    /// The caller's certificate, PEM.
    pub certificate_pem: String,
    /// The caller's private key, PEM.
    pub key_pem: Zeroizing<String>,
    /// Where the service may be, for example `https://127.0.0.1:7420`; several
    /// addresses, or names of several, between commas or spaces.
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
    /// What names of machines stand for.
    pub names: Arc<dyn Names>,
    /// Told, once for each, which address answers as another service than this
    /// deployment's, and was asked nothing.
    pub on_stranger: Option<OnStranger>,
}

impl ConnectOptions {
    /// Ten seconds to connect to an address, the default patience, the names
    /// of this machine.
    pub fn new(entropy: Arc<dyn Entropy>) -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            patience: Patience::default(),
            entropy,
            names: Arc::new(SystemNames),
            on_stranger: None,
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The endpoint is no address of the form `https://HOST:PORT`, and no list of them.
    #[error("\"{0}\" is not an endpoint; it reads https://HOST:PORT, several between commas")]
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
    ways: Ways,
    pub(crate) patience: Patience,
    pub(crate) entropy: Arc<dyn Entropy>,
}

impl Client {
    /// Connects and authenticates both sides: to the first address that
    /// answers as this deployment's service. Whenever the connection breaks, or
    /// leads to a service that is not the owner, the others are looked at again.
    ///
    /// # Errors
    /// [`ConnectError`] where no address answers so.
    pub async fn connect(credentials: &Credentials, options: ConnectOptions) -> Result<Self, ConnectError> {
        let endpoint = || credentials.endpoint.trim().to_owned();
        let ways = Ways::find(credentials, &options).await.map_err(|error| match error {
            FirstError::Address(text) => ConnectError::Endpoint(text),
            FirstError::Credentials(reason) => ConnectError::Credentials(reason.to_string()),
            FirstError::None(reason) => {
                ConnectError::Unreachable { endpoint: endpoint(), reason: reason.to_string() }
            }
        })?;
        Ok(Self { ways, patience: options.patience, entropy: options.entropy })
    }

    /// A client over a channel that the caller made and authenticated by other
    /// means: inside one process, for example.
    pub fn over(channel: Channel, options: ConnectOptions) -> Self {
        Self { ways: Ways::Given(channel), patience: options.patience, entropy: options.entropy }
    }

    /// Waits, as patiently as a call is repeated, until a request could leave:
    /// before that nothing can have happened, whatever the request is.
    pub(crate) async fn reached(&self) -> Result<(), CallError> {
        repeat(&self.patience, self.entropy.as_ref(), || async {
            self.ways.reach().await.map_err(|none| CallError::Unavailable(none.to_string()))
        })
        .await
    }

    pub(crate) fn tenants(&self) -> v1::tenants_client::TenantsClient<Ways> {
        v1::tenants_client::TenantsClient::new(self.ways.clone())
    }

    pub(crate) fn buckets(&self) -> v1::buckets_client::BucketsClient<Ways> {
        let client = v1::buckets_client::BucketsClient::new(self.ways.clone());
        client.max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn objects(&self) -> v1::objects_client::ObjectsClient<Ways> {
        let client = v1::objects_client::ObjectsClient::new(self.ways.clone());
        client.max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn log_calls(&self) -> v1::log_client::LogClient<Ways> {
        v1::log_client::LogClient::new(self.ways.clone())
    }

    pub(crate) fn hold_calls(&self) -> v1::holds_client::HoldsClient<Ways> {
        let client = v1::holds_client::HoldsClient::new(self.ways.clone());
        client.max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn audit_calls(&self) -> v1::audit_client::AuditClient<Ways> {
        let client = v1::audit_client::AuditClient::new(self.ways.clone());
        client.max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn site_calls(&self) -> v1::sites_client::SitesClient<Ways> {
        v1::sites_client::SitesClient::new(self.ways.clone())
    }

    pub(crate) fn repair_calls(&self) -> v1::repair_client::RepairClient<Ways> {
        let client = v1::repair_client::RepairClient::new(self.ways.clone());
        client.max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn scrub_calls(&self) -> v1::scrub_client::ScrubClient<Ways> {
        v1::scrub_client::ScrubClient::new(self.ways.clone())
    }

    pub(crate) fn evidence_calls(&self) -> v1::evidence_client::EvidenceClient<Ways> {
        let client = v1::evidence_client::EvidenceClient::new(self.ways.clone());
        client.max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn drill_calls(&self) -> v1::drills_client::DrillsClient<Ways> {
        v1::drills_client::DrillsClient::new(self.ways.clone())
    }
}

/// Whether a text is an address, or a list of addresses, as [`Credentials`] want it.
///
/// # Errors
/// [`ConnectError::Endpoint`] with what is none.
pub fn check_endpoint(text: &str) -> Result<(), ConnectError> {
    Address::list(text).map(drop).map_err(ConnectError::Endpoint)
}
