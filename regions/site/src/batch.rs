//! The bytes of a batch: a header, a table with one entry per record, and the
//! bodies. Pure; `LAYOUT.md` draws it. All numbers are little-endian.
//!
//! A header is bound to its volume (by a key made from the volume's nonce) and
//! to its offset, so no record body can pass for one, not even a copy of a
//! real header that lies elsewhere in the same volume.

use coffer_model::{Digest, RecordId};
use coffer_regions::{ClearGeometry, Record, RecordKind};

/// First bytes of every batch.
pub(crate) const BATCH_MAGIC: [u8; 8] = *b"CFBATCH1";
/// Bytes of a batch header.
pub(crate) const HEADER_BYTES: usize = 92;
/// Bytes of one entry of the table.
pub(crate) const ENTRY_BYTES: usize = 56;
/// Most entries of one batch; a header that states more is damaged.
pub(crate) const BATCH_ENTRIES_MAX: u32 = 4096;
/// Most body bytes of one batch; a header that states more is damaged.
pub(crate) const BATCH_BODY_BYTES_MAX: u64 = 64 << 20;

/// Where an entry states its body length.
pub(crate) const BODY_BYTES_AT: usize = 20;

const REMOVAL: u8 = 0;
const CHECKSUM_AT: usize = HEADER_BYTES - 16;

/// What makes a header belong to one volume.
#[derive(Clone)]
pub(crate) struct BatchKey([u8; 32]);

impl BatchKey {
    /// The key of the volume whose header has these bytes.
    pub(crate) fn of_volume(header: &[u8]) -> Self {
        Self(blake3::derive_key("coffer 2026 site volume v1 batch header", header))
    }

    /// Sixteen bytes that tell this volume from any other.
    pub(crate) fn fingerprint(&self) -> [u8; 16] {
        self.sixteen([b"fingerprint", b""])
    }

    fn sixteen(&self, parts: [&[u8]; 2]) -> [u8; 16] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        parts.into_iter().for_each(|part| {
            hasher.update(part);
        });
        first_sixteen(hasher.finalize().as_bytes())
    }
}

fn first_sixteen(hash: &[u8; 32]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&hash[..16]);
    out
}

/// Copies `N` bytes at `at`; zeros where the slice is too short, which no
/// caller allows to happen.
pub(crate) fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|slice| slice.try_into().ok()).unwrap_or([0; N])
}

/// The header of one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    /// Counts up by one over all volumes of the site.
    pub(crate) sequence: u64,
    /// Digest of the header before this one; zeros for the site's first.
    pub(crate) previous: [u8; 32],
    /// Entries in the table.
    pub(crate) entries: u32,
    /// Sum of the body lengths.
    pub(crate) body_bytes: u64,
    /// Digest of the table.
    pub(crate) table_digest: [u8; 16],
}

impl BatchHeader {
    /// Bytes of the table.
    pub(crate) fn table_bytes(&self) -> u64 {
        u64::from(self.entries) * ENTRY_BYTES as u64
    }

    /// Bytes of the whole batch.
    pub(crate) fn extent(&self) -> u64 {
        HEADER_BYTES as u64 + self.table_bytes() + self.body_bytes
    }

    /// The header's bytes at `offset` of the volume with `key`.
    pub(crate) fn encode(&self, key: &BatchKey, offset: u64) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&BATCH_MAGIC);
        out[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        out[16..48].copy_from_slice(&self.previous);
        out[48..52].copy_from_slice(&self.entries.to_le_bytes());
        out[52..60].copy_from_slice(&self.body_bytes.to_le_bytes());
        out[60..CHECKSUM_AT].copy_from_slice(&self.table_digest);
        let checksum = key.sixteen([&out[..CHECKSUM_AT], &offset.to_le_bytes()]);
        out[CHECKSUM_AT..].copy_from_slice(&checksum);
        out
    }

    /// The header at `offset`, if these are its true bytes.
    pub(crate) fn decode(bytes: &[u8], key: &BatchKey, offset: u64) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let checksum = key.sixteen([&bytes[..CHECKSUM_AT], &offset.to_le_bytes()]);
        let header = Self::decode_unchecked(bytes);
        // A number after which there is none would end the chain.
        let bounded = header.entries <= BATCH_ENTRIES_MAX
            && header.body_bytes <= BATCH_BODY_BYTES_MAX
            && header.sequence < u64::MAX;
        (bytes[..8] == BATCH_MAGIC && bytes[CHECKSUM_AT..] == checksum && bounded).then_some(header)
    }

    /// What damaged bytes say; believed only as far as each record proves itself.
    pub(crate) fn decode_unchecked(bytes: &[u8]) -> Self {
        Self {
            sequence: u64::from_le_bytes(field(bytes, 8)),
            previous: field(bytes, 16),
            entries: u32::from_le_bytes(field(bytes, 48)),
            body_bytes: u64::from_le_bytes(field(bytes, 52)),
            table_digest: field(bytes, 60),
        }
    }
}

