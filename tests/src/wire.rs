//! The generated clients over one connection: requests that the SDK never
//! makes, such as those that name another tenant.

use coffer_client::Credentials;
use coffer_proto::SERVER_NAME;
use coffer_proto::v1::audit_client::AuditClient;
use coffer_proto::v1::buckets_client::BucketsClient;
use coffer_proto::v1::drills_client::DrillsClient;
use coffer_proto::v1::evidence_client::EvidenceClient;
use coffer_proto::v1::holds_client::HoldsClient;
use coffer_proto::v1::log_client::LogClient;
use coffer_proto::v1::objects_client::ObjectsClient;
use coffer_proto::v1::repair_client::RepairClient;
use coffer_proto::v1::scrub_client::ScrubClient;
use coffer_proto::v1::sites_client::SitesClient;
use coffer_proto::v1::tenants_client::TenantsClient;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Error, Identity};

/// One connection, every service.
#[derive(Clone)]
pub struct Wire {
    /// `coffer.v1.Tenants`.
    pub tenants: TenantsClient<Channel>,
    /// `coffer.v1.Buckets`.
    pub buckets: BucketsClient<Channel>,
    /// `coffer.v1.Objects`.
    pub objects: ObjectsClient<Channel>,
    /// `coffer.v1.Log`.
    pub log: LogClient<Channel>,
    /// `coffer.v1.Audit`.
    pub audit: AuditClient<Channel>,
    /// `coffer.v1.Evidence`.
    pub evidence: EvidenceClient<Channel>,
    /// `coffer.v1.Holds`.
    pub holds: HoldsClient<Channel>,
    /// `coffer.v1.Sites`.
    pub sites: SitesClient<Channel>,
    /// `coffer.v1.Repair`.
    pub repair: RepairClient<Channel>,
    /// `coffer.v1.Drills`.
    pub drills: DrillsClient<Channel>,
    /// `coffer.v1.Scrub`.
    pub scrub: ScrubClient<Channel>,
}

impl Wire {
    /// Connects with a certificate.
    ///
    /// # Errors
    /// The transport's.
    pub async fn connect(endpoint: &str, credentials: &Credentials) -> Result<Self, Error> {
        let identity = Identity::from_pem(&credentials.certificate_pem, credentials.key_pem.as_str());
        Self::over(endpoint, Self::tls(&credentials.ca_pem).identity(identity)).await
    }

    /// Connects without a certificate.
    ///
    /// # Errors
    /// The transport's.
    pub async fn connect_anonymously(endpoint: &str, ca_pem: &str) -> Result<Self, Error> {
        Self::over(endpoint, Self::tls(ca_pem)).await
    }

    fn tls(ca_pem: &str) -> ClientTlsConfig {
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca_pem)).domain_name(SERVER_NAME)
    }

    async fn over(endpoint: &str, tls: ClientTlsConfig) -> Result<Self, Error> {
        let channel = Endpoint::from_shared(endpoint.to_owned())?.tls_config(tls)?.connect().await?;
        Ok(Self {
            tenants: TenantsClient::new(channel.clone()),
            buckets: BucketsClient::new(channel.clone()),
            objects: ObjectsClient::new(channel.clone()),
            log: LogClient::new(channel.clone()),
            audit: AuditClient::new(channel.clone()),
            evidence: EvidenceClient::new(channel.clone()),
            holds: HoldsClient::new(channel.clone()),
            sites: SitesClient::new(channel.clone()),
            repair: RepairClient::new(channel.clone()),
            drills: DrillsClient::new(channel.clone()),
            scrub: ScrubClient::new(channel),
        })
    }
}
