//! The export of a case: objects, leaves with their proofs, the list, and the
//! statement that the service signs and notes in the log.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use coffer_keys::{CanonicalError, Checkpoint, statement, to_canonical};
use coffer_model::{ObjectKey, escape_bytes};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::contents::{CaseContents, CaseFile, CaseHold, CaseLeaf, CaseObject};
use super::{CONTENTS, NOTED, PREDICATE_TYPE, STATEMENT};
use crate::audit::{LeafRange, LogEvent, LogEventError, RangeRequest, TlogProof, disk};
use crate::call::CallError;
use crate::connect::Client;
use crate::digits::{hex, sha256_hex};
use crate::holds::HoldInfo;
use crate::log::{LogError, LogWatch};
use crate::objects::GetError;

/// Why there is no case. What was written lacks its statement and is none.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// The service refused or failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// An object did not come.
    #[error("{key}: {source}")]
    Object {
        /// Its key.
        key: String,
        /// Why.
        source: GetError,
    },
    /// The log is not believed, or not had.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A leaf says nothing.
    #[error(transparent)]
    Leaf(#[from] LogEventError),
    /// The disk.
    #[error("the case cannot be written: {0}")]
    Disk(#[from] io::Error),
    /// The list has no canonical form.
    #[error("the list of the case: {0}")]
    List(#[from] CanonicalError),
    /// The bucket of the hold is gone.
    #[error("the bucket of {0} is gone; nothing of it is left to export")]
    NoBucket(coffer_model::HoldId),
}

/// What was exported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedCase {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Leaves of the log about them.
    pub leaves: u64,
    /// The leaf that notes the case.
    pub noted: u64,
}

/// Exports what lies under a hold now into an empty directory. `exported` and
/// `by` go into the list: the exporter's time and words.
///
/// # Errors
/// [`CaseError`].
pub async fn export_case(
    client: &Client,
    watch: &mut LogWatch,
    hold: &HoldInfo,
    dir: &Path,
    (exported, by): (String, String),
    told: &mut dyn FnMut(u64),
) -> Result<ExportedCase, CaseError> {
    let bucket = hold.bucket.clone().ok_or(CaseError::NoBucket(hold.id))?;
    let mut objects = Vec::new();
    for listed in client.list(&bucket, &hold.prefix).await? {
        if !hold.exact || listed.key.as_bytes() == hold.prefix {
            let name = format!("objects/{:06}", objects.len());
            objects.push(object(client, &bucket, &listed.key, dir, name, told).await?);
        }
    }
    let mut about: BTreeSet<String> = objects.iter().map(|object| object.version.clone()).collect();
    about.insert(hold.id.to_string());
    let (checkpoint, leaves) = leaves(client, watch, &about, dir).await?;
    let contents = CaseContents {
        format: 1,
        hold: CaseHold {
            id: hold.id.to_string(),
            bucket: bucket.to_string(),
            prefix: escape_bytes(&hold.prefix),
            exact: hold.exact,
            reason: hold.reason.clone(),
            placed: hold.placed.to_string(),
            placed_by: hold.placed_by.to_string(),
        },
        log: checkpoint.origin,
        log_size: checkpoint.size,
        exported,
        exported_by: by,
        objects,
        leaves,
    };
    let text = contents.to_text()?;
    disk::write_new(dir, CONTENTS, &text)?;
    let about = json!({ "hold": contents.hold.id, "log": contents.log });
    let statement = to_canonical(&statement(CONTENTS, &sha256_hex(&text), PREDICATE_TYPE, &about))?;
    let (envelope, noted) = client.sign_case(hold.id, &statement).await?;
    let (checkpoint, _) = watch.read_now(client, RangeRequest::From(0, 0)).await?;
    let proof = proof(client, watch, noted, &checkpoint).await?;
    disk::write_new(dir, NOTED, proof.to_text().as_bytes())?;
    disk::write_last(dir, STATEMENT, &envelope)?;
    Ok(ExportedCase {
        objects: contents.objects.len() as u64,
        bytes: contents.objects.iter().map(|object| object.file.bytes).sum(),
        leaves: contents.leaves.len() as u64,
        noted,
    })
}

async fn object(
    client: &Client,
    bucket: &coffer_model::BucketName,
    key: &ObjectKey,
    dir: &Path,
    name: String,
    told: &mut dyn FnMut(u64),
) -> Result<CaseObject, CaseError> {
    let named = escape_bytes(key.as_bytes());
    let failed = |source| CaseError::Object { key: named.clone(), source };
    let (info, mut body) = client.get(bucket, key, None).await.map_err(failed)?;
    let mut file = disk::create(dir, &name)?;
    // The body ends with an error if its content is not what the service has written down.
    let (mut sha256, mut bytes) = (Sha256::new(), 0);
    while let Some(piece) = body.next().await.map_err(failed)? {
        sha256.update(&piece);
        bytes += piece.len() as u64;
        told(piece.len() as u64);
        io::Write::write_all(&mut file, &piece)?;
    }
    Ok(CaseObject {
        file: CaseFile { name, bytes, sha256: hex(&sha256.finalize()) },
        key: named,
        version: info.version.to_string(),
        created: info.created.to_string(),
        blake3: info.content_blake3.to_string(),
        metadata: info.metadata,
    })
}

/// Every leaf about one of these versions or about the hold, with its proof.
async fn leaves(
    client: &Client,
    watch: &mut LogWatch,
    about: &BTreeSet<String>,
    dir: &Path,
) -> Result<(Checkpoint, Vec<CaseLeaf>), CaseError> {
    let mut wanted = Vec::new();
    let take = |range: LeafRange| {
        for (index, leaf) in (range.first..).zip(&range.leaves) {
            let event = LogEvent::read(index, leaf)?;
            if let Some(word) = event.subject.split(' ').find(|word| about.contains(*word)) {
                wanted.push((index, word.to_owned()));
            }
        }
        Ok::<_, CaseError>(())
    };
    let checkpoint = watch.read_from(client, None, 0, take).await?;
    let mut leaves = Vec::new();
    for (index, about) in wanted {
        let text = proof(client, watch, index, &checkpoint).await?.to_text();
        let name = format!("leaves/{index}.tlog-proof");
        disk::write_new(dir, &name, text.as_bytes())?;
        let sha256 = sha256_hex(text.as_bytes());
        leaves.push(CaseLeaf { file: CaseFile { name, bytes: text.len() as u64, sha256 }, index, about });
    }
    Ok((checkpoint, leaves))
}

async fn proof(
    client: &Client,
    watch: &LogWatch,
    index: u64,
    checkpoint: &Checkpoint,
) -> Result<TlogProof, LogError> {
    let note = watch.remembered().unwrap_or_default().to_owned();
    let leaf = watch.leaf(client, index, checkpoint).await?;
    Ok(TlogProof { index, leaf: leaf.leaf, path: leaf.inclusion, checkpoint: note })
}