/// The digest that the next header carries as `previous`.
pub(crate) fn chain_digest(header: &[u8; HEADER_BYTES]) -> [u8; 32] {
    *blake3::hash(header).as_bytes()
}

/// The digest of a table, for its header.
pub(crate) fn table_digest(key: &BatchKey, sequence: u64, table: &[u8]) -> [u8; 16] {
    key.sixteen([&sequence.to_le_bytes(), table])
}

/// One line of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A record, whose body lies among the bodies.
    Record(RecordEntry),
    /// From here on the site holds no record with this id.
    Removal(RecordId),
}

/// What a table says about one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordEntry {
    pub(crate) kind: RecordKind,
    pub(crate) id: RecordId,
    pub(crate) geometry: ClearGeometry,
    pub(crate) body_bytes: u32,
    pub(crate) digest: Digest,
}

impl Entry {
    /// The entry of a record; `None` for a body that a length cannot state.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        Some(Self::Record(RecordEntry {
            kind: record.kind(),
            id: record.id(),
            geometry: record.geometry(),
            body_bytes: u32::try_from(record.body().len()).ok()?,
            digest: record.digest(),
        }))
    }

    /// Length of the body.
    pub(crate) fn body_bytes(&self) -> u32 {
        match self {
            Self::Record(record) => record.body_bytes,
            Self::Removal(_) => 0,
        }
    }

    /// Appends the entry's bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (kind, id, geometry, length, digest) = match self {
            Self::Record(r) => (r.kind.byte(), r.id, r.geometry, r.body_bytes, r.digest),
            Self::Removal(id) => (REMOVAL, *id, ClearGeometry::default(), 0, removal_digest(*id)),
        };
        out.push(kind);
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(&[geometry.k, geometry.m, geometry.index]);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&digest.0);
    }

    /// The entry in these bytes; `None` for an unknown kind, a body over the
    /// limit, or a removal whose digest is wrong. A record's digest can only
    /// be checked against its body.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let id = RecordId::from_bytes(field(bytes, 1));
        let digest = Digest(field(bytes, 24));
        let body_bytes = u32::from_le_bytes(field(bytes, BODY_BYTES_AT));
        let [k, m, index] = field(bytes, 17);
        if bytes.first() == Some(&REMOVAL) {
            let zero = body_bytes == 0 && [k, m, index] == [0; 3];
            return (zero && digest == removal_digest(id)).then_some(Self::Removal(id));
        }
        let kind = bytes.first().copied().and_then(RecordKind::from_byte)?;
        let short = usize::try_from(body_bytes).is_ok_and(|length| length <= Record::BODY_BYTES_MAX);
        let geometry = ClearGeometry { k, m, index };
        short.then_some(Self::Record(RecordEntry { kind, id, geometry, body_bytes, digest }))
    }
}

/// What lets a removal prove itself where its table is damaged.
fn removal_digest(id: RecordId) -> Digest {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"coffer removal v1").update(id.as_bytes());
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BatchHeader {
        BatchHeader { sequence: 7, previous: [3; 32], entries: 2, body_bytes: 99, table_digest: [5; 16] }
    }

    #[test]
    fn the_framing_of_a_lone_record_is_116_bytes_beside_its_digest() {
        assert_eq!(HEADER_BYTES + ENTRY_BYTES - 32, 116);
    }

    #[test]
    fn a_header_with_any_bit_flipped_is_refused() {
        let key = BatchKey::of_volume(b"volume");
        let bytes = header().encode(&key, 64);
        assert_eq!(BatchHeader::decode(&bytes, &key, 64), Some(header()));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BatchHeader::decode(&flipped, &key, 64), None, "bit {bit}");
        }
    }

    #[test]
    fn a_header_copied_to_another_offset_or_volume_is_refused() {
        let key = BatchKey::of_volume(b"volume");
        let bytes = header().encode(&key, 64);
        assert_eq!(BatchHeader::decode(&bytes, &key, 65), None);
        assert_eq!(BatchHeader::decode(&bytes, &BatchKey::of_volume(b"other"), 64), None);
    }

    #[test]
    fn a_header_that_states_more_than_the_limits_is_refused_though_its_checksum_holds() {
        let key = BatchKey::of_volume(b"volume");
        let many = BatchHeader { entries: BATCH_ENTRIES_MAX + 1, ..header() };
        let long = BatchHeader { body_bytes: BATCH_BODY_BYTES_MAX + 1, ..header() };
        for header in [many, long] {
            assert_eq!(BatchHeader::decode(&header.encode(&key, 0), &key, 0), None);
        }
    }

    #[test]
    fn a_removal_with_any_bit_flipped_removes_nothing() {
        let mut bytes = Vec::new();
        let entry = Entry::Removal(RecordId::from_bytes([9; 16]));
        entry.encode(&mut bytes);
        assert_eq!(Entry::decode(&bytes), Some(entry));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(Entry::decode(&flipped), Some(Entry::Removal(_))), "bit {bit}");
        }
    }
}
