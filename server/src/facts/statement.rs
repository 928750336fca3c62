//! Statements about reports and evidence packs: the service checks the form,
//! notes the digest, and signs. Its signature says that this was noted for
//! this tenant at this place of its log, not that the report is right: who
//! doubts that makes it again from the facts, which are the service's own.

use coffer_keys::{STATEMENT_PAYLOAD_TYPE, leaf_hash, sign_statement, statement_subject};
use coffer_model::Outcome;
use serde_json::Value;

use crate::authorize::Granted;
use crate::drill::{SignError, about, read_statement};
use crate::service::Service;

/// The longest statement, in bytes: they name one file and its digest.
const STATEMENT_BYTES_MAX: usize = 4096;

/// The statements that are signed: of one OSCAL file, in the form that the
/// program trestle verifies, and of the manifest of an evidence pack. The
/// predicate of either names the tenant.
const PREDICATE_TYPES: [&str; 2] =
    ["https://oscal-compass.github.io/compliance-trestle/predicates/oscal-signing/v1", "urn:coffer:pack:v1"];

/// Checks, logs, signs.
pub(crate) async fn sign(service: &Service, call: Granted<Vec<u8>>) -> Result<(Vec<u8>, u64), SignError> {
    let (statement, grant) = call.into_parts();
    let read = checked(&statement).and_then(|value| about(grant.tenant().id, value));
    let value = grant.settled(service, read).await?;
    let digest = leaf_hash(&statement);
    let event = grant.event(service, Some(digest.to_string()), Outcome::Done);
    let audit_seq = grant.tenant().note(&event).await?;
    let envelope = sign_statement(&service.evidence, &service.evidence_name, STATEMENT_PAYLOAD_TYPE, &value)?;
    Ok((envelope, audit_seq))
}

/// A statement of one of these kinds about one file with its digest.
fn checked(statement: &[u8]) -> Result<Value, SignError> {
    let value = read_statement(statement, STATEMENT_BYTES_MAX, |kind| PREDICATE_TYPES.contains(&kind))?;
    let hex =
        |digest: &str| digest.len() == 64 && digest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match statement_subject(&value) {
        Some((_, digest)) if hex(digest) => Ok(value),
        _ => Err(SignError::Form),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(kind: &str, subjects: &str) -> Vec<u8> {
        format!(
            r#"{{"_type":"https://in-toto.io/Statement/v1","predicate":{{}},"predicateType":"{kind}","subject":[{subjects}]}}"#
        )
        .into_bytes()
    }

    fn subject(digest: &str) -> String {
        format!(r#"{{"digest":{{"sha256":"{digest}"}},"name":"MANIFEST.json"}}"#)
    }

    #[test]
    fn only_statements_about_one_file_of_a_report_or_pack_are_signed() {
        let good = subject(&"ab".repeat(32));
        assert!(checked(&statement(PREDICATE_TYPES[0], &good)).is_ok());
        assert!(checked(&statement(PREDICATE_TYPES[1], &good)).is_ok());
        let two = format!("{good},{good}");
        for bad in [
            statement("urn:coffer:drill:v1", &good),
            statement("urn:coffer:facts:v1", &good),
            statement(PREDICATE_TYPES[1], ""),
            statement(PREDICATE_TYPES[1], &two),
            statement(PREDICATE_TYPES[1], &subject("AB")),
            statement(PREDICATE_TYPES[1], &subject(&"AB".repeat(32))),
            b"{}".to_vec(),
        ] {
            assert!(matches!(checked(&bad), Err(SignError::Form)), "{}", String::from_utf8_lossy(&bad));
        }
        let mut spaced = statement(PREDICATE_TYPES[1], &good);
        spaced.push(b' ');
        assert!(matches!(checked(&spaced), Err(SignError::Canonical(_))));
        let long = vec![b' '; STATEMENT_BYTES_MAX + 1];
        assert!(matches!(checked(&long), Err(SignError::TooLong(_))));
    }
}
