//! The recovery kit: everything public that a recovery starts from. It holds
//! no secret; whoever has it and a quorum of shares can begin.

use coffer_keys::VerifyingKey;
use coffer_model::{SiteDescription, TierCertificate};
use serde::{Deserialize, Serialize};

use crate::home::SiteHome;

/// Where a site is found, and how the embedded default simulates it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteAddress {
    /// What the topology says about it.
    pub site: SiteDescription,
    /// Where it lives; absent in what older programs wrote: a directory.
    #[serde(default, skip_serializing_if = "SiteHome::is_directory")]
    pub home: SiteHome,
    /// The certificate of its building's tier, as an operator declared it;
    /// absent in what older programs wrote, and where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<TierCertificate>,
    /// Its disk is a new one, and repair has not brought it yet what the old
    /// one held; absent in what older programs wrote, and of all others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refilling: bool,
    /// Simulated: milliseconds added to every call.
    pub latency_ms: u32,
    /// Simulated: MiB a second; 0 for no limit.
    pub bandwidth_mib: u32,
}

/// Why a kit is refused.
#[derive(Debug, thiserror::Error)]
pub enum KitError {
    /// Not a kit of this version.
    #[error("the recovery kit cannot be read: {0}")]
    Form(#[from] serde_json::Error),
    /// Written by a later version of Coffer.
    #[error("the recovery kit has format {0}; this program reads format {format}", format = RecoveryKit::FORMAT)]
    Newer(u32),
}

/// The last checkpoint of one log, pinned outside the provider.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinnedCheckpoint {
    /// C2SP origin line of the log.
    pub origin: String,
    /// The signed note.
    pub checkpoint: String,
}

/// The public recovery kit of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoveryKit {
    format: u32,
    /// Sites in the order of the topology.
    pub sites: Vec<SiteAddress>,
    /// The deployment CA's certificate.
    pub ca_pem: String,
    /// Name of the evidence key: the key id of envelopes and the signer name of notes.
    pub evidence_name: String,
    /// The Ed25519 public key that signs checkpoints and drill records, base64.
    evidence_key: String,
    /// The last checkpoints that were signed.
    pub checkpoints: Vec<PinnedCheckpoint>,
}

impl RecoveryKit {
    const FORMAT: u32 = 1;

    pub(crate) fn new(
        sites: Vec<SiteAddress>,
        ca_pem: String,
        evidence_name: String,
        key: &VerifyingKey,
        checkpoints: Vec<PinnedCheckpoint>,
    ) -> Self {
        use base64::Engine;
        let evidence_key = base64::engine::general_purpose::STANDARD.encode(key.0);
        Self { format: Self::FORMAT, sites, ca_pem, evidence_name, evidence_key, checkpoints }
    }

    /// The key that records and checkpoints are verified with.
    pub fn verifying_key(&self) -> Option<VerifyingKey> {
        use base64::Engine;
        let bytes = base64::engine::general_purpose::STANDARD.decode(&self.evidence_key).ok()?;
        bytes.try_into().ok().map(VerifyingKey)
    }

    /// The kit as a JSON file for people and programs.
    ///
    /// # Errors
    /// [`KitError::Form`] if a string cannot be JSON, which no kit of ours has.
    pub fn to_json(&self) -> Result<String, KitError> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// Reads a kit.
    ///
    /// # Errors
    /// [`KitError`].
    pub fn from_json(text: &str) -> Result<Self, KitError> {
        let kit: Self = serde_json::from_str(text)?;
        if kit.format == Self::FORMAT { Ok(kit) } else { Err(KitError::Newer(kit.format)) }
    }
}
