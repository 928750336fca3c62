//! The tenant's log as its client sees it: a checkpoint that is remembered,
//! and a service that is refused when it goes back in time.

use bytes::Bytes;
use coffer_keys::{
    Checkpoint, NoteError, ProofError, Unwitnessed, VerifierName, VerifyingKey, WitnessPolicy, leaf_hash,
    open_checkpoint, verify_consistency, verify_inclusion,
};
use coffer_model::Digest;
use coffer_proto::v1;
use tonic::Response;

use crate::call::{CallError, at_once, bad_answer, once, repeat};
use crate::connect::Client;
use crate::leaf::LeafView;

/// Why the log is not believed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The service refused or failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A checkpoint that this deployment did not sign.
    #[error("the checkpoint: {0}")]
    Note(#[from] NoteError),
    /// The checkpoint of another log.
    #[error("the checkpoint is of log {found:?}, not {expected:?}")]
    Origin {
        /// What the note says.
        found: String,
        /// The tenant's log.
        expected: String,
    },
    /// The log is shorter than it was, or its past is another one.
    #[error("{}; keep both checkpoints and ask the operator for an explanation", departure(.size, .remembered))]
    WentBack {
        /// Leaves that the service shows; none if it only said that it has
        /// fewer than were signed.
        size: Option<u64>,
        /// Leaves of the remembered checkpoint.
        remembered: u64,
    },
    /// Too few witnesses saw it, or the policy about them is for other logs.
    #[error(transparent)]
    Witnesses(#[from] Unwitnessed),
    /// A leaf that is not in the log under this index.
    #[error("leaf {index} is not proven to be in the log: {reason}")]
    Leaf {
        /// Its index.
        index: u64,
        /// What is wrong with the proof.
        reason: ProofError,
    },
}

/// In which way a log does not extend what was remembered of it.
fn departure(size: &Option<u64>, remembered: &u64) -> String {
    match size {
        None => {
            format!("the log went back in time: the service has not the {remembered} leaves that it signed")
        }
        Some(size) if size < remembered => {
            format!("the log went back in time: {size} leaves now, {remembered} were signed before")
        }
        Some(size) => format!(
            "the log has another past: its {size} leaves do not extend the {remembered} that were signed before"
        ),
    }
}

/// One leaf, proven to be in the log of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafProof {
    /// Its index.
    pub index: u64,
    /// Its bytes: canonical JSON in OCSF's terms.
    pub leaf: Vec<u8>,
    /// The hashes that lead from it to the checkpoint's root.
    pub inclusion: Vec<Digest>,
}

/// What a client knows of one log and keeps between its runs.
#[derive(Clone, Debug)]
pub struct LogWatch {
    signer: String,
    /// `None`: that of the first checkpoint that the signer made.
    origin: Option<String>,
    key: VerifyingKey,
    last: Option<(String, Checkpoint)>,
}

impl LogWatch {
    /// The watch over the log of this origin, signed by this key, from the
    /// checkpoint that was remembered.
    ///
    /// # Errors
    /// [`LogError::Note`] or [`LogError::Origin`] if what was remembered is
    /// not a checkpoint of this log.
    pub fn new(origin: String, key: VerifyingKey, remembered: Option<String>) -> Result<Self, LogError> {
        // The signer's name is the part of the origin before `/log/`.
        let signer = origin.split_once("/log/").map_or(origin.as_str(), |(signer, _)| signer).to_owned();
        Self { signer, origin: Some(origin), key, last: None }.from(remembered)
    }

    /// The watch over a log of this signer whose origin is not known yet, such
    /// as the service's own: the first checkpoint says which it is.
    ///
    /// # Errors
    /// Those of [`Self::new`].
    pub fn of_signer(signer: VerifierName, remembered: Option<String>) -> Result<Self, LogError> {
        Self { signer: signer.name, origin: None, key: signer.key, last: None }.from(remembered)
    }

