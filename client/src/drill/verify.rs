//! Verifying a record without a server: the form, the signature, and that
//! the record does not contradict itself.

use coffer_keys::{EnvelopeError, VerifierName, verify_envelope};
use serde_json::Value;

use super::moment::Moment;
use super::plan::Subject;
use super::record::{
    Differences, DrillRecord, NOT_PROVEN, PREDICATE_TYPE, Phase, STATEMENT_TYPE, SUBJECT_NAME, Verdicts,
};
use super::sample::{RULE_ALL, SAMPLE_RULE};
use super::v2::{DrillRecordV2, NOT_PROVEN_V2, PREDICATE_TYPE_V2, PREDICATE_TYPE_V3, SUBJECT_V2};
use super::{cosign, sample};
use crate::digits::{from_hex, hex};

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
    /// Counts that do not belong together.
    #[error("its counts do not add up")]
    Counts,
    /// Times foreseen that do not follow from their parts, or not those of its version.
    #[error("its prediction does not add up, or is that of another version")]
    Prediction,
    /// A sample whose seed, rule or order of events is not that of its plan.
    #[error("the sample was not drawn by its rule from a checkpoint after its plan")]
    Sample,
    /// The statement of what is not proven was altered.
    #[error("the list of what is not proven is not that of this version")]
    NotProven,
}

/// A record of any version that this program knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnyRecord {
    /// The first version.
    V1(Box<DrillRecord>),
    /// The second or the third version.
    V2(Box<DrillRecordV2>),
}

/// The record of any version in `bytes`, if this key signed it under its name,
/// every byte is canonical, and the record is consistent.
///
/// # Errors
/// [`VerifyRecordError`], which says what is wrong.
pub fn verify_any_record(bytes: &[u8], signer: &VerifierName) -> Result<AnyRecord, VerifyRecordError> {
    if bytes.len() > RECORD_BYTES_MAX {
        return Err(VerifyRecordError::TooLong);
    }
    let statement = verify_envelope(bytes, &signer.key, &signer.name, PAYLOAD_TYPE)?;
    let named = statement.get("predicateType").and_then(Value::as_str);
    let later = [PREDICATE_TYPE_V2, PREDICATE_TYPE_V3].into_iter().find(|later| named == Some(*later));
    let Some(predicate_type) = later else {
        let record = of_statement(&statement)?;
        check(&record)?;
        return Ok(AnyRecord::V1(Box::new(record)));
    };
    let record: DrillRecordV2 = predicate_of(&statement, predicate_type)?;
    check_subject(&statement, SUBJECT_V2, &record.results.restored_sha256)?;
    let adds_up = predicate_type == PREDICATE_TYPE_V2 || record.predicted.is_consistent();
    require(adds_up && record.predicate_type() == predicate_type, Inconsistency::Prediction)?;
    check_v2(&record)?;
    Ok(AnyRecord::V2(Box::new(record)))
}

/// The record of the first version in `bytes`, if this key signed it under its
/// name, every byte is canonical, and the record is consistent.
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
    let record: DrillRecord = predicate_of(statement, PREDICATE_TYPE)?;
    check_subject(statement, SUBJECT_NAME, &record.manifests.restored_sha256)?;
    Ok(record)
}

/// The predicate of a statement of this type, whose form is otherwise that of
/// every drill statement.
fn predicate_of<T: serde::de::DeserializeOwned>(
    statement: &Value,
    predicate_type: &str,
) -> Result<T, VerifyRecordError> {
    let form = |what: &str| VerifyRecordError::Form(what.to_owned());
    let object = statement.as_object().ok_or_else(|| form("not an object"))?;
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    if object.len() != 4 || text("_type") != Some(STATEMENT_TYPE) {
        return Err(form("not an in-toto Statement v1"));
    }
    if text("predicateType") != Some(predicate_type) {
        return Err(form("another predicate type"));
    }
    let predicate = object.get("predicate").ok_or_else(|| form("no predicate"))?;
    serde_json::from_value(predicate.clone()).map_err(|error| form(&error.to_string()))
}

fn check_subject(statement: &Value, name: &str, sha256: &str) -> Result<(), Inconsistency> {
    let subject = serde_json::json!([{ "name": name, "digest": { "sha256": sha256 } }]);
    require(statement.get("subject") == Some(&subject), Inconsistency::Subject)
}

