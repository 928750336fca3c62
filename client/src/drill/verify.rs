//! Verifying a record without a server: the form, the signature, and that
//! the record does not contradict itself.

use coffer_keys::{EnvelopeError, VerifierName, verify_envelope};
use serde_json::Value;

use super::record::{DrillRecord, NOT_PROVEN, PREDICATE_TYPE, STATEMENT_TYPE, SUBJECT_NAME, Verdicts};

/// The payload type of in-toto statements in DSSE.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// No record of ours comes near; nothing longer is looked at. In bytes.
pub const RECORD_BYTES_MAX: usize = 4 << 20;

/// Why a record is not believed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyRecordError {
    /// Longer than [`RECORD_BYTES_MAX`].
    #[error("the record is longer than {RECORD_BYTES_MAX} bytes")]
    TooLong,
    /// Form or signature of the envelope.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Signed, but not a statement about a drill.
    #[error("the signed statement is not a drill record of this version: {0}")]
    Form(String),
    /// Signed, but it contradicts itself.
    #[error("the signed record contradicts itself: {0}")]
    Inconsistent(#[from] Inconsistency),
}

/// How a record contradicts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Inconsistency {
    /// The statement's subject is another digest than the restored manifest's.
    #[error("its subject is not the manifest of the restored tree")]
    Subject,
    /// A digest or id that is not lower-case hexadecimal of its length.
    #[error("a digest or id is malformed")]
    Digest,
    /// A verdict that the numbers do not give.
    #[error("a verdict does not follow from its numbers")]
    Verdict,
    /// Counts by class that do not add up to the count.
    #[error("the differences by class do not add up")]
    Differences,
    /// Differences between equal manifests, or a list without differences.
    #[error("the differences do not fit the manifests or the list")]
    DifferenceList,
    /// Two forms of one moment disagree.
    #[error("a moment is written in two ways that disagree")]
    Moment,
    /// RTA is not the time between its two moments.
    #[error("the recovery time is not the time from the declared loss to the end")]
    RecoveryTime,
    /// A phase lies outside the drill, or before its predecessor.
    #[error("a phase does not lie within the drill, in order")]
    Phase,
    /// More sites lost than there were, or one of them twice.
    #[error("the lost sites do not fit the number of sites")]
    Sites,
    /// The statement of what is not proven was altered.
    #[error("the list of what is not proven is not that of this version")]
    NotProven,
}

/// The record in `bytes`, if this key signed it under its name, every byte
/// is canonical, and the record is consistent.
///
/// # Errors
/// [`VerifyRecordError`], which says what is wrong.
pub fn verify_record(bytes: &[u8], signer: &VerifierName) -> Result<DrillRecord, VerifyRecordError> {
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(VerifyRecordError::TooLong);
    }
    let statement = verify_envelope(bytes, &signer.key, &signer.name, PAYLOAD_TYPE)?;
    let record = of_statement(&statement)?;
    check(&record)?;
    Ok(record)
}

fn of_statement(statement: &Value) -> Result<DrillRecord, VerifyRecordError> {
    let form = |what: &str| VerifyRecordError::Form(what.to_owned());
    let object = statement.as_object().ok_or_else(|| form("not an object"))?;
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    if object.len() != 4 || text("_type") != Some(STATEMENT_TYPE) {
        return Err(form("not an in-toto Statement v1"));
    }
    if text("predicateType") != Some(PREDICATE_TYPE) {
        return Err(form("another predicate type"));
    }
    let predicate = object.get("predicate").ok_or_else(|| form("no predicate"))?;
    let record: DrillRecord =
        serde_json::from_value(predicate.clone()).map_err(|error| form(&error.to_string()))?;
    let subject = serde_json::json!(
        [{ "name": SUBJECT_NAME, "digest": { "sha256": record.manifests.restored_sha256 } }]
    );
    if object.get("subject") != Some(&subject) {
        return Err(Inconsistency::Subject.into());
    }
    Ok(record)
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn check(record: &DrillRecord) -> Result<(), Inconsistency> {
    let require = |good: bool, otherwise: Inconsistency| if good { Ok(()) } else { Err(otherwise) };
    let (manifests, differences) = (&record.manifests, &record.differences);
    let digests = is_hex(&manifests.source_sha256, 64)
        && is_hex(&manifests.restored_sha256, 64)
        && is_hex(&record.drill, 32)
        && differences.list_blake3.as_deref().is_none_or(|digest| is_hex(digest, 64));
    require(digests, Inconsistency::Digest)?;
    let sum = differences.by_class.values().try_fold(0_u64, |sum, count| sum.checked_add(*count));
    let none_empty = differences.by_class.values().all(|count| *count > 0);
    require(sum == Some(differences.count) && none_empty, Inconsistency::Differences)?;
    let same = manifests.source_sha256 == manifests.restored_sha256;
    let listed = differences.list_blake3.is_some() == (differences.count > 0);
    require(listed && !(same && differences.count > 0), Inconsistency::DifferenceList)?;
    check_time(record)?;
    let mut lost: Vec<&String> = record.sites_lost.iter().collect();
    lost.sort();
    lost.dedup();
    let few = u64::try_from(lost.len()).is_ok_and(|lost| lost <= record.sites);
    require(few && lost.len() == record.sites_lost.len(), Inconsistency::Sites)?;
    let verdicts = Verdicts::of(&record.objectives, &record.measured, differences);
    require(verdicts == record.verdicts, Inconsistency::Verdict)?;
    require(record.not_proven == NOT_PROVEN, Inconsistency::NotProven)
}

fn check_time(record: &DrillRecord) -> Result<(), Inconsistency> {
    let declared = record.declared.timestamp().ok_or(Inconsistency::Moment)?;
    let finished = record.finished.timestamp().ok_or(Inconsistency::Moment)?;
    let elapsed = super::record::nanos(finished.since(declared));
    if finished < declared || elapsed != record.measured.rta_ns {
        return Err(Inconsistency::RecoveryTime);
    }
    let mut after = 0;
    for phase in &record.phases {
        let end = phase.start_ns.checked_add(phase.duration_ns).ok_or(Inconsistency::Phase)?;
        if phase.start_ns < after || end > record.measured.rta_ns {
            return Err(Inconsistency::Phase);
        }
        after = end;
    }
    Ok(())
}
