//! Drill records: the service signs what it can check the form of, and logs
//! the digest of exactly what it signed.

use coffer_keys::{CanonicalError, EnvelopeError, leaf_hash, parse_canonical, sign_statement};
use coffer_model::Outcome;
use serde_json::Value;

use crate::audit::AuditError;
use crate::authorize::Granted;
use crate::service::Service;

/// The payload type of in-toto statements in DSSE.
pub(crate) const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// The longest statement, in bytes.
pub(crate) const STATEMENT_BYTES_MAX: usize = 1 << 20;

/// Why a record was not signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    #[error("a statement has at most {STATEMENT_BYTES_MAX} bytes")]
    TooLong,
    #[error("the statement is not canonical JSON: {0}")]
    Canonical(#[from] CanonicalError),
    #[error("the statement is not an in-toto Statement v1 about what is to be signed")]
    Form,
    #[error("the statement could not be signed: {0}")]
    Sign(#[from] EnvelopeError),
    #[error("refused, because the audit log cannot be written: {0}")]
    Audit(#[from] AuditError),
}

/// Checks, logs, signs.
pub(crate) async fn sign(service: &Service, sign: Granted<Vec<u8>>) -> Result<(Vec<u8>, u64), SignError> {
    let (statement, grant) = sign.into_parts();
    let value = grant.settled(service, read_statement(&statement, "urn:coffer:drill:")).await?;
    let digest = leaf_hash(&statement);
    let audit_seq =
        grant.tenant().note(&grant.event(service, Some(digest.to_string()), Outcome::Done)).await?;
    let envelope = sign_statement(&service.evidence, &service.evidence_name, PAYLOAD_TYPE, &value)?;
    Ok((envelope, audit_seq))
}

/// The statement, if it is one whose predicate is of that family.
pub(crate) fn read_statement(statement: &[u8], family: &str) -> Result<Value, SignError> {
    if statement.len() > STATEMENT_BYTES_MAX {
        return Err(SignError::TooLong);
    }
    let value = parse_canonical(statement)?;
    let field = |name: &str| value.get(name).and_then(|v| v.as_str()).unwrap_or_default();
    let of_family = field("predicateType").starts_with(family);
    if field("_type") != "https://in-toto.io/Statement/v1" || !of_family {
        return Err(SignError::Form);
    }
    Ok(value)
}
