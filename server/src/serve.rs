//! The socket: mutual TLS, every service, health and reflection.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use coffer_proto::v1::audit_server::AuditServer;
use coffer_proto::v1::buckets_server::BucketsServer;
use coffer_proto::v1::drills_server::DrillsServer;
use coffer_proto::v1::evidence_server::EvidenceServer;
use coffer_proto::v1::holds_server::HoldsServer;
use coffer_proto::v1::log_server::LogServer;
use coffer_proto::v1::objects_server::ObjectsServer;
use coffer_proto::v1::repair_server::RepairServer;
use coffer_proto::v1::scrub_server::ScrubServer;
use coffer_proto::v1::sites_server::SitesServer;
use coffer_proto::v1::tenants_server::TenantsServer;
use coffer_proto::{DESCRIPTORS, FRAME_BYTES, MESSAGE_BYTES_MAX};
use futures::{Stream, TryStreamExt as _};
use tokio::net::TcpListener;
use tonic::transport::server::{Router, TcpIncoming};
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::audit::AuditError;
use crate::authority::AuthorityError;
use crate::connection::Connection;
use crate::grpc::{
    AuditApi, BucketsApi, DrillsApi, EvidenceApi, HoldsApi, LogApi, Logged, ObjectsApi, RepairApi, ScrubApi,
    SitesApi, TenantsApi,
};
use crate::in_process::InProcess;
use crate::jobs::{Job, JobError, JobSettings, Jobs};
use crate::service::Service;
use crate::service_error::StopError;

/// Why the service stopped serving, or never started.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The server's own certificate could not be made.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The transport failed.
    #[error("the server cannot serve: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The compiled descriptors do not decode.
    #[error("reflection cannot be offered: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// How far the scrub came could not be kept; it reads that again.
    #[error("stopped, but the ledgers of the scrub are not up to date: {0}")]
    Jobs(#[from] JobError),
    /// What was sealed last could not be noted in the log.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// Something is left to the next start.
    #[error(transparent)]
    Stop(#[from] StopError),
}

/// A window that lets one stream fill a fast link.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// Serves until `shutdown` completes, without background jobs; then finishes
/// what is under way and makes the logs durable.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(
    service: Arc<Service>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    serve_with(service, listener, JobSettings::BY_HAND, shutdown).await
}

/// As [`serve`], with background jobs, which end before the catalogues close.
///
/// # Errors
/// [`ServeError`].
pub async fn serve_with(
    service: Arc<Service>,
    listener: TcpListener,
    settings: JobSettings,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let (certificate, key) = service.authority.certify_server()?;
    let tls = ServerTlsConfig::new()
        .identity(Identity::from_pem(certificate, key.as_str()))
        .client_ca_root(Certificate::from_pem(service.authority.ca_pem()));
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ObjectsServer<ObjectsApi>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    // The builder's own setting is not for listeners that it did not open:
    // without this, every small answer waits for the client's delayed ACK.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).map_ok(Connection::new);
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
        .tls_config(tls)?;
    let jobs = Jobs::start(&service, settings);
    let leaving = Arc::clone(&service);
    let shutdown = async move {
        shutdown.await;
        leaving.watch.leave();
    };
    let served = with_services(server, &service)
        .add_service(health_service)
        .add_service(Logged::new(&service, reflection))
        .serve_with_incoming_shutdown(incoming, shutdown);
    let served = watched(&service, served).await;
    let stopped = jobs.stop().await;
    service.note_refusals().await;
    let sealing = service.note_sealing().await;
    service.shut_down().await?;
    sealing?;
    stopped?;
    Ok(served?)
}

/// Serves connections inside this process, without a socket and without TLS,
/// until `incoming` ends: for a simulation of the whole system. Whoever calls
/// this vouches for the certificate that each connection carries; nothing
/// that comes over a connection can claim another.
///
/// # Errors
/// [`ServeError`].
pub async fn serve_in_process(
    service: Arc<Service>,
    incoming: impl Stream<Item = Result<InProcess, std::io::Error>>,
) -> Result<(), ServeError> {
    let served = with_services(Server::builder(), &service).serve_with_incoming(incoming);
    Ok(watched(&service, served).await?)
}

/// Serves with a watch over the sites, which ends with the server, whichever
/// way that ends.
async fn watched<T>(service: &Service, served: impl Future<Output = T>) -> T {
    tokio::select! {
        biased;
        served = served => served,
        never = watch_sites(service) => match never {},
        never = watch_logs(service) => match never {},
    }
}

/// The services of the product itself, each so that no call of it goes without
/// a leaf.
fn with_services(server: Server, service: &Arc<Service>) -> Router {
    let api = |service: &Arc<Service>| Arc::clone(service);
    let objects = ObjectsServer::new(ObjectsApi(api(service))).max_decoding_message_size(MESSAGE_BYTES_MAX);
    server
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .add_service(Logged::new(service, TenantsServer::new(TenantsApi(api(service)))))
        .add_service(Logged::new(service, BucketsServer::new(BucketsApi(api(service)))))
        .add_service(Logged::new(service, objects))
        .add_service(Logged::new(service, LogServer::new(LogApi(api(service)))))
        .add_service(Logged::new(service, AuditServer::new(AuditApi(api(service)))))
        .add_service(Logged::new(service, HoldsServer::new(HoldsApi(api(service)))))
        .add_service(Logged::new(service, SitesServer::new(SitesApi(api(service)))))
        .add_service(Logged::new(service, RepairServer::new(RepairApi(api(service)))))
        .add_service(Logged::new(service, ScrubServer::new(ScrubApi(api(service)))))
        .add_service(Logged::new(service, DrillsServer::new(DrillsApi(api(service)))))
        .add_service(Logged::new(service, EvidenceServer::new(EvidenceApi(api(service)))))
}

/// A caller that does not answer for so long, and once more so long, is gone: an upload that nobody ends must not
/// keep a service from leaving.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// How often it is looked how far the sites reach: what a site loses of a
/// shorter time before the service itself dies is not noticed by its reach.
const REACH_EVERY: Duration = Duration::from_secs(2);

/// How often it is remembered how long the logs are.
const LOGS_EVERY: Duration = Duration::from_secs(2);

/// Beside the watch over the sites, which waits for those that are slow.
async fn watch_logs(service: &Service) -> Infallible {
    loop {
        tokio::time::sleep(LOGS_EVERY).await;
        service.watch.settle(Job::LogSizes, service.note_log_sizes().await);
    }
}

async fn watch_sites(service: &Service) -> Infallible {
    loop {
        tokio::time::sleep(REACH_EVERY).await;
        // A log that cannot be written refuses every call by itself.
        let _ = service.note_reach().await;
        service.note_refusals().await;
        service.note_strangers().await;
    }
}