fn require(good: bool, otherwise: Inconsistency) -> Result<(), Inconsistency> {
    if good { Ok(()) } else { Err(otherwise) }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn check(record: &DrillRecord) -> Result<(), Inconsistency> {
    let (manifests, differences) = (&record.manifests, &record.differences);
    let digests = is_hex(&manifests.source_sha256, 64)
        && is_hex(&manifests.restored_sha256, 64)
        && is_hex(&record.drill, 32)
        && differences.list_blake3.as_deref().is_none_or(|digest| is_hex(digest, 64));
    require(digests, Inconsistency::Digest)?;
    check_differences(differences, &manifests.source_sha256, &manifests.restored_sha256)?;
    check_time(&record.declared, &record.finished, record.measured.rta_ns, &record.phases)?;
    check_lost(&record.sites_lost, record.sites)?;
    let verdicts = Verdicts::of(&record.objectives, &record.measured, differences);
    require(verdicts == record.verdicts, Inconsistency::Verdict)?;
    require(record.not_proven == NOT_PROVEN, Inconsistency::NotProven)
}

fn check_differences(
    differences: &Differences,
    expected_sha256: &str,
    restored_sha256: &str,
) -> Result<(), Inconsistency> {
    let sum = differences.by_class.values().try_fold(0_u64, |sum, count| sum.checked_add(*count));
    let none_empty = differences.by_class.values().all(|count| *count > 0);
    require(sum == Some(differences.count) && none_empty, Inconsistency::Differences)?;
    let same = expected_sha256 == restored_sha256;
    let listed = differences.list_blake3.is_some() == (differences.count > 0);
    require(listed && !(same && differences.count > 0), Inconsistency::DifferenceList)
}

fn check_lost(names: &[String], sites: u64) -> Result<(), Inconsistency> {
    let mut lost: Vec<&String> = names.iter().collect();
    lost.sort();
    lost.dedup();
    let few = u64::try_from(lost.len()).is_ok_and(|lost| lost <= sites);
    require(few && lost.len() == names.len(), Inconsistency::Sites)
}

/// What the second version says beside the first.
fn check_v2(record: &DrillRecordV2) -> Result<(), Inconsistency> {
    let (results, scope, plan) = (&record.results, &record.scope, &record.plan);
    let optional = [&scope.source_manifest_sha256, &results.differences.list_blake3];
    let digests =
        [&results.expected_sha256, &results.restored_sha256, &plan.sha256, &scope.population_sha256]
            .into_iter()
            .chain(optional.into_iter().flatten())
            .all(|digest| is_hex(digest, 64));
    require(digests && is_hex(&record.drill, 32), Inconsistency::Digest)?;
    check_differences(&results.differences, &results.expected_sha256, &results.restored_sha256)?;
    let axis = &record.timeline;
    check_time(&axis.declared, &axis.finished, record.measured.rta_ns, &axis.phases)?;
    check_lost(&record.scenario.sites_lost, results.sites)?;
    check_counts(record)?;
    check_drawn(record)?;
    require(record.verdicts_of_numbers() == record.verdicts, Inconsistency::Verdict)?;
    require(record.not_proven == NOT_PROVEN_V2, Inconsistency::NotProven)
}

/// Counts that belong together.
fn check_counts(record: &DrillRecordV2) -> Result<(), Inconsistency> {
    let (results, scope) = (&record.results, &record.scope);
    let failures = results.failures.values().try_fold(0_u64, |sum, count| sum.checked_add(*count));
    let within = results.restored <= results.expected && results.restored_bytes <= results.expected_bytes;
    let of_scope = match scope.subject {
        Subject::Tree => scope.snapshot.is_some() && scope.source_manifest_sha256.is_some(),
        Subject::Objects => results.expected == scope.sample.min(scope.population),
    };
    let covered = scope.population.checked_add(scope.covered_before) == Some(scope.objects);
    let negative = record.negative.iter().all(|check| check.possible <= check.count);
    let good = failures == Some(results.unreadable) && within && of_scope && covered && negative;
    require(good, Inconsistency::Counts)
}

/// The sample's seed, from the checkpoint that the record carries.
fn check_drawn(record: &DrillRecordV2) -> Result<(), Inconsistency> {
    let scope = &record.scope;
    let (Some(drawn), Some(cosigner)) = (&record.drawn, &scope.cosigner) else {
        let all = scope.rule == RULE_ALL && record.drawn.is_none() && scope.sample == scope.population;
        return require(all, Inconsistency::Sample);
    };
    let plan = from_hex(&record.plan.sha256);
    let seed = plan.map(|plan| hex(&sample::seed(&drawn.checkpoint, &plan)));
    let good = scope.rule == SAMPLE_RULE
        && cosign::verify_cosignature(&drawn.checkpoint, cosigner).is_ok()
        && seed.as_ref() == Some(&drawn.seed)
        && is_hex(&drawn.sample_sha256, 64)
        && drawn.sample_sha256 == record.results.expected_sha256
        && drawn.log_index > record.plan.log_index;
    require(good, Inconsistency::Sample)?;
    // The checkpoint came after the plan, and soon.
    let size = drawn.checkpoint.lines().nth(1).and_then(|line| line.parse::<u64>().ok());
    let soon = size.and_then(|size| size.checked_sub(record.plan.log_index));
    require(soon.is_some_and(|leaves| (1..=sample::SEED_LEAVES_MAX).contains(&leaves)), Inconsistency::Sample)
}

fn check_time(
    declared: &Moment,
    finished: &Moment,
    rta_ns: u64,
    phases: &[Phase],
) -> Result<(), Inconsistency> {
    let declared = declared.timestamp().ok_or(Inconsistency::Moment)?;
    let finished = finished.timestamp().ok_or(Inconsistency::Moment)?;
    let elapsed = super::record::nanos(finished.since(declared));
    if finished < declared || elapsed != rta_ns {
        return Err(Inconsistency::RecoveryTime);
    }
    let mut after = 0;
    for phase in phases {
        let end = phase.start_ns.checked_add(phase.duration_ns).ok_or(Inconsistency::Phase)?;
        if phase.start_ns < after || end > rta_ns {
            return Err(Inconsistency::Phase);
        }
        after = end;
    }
    Ok(())
}
