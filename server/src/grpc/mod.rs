//! gRPC around the stories: parse at the boundary, hand in a call, answer.
//! Nothing is decided here but which status code an error has.

mod attended;
mod audit;
mod buckets;
mod drills;
mod evidence;
mod holds;
mod log;
mod logged;
mod objects;
mod rebalance;
mod repair;
mod scrub;
mod sites;
mod status;
mod tenants;

use std::pin::Pin;

use coffer_model::{Operation, Role, TenantId};
use futures::{Stream, stream};
use tokio::sync::mpsc;
use tonic::{Request, Status};

use crate::authority::fingerprint;
use crate::authorize::Call;
use crate::in_process::InProcessCaller;
use crate::service::Service;

pub(crate) use audit::AuditApi;
pub(crate) use buckets::BucketsApi;
pub(crate) use drills::DrillsApi;
pub(crate) use evidence::EvidenceApi;
pub(crate) use holds::HoldsApi;
pub(crate) use log::LogApi;
pub(crate) use logged::{Logged, seen_by_the_gate};
pub(crate) use objects::ObjectsApi;
pub(crate) use repair::RepairApi;
pub(crate) use scrub::ScrubApi;
pub(crate) use sites::SitesApi;
pub(crate) use tenants::TenantsApi;

/// The fingerprint of the certificate that the TLS layer verified, or that
/// the host vouches for on a connection inside this process.
fn bearer<T>(request: &Request<T>) -> Option<[u8; 32]> {
    if let Some(caller) = request.extensions().get::<InProcessCaller>() {
        return Some(caller.fingerprint());
    }
    let certificates = request.peer_certs()?;
    certificates.first().map(|certificate| fingerprint(certificate))
}

/// What a caller hears bit by bit.
type Heard<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// What a task sends that goes on, whether its caller hears it or not.
fn heard<T: Send + 'static>(sent: mpsc::Receiver<Result<T, Status>>) -> Heard<T> {
    Box::pin(stream::unfold(sent, |mut sent| async move { Some((sent.recv().await?, sent)) }))
}

/// A call that a tenant makes about itself.
fn tenant_call<T>(operation: Operation, tenant: Option<TenantId>, subject: String, arguments: T) -> Call<T> {
    Call { operation, role: Role::Tenant, tenant, subject, arguments }
}

/// A reading of the caller's own log: a tenant's, or of an operator that of the
/// service itself.
fn log_call<T>(
    service: &Service,
    bearer: Option<[u8; 32]>,
    tenant: Option<TenantId>,
    subject: String,
    arguments: T,
) -> Call<T> {
    let caller = bearer.and_then(|print| service.principal(&print));
    let role = caller.map_or(Role::Tenant, |caller| caller.role);
    Call { operation: Operation::LogRead, role, tenant, subject, arguments }
}

/// A call that an operator makes.
fn operator_call<T>(operation: Operation, subject: String, arguments: T) -> Call<T> {
    Call { operation, role: Role::Operator, tenant: None, subject, arguments }
}
