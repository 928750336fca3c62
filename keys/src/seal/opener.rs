//! Opening: a stream from its beginning, or single chunks anywhere.

use super::{CHUNKS_MAX, Context, HEADER_BYTES, Material, SALT_BYTES, SEALED_CHUNK_BYTES, TAG_BYTES};
use crate::secret::Dek;

/// Why bytes are not the message that was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The commitment in the header belongs to another key, context or salt.
    #[error("sealed under another key or for another context, or its header was altered")]
    WrongKeyOrContext,
    /// A chunk is not the one that was sealed at this place.
    #[error("chunk {chunk} is not what was sealed there; read another copy")]
    Tampered {
        /// Number of the chunk, from zero.
        chunk: u64,
    },
    /// The end is missing.
    #[error("the sealed bytes end too early; read another copy")]
    Truncated,
    /// A chunk number or a chunk beyond what the format can hold.
    #[error("longer than the object format allows; these bytes were not sealed by it")]
    TooLong,
}

/// The material for a header whose commitment is right.
fn material_for(key: &Dek, context: &Context, header: &[u8; HEADER_BYTES]) -> Result<Material, OpenError> {
    let (salt, commitment) = header.split_at(SALT_BYTES);
    let salt: &[u8; SALT_BYTES] = salt.try_into().map_err(|_| OpenError::Truncated)?;
    let material = Material::derive(key, context, salt);
    aws_lc_rs::constant_time::verify_slices_are_equal(&material.commitment, commitment)
        .map_err(|_| OpenError::WrongKeyOrContext)?;
    Ok(material)
}

enum Stage {
    /// Waiting for 56 bytes.
    Header(Box<(Dek, Context)>),
    /// Opening chunk after chunk.
    Chunks { material: Material, chunk: u64 },
    /// Failed, and fails the same way from now on.
    Failed(OpenError),
}

/// Opens one message from its first byte on. Everything that it appends is
/// authentic; that the message is *complete* is known when
/// [`Opener::finish`] returns.
pub struct Opener {
    stage: Stage,
    /// Sealed bytes of the unfinished header or chunk.
    pending: Vec<u8>,
}

impl Opener {
    /// Opens what was sealed under this key for this context.
    pub fn new(key: &Dek, context: &Context) -> Self {
        let key = Dek::danger_from_bytes(zeroize::Zeroizing::new(*key.danger_expose()));
        Self { stage: Stage::Header(Box::new((key, context.clone()))), pending: Vec::new() }
    }

    /// Takes the next sealed bytes and appends the plaintext of the chunks
    /// that became complete to `out`.
    ///
    /// # Errors
    /// [`OpenError`]; every later call fails with the same.
    pub fn push(&mut self, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), OpenError> {
        self.advance(sealed, out).inspect_err(|error| self.stage = Stage::Failed(*error))
    }

    /// Opens the last, short chunk.
    ///
    /// # Errors
    /// [`OpenError::Truncated`] if it is missing, or another [`OpenError`].
    pub fn finish(self, out: &mut Vec<u8>) -> Result<(), OpenError> {
        match self.stage {
            Stage::Failed(error) => Err(error),
            Stage::Header(_) => Err(OpenError::Truncated),
            Stage::Chunks { chunk, .. } if chunk >= CHUNKS_MAX => Err(OpenError::TooLong),
            Stage::Chunks { material, chunk } => material.open_chunk(chunk, &self.pending, out),
        }
    }

    fn advance(&mut self, mut sealed: &[u8], out: &mut Vec<u8>) -> Result<(), OpenError> {
        if let Stage::Header(parts) = &self.stage {
            let (head, tail) = sealed.split_at(sealed.len().min(HEADER_BYTES - self.pending.len()));
            self.pending.extend_from_slice(head);
            let Ok(header) = <&[u8; HEADER_BYTES]>::try_from(self.pending.as_slice()) else { return Ok(()) };
            let material = material_for(&parts.0, &parts.1, header)?;
            self.stage = Stage::Chunks { material, chunk: 0 };
            self.pending.clear();
            sealed = tail;
        }
        let (material, chunk) = match &mut self.stage {
            Stage::Chunks { material, chunk } => (material, chunk),
            Stage::Failed(error) => return Err(*error),
            Stage::Header(_) => return Ok(()),
        };
        if !self.pending.is_empty() {
            let (head, tail) = sealed.split_at(sealed.len().min(SEALED_CHUNK_BYTES - self.pending.len()));
            self.pending.extend_from_slice(head);
            sealed = tail;
            if self.pending.len() < SEALED_CHUNK_BYTES {
                return Ok(());
            }
            open_next(material, chunk, &self.pending, out)?;
            self.pending.clear();
        }
        let (chunks, rest) = sealed.as_chunks::<SEALED_CHUNK_BYTES>();
        out.reserve(chunks.len() * (SEALED_CHUNK_BYTES - TAG_BYTES));
        for sealed_chunk in chunks {
            open_next(material, chunk, sealed_chunk, out)?;
        }
        self.pending.extend_from_slice(rest);
        Ok(())
    }
}

fn open_next(
    material: &Material,
    chunk: &mut u64,
    sealed: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), OpenError> {
    if *chunk >= CHUNKS_MAX {
        return Err(OpenError::TooLong);
    }
    material.open_chunk(*chunk, sealed, out)?;
    *chunk += 1;
    Ok(())
}

/// Opens single chunks of one message in any order. That the message is
/// complete it cannot know; whoever needs its end opens the last chunk.
pub struct RangeOpener {
    material: Material,
}

impl RangeOpener {
    /// Checks the header of the message.
    ///
    /// # Errors
    /// [`OpenError::WrongKeyOrContext`].
    pub fn new(key: &Dek, context: &Context, header: &[u8; HEADER_BYTES]) -> Result<Self, OpenError> {
        Ok(Self { material: material_for(key, context, header)? })
    }

    /// Opens chunk `index` behind `out`. A last chunk is shorter than
    /// [`SEALED_CHUNK_BYTES`], every other has exactly so many bytes.
    ///
    /// # Errors
    /// [`OpenError`]; then `out` is as before.
    pub fn open_chunk(
        &self,
        index: u64,
        is_last: bool,
        sealed_chunk: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), OpenError> {
        let len = sealed_chunk.len();
        if index >= CHUNKS_MAX || len > SEALED_CHUNK_BYTES {
            return Err(OpenError::TooLong);
        }
        // A full chunk in the last place has lost the short one behind it; a
        // short chunk in another place has lost its own end.
        if is_last == (len == SEALED_CHUNK_BYTES) {
            return Err(OpenError::Truncated);
        }
        self.material.open_chunk(index, sealed_chunk, out)
    }
}
