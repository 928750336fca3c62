//! One chunk: its keyed id, and its sealed form.
//!
//! The plaintext that is sealed is a flag byte (0 stored, 1 zstd) and the
//! payload; the context is the chunk's id, so that no chunk can be served in
//! another's place.

use core::fmt;

use coffer_keys::{Context, Dek, open_bytes, seal_bytes};
use coffer_model::Entropy;
use serde::{Deserialize, Serialize};

use super::chunker::CHUNK_BYTES_MAX;
use super::sealing::SealingError;

/// Bytes that sealing adds to a chunk at most, over the 4 MiB of the largest:
/// header, flag and one tag for each 16 KiB.
pub(crate) const SEALED_CHUNK_BYTES_MAX: u32 = (4 << 20) + (8 << 10);

const STORED: u8 = 0;
const ZSTD: u8 = 1;
const ZSTD_LEVEL: i32 = 1;
/// Below this nothing is gained by compressing.
const COMPRESS_BYTES_MIN: usize = 64;

/// Keyed BLAKE3 of a chunk's plaintext. Without the repository's key it says
/// nothing about the content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChunkId(pub [u8; 32]);

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One chunk of a file's data, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkRef {
    /// Which chunk.
    pub id: ChunkId,
    /// Plaintext length in bytes.
    pub bytes: u32,
}

/// Why a sealed chunk did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    /// The seal is broken: damaged, or another chunk's bytes.
    #[error("its seal is broken")]
    Seal,
    /// The seal is whole and what is inside is no chunk.
    #[error("what is inside is not a chunk of this format")]
    Format,
    /// The content does not have the id that it is stored under.
    #[error("its content does not match its id")]
    Content,
}

/// Seals chunks one after the other, with one compressor for all.
pub(crate) struct ChunkSealer {
    compressor: zstd::bulk::Compressor<'static>,
    plain: Vec<u8>,
}

impl ChunkSealer {
    /// A sealer with its compressor.
    pub(crate) fn new() -> Result<Self, SealingError> {
        let compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(|_| SealingError::Compressor)?;
        Ok(Self { compressor, plain: Vec::new() })
    }

    /// The sealed form of `data`, compressed if that makes it shorter.
    pub(crate) fn seal(
        &mut self,
        key: &Dek,
        entropy: &dyn Entropy,
        id: &ChunkId,
        data: &[u8],
    ) -> Result<Vec<u8>, SealingError> {
        self.plain.clear();
        self.plain.push(STORED);
        if data.len() >= COMPRESS_BYTES_MIN {
            let packed = self.compressor.compress(data).map_err(|_| SealingError::Compressor)?;
            if packed.len() < data.len() {
                self.plain[0] = ZSTD;
                self.plain.extend_from_slice(&packed);
            }
        }
        if self.plain[0] == STORED {
            self.plain.extend_from_slice(data);
        }
        seal_bytes(key, &context(id), entropy, &self.plain).map_err(|_| SealingError::Seal)
    }
}

/// Opens a sealed chunk and checks that the content has the id.
pub(crate) fn open_chunk(
    key: &Dek,
    id_key: &[u8; 32],
    id: &ChunkId,
    sealed: &[u8],
) -> Result<Vec<u8>, ChunkError> {
    let plain = open_bytes(key, &context(id), sealed).map_err(|_| ChunkError::Seal)?;
    let data = match plain.split_first() {
        Some((&STORED, rest)) => rest.to_vec(),
        Some((&ZSTD, rest)) => {
            zstd::bulk::decompress(rest, capacity(rest)).map_err(|_| ChunkError::Format)?
        }
        _ => return Err(ChunkError::Format),
    };
    if blake3::keyed_hash(id_key, &data).as_bytes() == &id.0 { Ok(data) } else { Err(ChunkError::Content) }
}

/// Room for the decompressed chunk: what the frame says, never more than the
/// largest chunk, so that a forged frame cannot ask for memory.
fn capacity(frame: &[u8]) -> usize {
    let said = zstd::zstd_safe::get_frame_content_size(frame).ok().flatten();
    said.and_then(|bytes| usize::try_from(bytes).ok()).map_or(CHUNK_BYTES_MAX, |b| b.min(CHUNK_BYTES_MAX))
}

fn context(id: &ChunkId) -> Context {
    Context::named("backup chunk v1", &[&id.0])
}
