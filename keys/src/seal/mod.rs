//! The object format: Cobblestone-256 of the C2SP specification
//! "chunked-encryption" (<https://c2sp.org/chunked-encryption>): HKDF-Expand
//! with SHA-512 gives key, base nonce and commitment; AES-256-GCM seals chunks
//! of 16 KiB; the last chunk is always short, so that an end is authentic.

mod context;
mod opener;
mod range;
mod sealer;

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use coffer_model::Entropy;
use zeroize::Zeroizing;

pub use context::Context;
pub use opener::{OpenError, Opener, RangeOpener};
pub use range::{plain_size, sealed_range, sealed_size};
pub use sealer::{SealError, Sealer};

use crate::derive::expand;
use crate::engine::{self, NONCE_BYTES};
use crate::secret::Dek;

/// Bytes before the first chunk: salt (24) and commitment (32).
pub const HEADER_BYTES: usize = SALT_BYTES + COMMITMENT_BYTES;
/// Plaintext bytes of every chunk but the last.
pub const CHUNK_BYTES: usize = 16384;
/// Bytes of the authentication tag behind every chunk.
pub const TAG_BYTES: usize = 16;
/// Sealed bytes of every chunk but the last.
pub const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;

const SALT_BYTES: usize = 24;
const COMMITMENT_BYTES: usize = 32;
/// The specification's limit, 4 PiB of plaintext.
const CHUNKS_MAX: u64 = 1 << 38;

/// What one message is sealed with.
struct Material {
    cipher: LessSafeKey,
    base_nonce: [u8; NONCE_BYTES],
    commitment: [u8; COMMITMENT_BYTES],
}

impl Material {
    /// The specification's key derivation.
    fn derive(key: &Dek, context: &Context, salt: &[u8; SALT_BYTES]) -> Self {
        let info: [&[u8]; 4] =
            [b"c2sp.org/chunked-encryption@v1+", b"AEAD_AES_256_GCM\0", salt, context.as_bytes()];
        let okm = expand::<{ 32 + NONCE_BYTES + COMMITMENT_BYTES }>(key.danger_expose(), &info);
        let mut aead_key = Zeroizing::new([0; 32]);
        let mut base_nonce = [0; NONCE_BYTES];
        let mut commitment = [0; COMMITMENT_BYTES];
        aead_key.copy_from_slice(&okm[..32]);
        base_nonce.copy_from_slice(&okm[32..44]);
        commitment.copy_from_slice(&okm[44..]);
        Self { cipher: engine::gcm(&aead_key), base_nonce, commitment }
    }

    /// Base nonce XOR chunk number, big-endian.
    fn nonce(&self, chunk: u64) -> Nonce {
        let mut nonce = self.base_nonce;
        nonce[NONCE_BYTES - 8..].iter_mut().zip(chunk.to_be_bytes()).for_each(|(byte, count)| *byte ^= count);
        Nonce::assume_unique_for_key(nonce)
    }

    /// Opens one sealed chunk behind `out`; `out` is as before on an error.
    fn open_chunk(&self, chunk: u64, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), OpenError> {
        let (body, tag) = sealed.split_last_chunk::<TAG_BYTES>().ok_or(OpenError::Truncated)?;
        let start = out.len();
        // From where it lies to where it goes, without a copy between.
        out.resize(start + body.len(), 0);
        let opened = self
            .cipher
            .open_separate_gather(self.nonce(chunk), Aad::empty(), body, tag, &mut out[start..])
            .is_ok();
        if !opened {
            // Whatever the engine left there is not authentic.
            out[start..].fill(0);
            out.truncate(start);
            return Err(OpenError::Tampered { chunk });
        }
        Ok(())
    }
}

/// Seals a whole message at once.
///
/// # Errors
/// [`SealError`].
pub fn seal_bytes(
    key: &Dek,
    context: &Context,
    entropy: &dyn Entropy,
    plaintext: &[u8],
) -> Result<Vec<u8>, SealError> {
    let chunks = plaintext.len() / CHUNK_BYTES + 1;
    let mut out = Vec::with_capacity(HEADER_BYTES + plaintext.len() + chunks * TAG_BYTES);
    let mut sealer = Sealer::new(key, context, entropy, &mut out);
    sealer.push(plaintext, &mut out)?;
    sealer.finish(&mut out)?;
    Ok(out)
}

/// Opens a whole message at once.
///
/// # Errors
/// [`OpenError`]; then nothing of the plaintext is returned.
pub fn open_bytes(key: &Dek, context: &Context, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let mut out = Zeroizing::new(Vec::with_capacity(sealed.len()));
    let mut opener = Opener::new(key, context);
    opener.push(sealed, &mut out)?;
    opener.finish(&mut out)?;
    Ok(out)
}
