//! The tenant's own cosignature under a checkpoint (C2SP tlog-cosignature v1,
//! Ed25519): the operator cannot make it, so that a seed made from it is one
//! that the operator could neither choose nor try out.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_keys::{SigningKey, VerifyingKey};

use crate::digits::sha256;

/// The name under which tenants cosign.
pub const COSIGNER_NAME: &str = "coffer-tenant-cosigner";

/// The signature type of a timestamped Ed25519 cosignature.
const COSIGNATURE_TYPE: u8 = 4;

/// Why a note is not cosigned by a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CosignError {
    /// No note, or none with a line of this key.
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

fn key_id(key: &VerifyingKey) -> [u8; 4] {
    let text = [COSIGNER_NAME.as_bytes(), b"\n", &[COSIGNATURE_TYPE], &key.0].concat();
    let digest = sha256(&text);
    [digest[0], digest[1], digest[2], digest[3]]
}

fn message(body: &str, seconds: u64) -> String {
    format!("cosignature/v1\ntime {seconds}\n{body}")
}

/// The note with the cosignature's line at its end.
pub fn cosign(note: &str, key: &SigningKey, seconds: u64) -> String {
    let body = note.rfind("\n\n").map_or(note, |split| &note[..=split]);
    let signature = key.sign(message(body, seconds).as_bytes());
    let blob = [&key_id(&key.verifying_key())[..], &seconds.to_be_bytes(), &signature].concat();
    format!("{note}\u{2014} {COSIGNER_NAME} {}\n", STANDARD.encode(blob))
}

/// Verifies the cosignature of the key with this text; the time that it
/// states, in seconds since 1970.
///
/// # Errors
/// [`CosignError`].
pub fn verify_cosignature(note: &str, key: &str) -> Result<u64, CosignError> {
    let key = STANDARD.decode(key).ok().and_then(|key| key.try_into().ok());
    let key = VerifyingKey(key.ok_or(CosignError::Key)?);
    let split = note.rfind("\n\n").ok_or(CosignError::Missing)?;
    let (body, lines) = (&note[..=split], &note[split + 2..]);
    let prefix = format!("\u{2014} {COSIGNER_NAME} ");
    let mut found = lines.lines().filter_map(|line| line.strip_prefix(prefix.as_str()));
    let (Some(encoded), None) = (found.next(), found.next()) else { return Err(CosignError::Missing) };
    let blob = STANDARD.decode(encoded).map_err(|_| CosignError::False)?;
    let (id, rest) = blob.split_first_chunk::<4>().ok_or(CosignError::False)?;
    let (time, signature) = rest.split_first_chunk::<8>().ok_or(CosignError::False)?;
    let seconds = u64::from_be_bytes(*time);
    let good = *id == key_id(&key) && key.verify(message(body, seconds).as_bytes(), signature).is_ok();
    if good { Ok(seconds) } else { Err(CosignError::False) }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    const NOTE: &str = "origin/log/ten\n7\nAAAA\n\n\u{2014} origin c2ln\n";

    #[test]
    fn a_cosignature_holds_for_its_key_its_time_and_its_checkpoint_only() {
        let key = SigningKey::danger_from_seed(Zeroizing::new([3; 32]));
        let other = SigningKey::danger_from_seed(Zeroizing::new([4; 32]));
        let note = cosign(NOTE, &key, 1_700_000_000);
        assert!(note.starts_with(NOTE));
        assert_eq!(verify_cosignature(&note, &cosigner_text(&key)), Ok(1_700_000_000));
        assert_eq!(verify_cosignature(&note, &cosigner_text(&other)), Err(CosignError::False));
        assert_eq!(verify_cosignature(NOTE, &cosigner_text(&key)), Err(CosignError::Missing));
        let altered = note.replace("\n7\n", "\n8\n");
        assert_eq!(verify_cosignature(&altered, &cosigner_text(&key)), Err(CosignError::False));
        let twice = cosign(&note, &key, 1_700_000_001);
        assert_eq!(verify_cosignature(&twice, &cosigner_text(&key)), Err(CosignError::Missing));
        assert_eq!(verify_cosignature(&note, "no key"), Err(CosignError::Key));
    }
}
