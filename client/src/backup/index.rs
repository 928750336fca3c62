//! Which chunk lies where: the index records, and the two forms in memory.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher};

use serde::{Deserialize, Serialize};

use super::chunk::ChunkId;
use super::pack::PACK_HEADER;
use crate::digits::hex;

/// An index record is written when so many chunks wait for one, so that its
/// size, and what an interrupted backup loses, stay small.
pub(crate) const INDEX_CHUNKS: usize = 64 << 10;

/// The sealed chunks of one pack, in the order in which they lie there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PackIndex {
    /// BLAKE3 of the pack, its name.
    pub(crate) name: [u8; 32],
    /// Id and sealed length in bytes.
    pub(crate) chunks: Vec<(ChunkId, u32)>,
}

impl PackIndex {
    /// The name of the blob.
    pub(crate) fn blob(&self) -> String {
        pack_blob(&self.name)
    }
}

/// The name of the blob of a pack.
pub(crate) fn pack_blob(name: &[u8; 32]) -> String {
    format!("packs/{}", hex(name))
}

/// One index record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IndexRecord {
    pub(crate) packs: Vec<PackIndex>,
}

/// Chunk ids are keyed hashes already: eight of their bytes are as good a
/// hash as any, and nobody without the key can make them collide.
#[derive(Clone, Copy, Default)]
pub(crate) struct IdHash;

/// The state of [`IdHash`].
#[derive(Default)]
pub(crate) struct IdHasher(u64);

impl BuildHasher for IdHash {
    type Hasher = IdHasher;
    fn build_hasher(&self) -> IdHasher {
        IdHasher(0)
    }
}

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some((first, _)) = bytes.split_first_chunk::<8>() {
            self.0 ^= u64::from_le_bytes(*first);
        }
    }
    fn write_usize(&mut self, _length: usize) {}
    fn finish(&self) -> u64 {
        self.0
    }
}

/// The chunks that need not be stored again.
pub(crate) type KnownChunks = HashSet<ChunkId, IdHash>;

/// Where one sealed chunk lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    /// Position in [`Index::packs`].
    pub(crate) pack: u32,
    /// Offset in the pack, in bytes.
    pub(crate) offset: u32,
    /// Sealed length in bytes.
    pub(crate) bytes: u32,
}

/// Every chunk of the repository with its place; about 50 bytes each.
#[derive(Default)]
pub(crate) struct Index {
    packs: Vec<[u8; 32]>,
    chunks: HashMap<ChunkId, Location, IdHash>,
}

impl Index {
    /// Adds a pack; none if it is longer than a pack can be.
    pub(crate) fn add(&mut self, pack: &PackIndex) -> Option<()> {
        let number = u32::try_from(self.packs.len()).ok()?;
        let mut offset = u32::try_from(PACK_HEADER.len()).ok()?;
        for (id, bytes) in &pack.chunks {
            self.chunks.insert(*id, Location { pack: number, offset, bytes: *bytes });
            offset = offset.checked_add(*bytes)?;
        }
        self.packs.push(pack.name);
        Some(())
    }

    /// Where a chunk is.
    pub(crate) fn find(&self, id: &ChunkId) -> Option<Location> {
        self.chunks.get(id).copied()
    }

    /// The name of the blob of a pack.
    pub(crate) fn blob(&self, pack: u32) -> Option<String> {
        self.packs.get(usize::try_from(pack).ok()?).map(pack_blob)
    }
}