    fn from(mut self, remembered: Option<String>) -> Result<Self, LogError> {
        if let Some(text) = remembered {
            let checkpoint = self.open(&text)?;
            self.origin = Some(checkpoint.origin.clone());
            self.last = Some((text, checkpoint));
        }
        Ok(self)
    }

    fn open(&self, text: &str) -> Result<Checkpoint, LogError> {
        let checkpoint = open_checkpoint(text, &self.signer, &self.key)?;
        let good = match &self.origin {
            Some(origin) => checkpoint.origin == *origin,
            None => {
                checkpoint.origin.strip_prefix(&self.signer).is_some_and(|rest| rest.starts_with("/log/"))
            }
        };
        if good {
            Ok(checkpoint)
        } else {
            Err(LogError::Origin { found: checkpoint.origin, expected: self.origin().to_owned() })
        }
    }

    /// The log's origin line; the signer's name while it is not known.
    pub fn origin(&self) -> &str {
        self.origin.as_deref().unwrap_or(&self.signer)
    }

    /// The key that signs the log, with its name.
    pub fn key(&self) -> VerifierName {
        VerifierName { name: self.signer.clone(), key: self.key }
    }

    /// The last checkpoint that was verified.
    pub fn last(&self) -> Option<&Checkpoint> {
        self.last.as_ref().map(|(_, last)| last)
    }

    /// Leaves of the last checkpoint that was verified; 0 before the first.
    pub(crate) fn size(&self) -> u64 {
        self.last.as_ref().map_or(0, |(_, last)| last.size)
    }

    /// The last checkpoint that was verified, as its signed text.
    pub fn remembered(&self) -> Option<&str> {
        self.last.as_ref().map(|(text, _)| text.as_str())
    }

    /// Fetches the newest checkpoint, cosigned as the policy wants it.
    ///
    /// # Errors
    /// [`LogError::Witnesses`] if the policy is not for this log, or too few of
    /// its witnesses cosigned the checkpoint;
    /// [`LogError::WentBack`] if it does not extend the remembered one.
    pub async fn advance_witnessed(
        &mut self,
        client: &Client,
        policy: &WitnessPolicy,
    ) -> Result<Checkpoint, LogError> {
        policy.admits(&self.key())?;
        let checkpoint = self.advance_cosigned(client).await?;
        policy.check(&self.key(), self.remembered().unwrap_or_default())?;
        Ok(checkpoint)
    }

    /// Takes a checkpoint that extends the remembered one, or refuses it.
    ///
    /// # Errors
    /// [`LogError`]; what was remembered stays.
    pub fn accept(&mut self, text: &str, proof: &[Digest]) -> Result<Checkpoint, LogError> {
        let new = self.open(text)?;
        if let Some((_, old)) = &self.last {
            verify_consistency(old.size, old.root, new.size, new.root, proof)
                .map_err(|_| LogError::WentBack { size: Some(new.size), remembered: old.size })?;
        }
        self.origin = Some(new.origin.clone());
        self.last = Some((text.to_owned(), new.clone()));
        Ok(new)
    }

    /// Fetches the newest checkpoint, verifies that it extends the remembered
    /// one, and remembers it.
    ///
    /// # Errors
    /// [`LogError::WentBack`] if it does not.
    pub async fn advance(&mut self, client: &Client) -> Result<Checkpoint, LogError> {
        self.ask(client, false).await
    }

    /// The same, of a checkpoint that the service shows to its witnesses: what
    /// is remembered carries the cosignatures of those that gave one.
    ///
    /// # Errors
    /// [`LogError::WentBack`] if it does not extend the remembered one.
    pub async fn advance_cosigned(&mut self, client: &Client) -> Result<Checkpoint, LogError> {
        self.ask(client, true).await
    }

