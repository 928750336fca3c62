//! The manifest of a pack: every file with its size and digest, signed.

use coffer_keys::{CanonicalError, parse_canonical, to_canonical};
use coffer_model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Files;
use crate::digits::sha256_hex;
use crate::report::{Period, SOFTWARE_VERSION};

/// The manifest's name.
pub const MANIFEST: &str = "MANIFEST.json";
/// The name of the signature over it.
pub const MANIFEST_SIGNATURE: &str = "MANIFEST.dsse.json";
/// The predicate type of that signature's statement.
pub const PACK_PREDICATE_TYPE: &str = "urn:coffer:pack:v1";
/// The format of packs that this program writes and reads.
const FORMAT: u32 = 1;

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
}

/// What a pack says that it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub(super) format: u32,
    /// Whose.
    pub tenant: String,
    /// The version of the program that made it.
    pub software: String,
    pub(super) from_ns: String,
    pub(super) to_ns: String,
    pub(super) files: Vec<Entry>,
}

/// Why bytes are no manifest.
#[derive(Debug, thiserror::Error)]
pub(super) enum ManifestError {
    #[error("not canonical JSON: {0}")]
    Canonical(#[from] CanonicalError),
    #[error("not of the form that this program reads: {0}")]
    Form(#[from] serde_json::Error),
    #[error("of format {0}; this program reads format {FORMAT}")]
    Format(u32),
    #[error("its files are not in order, or one is listed twice or lies outside the pack")]
    Order,
    #[error("its period is none")]
    Period,
}

impl Manifest {
    pub(super) fn of(files: &Files, tenant: &str, period: Period) -> Self {
        let entry = |(path, bytes): (&String, &Vec<u8>)| Entry {
            path: path.clone(),
            bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            sha256: sha256_hex(bytes),
        };
        Self {
            format: FORMAT,
            tenant: tenant.to_owned(),
            software: SOFTWARE_VERSION.to_owned(),
            from_ns: period.from.0.to_string(),
            to_ns: period.to.0.to_string(),
            files: files.iter().map(entry).collect(),
        }
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, CanonicalError> {
        // Strings, small integers and lists always serialise; an empty value
        // would be refused by every verifier.
        to_canonical(&serde_json::to_value(self).unwrap_or_default())
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let manifest: Self = serde_json::from_value(parse_canonical(bytes)?)?;
        if manifest.format != FORMAT {
            return Err(ManifestError::Format(manifest.format));
        }
        let sorted = manifest.files.windows(2).all(|pair| match pair {
            [a, b] => a.path < b.path,
            _ => true,
        });
        if !sorted || !manifest.files.iter().all(|entry| is_inside(&entry.path)) {
            return Err(ManifestError::Order);
        }
        manifest.period().ok_or(ManifestError::Period)?;
        Ok(manifest)
    }

    /// The period that the report is about.
    pub fn period(&self) -> Option<Period> {
        let moment = |text: &str| Some(Timestamp(text.parse().ok()?));
        Some(Period { from: moment(&self.from_ns)?, to: moment(&self.to_ns)? })
    }

    /// How many files it lists.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether it lists none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

/// A path of plain names, below the pack.
fn is_inside(path: &str) -> bool {
    let plain = |name: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        !name.is_empty() && !name.starts_with('.') && name.bytes().all(good)
    };
    path.len() <= 512 && path.split('/').all(plain)
}

/// The statement that is signed over a manifest.
pub(super) fn statement(manifest: &[u8], tenant: &str) -> Value {
    coffer_keys::statement(MANIFEST, &sha256_hex(manifest), PACK_PREDICATE_TYPE, &json!({ "tenant": tenant }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_leaves_the_pack_is_none() {
        for good in ["README.md", "log/proofs/0.tlog-proof", "a-b_c/d.e"] {
            assert!(is_inside(good), "{good}");
        }
        for bad in ["", "/etc/passwd", "../x", "a/../b", "a//b", "a/", ".git/config", "a b", "a\\b", "é"] {
            assert!(!is_inside(bad), "{bad}");
        }
    }
}
