//! What a report is made from, fetched from the service and verified: facts,
//! records, and every leaf of the log.

use coffer_keys::{VerifierName, WitnessPolicy, leaf_hash, parse_canonical, to_canonical};
use coffer_model::BucketName;
use serde_json::Value;

use super::records;
use crate::audit::LeafRange;
use crate::call::CallError;
use crate::connect::Client;
use crate::drill::{EVIDENCE_BUCKET, RECORD_BYTES_MAX, VerifyRecordError, verify_any_record};
use crate::log::{LogError, LogWatch};
use crate::objects::GetError;
use crate::report::{DrillItem, ExtractError, FactsError, LogExtract, VerifiedFacts, verify_facts};

/// Why the material of a report is not at hand.
#[derive(Debug, thiserror::Error)]
pub enum GatherError {
    /// The service refused or failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// What it called facts does not verify.
    #[error(transparent)]
    Facts(#[from] FactsError),
    /// Its log does not verify.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The leaves are not those of the checkpoint.
    #[error(transparent)]
    Extract(#[from] ExtractError),
    /// A stored record could not be read.
    #[error("the record {key} could not be read: {reason}")]
    Read {
        /// Its key in the bucket.
        key: String,
        /// Why.
        reason: GetError,
    },
    /// A record does not verify.
    #[error("the record {name} does not verify: {reason}")]
    Record {
        /// Its key or file.
        name: String,
        /// Why.
        reason: VerifyRecordError,
    },
}

/// Facts that were fetched and verified.
pub struct Gathered {
    /// The signed envelope.
    pub envelope: Vec<u8>,
    /// What it says.
    pub facts: VerifiedFacts,
    /// The deployment's certificate authority.
    pub ca_pem: String,
}

/// The facts of now.
///
/// # Errors
/// [`GatherError`].
pub async fn gather_facts(client: &Client, signer: &VerifierName) -> Result<Gathered, GatherError> {
    let signed = client.signed_facts().await?;
    let facts = verify_facts(&signed.envelope, signer)?;
    Ok(Gathered { envelope: signed.envelope, facts, ca_pem: signed.ca_pem })
}

/// Every leaf up to a checkpoint of now, which must extend what is remembered
/// and, with a policy, be cosigned by the quorum of its witnesses.
///
/// # Errors
/// [`GatherError`].
pub async fn gather_log(
    client: &Client,
    watch: &mut LogWatch,
    policy: Option<&WitnessPolicy>,
) -> Result<LogExtract, GatherError> {
    // In ranges: a leaf that is fetched alone makes one more.
    let mut leaves = Vec::new();
    let take = |mut range: LeafRange| {
        leaves.append(&mut range.leaves);
        Ok::<_, LogError>(())
    };
    let checkpoint = watch.read_from(client, policy, 0, take).await?;
    let note = watch.remembered().unwrap_or_default().to_owned();
    Ok(LogExtract::new(note, checkpoint, leaves)?)
}

/// A record out of a file or an object, verified.
///
/// # Errors
/// [`GatherError::Record`].
pub fn read_record(name: &str, envelope: Vec<u8>, signer: &VerifierName) -> Result<DrillItem, GatherError> {
    let refused = |reason| GatherError::Record { name: name.to_owned(), reason };
    let (record, second) = verify_any_record(&envelope, signer).map(records::seen).map_err(refused)?;
    Ok(DrillItem { record, second, statement: statement_digest(&envelope), envelope })
}

/// The leaf hash of the statement in an envelope that was verified.
fn statement_digest(envelope: &[u8]) -> coffer_model::Digest {
    use base64::Engine as _;
    let value = parse_canonical(envelope).unwrap_or_default();
    let payload = value.get("payload").and_then(Value::as_str).unwrap_or_default();
    let payload = base64::engine::general_purpose::STANDARD.decode(payload).unwrap_or_default();
    let statement = parse_canonical(&payload).ok().and_then(|value| to_canonical(&value).ok());
    leaf_hash(&statement.unwrap_or_default())
}

/// The records that drills keep in the tenant's bucket for them, verified.
/// None where there is no such bucket.
///
/// # Errors
/// [`GatherError`].
pub async fn stored_records(client: &Client, signer: &VerifierName) -> Result<Vec<DrillItem>, GatherError> {
    let Ok(bucket) = BucketName::new(EVIDENCE_BUCKET) else { return Ok(Vec::new()) };
    let objects = match client.list(&bucket, b"drills/").await {
        Err(CallError::NotFound(_)) => return Ok(Vec::new()),
        objects => objects?,
    };
    let mut records = Vec::new();
    for object in objects.iter().filter(|object| object.key.as_bytes().ends_with(b"/record.json")) {
        let key = object.key.to_string();
        let envelope = read(client, &bucket, object).await;
        let envelope = envelope.map_err(|reason| GatherError::Read { key: key.clone(), reason })?;
        records.push(read_record(&key, envelope, signer)?);
    }
    Ok(records)
}

async fn read(client: &Client, bucket: &BucketName, object: &crate::ObjectInfo) -> Result<Vec<u8>, GetError> {
    let (_, mut body) = client.get(bucket, &object.key, None).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await? {
        bytes.extend_from_slice(&piece);
        if bytes.len() > RECORD_BYTES_MAX {
            break;
        }
    }
    Ok(bytes)
}