    async fn ask(&mut self, client: &Client, cosigned: bool) -> Result<Checkpoint, LogError> {
        let since_size = self.size();
        let answer = repeat(&client.patience, client.entropy.as_ref(), || async {
            let request = v1::GetCheckpointRequest { tenant: Bytes::new(), since_size, cosigned };
            client.log_calls().get_checkpoint(request).await.map_err(|status| CallError::from_status(&status))
        });
        self.take(answer.await.map(Response::into_inner))
    }

    /// [`Self::advance`] that asks only once: for a caller who can go on
    /// without an answer, and need not wait until there is one.
    ///
    /// # Errors
    /// [`LogError::WentBack`] if the log does not extend the remembered one.
    pub async fn advance_once(&mut self, client: &Client) -> Result<Checkpoint, LogError> {
        let since_size = self.size();
        let request = v1::GetCheckpointRequest { tenant: Bytes::new(), since_size, cosigned: false };
        let answer = at_once(&client.patience, client.log_calls().get_checkpoint(request)).await;
        self.take(answer.map(Response::into_inner))
    }

    fn take(&mut self, answer: Result<v1::GetCheckpointResponse, CallError>) -> Result<Checkpoint, LogError> {
        let answer = match answer {
            // The service may find the remembered size itself too large.
            Err(CallError::Invalid(_)) if self.size() > 0 => {
                return Err(LogError::WentBack { size: None, remembered: self.size() });
            }
            answer => answer?,
        };
        let proof = digests("consistency", &answer.consistency)?;
        self.accept(&answer.checkpoint, &proof)
    }

    /// Fetches one leaf and verifies that it is in the log of `checkpoint`.
    ///
    /// # Errors
    /// [`LogError::Leaf`] if that is not proven.
    pub async fn leaf(
        &self,
        client: &Client,
        index: u64,
        checkpoint: &Checkpoint,
    ) -> Result<LeafProof, LogError> {
        let answer = repeat(&client.patience, client.entropy.as_ref(), || async {
            let request = v1::GetLeafRequest { tenant: Bytes::new(), index, size: checkpoint.size };
            client.log_calls().get_leaf(request).await.map_err(|status| CallError::from_status(&status))
        });
        let answer = answer.await?.into_inner();
        let proof = digests("inclusion", &answer.inclusion)?;
        verify_inclusion(leaf_hash(&answer.leaf), index, checkpoint.size, checkpoint.root, &proof)
            .map_err(|reason| LogError::Leaf { index, reason })?;
        Ok(LeafProof { index, leaf: answer.leaf.to_vec(), inclusion: proof })
    }
}

pub(crate) fn digests(field: &'static str, list: &[Bytes]) -> Result<Vec<Digest>, CallError> {
    list.iter().map(|bytes| coffer_proto::digest(field, bytes).map_err(bad_answer)).collect()
}

/// Whether a leaf says that its tenant noted this digest, and that it stands.
pub fn note_subject_names(leaf: &[u8], digest: &Digest) -> bool {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(leaf) else { return false };
    LeafView(&value)
        .done("digest_note")
        .is_some_and(|uid| uid.rsplit_once(':').is_some_and(|(_, noted)| noted == digest.to_string()))
}

impl Client {
    /// Enters a digest into the tenant's log; its index there is the answer.
    /// `label` says what was digested, in at most 64 characters.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn note_digest(&self, label: &str, digest: &Digest) -> Result<u64, CallError> {
        let request = v1::NoteDigestRequest {
            tenant: Bytes::new(),
            label: label.to_owned(),
            digest: Bytes::copy_from_slice(&digest.0),
        };
        let answer = once(self, || async { self.log_calls().note_digest(request.clone()).await }).await?;
        Ok(answer.into_inner().audit_seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_went_back_is_described_by_what_is_known() {
        let told = |size| LogError::WentBack { size, remembered: 1310 }.to_string();
        assert!(told(None).contains("has not the 1310 leaves"), "{}", told(None));
        assert!(told(Some(7)).contains("7 leaves now, 1310 were signed"), "{}", told(Some(7)));
        assert!(told(Some(1310)).contains("another past"), "{}", told(Some(1310)));
    }
}
