//! The tenant's own cosignature under a checkpoint (C2SP tlog-cosignature v1,
//! Ed25519): the operator cannot make it, so that a seed made from it is one
//! that the operator could neither choose nor try out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_keys::{SigningKey, VerifyingKey, WitnessName};

/// The name under which tenants cosign.
pub const COSIGNER_NAME: &str = "coffer-tenant-cosigner";

/// Why a note is not cosigned by a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CosignError {
    /// No note, or none with exactly one line of this key.
    #[error("the checkpoint carries no cosignature of the tenant's key")]
    Missing,
    /// A line of this key that does not verify.
    #[error("the cosignature under the checkpoint is false")]
    False,
    /// The key's text is none.
    #[error("the cosigner's key is malformed")]
    Key,
}

/// The text of a cosigner's public key: 32 bytes in base64.
pub fn cosigner_text(key: &SigningKey) -> String {
    STANDARD.encode(key.verifying_key().0)
}

/// The note with the cosignature's line at its end. What is no note stays as
/// it is, and no verifier takes it.
pub fn cosign(note: &str, key: &SigningKey, seconds: u64) -> String {
    let line = coffer_keys::cosign(note, key, COSIGNER_NAME, seconds).unwrap_or_default();
    format!("{note}{line}")
}

/// Verifies the cosignature of the key with this text; the time that it
/// states, in seconds since 1970.
///
/// # Errors
/// [`CosignError`].
pub fn verify_cosignature(note: &str, key: &str) -> Result<u64, CosignError> {
    let key = STANDARD.decode(key).ok().and_then(|key| key.try_into().ok());
    let key = VerifyingKey(key.ok_or(CosignError::Key)?);
    let tenant = WitnessName { name: COSIGNER_NAME.to_owned(), key };
    coffer_keys::verify_cosignature(note, &tenant).map_err(|error| match error {
        coffer_keys::CosignatureError::False => CosignError::False,
        _ => CosignError::Missing,
    })
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    const NOTE: &str = "origin/log/ten\n7\nAAAA\n\n\u{2014} origin c2lnbmVk\n";

    #[test]
    fn a_cosignature_holds_for_its_key_its_time_and_its_checkpoint_only() {
        let key = SigningKey::danger_from_seed(Zeroizing::new([3; 32]));
        let other = SigningKey::danger_from_seed(Zeroizing::new([4; 32]));
        let note = cosign(NOTE, &key, 1_700_000_000);
        assert!(note.starts_with(NOTE));
        assert_eq!(verify_cosignature(&note, &cosigner_text(&key)), Ok(1_700_000_000));
        assert_eq!(verify_cosignature(&note, &cosigner_text(&other)), Err(CosignError::Missing));
        assert_eq!(verify_cosignature(NOTE, &cosigner_text(&key)), Err(CosignError::Missing));
        let altered = note.replace("\n7\n", "\n8\n");
        assert_eq!(verify_cosignature(&altered, &cosigner_text(&key)), Err(CosignError::False));
        let twice = cosign(&note, &key, 1_700_000_001);
        assert_eq!(verify_cosignature(&twice, &cosigner_text(&key)), Err(CosignError::Missing));
        assert_eq!(verify_cosignature(&note, "no key"), Err(CosignError::Key));
    }
}
