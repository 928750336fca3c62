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

/// Bytes of a signature.
const SIGNATURE: usize = 64;

/// What a text says, whoever signed it: for people to look at and to revoke, and to place nothing by. A text that was
/// cut off anywhere says nothing, also where only its signature is not whole.
pub fn said_by(text: &str) -> Option<Said> {
    if text.len() > ATTESTATION_MAX {
        return None;
    }
    let parts: Vec<&str> = text.split('.').collect();
    let ["v1", body, signature] = parts[..] else { return None };
    if URL_SAFE_NO_PAD.decode(signature).ok()?.len() != SIGNATURE {
        return None;
    }
    let body = URL_SAFE_NO_PAD.decode(body).ok()?;
    Some(Said { id: statement_id(&body), statement: serde_json::from_slice(&body).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_was_cut_at_any_byte_or_goes_on_says_nothing() {
        let body =
            br#"{"node":"fra1","country":"DE","domain":"fra","tier":"III","not_before":1,"not_after":2}"#;
        let text = format!("v1.{}.{}", URL_SAFE_NO_PAD.encode(body), URL_SAFE_NO_PAD.encode([7; SIGNATURE]));
        assert_eq!(said_by(&text).map(|said| said.statement.node.to_string()).as_deref(), Some("fra1"));
        for end in 0..text.len() {
            assert_eq!(said_by(&text[..end]), None, "{end} of {}", text.len());
        }
        for more in ["A", "AA", ".", ".AA", "=", "\n"] {
            assert_eq!(said_by(&format!("{text}{more}")), None, "{more:?}");
        }
    }
}
