//! Sealing a stream of plaintext, one pass, in arbitrary pieces.

use aws_lc_rs::aead::Aad;
use coffer_model::Entropy;
use zeroize::Zeroizing;

use super::{CHUNK_BYTES, CHUNKS_MAX, Context, Material, SALT_BYTES, TAG_BYTES};
use crate::secret::Dek;

/// Why a message could not be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Longer than the format's 2^38 chunks.
    #[error("the message is longer than the object format's 4 PiB; split it")]
    TooLong,
    /// The cipher refused; nothing of this chunk was written.
    #[error("the cipher failed; discard the message and seal it again")]
    Engine,
}

/// Seals one message. Whoever drops it without [`Sealer::finish`] leaves a
/// message that opens as truncated.
pub struct Sealer {
    material: Material,
    /// Plaintext of the unfinished chunk; shorter than a chunk between calls.
    pending: Zeroizing<Vec<u8>>,
    chunk: u64,
}

impl Sealer {
    /// Draws a salt and writes the header to `out`.
    pub fn new(key: &Dek, context: &Context, entropy: &dyn Entropy, out: &mut Vec<u8>) -> Self {
        let mut salt = [0; SALT_BYTES];
        entropy.fill(&mut salt);
        let material = Material::derive(key, context, &salt);
        out.extend_from_slice(&salt);
        out.extend_from_slice(&material.commitment);
        Self { material, pending: Zeroizing::new(Vec::new()), chunk: 0 }
    }

    /// Takes the next plaintext bytes and appends the chunks that became
    /// complete to `out`.
    ///
    /// # Errors
    /// [`SealError`]; the message is lost then.
    pub fn push(&mut self, mut plaintext: &[u8], out: &mut Vec<u8>) -> Result<(), SealError> {
        if !self.pending.is_empty() {
            let (head, tail) = plaintext.split_at(plaintext.len().min(CHUNK_BYTES - self.pending.len()));
            self.pending.extend_from_slice(head);
            plaintext = tail;
            if self.pending.len() < CHUNK_BYTES {
                return Ok(());
            }
            seal_chunk(&self.material, &mut self.chunk, &self.pending, out)?;
            self.pending.clear();
        }
        let (chunks, rest) = plaintext.as_chunks::<CHUNK_BYTES>();
        out.reserve(chunks.len() * (CHUNK_BYTES + TAG_BYTES));
        for chunk in chunks {
            seal_chunk(&self.material, &mut self.chunk, chunk, out)?;
        }
        if !rest.is_empty() {
            // In full at once: growing would leave copies of plaintext behind.
            self.pending.reserve_exact(CHUNK_BYTES);
            self.pending.extend_from_slice(rest);
        }
        Ok(())
    }

    /// Appends the last chunk, which is short and may be empty.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), SealError> {
        seal_chunk(&self.material, &mut self.chunk, &self.pending, out)
    }
}

/// Copies a chunk behind `out` and encrypts it there.
fn seal_chunk(
    material: &Material,
    number: &mut u64,
    chunk: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), SealError> {
    if *number >= CHUNKS_MAX {
        return Err(SealError::TooLong);
    }
    let start = out.len();
    out.reserve(chunk.len() + TAG_BYTES);
    out.extend_from_slice(chunk);
    let sealed =
        material.cipher.seal_in_place_separate_tag(material.nonce(*number), Aad::empty(), &mut out[start..]);
    let Ok(tag) = sealed else {
        out[start..].fill(0);
        out.truncate(start);
        return Err(SealError::Engine);
    };
    out.extend_from_slice(tag.as_ref());
    *number += 1;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;
    impl Entropy for Fixed {
        fn fill(&self, out: &mut [u8]) {
            out.fill(7);
        }
    }

    #[test]
    fn the_chunk_after_the_last_permitted_one_is_refused() {
        let mut out = Vec::new();
        let key = Dek::generate(&Fixed);
        let mut sealer = Sealer::new(&key, &Context::named("limit", &[]), &Fixed, &mut out);
        sealer.chunk = CHUNKS_MAX - 1;
        sealer.push(&[0; CHUNK_BYTES], &mut out).unwrap();
        let before = out.clone();
        assert_eq!(sealer.push(&[0; CHUNK_BYTES], &mut out), Err(SealError::TooLong));
        assert_eq!(out, before);
        assert_eq!(sealer.finish(&mut out), Err(SealError::TooLong));
    }
}
