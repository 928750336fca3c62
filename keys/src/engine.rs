//! The two ciphers of `aws-lc-rs` under keys that are always 32 bytes, and
//! its SHA-256.
//!
//! Constructing a cipher fails for one reason only beside a wrong key length:
//! memory that cannot be allocated, on which Rust ends the process anyway.

use aws_lc_rs::aead::{AES_256_GCM, AES_256_GCM_SIV, Aad, Algorithm, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest;
use coffer_model::Entropy;
use zeroize::Zeroizing;

/// Bytes of the nonce of AES-GCM and AES-GCM-SIV.
pub(crate) const NONCE_BYTES: usize = 12;

#[expect(clippy::expect_used, reason = "a 32-byte key is the only condition of these two ciphers")]
fn cipher(algorithm: &'static Algorithm, key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(algorithm, key).expect("32 bytes are the key length of AES-256"))
}

/// AES-256-GCM, for bulk data. Nonces come from the object format.
pub(crate) fn gcm(key: &[u8; 32]) -> LessSafeKey {
    cipher(&AES_256_GCM, key)
}

/// Seals `secret` under AES-256-GCM-SIV with a random nonce:
/// `nonce ‖ ciphertext ‖ tag`.
#[expect(clippy::expect_used, reason = "the cipher fails only above 2^36 bytes, more than a wrap can hold")]
pub(crate) fn siv_seal(key: &[u8; 32], aad: &[u8], secret: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
    let mut nonce = [0; NONCE_BYTES];
    entropy.fill(&mut nonce);
    // Sized in full beforehand: a reallocation would leave plaintext behind.
    let mut out = Vec::with_capacity(NONCE_BYTES + secret.len() + 16);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(secret);
    let tag = cipher(&AES_256_GCM_SIV, key)
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad),
            &mut out[NONCE_BYTES..],
        )
        .expect("secrets are far below the length limit of AES-GCM-SIV");
    out.extend_from_slice(tag.as_ref());
    out
}

/// Opens what [`siv_seal`] made; `None` if key, associated data or any byte
/// is another.
pub(crate) fn siv_open(key: &[u8; 32], aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, body) = sealed.split_first_chunk::<NONCE_BYTES>()?;
    let mut body = Zeroizing::new(body.to_vec());
    let plain = cipher(&AES_256_GCM_SIV, key)
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), &mut body)
        .ok()?
        .len();
    body.truncate(plain);
    Some(body)
}

/// SHA-256 of the parts, joined without separator.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

/// The 32 bytes of an opened secret, if it has so many.
pub(crate) fn thirty_two(bytes: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
    let array: &[u8; 32] = bytes.try_into().ok()?;
    Some(Zeroizing::new(*array))
}
