//! Every key of a repository, derived from its one master key by BLAKE3 key
//! derivation with versioned context strings. The only place that looks into
//! the master key, apart from the recovery seal.

use coffer_keys::{Dek, RepositoryKey};
use zeroize::Zeroizing;

use super::chunk::ChunkId;

/// The derived keys; wiped when dropped.
pub(crate) struct Keyring {
    /// Seals chunks.
    pub(crate) chunks: Dek,
    /// Seals configuration, index, snapshots and pack trailers.
    pub(crate) records: Dek,
    chunk_ids: Zeroizing<[u8; 32]>,
    cut_seed: u64,
}

impl Keyring {
    /// Derives all of them.
    pub(crate) fn derive(master: &RepositoryKey) -> Self {
        let from = |context: &str| Zeroizing::new(blake3::derive_key(context, master.danger_expose()));
        let seed = from("coffer backup 2026 v1 chunk boundaries");
        let (first, _) = seed.split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
        Self {
            chunks: Dek::danger_from_bytes(from("coffer backup 2026 v1 chunk sealing")),
            records: Dek::danger_from_bytes(from("coffer backup 2026 v1 record sealing")),
            chunk_ids: from("coffer backup 2026 v1 chunk ids"),
            cut_seed: u64::from_le_bytes(*first),
        }
    }

    /// The id of a chunk's content.
    pub(crate) fn chunk_id(&self, data: &[u8]) -> ChunkId {
        ChunkId(*blake3::keyed_hash(&self.chunk_ids, data).as_bytes())
    }

    /// The key of the chunk ids, to check content against its id.
    pub(crate) fn chunk_id_key(&self) -> &[u8; 32] {
        &self.chunk_ids
    }

    /// Moves the chunk boundaries of this repository away from everybody
    /// else's. A nuisance to an observer, not a secret (see `BACKUP.md`).
    pub(crate) fn cut_seed(&self) -> u64 {
        self.cut_seed
    }
}
