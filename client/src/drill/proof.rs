//! The proof that a leaf is in the tenant's log, as a C2SP tlog-proof: a text
//! that is verified offline against the log's key. The leaf itself travels as
//! its extra data.

use coffer_keys::{
    Checkpoint, NoteError, ProofError, VerifierName, leaf_hash, open_checkpoint, verify_inclusion,
};
use coffer_model::Digest;

use crate::leaf::LeafView;
use crate::tlog_proof::{self, ProofText, TEXT_BYTES_MAX};

/// The longest proof that is looked at, in bytes.
pub const PROOF_BYTES_MAX: usize = TEXT_BYTES_MAX;

/// A leaf and what proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogProof {
    /// The leaf's bytes.
    pub leaf: Vec<u8>,
    /// Its index.
    pub index: u64,
    /// The way to the root.
    pub inclusion: Vec<Digest>,
    /// The signed checkpoint.
    pub checkpoint: String,
}

/// Why a proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogProofError {
    /// Not the text of a proof.
    #[error("not a tlog-proof with the leaf as its extra data")]
    Form,
    /// The checkpoint.
    #[error("the proof's checkpoint: {0}")]
    Note(#[from] NoteError),
    /// The checkpoint of another log.
    #[error("the proof is of the log {0:?}")]
    Origin(String),
    /// The way does not lead to the root.
    #[error("the leaf is not in the log of the checkpoint: {0}")]
    Inclusion(#[from] ProofError),
}

impl LogProof {
    /// As text.
    pub fn to_text(&self) -> String {
        tlog_proof::write(Some(&self.leaf), self.index, &self.inclusion, &self.checkpoint)
    }

    /// Reads a text; believes nothing of it.
    ///
    /// # Errors
    /// [`LogProofError::Form`].
    pub fn from_text(text: &str) -> Result<Self, LogProofError> {
        let ProofText { extra, index, hashes, note } =
            tlog_proof::read(text).map_err(|_| LogProofError::Form)?;
        let leaf = extra.ok_or(LogProofError::Form)?;
        Ok(Self { leaf, index, inclusion: hashes, checkpoint: note.to_owned() })
    }

    /// Verifies signature, origin and inclusion; the checkpoint.
    ///
    /// # Errors
    /// [`LogProofError`].
    pub fn verify(&self, log: &VerifierName, origin: &str) -> Result<Checkpoint, LogProofError> {
        let checkpoint = open_checkpoint(&self.checkpoint, &log.name, &log.key)?;
        if checkpoint.origin != origin {
            return Err(LogProofError::Origin(checkpoint.origin));
        }
        let hash = leaf_hash(&self.leaf);
        verify_inclusion(hash, self.index, checkpoint.size, checkpoint.root, &self.inclusion)?;
        Ok(checkpoint)
    }

    /// What the leaf is about: operation, outcome and subject.
    pub fn subject(&self) -> Option<(String, String, String)> {
        let value: serde_json::Value = serde_json::from_slice(&self.leaf).ok()?;
        let text = |place| LeafView(&value).text(place).map(str::to_owned);
        Some((text(LeafView::OPERATION)?, text(LeafView::OUTCOME)?, text(LeafView::SUBJECT)?))
    }
}
