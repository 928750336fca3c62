//! Cosignatures under checkpoints (C2SP tlog-cosignature v1, Ed25519): a
//! witness states that, at a time, this was the largest state of the log that
//! it knew, and that it extends every earlier one that it saw.

use core::fmt;
use core::str::FromStr;

use super::note::{Note, NoteError, VerifierNameError, key_id, line_of, name_is_good, parse_vkey, vkey_text};
use super::sign::{SigningKey, VerifyingKey};

/// Signature type of a timestamped Ed25519 cosignature.
const COSIGNATURE_TYPE: u8 = 4;

/// The latest time that the specification lets a cosignature state.
const SECONDS_MAX: u64 = (1 << 63) - 1;

/// A witness's name and key, in the text form of a C2SP vkey of type 4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessName {
    /// Under which name it cosigns.
    pub name: String,
    /// Its key.
    pub key: VerifyingKey,
}

impl fmt::Display for WitnessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&vkey_text(&self.name, COSIGNATURE_TYPE, &self.key))
    }
}

impl FromStr for WitnessName {
    type Err = VerifierNameError;

    fn from_str(text: &str) -> Result<Self, VerifierNameError> {
        parse_vkey(text, COSIGNATURE_TYPE).map(|(name, key)| Self { name, key })
    }
}

/// Why a note is not cosigned by a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CosignatureError {
    /// Not a signed note.
    #[error("{0}")]
    Note(#[from] NoteError),
    /// No line of this witness.
    #[error("the checkpoint carries no cosignature of this witness")]
    Missing,
    /// More than one line of this witness: which one counts would be a choice.
    #[error("the checkpoint carries more than one cosignature of this witness")]
    Twice,
    /// A line of this witness that does not verify.
    #[error("the cosignature under the checkpoint is false")]
    False,
}

/// What is signed: a header that no other signature has, the time, the note's body.
fn message(body: &str, seconds: u64) -> String {
    format!("cosignature/v1\ntime {seconds}\n{body}")
}

/// The signature line of a cosignature under `note`, with its line feed;
/// `seconds` since 1970 are the time that it states.
///
/// # Errors
/// [`NoteError`] if `note` is no signed note, or the name none that a note can carry.
pub fn cosign(note: &str, key: &SigningKey, name: &str, seconds: u64) -> Result<String, NoteError> {
    let body = Note::parse(note)?.body;
    if !name_is_good(name) || seconds > SECONDS_MAX {
        return Err(NoteError::NotANote);
    }
    let signature = key.sign(message(body, seconds).as_bytes());
    Ok(line_of(name, COSIGNATURE_TYPE, &key.verifying_key(), &[&seconds.to_be_bytes(), &signature]))
}

/// Verifies that this witness cosigned the checkpoint; the time that it
/// states, in seconds since 1970. Lines of others are passed over.
///
/// # Errors
/// [`CosignatureError`].
pub fn verify_cosignature(note: &str, witness: &WitnessName) -> Result<u64, CosignatureError> {
    let note = Note::parse(note)?;
    let id = key_id(&witness.name, COSIGNATURE_TYPE, &witness.key);
    let mut own = note.lines.iter().filter(|line| line.name == witness.name && line.id == id);
    let line = own.next().ok_or(CosignatureError::Missing)?;
    if own.next().is_some() {
        return Err(CosignatureError::Twice);
    }
    let (time, signature) = line.signature.split_first_chunk::<8>().ok_or(CosignatureError::False)?;
    let seconds = u64::from_be_bytes(*time);
    let signed = witness.key.verify(message(note.body, seconds).as_bytes(), signature);
    if signed.is_ok() && seconds <= SECONDS_MAX { Ok(seconds) } else { Err(CosignatureError::False) }
}

/// The line of this witness among the lines of an answer, if it verifies
/// under `note`. An answer may carry lines of keys that nobody asked for.
pub fn cosignature_among(note: &str, lines: &str, witness: &WitnessName) -> Option<String> {
    let found = lines.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    found
        .filter(|line| verify_cosignature(&format!("{note}{line}"), witness).is_ok())
        .map(str::to_owned)
        .next()
}
