//! A proof that a leaf is in a log, for one file: C2SP tlog-proof, version 1.
//! An index, the hashes of an RFC 6962 inclusion proof, a signed checkpoint.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_keys::{NoteError, ProofError, VerifierName, leaf_hash, open_checkpoint, verify_inclusion};
use coffer_model::Digest;

const MAGIC: &str = "c2sp.org/tlog-proof@v1";
/// No log has a deeper tree.
const HASHES_MAX: usize = 64;

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
        let mut text = format!("{MAGIC}\nindex {}\n", self.index);
        for hash in &self.hashes {
            text.push_str(&STANDARD.encode(hash.0));
            text.push('\n');
        }
        text.push('\n');
        text.push_str(&self.note);
        text
    }

    /// Reads a file; only the spelling that [`Self::to_text`] writes is one.
    ///
    /// # Errors
    /// [`TlogProofError::Form`].
    pub fn parse(text: &str) -> Result<Self, TlogProofError> {
        let (head, note) = text.split_once("\n\n").ok_or(TlogProofError::Form)?;
        let mut lines = head.split('\n');
        if lines.next() != Some(MAGIC) {
            return Err(TlogProofError::Form);
        }
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).ok_or(TlogProofError::Form)?;
        let index = index.parse().map_err(|_| TlogProofError::Form)?;
        let mut hashes = Vec::new();
        for line in lines {
            let hash = STANDARD.decode(line).ok().and_then(|bytes| bytes.try_into().ok());
            hashes.push(Digest(hash.ok_or(TlogProofError::Form)?));
            if hashes.len() > HASHES_MAX {
                return Err(TlogProofError::Form);
            }
        }
        let proof = Self { index, hashes, note: note.to_owned() };
        if proof.to_text() == text { Ok(proof) } else { Err(TlogProofError::Form) }
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
