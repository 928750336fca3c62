//! The signed statement of where a node stands (`scheduler/control/ATTESTATION.md`). The fleet's operator
//! signs it, the node's agent carries it, and the control plane believes nothing
//! else: not a label, and not a statement over another node.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coffer_model::Timestamp;
use coffer_scheduler::{ATTESTATION_MAX, Attestation, NodeName, statement_id};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

pub use coffer_scheduler::{Said, Statement, said_by};

/// Before the statement in what is signed, so that no other signature of the key serves as one.
const PURPOSE: &[u8] = b"coffer node attestation v1\n";
const VERSION: &str = "v1";
/// Why a node's statement is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttestationError {
    /// The node carries none.
    #[error("the node carries no attestation; sign one for it, and give it to the node's agent")]
    Missing,
    /// Not a statement in any version that is known.
    #[error("the attestation is not of the form v1.STATEMENT.SIGNATURE; sign it anew")]
    Form,
    /// No key that is trusted made the signature.
    #[error("the attestation bears no signature of a key that this fleet trusts")]
    Signature,
    /// It speaks of another node.
    #[error("the attestation speaks of the node {0}")]
    OtherNode(NodeName),
    /// Its time has not come.
    #[error("the attestation holds only from {0}")]
    NotYet(Timestamp),
    /// Its time is over.
    #[error("the attestation ended at {0}; sign a new one")]
    Over(Timestamp),
    /// The operator took it back.
    #[error("the attestation {0} was revoked")]
    Revoked(String),
}

/// The private key of the fleet's operator.
pub struct Attester(SigningKey);

impl Attester {
    /// The key with this seed.
    pub fn danger_from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// What others verify with: 32 bytes of an Ed25519 public key.
    pub fn verifying_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }

    /// The text that a node carries.
    pub fn sign(&self, statement: &Statement) -> String {
        // Texts and numbers always have a JSON form.
        let body = serde_json::to_vec(statement).unwrap_or_default();
        let signature = self.0.sign(&[PURPOSE, &body].concat());
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        format!("{VERSION}.{}.{}", text(&body), text(&signature.to_bytes()))
    }
}

/// A statement whose signature was checked. Whether it holds now is asked with [`Verified::at`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    statement: Statement,
    id: String,
}

impl Verified {
    /// What a revocation names: the first 32 hexadecimal digits of the statement's BLAKE3 digest.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it says.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// What it says of the place, if it holds at this moment.
    ///
    /// # Errors
    /// [`AttestationError::NotYet`], [`AttestationError::Over`], [`AttestationError::Revoked`].
    pub fn at(
        &self,
        now: Timestamp,
        revoked: &impl Fn(&str) -> bool,
    ) -> Result<Attestation, AttestationError> {
        let moment = |seconds: u64| Timestamp(seconds.saturating_mul(1_000_000_000));
        let (from, to) = (moment(self.statement.not_before), moment(self.statement.not_after));
        if revoked(&self.id) {
            Err(AttestationError::Revoked(self.id.clone()))
        } else if now < from {
            Err(AttestationError::NotYet(from))
        } else if now >= to {
            Err(AttestationError::Over(to))
        } else {
            let Statement { country, domain, tier, .. } = self.statement.clone();
            Ok(Attestation { country, domain, tier })
        }
    }
}

/// The keys of the fleet's operators.
#[derive(Clone, Debug, Default)]
pub struct TrustedKeys(Vec<VerifyingKey>);

impl TrustedKeys {
    /// Of 32 bytes each; `None` if one of them is no key.
    pub fn new(keys: &[[u8; 32]]) -> Option<Self> {
        keys.iter().map(|key| VerifyingKey::from_bytes(key).ok()).collect::<Option<_>>().map(Self)
    }

    /// Checks what the node `node` carries.
    ///
    /// # Errors
    /// [`AttestationError`], but for what depends on the time.
    pub fn verify(&self, node: &NodeName, text: Option<&str>) -> Result<Verified, AttestationError> {
        let text = text.ok_or(AttestationError::Missing)?;
        let parts: Vec<&str> = text.split('.').collect();
        let [VERSION, body, signature] = parts[..] else { return Err(AttestationError::Form) };
        if text.len() > ATTESTATION_MAX {
            return Err(AttestationError::Form);
        }
        let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| AttestationError::Form);
        let (body, signature) = (bytes(body)?, bytes(signature)?);
        let signature = Signature::from_slice(&signature).map_err(|_| AttestationError::Form)?;
        let message = [PURPOSE, &body].concat();
        if !self.0.iter().any(|key| key.verify_strict(&message, &signature).is_ok()) {
            return Err(AttestationError::Signature);
        }
        let statement: Statement = serde_json::from_slice(&body).map_err(|_| AttestationError::Form)?;
        if statement.node != *node {
            return Err(AttestationError::OtherNode(statement.node));
        }
        Ok(Verified { statement, id: statement_id(&body) })
    }
}

#[cfg(test)]
mod tests {
    use coffer_model::{FailureDomain, Tier};

    use super::*;

    fn statement() -> Statement {
        Statement {
            node: "fra1".parse().unwrap(),
            country: "DE".parse().unwrap(),
            domain: FailureDomain("fra".to_owned()),
            tier: Tier::III,
            not_before: 100,
            not_after: 200,
        }
    }

    fn attester() -> Attester {
        Attester::danger_from_seed(&[7; 32])
    }

    fn trusted() -> TrustedKeys {
        TrustedKeys::new(&[[0; 32], attester().verifying_key()][1..]).unwrap()
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp(seconds * 1_000_000_000)
    }

    #[test]
    fn a_statement_is_believed_between_its_two_moments_and_not_after_its_revocation() {
        let verified =
            trusted().verify(&"fra1".parse().unwrap(), Some(&attester().sign(&statement()))).unwrap();
        let never = |_: &str| false;
        assert_eq!(verified.at(at(99), &never), Err(AttestationError::NotYet(at(100))));
        assert_eq!(verified.at(at(100), &never).unwrap().country.as_str(), "DE");
        assert_eq!(verified.at(at(200), &never), Err(AttestationError::Over(at(200))));
        let id = verified.id().to_owned();
        assert_eq!(verified.at(at(100), &|one: &str| one == id), Err(AttestationError::Revoked(id.clone())));
        // Whoever revokes it needs no key to name it.
        let said = said_by(&attester().sign(&statement())).unwrap();
        assert_eq!((said.id, said.statement), (id, statement()));
    }

    #[test]
    fn one_changed_letter_anywhere_is_found() {
        let text = attester().sign(&statement());
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(trusted().verify(&"fra1".parse().unwrap(), Some(&changed)).is_err(), "{at}");
        }
    }

    #[test]
    fn a_statement_of_another_node_another_key_or_another_form_says_nothing() {
        let text = attester().sign(&statement());
        let of = |node: &str, text: Option<&str>| trusted().verify(&node.parse().unwrap(), text);
        assert_eq!(of("par1", Some(&text)), Err(AttestationError::OtherNode("fra1".parse().unwrap())));
        let other = Attester::danger_from_seed(&[8; 32]).sign(&statement());
        assert_eq!(of("fra1", Some(&other)), Err(AttestationError::Signature));
        assert_eq!(of("fra1", None), Err(AttestationError::Missing));
        let long = "a".repeat(ATTESTATION_MAX);
        for text in ["", "v1", "v1..", "v2.e30.e30", "v1.e30.e30.e30", "DE", &format!("v1.{long}.e30")] {
            assert_eq!(of("fra1", Some(text)), Err(AttestationError::Form), "{text}");
        }
    }
}
