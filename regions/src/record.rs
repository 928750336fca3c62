//! The record: what a site stores. It describes itself in clear (kind, id,
//! geometry, digest); whatever says something about a tenant is sealed inside
//! the body before it comes here. The bytes on disk are `LAYOUT.md`'s.

use bytes::Bytes;
use coffer_model::{Digest, RecordId};
use serde::{Deserialize, Serialize};

/// What a record is, in clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum RecordKind {
    /// One shard of one stripe.
    Shard = 1,
    /// A sealed manifest with its wrap, and for a small object its sealed bytes.
    Manifest = 2,
    /// A sealed tombstone.
    Tombstone = 3,
    /// A wrap that replaces the one in a manifest record.
    Wrap = 4,
    /// A sealed fact about a tenant: bucket, principal, policy.
    Registry = 5,
    /// A sealed run of audit-log leaves.
    Log = 6,
}

impl RecordKind {
    /// Every kind, in order of its byte.
    pub const ALL: [Self; 6] =
        [Self::Shard, Self::Manifest, Self::Tombstone, Self::Wrap, Self::Registry, Self::Log];

    /// The byte on disk.
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// The kind with this byte.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.byte() == byte)
    }
}

/// The clear geometry of a shard; zero in all fields for every other kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClearGeometry {
    /// Data shards.
    pub k: u8,
    /// Parity shards.
    pub m: u8,
    /// Which shard this is, 0 to k + m - 1.
    pub index: u8,
}

/// Why bytes are not the record they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The digest of what was read is not the digest that was stored.
    #[error("the bytes of the record do not match its digest")]
    Digest,
    /// Longer than [`Record::BODY_BYTES_MAX`].
    #[error("a record body has at most {} bytes", Record::BODY_BYTES_MAX)]
    TooLong,
}

/// A record whose digest is right by construction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    kind: RecordKind,
    id: RecordId,
    geometry: ClearGeometry,
    digest: Digest,
    body: Bytes,
}

/// A record as a site returned it, its digest checked by [`Record::verify`].
pub type StoredRecord = Record;

impl Record {
    /// The longest body: a shard of the largest stripe, or a manifest.
    pub const BODY_BYTES_MAX: usize = 16 << 20;

    /// Makes a record and computes its digest.
    ///
    /// # Errors
    /// [`RecordError::TooLong`].
    pub fn new(
        kind: RecordKind,
        id: RecordId,
        geometry: ClearGeometry,
        body: Bytes,
    ) -> Result<Self, RecordError> {
        if body.len() > Self::BODY_BYTES_MAX {
            return Err(RecordError::TooLong);
        }
        let digest = digest_of(kind, id, geometry, &body);
        Ok(Self { kind, id, geometry, digest, body })
    }

    /// Takes bytes from outside (disk, wire) as a record, if they match the
    /// digest that came with them.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn verify(
        kind: RecordKind,
        id: RecordId,
        geometry: ClearGeometry,
        digest: Digest,
        body: Bytes,
    ) -> Result<Self, RecordError> {
        let record = Self::new(kind, id, geometry, body)?;
        if record.digest == digest { Ok(record) } else { Err(RecordError::Digest) }
    }

    /// Its kind.
    pub fn kind(&self) -> RecordKind {
        self.kind
    }

    /// Its id.
    pub fn id(&self) -> RecordId {
        self.id
    }

    /// Its clear geometry.
    pub fn geometry(&self) -> ClearGeometry {
        self.geometry
    }

    /// BLAKE3 over kind, id, geometry and body.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The body, without a copy.
    pub fn into_body(self) -> Bytes {
        self.body
    }
}

/// BLAKE3 over `"coffer record v1" ‖ kind ‖ id ‖ k ‖ m ‖ index ‖ body`, so
/// that a body cannot be served under another id, kind or shard index.
fn digest_of(kind: RecordKind, id: RecordId, geometry: ClearGeometry, body: &[u8]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"coffer record v1");
    hasher.update(&[kind.byte()]);
    hasher.update(id.as_bytes());
    hasher.update(&[geometry.k, geometry.m, geometry.index]);
    hasher.update(body);
    Digest(*hasher.finalize().as_bytes())
}

/// The clear id of shard `index` of stripe `stripe`: the first 16 bytes of
/// BLAKE3 keyed with the version's locator. Random to whoever lacks it.
pub fn shard_record_id(locator: &[u8; 32], stripe: u32, index: u8) -> RecordId {
    let mut message = [0; 5];
    message[..4].copy_from_slice(&stripe.to_be_bytes());
    message[4] = index;
    let hash = blake3::keyed_hash(locator, &message);
    let mut id = [0; 16];
    id.copy_from_slice(&hash.as_bytes()[..16]);
    RecordId::from_bytes(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(body: &'static [u8]) -> Record {
        let id = RecordId::from_bytes([7; 16]);
        Record::new(RecordKind::Shard, id, ClearGeometry { k: 4, m: 2, index: 1 }, Bytes::from_static(body))
            .unwrap()
    }

    #[test]
    fn a_record_served_under_another_id_kind_or_index_is_refused() {
        let r = record(b"bytes");
        let check = |kind, id, geometry| Record::verify(kind, id, geometry, r.digest(), r.body().clone());
        assert!(check(r.kind(), r.id(), r.geometry()).is_ok());
        let other_id = RecordId::from_bytes([8; 16]);
        let other_index = ClearGeometry { index: 2, ..r.geometry() };
        assert_eq!(check(RecordKind::Manifest, r.id(), r.geometry()), Err(RecordError::Digest));
        assert_eq!(check(r.kind(), other_id, r.geometry()), Err(RecordError::Digest));
        assert_eq!(check(r.kind(), r.id(), other_index), Err(RecordError::Digest));
    }

    #[test]
    fn a_flipped_bit_anywhere_in_the_body_is_refused() {
        let r = record(b"bytes");
        for bit in 0..r.body().len() * 8 {
            let mut body = r.body().to_vec();
            body[bit / 8] ^= 1 << (bit % 8);
            let read = Record::verify(r.kind(), r.id(), r.geometry(), r.digest(), body.into());
            assert_eq!(read, Err(RecordError::Digest), "bit {bit}");
        }
    }
}
