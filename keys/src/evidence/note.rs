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
pub(super) const ED25519_TYPE: u8 = 1;
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
pub(super) fn name_is_good(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

fn origin_is_good(origin: &str) -> bool {
    !origin.is_empty() && !origin.chars().any(char::is_control)
}

/// First four bytes of SHA-256 over name, newline, type and public key.
pub(super) fn key_id(name: &str, kind: u8, key: &VerifyingKey) -> [u8; 4] {
    let digest = sha256(&[name.as_bytes(), b"\n", &[kind], &key.0]);
    [digest[0], digest[1], digest[2], digest[3]]
}

/// A signature line, with its line feed: key id and what follows it.
pub(super) fn line_of(name: &str, kind: u8, key: &VerifyingKey, signature: &[&[u8]]) -> String {
    let blob = [key_id(name, kind, key).as_slice(), &signature.concat()].concat();
    format!("\u{2014} {name} {}\n", STANDARD.encode(blob))
}

fn body(checkpoint: &Checkpoint) -> String {
    format!("{}\n{}\n{}\n", checkpoint.origin, checkpoint.size, STANDARD.encode(checkpoint.root.0))
}

/// The checkpoint as a note with one signature. A name or origin that the
/// format does not allow (white space, control characters) gives a note that
/// no verifier opens, ours included.
pub fn sign_checkpoint(key: &SigningKey, name: &str, checkpoint: &Checkpoint) -> String {
    let body = body(checkpoint);
    let line = line_of(name, ED25519_TYPE, &key.verifying_key(), &[&key.sign(body.as_bytes())]);
    format!("{body}\n{line}")
}

/// Opens a checkpoint that this key signed under this name. Signatures by
/// others, such as witnesses, are passed over, as the specification demands.
///
/// # Errors
/// [`NoteError`].
pub fn open_checkpoint(text: &str, name: &str, key: &VerifyingKey) -> Result<Checkpoint, NoteError> {
    let note = Note::parse(text)?;
    let id = key_id(name, ED25519_TYPE, key);
    let mut signed = false;
    for line in note.lines.iter().filter(|line| line.name == name && line.id == id) {
        key.verify(note.body.as_bytes(), &line.signature).map_err(|_| NoteError::BadSignature)?;
        // A second signature by the same key has no honest cause.
        if signed {
            return Err(NoteError::SignatureLine { line: line.number });
        }
        signed = true;
    }
    if !signed {
        return Err(NoteError::Unsigned);
    }
    parse_body(note.body).ok_or(NoteError::NotACheckpoint)
}

/// The state that a note speaks of, whoever signed it.
///
/// # Errors
/// [`NoteError::NotANote`], [`NoteError::SignatureLine`], [`NoteError::NotACheckpoint`].
pub(super) fn unverified_checkpoint(text: &str) -> Result<Checkpoint, NoteError> {
    parse_body(Note::parse(text)?.body).ok_or(NoteError::NotACheckpoint)
}

/// One signature line.
pub(super) struct Line<'a> {
    /// Which, from 1.
    number: usize,
    pub(super) name: &'a str,
    pub(super) id: [u8; 4],
    /// What follows the key id.
    pub(super) signature: Vec<u8>,
}

/// A signed note, taken apart; nothing of it is verified.
pub(super) struct Note<'a> {
    /// What is signed, with its last line feed.
    pub(super) body: &'a str,
    pub(super) lines: Vec<Line<'a>>,
}

impl<'a> Note<'a> {
    /// Every line after the blank one is a signature line, or it is no note.
    pub(super) fn parse(text: &'a str) -> Result<Self, NoteError> {
        if text.len() > NOTE_BYTES_MAX || text.chars().any(|c| c.is_control() && c != '\n') {
            return Err(NoteError::NotANote);
        }
        let split = text.rfind("\n\n").ok_or(NoteError::NotANote)?;
        let (body, signatures) = (&text[..=split], &text[split + 2..]);
        let signatures = signatures.strip_suffix('\n').ok_or(NoteError::NotANote)?;
        let mut lines = Vec::new();
        for (text, number) in signatures.split('\n').zip(1..) {
            let bad = NoteError::SignatureLine { line: number };
            let (name, bytes) = signature_line(text).ok_or(bad)?;
            let (id, signature) = bytes.split_first_chunk::<4>().ok_or(bad)?;
            lines.push(Line { number, name, id: *id, signature: signature.to_vec() });
        }
        Ok(Self { body, lines })
    }
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
    /// A key of another type than is wanted here: Ed25519 is type 1 where it
    /// signs a log, type 4 where it cosigns.
    #[error(
        "the verification key is of type {found}, not {wanted}; a log's is of type 1, a witness's of type 4"
    )]
    Type {
        /// The type byte.
        found: u8,
        /// That of what was to be named.
        wanted: u8,
    },
    /// The hash is not that of this name and key.
    #[error("the hash in the verification key does not match; it was mistyped or altered")]
    Hash,
}

/// The text form of an Ed25519 key of a type.
pub(super) fn vkey_text(name: &str, kind: u8, key: &VerifyingKey) -> String {
    let id = u32::from_be_bytes(key_id(name, kind, key));
    format!("{name}+{id:08x}+{}", STANDARD.encode([[kind].as_slice(), &key.0].concat()))
}

/// Name and key of that form, if it is of the type.
pub(super) fn parse_vkey(text: &str, wanted: u8) -> Result<(String, VerifyingKey), VerifierNameError> {
    // Base64 has `+` too: the name and the hash have none.
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(_), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(VerifierNameError::Format);
    };
    let key = STANDARD.decode(key).map_err(|_| VerifierNameError::Format)?;
    let (&found, key) = key.split_first().ok_or(VerifierNameError::Format)?;
    if found != wanted {
        return Err(VerifierNameError::Type { found, wanted });
    }
    let key = VerifyingKey(key.try_into().map_err(|_| VerifierNameError::Format)?);
    if !name_is_good(name) {
        return Err(VerifierNameError::Format);
    }
    if vkey_text(name, wanted, &key) == text {
        Ok((name.to_owned(), key))
    } else {
        Err(VerifierNameError::Hash)
    }
}

impl fmt::Display for VerifierName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&vkey_text(&self.name, ED25519_TYPE, &self.key))
    }
}

impl FromStr for VerifierName {
    type Err = VerifierNameError;

    fn from_str(text: &str) -> Result<Self, VerifierNameError> {
        parse_vkey(text, ED25519_TYPE).map(|(name, key)| Self { name, key })
    }
}
