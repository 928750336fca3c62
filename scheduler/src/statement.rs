//! What an attestation says, in its text (`scheduler/control/ATTESTATION.md`), whoever
//! signed it: the control plane reads it behind the signature, a node's agent to
//! know for how long it holds, people to look at.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_model::{Country, FailureDomain, Tier};
use serde::{Deserialize, Serialize};

use crate::NodeName;

/// A statement is a few hundred bytes; more is not read.
pub const ATTESTATION_MAX: usize = 4096;

/// What is said of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The node, by its name in the API.
    pub node: NodeName,
    /// Where its disks stand.
    pub country: Country,
    /// What it fails together with.
    pub domain: FailureDomain,
    /// Tier of the building.
    pub tier: Tier,
    /// Not believed before; seconds since 1970-01-01T00:00:00Z.
    pub not_before: u64,
    /// Not believed from here on; the same unit.
    pub not_after: u64,
}

/// By what a revocation names a statement: the first 32 hexadecimal digits of the BLAKE3 digest of its JSON.
pub fn statement_id(body: &[u8]) -> String {
    blake3::hash(body).to_hex().chars().take(32).collect()
}

/// What a text says, whoever signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// By what a revocation names it.
    pub id: String,
    /// What it says.
    pub statement: Statement,
}

/// What a text says, whoever signed it: for people to look at and to revoke, and to place nothing by.
pub fn said_by(text: &str) -> Option<Said> {
    let body = text.strip_prefix("v1.")?.split('.').next()?;
    if text.len() > ATTESTATION_MAX {
        return None;
    }
    let body = URL_SAFE_NO_PAD.decode(body).ok()?;
    Some(Said { id: statement_id(&body), statement: serde_json::from_slice(&body).ok()? })
}
