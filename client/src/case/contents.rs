//! The list of a case: every file, what it is, and its digests.

use std::collections::BTreeMap;

use coffer_keys::{CanonicalError, parse_canonical, to_canonical};
use serde::{Deserialize, Serialize};

/// What `contents.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseContents {
    /// 1.
    pub format: u32,
    /// The hold.
    pub hold: CaseHold,
    /// The log that the leaves are of.
    pub log: String,
    /// Its leaves when it was exported.
    pub log_size: u64,
    /// When it was exported, RFC 3339, by the exporter's clock.
    pub exported: String,
    /// Who says to have exported it, in words of its own; the principal is in
    /// the leaf that notes this case.
    pub exported_by: String,
    /// What lay under the hold.
    pub objects: Vec<CaseObject>,
    /// What the log says about it, and about the hold.
    pub leaves: Vec<CaseLeaf>,
}

/// A hold, as the service described it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseHold {
    /// Its id.
    pub id: String,
    /// The bucket.
    pub bucket: String,
    /// The prefix, escaped.
    pub prefix: String,
    /// One key only.
    pub exact: bool,
    /// What it is for.
    pub reason: String,
    /// When it was placed, RFC 3339.
    pub placed: String,
    /// By which principal.
    pub placed_by: String,
}

/// A file of the case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseFile {
    /// Its name.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

/// An object of the case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseObject {
    /// Where its content is.
    pub file: CaseFile,
    /// Its key, escaped.
    pub key: String,
    /// Its version.
    pub version: String,
    /// When it was written, RFC 3339.
    pub created: String,
    /// BLAKE3 of its content, as the service keeps it.
    pub blake3: String,
    /// What its writer attached.
    pub metadata: BTreeMap<String, String>,
}

/// A leaf of the log, proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaseLeaf {
    /// Its proof.
    pub file: CaseFile,
    /// Its index.
    pub index: u64,
    /// The version or hold that it is about.
    pub about: String,
}

impl CaseContents {
    /// The text of the list.
    pub(super) fn to_text(&self) -> Result<Vec<u8>, CanonicalError> {
        // Our own types serialise; what does not would be no object.
        to_canonical(&serde_json::to_value(self).unwrap_or_default())
    }

    /// Reads the text of a list and no other spelling of it.
    pub(super) fn read(text: &[u8]) -> Result<Self, String> {
        let value = parse_canonical(text).map_err(|error| error.to_string())?;
        let contents: Self = serde_json::from_value(value).map_err(|error| error.to_string())?;
        if contents.format == 1 { Ok(contents) } else { Err(format!("is of format {}", contents.format)) }
    }
}
