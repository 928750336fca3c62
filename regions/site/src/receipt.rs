//! Signed receipts: what a pod says that it has fsynced, over the nonce of
//! the caller who asked, so that no answer serves twice and none stands in
//! for another site's. A signature hides nothing: it is no cipher.

use core::fmt;
use std::str::FromStr;

use coffer_model::{Entropy, SiteId};
use coffer_regions::{Reach, Receipt};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

/// What the caller of a put makes the pod sign: 32 random bytes.
pub(crate) type Nonce = [u8; 32];

/// The public key of a pod's receipts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ReceiptKey(VerifyingKey);

/// Why a text is no receipt key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a receipt key is 64 lower-case hexadecimal digits of an Ed25519 public key")]
pub struct NotAReceiptKey;

impl ReceiptKey {
    /// Whether `signature` is this site's over exactly these receipts.
    pub(crate) fn verifies(&self, receipts: &SignedReceipts<'_>, signature: &[u8]) -> bool {
        let Ok(signature) = Signature::from_slice(signature) else { return false };
        self.0.verify_strict(&receipts.message(), &signature).is_ok()
    }
}

impl fmt::Display for ReceiptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ReceiptKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ReceiptKey {
    type Err = NotAReceiptKey;

    fn from_str(text: &str) -> Result<Self, NotAReceiptKey> {
        let bytes = seed_of_hex(text).ok_or(NotAReceiptKey)?;
        VerifyingKey::from_bytes(&bytes).map(Self).map_err(|_| NotAReceiptKey)
    }
}

/// 32 bytes in 64 lower-case digits.
fn seed_of_hex(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    if odd.is_empty() { bytes?.try_into().ok() } else { None }
}

/// The private key of a pod's receipts. It signs, and opens nothing.
pub struct ReceiptSigner(SigningKey);

impl ReceiptSigner {
    /// A fresh key.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        entropy.fill(seed.as_mut());
        Self(SigningKey::from_bytes(&seed))
    }

    /// The key with this seed.
    pub fn danger_from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&zeroize::Zeroizing::new(seed)))
    }

    /// Reads a key file: 64 hexadecimal digits and at most one newline.
    pub fn danger_from_text(text: &str) -> Option<Self> {
        seed_of_hex(text.strip_suffix('\n').unwrap_or(text)).map(Self::danger_from_seed)
    }

    /// The text of the key file.
    pub fn danger_to_text(&self) -> zeroize::Zeroizing<String> {
        let seed = zeroize::Zeroizing::new(self.0.to_bytes());
        let mut text = zeroize::Zeroizing::new(String::with_capacity(65));
        for byte in seed.iter() {
            for nibble in [byte >> 4, byte & 15] {
                text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        text.push('\n');
        text
    }

    /// Its public half.
    pub fn key(&self) -> ReceiptKey {
        ReceiptKey(self.0.verifying_key())
    }

    pub(crate) fn sign(&self, receipts: &SignedReceipts<'_>) -> [u8; 64] {
        self.0.sign(&receipts.message()).to_bytes()
    }
}

/// What one signature covers.
pub(crate) struct SignedReceipts<'a> {
    pub(crate) site: SiteId,
    pub(crate) nonce: Nonce,
    pub(crate) receipts: &'a [Receipt],
    pub(crate) reach: Option<Reach>,
}

impl SignedReceipts<'_> {
    /// The signed bytes, which `regions/PODS.md` draws.
    fn message(&self) -> Vec<u8> {
        let mut message = Vec::with_capacity(128 + 48 * self.receipts.len());
        message.extend_from_slice(b"coffer site receipt v1\n");
        message.extend_from_slice(self.site.as_bytes());
        message.extend_from_slice(&self.nonce);
        message.extend_from_slice(&(self.receipts.len() as u64).to_le_bytes());
        for receipt in self.receipts {
            message.extend_from_slice(receipt.record.as_bytes());
            message.extend_from_slice(&receipt.digest.0);
        }
        message.push(u8::from(self.reach.is_some()));
        if let Some(reach) = self.reach {
            message.extend_from_slice(&reach.sequence.to_le_bytes());
            message.extend_from_slice(&reach.digest.0);
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use coffer_model::{Digest, RecordId};

    use super::*;

    #[test]
    fn a_signature_covers_site_nonce_every_record_its_digest_and_the_reach() {
        let signer = ReceiptSigner::danger_from_seed([3; 32]);
        let site = SiteId::from_bytes([1; 16]);
        let receipt = |n| Receipt { site, record: RecordId::from_bytes([n; 16]), digest: Digest([n; 32]) };
        let receipts = [receipt(1), receipt(2)];
        let reach = Some(Reach { sequence: 7, digest: Digest([9; 32]) });
        let right = || SignedReceipts { site, nonce: [5; 32], receipts: &receipts, reach };
        let signature = signer.sign(&right());
        let verifies = |receipts: &SignedReceipts<'_>| signer.key().verifies(receipts, &signature);
        assert!(verifies(&right()));
        let other = [receipt(1), Receipt { digest: Digest([3; 32]), ..receipt(2) }];
        assert!(!verifies(&SignedReceipts { site: SiteId::from_bytes([2; 16]), ..right() }));
        assert!(!verifies(&SignedReceipts { nonce: [6; 32], ..right() }));
        assert!(!verifies(&SignedReceipts { receipts: &other, ..right() }));
        assert!(!verifies(&SignedReceipts { receipts: &receipts[..1], ..right() }));
        assert!(!verifies(&SignedReceipts { reach: None, ..right() }));
        assert!(!signer.key().verifies(&right(), &signature[1..]));
        let another = ReceiptSigner::danger_from_seed([4; 32]);
        assert!(!another.key().verifies(&right(), &signature));
    }

    #[test]
    fn keys_read_back_from_their_texts_and_nothing_else_does() {
        let signer = ReceiptSigner::danger_from_seed([0xa7; 32]);
        let again = ReceiptSigner::danger_from_text(&signer.danger_to_text()).unwrap();
        assert_eq!(again.key(), signer.key());
        assert_eq!(signer.key().to_string().parse(), Ok(signer.key()));
        for text in ["", "a7", &"A7".repeat(32), &"a7".repeat(33), &"g7".repeat(32)] {
            assert_eq!(text.parse::<ReceiptKey>(), Err(NotAReceiptKey));
            assert!(ReceiptSigner::danger_from_text(text).is_none());
        }
    }
}
