//! Packs: sealed chunks, one after the other, and a sealed trailer that lists
//! them, so that a lost index can be made again. The name of a pack is the
//! BLAKE3 of its bytes: whoever holds it can scrub it without any key.

use bytes::Bytes;
use coffer_model::Entropy;

use super::chunk::{ChunkId, SEALED_CHUNK_BYTES_MAX};
use super::index::PackIndex;
use super::keyring::Keyring;
use super::sealing::{RecordName, RecordOpenError, SealingError, open_record, seal_record};

/// First bytes of every pack; the last of them is the format version.
pub(crate) const PACK_HEADER: [u8; 8] = *b"COFPACK\x01";

/// A pack is closed once it has this many bytes; with the largest chunk on
/// top, and its trailer, it stays below 21 MiB.
pub(crate) const PACK_BYTES: usize = 16 << 20;

const TRAILER: RecordName<'static> = RecordName { label: "backup pack trailer v1", name: "" };
/// The length of the trailer, u32 little endian, ends the pack.
const LENGTH_BYTES: usize = 4;

/// What a pack holds; the two never share one, so that listing a snapshot
/// does not read file content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PackKind {
    /// Chunks of files.
    Data,
    /// Chunks of entry streams.
    Entries,
}

/// A pack that is being filled.
pub(crate) struct OpenPack {
    body: Vec<u8>,
    chunks: Vec<(ChunkId, u32)>,
}

/// A pack that is complete.
pub(crate) struct ClosedPack {
    pub(crate) body: Bytes,
    pub(crate) index: PackIndex,
}

impl OpenPack {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { body: PACK_HEADER.to_vec(), chunks: Vec::new() }
    }

    /// Adds a sealed chunk.
    pub(crate) fn push(&mut self, id: ChunkId, sealed: &[u8]) -> Result<(), SealingError> {
        let bytes = u32::try_from(sealed.len()).ok().filter(|bytes| *bytes <= SEALED_CHUNK_BYTES_MAX);
        self.chunks.push((id, bytes.ok_or(SealingError::Encode)?));
        self.body.extend_from_slice(sealed);
        Ok(())
    }

    /// Whether it should be closed.
    pub(crate) fn is_full(&self) -> bool {
        self.body.len() >= PACK_BYTES
    }

    /// Whether there is nothing in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Seals the trailer and names the pack.
    pub(crate) fn close(
        mut self,
        keyring: &Keyring,
        entropy: &dyn Entropy,
    ) -> Result<ClosedPack, SealingError> {
        let trailer = seal_record(&keyring.records, entropy, &TRAILER, &self.chunks)?;
        let length = u32::try_from(trailer.len()).map_err(|_| SealingError::Encode)?;
        self.body.extend_from_slice(&trailer);
        self.body.extend_from_slice(&length.to_le_bytes());
        let name = *blake3::hash(&self.body).as_bytes();
        Ok(ClosedPack { body: self.body.into(), index: PackIndex { name, chunks: self.chunks } })
    }
}

/// Reads the list of chunks from a whole pack, to make a lost index again.
pub(crate) fn read_trailer(keyring: &Keyring, body: &[u8]) -> Result<PackIndex, RecordOpenError> {
    let damaged = RecordOpenError::Damaged;
    let (version, magic) = PACK_HEADER.split_last().ok_or(damaged)?;
    let rest = body.strip_prefix(magic).ok_or(damaged)?;
    let (found, rest) = rest.split_first().ok_or(damaged)?;
    if found != version {
        return Err(RecordOpenError::Version(*found));
    }
    let (rest, length) = rest.split_last_chunk::<LENGTH_BYTES>().ok_or(damaged)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| damaged)?;
    let from = rest.len().checked_sub(length).ok_or(damaged)?;
    let chunks: Vec<(ChunkId, u32)> = open_record(&keyring.records, &TRAILER, &rest[from..])?;
    let total: u64 = chunks.iter().map(|(_, bytes)| u64::from(*bytes)).sum();
    if u64::try_from(from) != Ok(total) {
        return Err(RecordOpenError::Format);
    }
    Ok(PackIndex { name: *blake3::hash(body).as_bytes(), chunks })
}
