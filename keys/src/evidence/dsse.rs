//! Signed records: DSSE envelopes v1 (<https://github.com/secure-systems-lab/dsse>)
//! with exactly one Ed25519 signature. Envelope and payload are canonical
//! JSON, so that one record has one spelling and no byte of it is free.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::canonical::{CanonicalError, parse_canonical, to_canonical};
use super::sign::{SigningKey, VerifyingKey};

/// Why an envelope was not made or is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// The envelope is not canonical JSON.
    #[error("the envelope: {0}")]
    Envelope(CanonicalError),
    /// The payload is not canonical JSON, or has no canonical form.
    #[error("the payload: {0}")]
    Payload(CanonicalError),
    /// A field is missing, one too many, or of another type.
    #[error("an envelope has payload, payloadType and one signature with keyid and sig; nothing else")]
    Shape,
    /// Base64 that is not canonical, with the field's name.
    #[error("{0} is not base64 in canonical form")]
    Base64(&'static str),
    /// Another payload type than expected.
    #[error("the payload is of type {found:?}, not {expected:?}")]
    PayloadType {
        /// What the envelope says.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// Another key id than expected.
    #[error("signed by key {found:?}, not {expected:?}")]
    KeyId {
        /// What the envelope says.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// The signature does not verify.
    #[error("the signature is not this key's over this payload")]
    BadSignature,
}

/// DSSE's pre-authentication encoding.
fn pre_authentication(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

/// The canonical bytes of an envelope around `payload`.
///
/// # Errors
/// [`EnvelopeError::Payload`] if the payload has no canonical form.
pub fn sign_statement(
    key: &SigningKey,
    keyid: &str,
    payload_type: &str,
    payload: &Value,
) -> Result<Vec<u8>, EnvelopeError> {
    let payload = to_canonical(payload).map_err(EnvelopeError::Payload)?;
    let signature = key.sign(&pre_authentication(payload_type, &payload));
    let envelope = json!({
        "payload": STANDARD.encode(payload),
        "payloadType": payload_type,
        "signatures": [{ "keyid": keyid, "sig": STANDARD.encode(signature) }],
    });
    to_canonical(&envelope).map_err(EnvelopeError::Envelope)
}

/// The payload of an envelope that this key signed under this key id, if it
/// is of the expected type. DSSE does not sign the key id; comparing it is
/// what leaves no byte free.
///
/// # Errors
/// [`EnvelopeError`].
pub fn verify_envelope(
    bytes: &[u8],
    key: &VerifyingKey,
    keyid: &str,
    payload_type: &str,
) -> Result<Value, EnvelopeError> {
    let envelope = parse_canonical(bytes).map_err(EnvelopeError::Envelope)?;
    let [encoded, found_type, signatures] =
        fields(&envelope, ["payload", "payloadType", "signatures"]).ok_or(EnvelopeError::Shape)?;
    let signature = match signatures.as_array().map(Vec::as_slice) {
        Some([one]) => one,
        _ => return Err(EnvelopeError::Shape),
    };
    let [found_id, sig] = fields(signature, ["keyid", "sig"]).ok_or(EnvelopeError::Shape)?;
    let found_type = text(found_type)?;
    if found_type != payload_type {
        let (found, expected) = (found_type.to_owned(), payload_type.to_owned());
        return Err(EnvelopeError::PayloadType { found, expected });
    }
    let found_id = text(found_id)?;
    if found_id != keyid {
        let (found, expected) = (found_id.to_owned(), keyid.to_owned());
        return Err(EnvelopeError::KeyId { found, expected });
    }
    let payload = STANDARD.decode(text(encoded)?).map_err(|_| EnvelopeError::Base64("payload"))?;
    let sig = STANDARD.decode(text(sig)?).map_err(|_| EnvelopeError::Base64("sig"))?;
    key.verify(&pre_authentication(payload_type, &payload), &sig).map_err(|_| EnvelopeError::BadSignature)?;
    parse_canonical(&payload).map_err(EnvelopeError::Payload)
}

/// The members with these names, if the object has them and no others.
fn fields<'a, const N: usize>(value: &'a Value, names: [&str; N]) -> Option<[&'a Value; N]> {
    let object = value.as_object().filter(|object| object.len() == N)?;
    let mut found = [value; N];
    for (slot, name) in found.iter_mut().zip(names) {
        *slot = object.get(name)?;
    }
    Some(found)
}

fn text(value: &Value) -> Result<&str, EnvelopeError> {
    value.as_str().ok_or(EnvelopeError::Shape)
}
