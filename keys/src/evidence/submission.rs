//! What a log submits to a witness (C2SP tlog-witness v1, `add-checkpoint`),
//! and how a witness judges it. Pure: what the witness remembers is handed in,
//! and what it must remember before it answers is handed back.

use core::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_model::Digest;

use super::merkle::verify_consistency;
use super::note::{Checkpoint, NoteError, VerifierName, open_checkpoint, unverified_checkpoint};

/// The most proof lines that the specification admits.
pub const PROOF_LINES_MAX: usize = 63;

/// The longest submission, in bytes: a note and its proof.
pub const SUBMISSION_BYTES_MAX: usize = (64 << 10) + 64 + PROOF_LINES_MAX * 45;

/// The body of an `add-checkpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Size of the state that the witness is believed to know; 0: none.
    pub old: u64,
    /// Consistency proof from there.
    pub proof: Vec<Digest>,
    /// The signed note.
    pub note: String,
}

/// A body that is none; what a witness answers with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {0} is not what an add-checkpoint has there")]
pub struct SubmissionError(pub usize);

impl Submission {
    /// The text of the body.
    pub fn to_text(&self) -> String {
        let mut text = format!("old {}\n", self.old);
        for hash in &self.proof {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{}", STANDARD.encode(hash.0));
        }
        text.push('\n');
        text.push_str(&self.note);
        text
    }

    /// Reads a body; only the spelling that [`Self::to_text`] writes is one.
    ///
    /// # Errors
    /// [`SubmissionError`] with the first line that is wrong, from 1.
    pub fn parse(text: &str) -> Result<Self, SubmissionError> {
        if text.len() > SUBMISSION_BYTES_MAX {
            return Err(SubmissionError(1));
        }
        let (head, note) = text.split_once("\n\n").ok_or(SubmissionError(1))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|line| line.strip_prefix("old ")).ok_or(SubmissionError(1))?;
        let old: u64 =
            old.parse().ok().filter(|size: &u64| size.to_string() == old).ok_or(SubmissionError(1))?;
        let mut proof = Vec::new();
        for (line, number) in lines.zip(2..) {
            let hash = STANDARD.decode(line).ok().and_then(|bytes| bytes.try_into().ok());
            proof.push(Digest(hash.ok_or(SubmissionError(number))?));
            if proof.len() > PROOF_LINES_MAX {
                return Err(SubmissionError(number));
            }
        }
        Ok(Self { old, proof, note: note.to_owned() })
    }

    /// Of which log the submission says that it is; nothing of it is verified.
    ///
    /// # Errors
    /// [`NoteError`].
    pub fn origin(&self) -> Result<String, NoteError> {
        unverified_checkpoint(&self.note).map(|checkpoint| checkpoint.origin)
    }

    /// The state that the witness shall remember and cosign: signed by the
    /// log, and proven to extend what the witness knows of it.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn judge(&self, log: &VerifierName, known: Option<&Checkpoint>) -> Result<Checkpoint, Refusal> {
        let new = open_checkpoint(&self.note, &log.name, &log.key).map_err(|error| match error {
            NoteError::Unsigned | NoteError::BadSignature => Refusal::Unsigned,
            error => Refusal::Malformed(error),
        })?;
        if self.old > new.size {
            return Err(Refusal::Shrinks { old: self.old, new: new.size });
        }
        let size = known.map_or(0, |known| known.size);
        if self.old != size {
            return Err(Refusal::Conflict { size });
        }
        let Some(known) = known.filter(|known| known.size > 0) else {
            return if self.proof.is_empty() { Ok(new) } else { Err(Refusal::Inconsistent) };
        };
        if known.size == new.size && known.root != new.root {
            return Err(Refusal::Conflict { size });
        }
        verify_consistency(known.size, known.root, new.size, new.root, &self.proof)
            .map_err(|_| Refusal::Inconsistent)?;
        Ok(new)
    }
}

/// Why a witness does not cosign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No checkpoint at all.
    #[error("the checkpoint cannot be read: {0}")]
    Malformed(NoteError),
    /// Not signed by a key that the witness trusts for the log.
    #[error("the checkpoint carries no signature of the log's key")]
    Unsigned,
    /// The old size is beyond the checkpoint.
    #[error("the old size {old} is beyond the checkpoint's {new}")]
    Shrinks {
        /// As submitted.
        old: u64,
        /// Of the checkpoint.
        new: u64,
    },
    /// The witness knows another state than the submission starts from, or
    /// another root of the same size.
    #[error("the witness knows {size} leaves of this log")]
    Conflict {
        /// What the witness knows.
        size: u64,
    },
    /// The new state does not extend the known one.
    #[error("the checkpoint does not extend the one that the witness knows")]
    Inconsistent,
}

impl Refusal {
    /// The HTTP status that the specification gives it.
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::Shrinks { .. } => 400,
            Self::Unsigned => 403,
            Self::Conflict { .. } => 409,
            Self::Inconsistent => 422,
        }
    }
}
