//! A key under a passphrase: Argon2id (RFC 9106, the second recommended
//! choice) and XChaCha20-Poly1305. The cost is stored with the slot, so that
//! it can rise, and capped when read, so that a hostile slot cannot eat the
//! machine. Drawn in `FORMAT.md`.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use coffer_model::Entropy;
use zeroize::Zeroizing;

use crate::engine;

const VERSION: u8 = 1;
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;
const CIPHERTEXT_BYTES: usize = 48;
/// Version, three costs, salt and nonce: everything before the ciphertext,
/// and the associated data of it.
const HEADER_BYTES: usize = 1 + 12 + SALT_BYTES + NONCE_BYTES;

/// 64 MiB, in KiB.
const MEMORY_KIB: u32 = 64 * 1024;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// Caps on what a stored slot may ask for: 1 GiB, 16 passes, 16 lanes.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;

/// Why a passphrase slot was not made or does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseError {
    /// Not a slot, or of a version that this release does not know.
    #[error("not a passphrase slot of a format that this release knows")]
    Format,
    /// The stored cost is beyond the caps or not a cost at all.
    #[error(
        "the slot asks for {memory_kib} KiB, {passes} passes and {lanes} lanes; at most {MEMORY_KIB_MAX} KiB, {PASSES_MAX} and {LANES_MAX} are accepted"
    )]
    Cost {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// Another passphrase, or an altered slot.
    #[error("the passphrase is not the one of this slot, or the slot was altered")]
    WrongPassphrase,
    /// The machine could not do the work.
    #[error("the passphrase could not be processed; is there enough memory?")]
    Engine,
}

/// A slot as it is stored: costs, salt, nonce and the wrapped key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassphraseSlot {
    header: [u8; HEADER_BYTES],
    ciphertext: [u8; CIPHERTEXT_BYTES],
}

impl PassphraseSlot {
    /// Its stored length.
    pub const BYTES: usize = HEADER_BYTES + CIPHERTEXT_BYTES;

    /// Reads stored bytes and refuses costs beyond the caps.
    ///
    /// # Errors
    /// [`PassphraseError::Format`], [`PassphraseError::Cost`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PassphraseError> {
        let (header, ciphertext) =
            bytes.split_first_chunk::<HEADER_BYTES>().ok_or(PassphraseError::Format)?;
        let ciphertext = ciphertext.try_into().map_err(|_| PassphraseError::Format)?;
        if header[0] != VERSION {
            return Err(PassphraseError::Format);
        }
        let slot = Self { header: *header, ciphertext };
        slot.params()?;
        Ok(slot)
    }

    /// The stored bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.header.as_slice(), &self.ciphertext].concat()
    }

    /// Opens the slot. Takes the slot's memory and, on a present machine,
    /// tenths of a second.
    ///
    /// # Errors
    /// [`PassphraseError`].
    pub fn open(&self, passphrase: &[u8]) -> Result<Zeroizing<[u8; 32]>, PassphraseError> {
        let cipher = self.cipher(passphrase)?;
        let payload = Payload { msg: &self.ciphertext, aad: &self.header };
        let plain = cipher.decrypt(&self.nonce(), payload).map_err(|_| PassphraseError::WrongPassphrase)?;
        engine::thirty_two(&Zeroizing::new(plain)).ok_or(PassphraseError::WrongPassphrase)
    }

    /// Seals a key with fresh salt and nonce at today's cost.
    ///
    /// # Errors
    /// [`PassphraseError::Engine`].
    pub fn seal(
        passphrase: &[u8],
        secret: &[u8; 32],
        entropy: &dyn Entropy,
    ) -> Result<Self, PassphraseError> {
        let mut header = [0; HEADER_BYTES];
        header[0] = VERSION;
        header[1..5].copy_from_slice(&MEMORY_KIB.to_be_bytes());
        header[5..9].copy_from_slice(&PASSES.to_be_bytes());
        header[9..13].copy_from_slice(&LANES.to_be_bytes());
        entropy.fill(&mut header[13..]);
        let mut slot = Self { header, ciphertext: [0; CIPHERTEXT_BYTES] };
        let payload = Payload { msg: secret, aad: &header };
        let sealed =
            slot.cipher(passphrase)?.encrypt(&slot.nonce(), payload).map_err(|_| PassphraseError::Engine)?;
        slot.ciphertext = sealed.try_into().map_err(|_| PassphraseError::Engine)?;
        Ok(slot)
    }

    fn cost(&self, at: usize) -> u32 {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.header[at..at + 4]);
        u32::from_be_bytes(bytes)
    }

    fn params(&self) -> Result<Params, PassphraseError> {
        let (memory_kib, passes, lanes) = (self.cost(1), self.cost(5), self.cost(9));
        let refused = PassphraseError::Cost { memory_kib, passes, lanes };
        if memory_kib > MEMORY_KIB_MAX || passes > PASSES_MAX || lanes > LANES_MAX {
            return Err(refused);
        }
        Params::new(memory_kib, passes, lanes, Some(32)).map_err(|_| refused)
    }

    fn nonce(&self) -> XNonce {
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&self.header[HEADER_BYTES - NONCE_BYTES..]);
        XNonce::from(nonce)
    }

    fn cipher(&self, passphrase: &[u8]) -> Result<XChaCha20Poly1305, PassphraseError> {
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, self.params()?);
        let mut key = Zeroizing::new([0; 32]);
        argon
            .hash_password_into(passphrase, &self.header[13..13 + SALT_BYTES], key.as_mut())
            .map_err(|_| PassphraseError::Engine)?;
        Ok(XChaCha20Poly1305::new(&Key::from(*key)))
    }
}

/// The stored bytes of a new slot for `secret`.
///
/// # Errors
/// [`PassphraseError::Engine`].
pub fn seal_under_passphrase(
    passphrase: &[u8],
    secret: &[u8; 32],
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, PassphraseError> {
    PassphraseSlot::seal(passphrase, secret, entropy).map(|slot| slot.to_bytes())
}

/// Opens the stored bytes of a slot.
///
/// # Errors
/// [`PassphraseError`].
pub fn open_under_passphrase(passphrase: &[u8], slot: &[u8]) -> Result<Zeroizing<[u8; 32]>, PassphraseError> {
    PassphraseSlot::from_bytes(slot)?.open(passphrase)
}
