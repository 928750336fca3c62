//! Checkpoints as signed notes (C2SP signed-note v1 and tlog-checkpoint v1):
//! origin, size and root, then a line `— name base64(key id ‖ signature)`.

use core::fmt;
use core::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_model::Digest;

use super::sign::{SigningKey, VerifyingKey};
use crate::engine::sha256;

/// Signature type of plain Ed25519 in signed notes.
const ED25519_TYPE: u8 = 1;
/// No checkpoint of ours, with a hundred cosignatures, comes near.
const NOTE_BYTES_MAX: usize = 64 * 1024;

/// The state of a log: so many leaves, this root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log, as its operator names it.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// RFC 6962 root, SHA-256.
    pub root: Digest,
}

/// Why a text is not a checkpoint signed by this key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// Longer than 64 KiB, or not a note: no blank line before the signatures.
    #[error("not a signed note")]
    NotANote,
    /// A signature line that is none.
    #[error("line {line} after the blank line is not a signature line")]
    SignatureLine {
        /// Which, from 1.
        line: usize,
    },
    /// No signature of this name and key.
    #[error("the note carries no signature of this key; is it the right log?")]
    Unsigned,
    /// A signature of this key that does not verify.
    #[error("the signature of this key over the note is false")]
    BadSignature,
    /// A signed note, but not three lines of a checkpoint in canonical form.
    #[error("the note is signed but is not a checkpoint")]
    NotACheckpoint,
}

/// A name is not empty and holds neither white space, nor control characters, nor `+`.
fn name_is_good(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

fn origin_is_good(origin: &str) -> bool {
    !origin.is_empty() && !origin.chars().any(char::is_control)
}

/// First four bytes of SHA-256 over name, newline, type and public key.
fn key_id(name: &str, key: &VerifyingKey) -> [u8; 4] {
    let digest = sha256(&[name.as_bytes(), b"\n", &[ED25519_TYPE], &key.0]);
    [digest[0], digest[1], digest[2], digest[3]]
}

fn body(checkpoint: &Checkpoint) -> String {
    format!("{}\n{}\n{}\n", checkpoint.origin, checkpoint.size, STANDARD.encode(checkpoint.root.0))
}

/// The checkpoint as a note with one signature. A name or origin that the
/// format does not allow (white space, control characters) gives a note that
/// no verifier opens, ours included.
pub fn sign_checkpoint(key: &SigningKey, name: &str, checkpoint: &Checkpoint) -> String {
    let body = body(checkpoint);
    let mut signature = key_id(name, &key.verifying_key()).to_vec();
    signature.extend_from_slice(&key.sign(body.as_bytes()));
    format!("{body}\n\u{2014} {name} {}\n", STANDARD.encode(signature))
}

/// Opens a checkpoint that this key signed under this name. Signatures by
/// others, such as witnesses, are passed over, as the specification demands.
///
/// # Errors
/// [`NoteError`].
pub fn open_checkpoint(text: &str, name: &str, key: &VerifyingKey) -> Result<Checkpoint, NoteError> {
    if text.len() > NOTE_BYTES_MAX || text.chars().any(|c| c.is_control() && c != '\n') {
        return Err(NoteError::NotANote);
    }
    let split = text.rfind("\n\n").ok_or(NoteError::NotANote)?;
    let (body, signatures) = (&text[..=split], &text[split + 2..]);
    let signatures = signatures.strip_suffix('\n').ok_or(NoteError::NotANote)?;
    let id = key_id(name, key);
    let mut signed = false;
    for (line, number) in signatures.split('\n').zip(1..) {
        let bad = NoteError::SignatureLine { line: number };
        let (signer, bytes) = signature_line(line).ok_or(bad)?;
        let Some((found, signature)) = bytes.split_first_chunk::<4>() else { return Err(bad) };
        if signer == name && *found == id {
            key.verify(body.as_bytes(), signature).map_err(|_| NoteError::BadSignature)?;
            // A second signature by the same key has no honest cause.
            if signed {
                return Err(bad);
            }
            signed = true;
        }
    }
    if !signed {
        return Err(NoteError::Unsigned);
    }
    parse_body(body).ok_or(NoteError::NotACheckpoint)
}

fn signature_line(line: &str) -> Option<(&str, Vec<u8>)> {
    let (name, encoded) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let bytes = STANDARD.decode(encoded).ok()?;
    name_is_good(name).then_some((name, bytes))
}

fn parse_body(text: &str) -> Option<Checkpoint> {
    let mut lines = text.strip_suffix('\n')?.split('\n');
    let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
    let root: [u8; 32] = STANDARD.decode(root).ok()?.try_into().ok()?;
    let checkpoint = Checkpoint { origin: origin.to_owned(), size: size.parse().ok()?, root: Digest(root) };
    // One text for one checkpoint: no leading zero or plus, no further line.
    (origin_is_good(origin) && body(&checkpoint) == text).then_some(checkpoint)
}

/// A verification key and its name in the text form `name+hash+key` (C2SP vkey).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierName {
    /// Under which name it signs.
    pub name: String,
    /// The key.
    pub key: VerifyingKey,
}

/// Why a text is not a verification key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifierNameError {
    /// Not `name+hash+key`.
    #[error("a verification key reads name+hash+key (eight hexadecimal digits, then base64)")]
    Format,
    /// A key of another type than Ed25519.
    #[error("the verification key is of type {found}; this release knows Ed25519, type 1")]
    Type {
        /// The type byte.
        found: u8,
    },
    /// The hash is not that of this name and key.
    #[error("the hash in the verification key does not match; it was mistyped or altered")]
    Hash,
}

impl fmt::Display for VerifierName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = u32::from_be_bytes(key_id(&self.name, &self.key));
        let key = [[ED25519_TYPE].as_slice(), &self.key.0].concat();
        write!(f, "{}+{id:08x}+{}", self.name, STANDARD.encode(key))
    }
}

impl FromStr for VerifierName {
    type Err = VerifierNameError;

    fn from_str(text: &str) -> Result<Self, VerifierNameError> {
        // Base64 has `+` too: the name and the hash have none.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(_), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(VerifierNameError::Format);
        };
        let key = STANDARD.decode(key).map_err(|_| VerifierNameError::Format)?;
        let (&kind, key) = key.split_first().ok_or(VerifierNameError::Format)?;
        if kind != ED25519_TYPE {
            return Err(VerifierNameError::Type { found: kind });
        }
        let key = VerifyingKey(key.try_into().map_err(|_| VerifierNameError::Format)?);
        if !name_is_good(name) {
            return Err(VerifierNameError::Format);
        }
        let parsed = Self { name: name.to_owned(), key };
        if parsed.to_string() == text { Ok(parsed) } else { Err(VerifierNameError::Hash) }
    }
}
