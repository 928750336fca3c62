//! What a verifier takes from a recovery kit: the key that signs, its name,
//! and the checkpoints that are pinned. The rest of the kit is the service's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_keys::{VerifierName, VerifyingKey};
use serde_json::Value;

/// The format of kits that this program reads.
const FORMAT: u64 = 1;

/// Why a kit cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PublicKitError {
    /// Not JSON.
    #[error("the recovery kit is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A field is missing or of another form.
    #[error("the recovery kit has no usable field \"{0}\"; is it a kit, and whole?")]
    Field(&'static str),
    /// Another format.
    #[error("the recovery kit is not of format {FORMAT}, the one that this program reads")]
    Format,
}

/// The public verification part of a kit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKit {
    /// The key that signs checkpoints and drill records, with its name.
    pub evidence: VerifierName,
}

impl PublicKit {
    /// Reads the text of a kit.
    ///
    /// # Errors
    /// [`PublicKitError`].
    pub fn from_json(text: &str) -> Result<Self, PublicKitError> {
        let kit = checked(text)?;
        let name = kit.get("evidence_name").and_then(Value::as_str);
        let name = name.ok_or(PublicKitError::Field("evidence_name"))?.to_owned();
        let key = kit.get("evidence_key").and_then(Value::as_str);
        let key = key.and_then(|key| STANDARD.decode(key).ok()).and_then(|key| key.try_into().ok());
        let key = VerifyingKey(key.ok_or(PublicKitError::Field("evidence_key"))?);
        Ok(Self { evidence: VerifierName { name, key } })
    }
}

fn checked(text: &str) -> Result<Value, PublicKitError> {
    let kit: Value = serde_json::from_str(text)?;
    match kit.get("format").and_then(Value::as_u64) {
        Some(FORMAT) => Ok(kit),
        Some(_) => Err(PublicKitError::Format),
        None => Err(PublicKitError::Field("format")),
    }
}

/// The kit with this checkpoint pinned for this log, in place of an older
/// one: from then on a recovery must extend it. The caller has verified it.
///
/// # Errors
/// [`PublicKitError`].
pub fn pin_checkpoint(kit: &str, origin: &str, checkpoint: &str) -> Result<String, PublicKitError> {
    let mut kit = checked(kit)?;
    let list = kit.get_mut("checkpoints").and_then(Value::as_array_mut);
    let list = list.ok_or(PublicKitError::Field("checkpoints"))?;
    list.retain(|pinned| pinned.get("origin").and_then(Value::as_str) != Some(origin));
    list.push(serde_json::json!({ "origin": origin, "checkpoint": checkpoint }));
    let mut text = serde_json::to_string_pretty(&kit)?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIT: &str = r#"{"format":1,"evidence_name":"coffer-x","evidence_key":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","sites":[],"checkpoints":[{"origin":"a","checkpoint":"old"},{"origin":"b","checkpoint":"other"}]}"#;

    #[test]
    fn a_pinned_checkpoint_replaces_the_older_one_of_its_log_only() {
        let text = pin_checkpoint(KIT, "a", "new").unwrap();
        let kit: Value = serde_json::from_str(&text).unwrap();
        let pinned = kit["checkpoints"].as_array().unwrap();
        assert_eq!(pinned.len(), 2);
        assert!(pinned.iter().any(|p| p["origin"] == "a" && p["checkpoint"] == "new"));
        assert!(pinned.iter().any(|p| p["origin"] == "b" && p["checkpoint"] == "other"));
        assert_eq!(PublicKit::from_json(&text).unwrap().evidence.name, "coffer-x");
    }

    #[test]
    fn kits_of_another_format_and_half_kits_are_refused() {
        let newer = KIT.replace("\"format\":1", "\"format\":2");
        assert!(matches!(PublicKit::from_json(&newer), Err(PublicKitError::Format)));
        let short = KIT.replace("AAEC", "");
        assert!(matches!(PublicKit::from_json(&short), Err(PublicKitError::Field("evidence_key"))));
        assert!(matches!(PublicKit::from_json("{}"), Err(PublicKitError::Field("format"))));
    }
}
