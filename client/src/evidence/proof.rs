//! A proof that a leaf is in a log, for one file: C2SP tlog-proof, version 1.
//! An index, the hashes of an RFC 6962 inclusion proof, a signed checkpoint.

use coffer_keys::{NoteError, ProofError, VerifierName, leaf_hash, open_checkpoint, verify_inclusion};
use coffer_model::Digest;

use crate::tlog_proof::{self, ProofText};

/// A proof as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    /// Which leaf.
    pub index: u64,
    /// The hashes, from the leaf up.
    pub hashes: Vec<Digest>,
    /// The signed note.
    pub note: String,
}

/// Why a file proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlogProofError {
    /// Not the form of version 1.
    #[error("not a tlog-proof of version 1")]
    Form,
    /// The checkpoint does not open.
    #[error("the checkpoint of the proof: {0}")]
    Note(#[from] NoteError),
    /// The hashes lead elsewhere.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

impl TlogProof {
    /// As a file.
    pub fn to_text(&self) -> String {
        tlog_proof::write(None, self.index, &self.hashes, &self.note)
    }

    /// Reads a file; only the spelling that [`Self::to_text`] writes is one.
    ///
    /// # Errors
    /// [`TlogProofError::Form`].
    pub fn parse(text: &str) -> Result<Self, TlogProofError> {
        match tlog_proof::read(text) {
            Ok(ProofText { extra: None, index, hashes, note }) => {
                Ok(Self { index, hashes, note: note.to_owned() })
            }
            _ => Err(TlogProofError::Form),
        }
    }

    /// Whether it proves that `leaf` is in the log that `signer` signed.
    ///
    /// # Errors
    /// [`TlogProofError`].
    pub fn verify(&self, leaf: &[u8], signer: &VerifierName) -> Result<(), TlogProofError> {
        let checkpoint = open_checkpoint(&self.note, &signer.name, &signer.key)?;
        let hash = leaf_hash(leaf);
        Ok(verify_inclusion(hash, self.index, checkpoint.size, checkpoint.root, &self.hashes)?)
    }
}
