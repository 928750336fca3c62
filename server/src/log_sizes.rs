//! How far each log went, remembered beside the folder of the service. A log only ever grows; a catalogue whose
//! log is shorter, or another one, is of an earlier moment, put back by somebody. It lacks deletions, so that it
//! is not believed: it is set aside and made again from the sites.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coffer_catalog::{Catalog, CatalogError};
use coffer_model::{Digest, TenantId};
use serde::{Deserialize, Serialize};

use crate::service::Service;

const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BookFile {
    format: u32,
    logs: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    tenant: String,
    leaves: u64,
    /// The hash of the last of them, hexadecimal.
    last: String,
}

/// How far a log went: so many leaves, and the hash of the last of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    leaves: u64,
    last: Digest,
}

type Heads = BTreeMap<TenantId, Head>;

/// What is remembered.
#[derive(Debug, Default)]
pub(crate) struct Book {
    heads: Heads,
    /// Operations of each catalogue when its log was last asked for: without new ones it is as long.
    operations: BTreeMap<TenantId, u64>,
}

/// Not within the folder of the service: who puts an older copy of that back does not put this back with it.
fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("log-sizes.json")
}

fn line((tenant, head): (&TenantId, &Head)) -> Line {
    let last = head.last.0.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    Line { tenant: tenant.to_string(), leaves: head.leaves, last }
}

fn head(line: &Line) -> Option<(TenantId, Head)> {
    let mut last = [0; 32];
    if line.last.len() != 64 || !line.last.is_ascii() {
        return None;
    }
    for (place, byte) in last.iter_mut().enumerate() {
        *byte = u8::from_str_radix(line.last.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some((line.tenant.parse().ok()?, Head { leaves: line.leaves, last: Digest(last) }))
}

fn encode(heads: &Heads) -> Option<String> {
    serde_json::to_string(&BookFile { format: FORMAT, logs: heads.iter().map(line).collect() }).ok()
}

fn decode(text: &[u8]) -> Option<Heads> {
    let file: BookFile = serde_json::from_slice(text).ok()?;
    (file.format == FORMAT).then(|| file.logs.iter().map(head).collect()).flatten()
}

/// The newest leaf of a log that has so many.
async fn leaf_at(catalog: &Catalog, leaves: u64) -> Result<Option<Digest>, CatalogError> {
    let Some(last) = leaves.checked_sub(1) else { return Ok(None) };
    Ok(catalog.leaf_hashes(last, 1).await?.first().copied())
}

impl Book {
    /// The book of the last run. One that is gone or cannot be read says nothing.
    pub(crate) fn read(data_dir: &Path) -> Self {
        let text = crate::disk::read_bounded(&path(data_dir)).ok();
        let heads = text.and_then(|text| decode(&text)).unwrap_or_default();
        Self { heads, operations: BTreeMap::new() }
    }

    /// What cannot be written now is written after the next change.
    fn write(&self, data_dir: &Path) {
        if let Some(text) = encode(&self.heads) {
            let _ = crate::disk::write_durably(&path(data_dir), text.as_bytes());
        }
    }
}

impl Service {
    /// Whether this catalogue is not the one, or not as far, as when it was last looked at.
    pub(crate) async fn went_back(&self, tenant: TenantId, catalog: &Catalog) -> Result<bool, CatalogError> {
        let known = self.log_sizes.lock().await.heads.get(&tenant).copied();
        match known {
            Some(known) => Ok(leaf_at(catalog, known.leaves).await? != Some(known.last)),
            None => Ok(false),
        }
    }

    /// Forgets a log before its catalogue is made again: leaves that no checkpoint covered are not at the
    /// sites, so that it may become shorter.
    pub(crate) async fn forget_log_size(&self, tenant: TenantId) {
        let mut book = self.log_sizes.lock().await;
        if book.heads.remove(&tenant).is_some() {
            book.write(&self.data_dir);
        }
    }

    /// Remembers on disk how far the logs go now, where one has grown.
    pub(crate) async fn note_log_sizes(&self) -> Result<(), CatalogError> {
        let mut book = self.log_sizes.lock().await;
        let mut changed = false;
        for tenant in self.all_tenants() {
            let operations = tenant.catalog.grouping().operations;
            if book.operations.get(&tenant.id) == Some(&operations) {
                continue;
            }
            // Only what is committed is read: nothing is remembered that a crash could take back.
            let leaves = tenant.catalog.log_size().await?;
            let Some(last) = leaf_at(&tenant.catalog, leaves).await? else { continue };
            book.operations.insert(tenant.id, operations);
            let head = Head { leaves, last };
            changed |= book.heads.insert(tenant.id, head) != Some(head);
        }
        if changed {
            book.write(&self.data_dir);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_book_reads_back_and_another_format_or_a_cut_one_says_nothing() {
        let head = |leaves| Head { leaves, last: Digest([0xab; 32]) };
        let book =
            Heads::from([(TenantId::from_bytes([1; 16]), head(7)), (TenantId::from_bytes([2; 16]), head(1))]);
        let text = encode(&book).unwrap();
        assert_eq!(decode(text.as_bytes()), Some(book));
        assert_eq!(decode(text.replace("\"format\":1", "\"format\":2").as_bytes()), None);
        assert_eq!(decode(text.replace("abab", "ab").as_bytes()), None);
        for end in 0..text.len() {
            assert_eq!(decode(&text.as_bytes()[..end]), None, "{end}");
        }
    }
}
