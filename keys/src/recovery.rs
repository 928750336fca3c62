//! Sealing a key to a recovery public key: HPKE (RFC 9180) in base mode with
//! the hybrid KEM MLKEM768-X25519 (X-Wing, KEM id 0x647a, still a draft, hence
//! stored), HKDF-SHA256 and AES-256-GCM. Drawn in `FORMAT.md`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use coffer_model::Entropy;
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::XWing;
use hpke::{Deserializable, Kem, OpModeR, OpModeS, Serializable};
use zeroize::Zeroizing;

use crate::chance::EntropyRng;
use crate::engine;
use crate::secret::RecoverySecret;

const VERSION: u8 = 1;
const KEM_ID: u16 = 0x647a;
const PUBLIC_BYTES: usize = 1216;
const ENC_BYTES: usize = 1120;
const HEADER_BYTES: usize = 3;
const CIPHERTEXT_BYTES: usize = 48;
const SEALED_BYTES: usize = HEADER_BYTES + ENC_BYTES + CIPHERTEXT_BYTES;

/// Why a recovery seal was not made or does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// The text or bytes are not a recovery public key.
    #[error("not a recovery public key (base64 of {PUBLIC_BYTES} bytes); copy it again, whole")]
    PublicKey,
    /// The bytes are not a recovery seal of a format that this release knows.
    #[error("not a recovery seal of a format that this release knows")]
    Format,
    /// Sealed to another key, for another purpose, or altered.
    #[error("sealed to another recovery key or for another purpose, or altered")]
    NotAuthentic,
    /// The KEM or the cipher failed.
    #[error("sealing to the recovery key failed; nothing was stored")]
    Engine,
}

/// The public half of a recovery key pair.
#[derive(Clone, PartialEq, Eq)]
pub struct RecoveryPublicKey(Box<[u8; PUBLIC_BYTES]>);

impl RecoveryPublicKey {
    /// The 1216 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// Reads and validates the 1216 bytes.
    ///
    /// # Errors
    /// [`RecoveryError::PublicKey`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecoveryError> {
        let array = <Box<[u8; PUBLIC_BYTES]>>::try_from(bytes.to_vec().into_boxed_slice())
            .map_err(|_| RecoveryError::PublicKey)?;
        <XWing as Kem>::PublicKey::from_bytes(bytes).map_err(|_| RecoveryError::PublicKey)?;
        Ok(Self(array))
    }

    /// Base64, standard alphabet, with padding.
    pub fn to_text(&self) -> String {
        STANDARD.encode(self.as_bytes())
    }

    /// Reads what [`Self::to_text`] wrote; white space around it is ignored.
    ///
    /// # Errors
    /// [`RecoveryError::PublicKey`].
    pub fn from_text(text: &str) -> Result<Self, RecoveryError> {
        let text = text.trim();
        if text.len() != PUBLIC_BYTES.div_ceil(3) * 4 {
            return Err(RecoveryError::PublicKey);
        }
        Self::from_bytes(&STANDARD.decode(text).map_err(|_| RecoveryError::PublicKey)?)
    }
}

impl core::fmt::Debug for RecoveryPublicKey {
    /// A fingerprint: the key itself fills a screen.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let digest = coffer_model::Digest(engine::sha256(&[self.as_bytes()]));
        write!(f, "RecoveryPublicKey(SHA-256 {digest})")
    }
}

impl RecoverySecret {
    #[expect(clippy::expect_used, reason = "an X-Wing seed is any 32 bytes; the length is the only check")]
    fn private_key(&self) -> <XWing as Kem>::PrivateKey {
        <XWing as Kem>::PrivateKey::from_bytes(self.danger_expose()).expect("a seed has 32 bytes")
    }

    /// The public key that belongs to this seed.
    pub fn public_key(&self) -> RecoveryPublicKey {
        let mut bytes = Box::new([0; PUBLIC_BYTES]);
        XWing::sk_to_pk(&self.private_key()).write_exact(bytes.as_mut_slice());
        RecoveryPublicKey(bytes)
    }
}

fn header() -> [u8; HEADER_BYTES] {
    let [high, low] = KEM_ID.to_be_bytes();
    [VERSION, high, low]
}

/// The header is bound through HPKE's `info` and not as associated data,
/// which the one-shot calls of other implementations do not all offer.
fn bound(info: &[u8]) -> Vec<u8> {
    [header().as_slice(), info].concat()
}

/// Seals a key so that only the holder of the recovery secret opens it, and
/// only for the same `info`: version byte, KEM id, encapsulation, ciphertext.
///
/// # Errors
/// [`RecoveryError::Engine`].
pub fn seal_to(
    public: &RecoveryPublicKey,
    info: &[u8],
    secret: &[u8; 32],
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, RecoveryError> {
    let public =
        <XWing as Kem>::PublicKey::from_bytes(public.as_bytes()).map_err(|_| RecoveryError::PublicKey)?;
    let (enc, ciphertext) = hpke::single_shot_seal_with_rng::<AesGcm256, HkdfSha256, XWing>(
        &OpModeS::Base,
        &public,
        &bound(info),
        secret,
        &[],
        &mut EntropyRng(entropy),
    )
    .map_err(|_| RecoveryError::Engine)?;
    let mut out = Vec::with_capacity(SEALED_BYTES);
    out.extend_from_slice(&header());
    out.extend_from_slice(&enc.to_bytes());
    out.extend_from_slice(&ciphertext);
    Ok(out)
}

/// Opens what [`seal_to`] made for this key and `info`.
///
/// # Errors
/// [`RecoveryError::Format`], [`RecoveryError::NotAuthentic`].
pub fn open_sealed(
    secret: &RecoverySecret,
    info: &[u8],
    sealed: &[u8],
) -> Result<Zeroizing<[u8; 32]>, RecoveryError> {
    if sealed.len() != SEALED_BYTES || sealed[..HEADER_BYTES] != header() {
        return Err(RecoveryError::Format);
    }
    let (enc, ciphertext) = sealed[HEADER_BYTES..].split_at(ENC_BYTES);
    let enc = <XWing as Kem>::EncappedKey::from_bytes(enc).map_err(|_| RecoveryError::NotAuthentic)?;
    let plain = hpke::single_shot_open::<AesGcm256, HkdfSha256, XWing>(
        &OpModeR::Base,
        &secret.private_key(),
        &enc,
        &bound(info),
        ciphertext,
        &[],
    )
    .map_err(|_| RecoveryError::NotAuthentic)?;
    engine::thirty_two(&Zeroizing::new(plain)).ok_or(RecoveryError::NotAuthentic)
}
