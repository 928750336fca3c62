//! The proof that a leaf is in the tenant's log, as a C2SP tlog-proof: a text
//! that is verified offline against the log's key. The leaf itself travels as
//! its extra data.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_keys::{
    Checkpoint, NoteError, ProofError, VerifierName, leaf_hash, open_checkpoint, verify_inclusion,
};
use coffer_model::Digest;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// The longest proof that is looked at, in bytes.
pub const PROOF_BYTES_MAX: usize = 256 << 10;

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
        let way = self
            .inclusion
            .iter()
            .fold(String::new(), |text, digest| format!("{text}{}\n", STANDARD.encode(digest.0)));
        let extra = STANDARD.encode(&self.leaf);
        format!("{FIRST_LINE}\nextra {extra}\nindex {}\n{way}\n{}", self.index, self.checkpoint)
    }

    /// Reads a text; believes nothing of it.
    ///
    /// # Errors
    /// [`LogProofError::Form`].
    pub fn from_text(text: &str) -> Result<Self, LogProofError> {
        if text.len() > PROOF_BYTES_MAX {
            return Err(LogProofError::Form);
        }
        Self::parse(text).filter(|proof| proof.to_text() == text).ok_or(LogProofError::Form)
    }

    fn parse(text: &str) -> Option<Self> {
        let (head, checkpoint) = text.split_once("\n\n")?;
        let mut lines = head.split('\n');
        (lines.next()? == FIRST_LINE).then_some(())?;
        let leaf = STANDARD.decode(lines.next()?.strip_prefix("extra ")?).ok()?;
        let index = lines.next()?.strip_prefix("index ")?.parse().ok()?;
        let digest = |line: &str| Some(Digest(STANDARD.decode(line).ok()?.try_into().ok()?));
        let inclusion = lines.map(digest).collect::<Option<_>>()?;
        Some(Self { leaf, index, inclusion, checkpoint: checkpoint.to_owned() })
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
        let text = |pointer: &str| Some(value.pointer(pointer)?.as_str()?.to_owned());
        Some((text("/api/operation")?, text("/status_detail")?, text("/resources/0/uid")?))
    }
}
