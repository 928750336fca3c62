//! Drill records: the service signs what it can check the form of, and logs
//! the digest of exactly what it signed.

use coffer_catalog::CatalogError;
use coffer_keys::{
    CanonicalError, EnvelopeError, STATEMENT_PAYLOAD_TYPE, leaf_hash, parse_canonical, sign_statement,
    statement_kind,
};
use coffer_model::{Outcome, TenantId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::audit::AuditError;
use crate::authorize::Granted;
use crate::service::Service;
use crate::tenant::Tenant;

/// The longest statement, in bytes.
pub(crate) const STATEMENT_BYTES_MAX: usize = 1 << 20;

/// Why a record was not signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    #[error("a statement of this kind has at most {0} bytes")]
    TooLong(usize),
    #[error("the statement is not canonical JSON: {0}")]
    Canonical(#[from] CanonicalError),
    #[error("the statement is not an in-toto Statement v1 about what is to be signed")]
    Form,
    #[error("the statement does not name the tenant that asks for the signature")]
    Tenant,
    #[error("the statement could not be signed: {0}")]
    Sign(#[from] EnvelopeError),
    #[error("refused, because the audit log cannot be written: {0}")]
    Audit(#[from] AuditError),
}

/// Checks, logs, signs.
pub(crate) async fn sign(service: &Service, sign: Granted<Vec<u8>>) -> Result<(Vec<u8>, u64), SignError> {
    let (statement, grant) = sign.into_parts();
    let of_drill = |kind: &str| kind.starts_with("urn:coffer:drill:");
    let read = read_statement(&statement, STATEMENT_BYTES_MAX, of_drill);
    let read = read.and_then(|value| about(grant.tenant().id, value));
    let value = grant.settled(service, read).await?;
    let digest = leaf_hash(&statement);
    let audit_seq =
        grant.tenant().note(&grant.event(service, Some(digest.to_string()), Outcome::Done)).await?;
    let envelope = sign_statement(&service.evidence, &service.evidence_name, STATEMENT_PAYLOAD_TYPE, &value)?;
    count(service, grant.tenant()).await?;
    Ok((envelope, audit_seq))
}

/// Records that a tenant had signed, for the figures. Lost with the catalogue,
/// and counted anew from then on.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct DrillsSigned {
    pub(crate) count: u64,
    pub(crate) last: Option<Timestamp>,
}

/// The fact under which they are counted.
const SIGNED: &str = "drills-signed";

pub(crate) async fn drills_signed(tenant: &Tenant) -> Result<DrillsSigned, CatalogError> {
    let facts = tenant.catalog.facts(SIGNED).await?;
    let read = facts.first().and_then(|(_, body)| postcard::from_bytes(body).ok());
    Ok(read.unwrap_or_default())
}

async fn count(service: &Service, tenant: &Tenant) -> Result<(), AuditError> {
    // The number is read and written back: two at once would be one.
    let _alone = tenant.counting.lock().await;
    let count = drills_signed(tenant).await?.count.saturating_add(1);
    let signed = DrillsSigned { count, last: Some(service.host.clock.now()) };
    // Two numbers always serialise; without them nothing is counted.
    let body = postcard::to_allocvec(&signed).unwrap_or_default();
    Ok(tenant.catalog.put_fact(SIGNED, [0; 16], body).await?)
}

/// The statement, if its predicate names this tenant: one key signs for all of
/// them, and none may have a record that tells of another.
pub(crate) fn about(tenant: TenantId, value: Value) -> Result<Value, SignError> {
    let named = value.pointer("/predicate/tenant").and_then(Value::as_str);
    if named == Some(tenant.to_string().as_str()) { Ok(value) } else { Err(SignError::Tenant) }
}

/// The statement, if it is one of a kind that may be signed here.
pub(crate) fn read_statement(
    statement: &[u8],
    bytes_max: usize,
    admits: impl Fn(&str) -> bool,
) -> Result<Value, SignError> {
    if statement.len() > bytes_max {
        return Err(SignError::TooLong(bytes_max));
    }
    let value = parse_canonical(statement)?;
    match statement_kind(&value) {
        Some(kind) if admits(kind) => Ok(value),
        _ => Err(SignError::Form),
    }
}
