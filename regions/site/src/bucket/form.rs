//! What lies in a bucket: the names of objects and the bytes of the heads, as
//! `regions/BUCKET.md` draws them.

use bytes::{BufMut, Bytes, BytesMut};
use coffer_model::{Digest, RecordId, ScopeId, SlotId};
use coffer_regions::{ClearGeometry, ListedRecord, Record, RecordKind, SlotContent};
use object_store::path::Path;

use crate::slots::SLOT_BODY_BYTES_MAX;

const RECORD_MAGIC: &[u8; 8] = b"CFBUCKET";
const SLOT_MAGIC: &[u8; 8] = b"CFBUSLOT";
const FORMAT: u8 = 1;

/// Bytes before the body of a record.
pub(super) const HEAD_BYTES: usize = 72;
/// Bytes before the body of a slot.
const SLOT_HEAD_BYTES: usize = 52;
/// The longest slot object.
pub(super) const SLOT_OBJECT_BYTES_MAX: usize = SLOT_HEAD_BYTES + SLOT_BODY_BYTES_MAX;

/// Bytes that are not what their name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotOurs;

/// The head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) kind: RecordKind,
    pub(super) id: RecordId,
    pub(super) geometry: ClearGeometry,
    pub(super) digest: Digest,
    pub(super) body_bytes: u32,
    /// Whether the body lies in an object of its own.
    pub(super) apart: bool,
}

impl Head {
    pub(super) fn of(record: &Record, apart: bool) -> Self {
        Self {
            kind: record.kind(),
            id: record.id(),
            geometry: record.geometry(),
            digest: record.digest(),
            body_bytes: u32::try_from(record.body().len()).unwrap_or(u32::MAX),
            apart,
        }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES);
        bytes.put_slice(RECORD_MAGIC);
        bytes.put_u8(FORMAT);
        bytes.put_u8(self.kind.byte());
        bytes.put_slice(&[self.geometry.k, self.geometry.m, self.geometry.index]);
        bytes.put_u8(u8::from(self.apart));
        bytes.put_bytes(0, 6);
        bytes.put_slice(self.id.as_bytes());
        bytes.put_slice(&self.digest.0);
        bytes.put_u32_le(self.body_bytes);
        bytes.freeze()
    }

    /// Reads the head of the object that should hold record `id`.
    pub(super) fn parse(bytes: &[u8], id: RecordId) -> Result<Self, NotOurs> {
        let (head, _) = bytes.split_first_chunk::<HEAD_BYTES>().ok_or(NotOurs)?;
        let [k, m, index, apart] = [head[10], head[11], head[12], head[13]];
        let right = head.starts_with(RECORD_MAGIC)
            && head[8] == FORMAT
            && head[14..20] == [0; 6]
            && apart <= 1
            && head[20..36] == *id.as_bytes();
        let body_bytes = u32::from_le_bytes(crate::batch::field(head, 68));
        let bounded = usize::try_from(body_bytes).is_ok_and(|bytes| bytes <= Record::BODY_BYTES_MAX);
        if !right || !bounded {
            return Err(NotOurs);
        }
        Ok(Self {
            kind: RecordKind::from_byte(head[9]).ok_or(NotOurs)?,
            id,
            geometry: ClearGeometry { k, m, index },
            digest: Digest(crate::batch::field(head, 36)),
            body_bytes,
            apart: apart == 1,
        })
    }

    /// The record, if `body` is its body.
    pub(super) fn record(&self, body: Bytes) -> Result<Record, NotOurs> {
        Record::verify(self.kind, self.id, self.geometry, self.digest, body).map_err(|_| NotOurs)
    }
}

/// For [`entrances`](crate::entrances): whether this is a record's object.
pub(crate) fn parse_bucket_head(bytes: &[u8], id: RecordId) -> bool {
    let body = Bytes::copy_from_slice(bytes.get(HEAD_BYTES..).unwrap_or_default());
    Head::parse(bytes, id).is_ok_and(|head| head.apart || head.record(body).is_ok())
}

/// For [`entrances`](crate::entrances): whether this is a slot's object.
pub(crate) fn parse_bucket_slot(bytes: &Bytes, slot: SlotId) -> bool {
    parse_slot(slot, bytes).is_ok()
}

/// Names below the prefix that a deployment gave this site.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
}

impl Names {
    pub(super) fn below(prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/');
        Self { prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") } }
    }

    fn path(&self, name: &str) -> Path {
        Path::from(format!("{}{name}", self.prefix))
    }

    pub(super) fn site(&self) -> Path {
        self.path("SITE")
    }

    pub(super) fn records(&self) -> Path {
        self.path("records")
    }

    pub(super) fn record(&self, id: RecordId) -> Path {
        self.path(&format!("records/{}", hex(id.as_bytes())))
    }

    pub(super) fn body(&self, id: RecordId, digest: Digest) -> Path {
        self.path(&format!("bodies/{}.{}", hex(id.as_bytes()), hex(&digest.0)))
    }

    pub(super) fn kind(&self, kind: RecordKind) -> Path {
        self.path(&format!("kinds/{}", kind.byte()))
    }

    /// The line of a listing, as the name of an empty object.
    pub(super) fn line(&self, kind: RecordKind, line: &ListedRecord) -> Path {
        let (id, digest) = (hex(line.id.as_bytes()), hex(&line.digest.0));
        self.path(&format!("kinds/{}/{id}.{:08x}.{digest}", kind.byte(), line.body_bytes))
    }

    /// What sorts behind every line of `id`, and before those of the next id.
    pub(super) fn after(&self, kind: RecordKind, id: RecordId) -> Path {
        self.path(&format!("kinds/{}/{}_", kind.byte(), hex(id.as_bytes())))
    }

    pub(super) fn epochs(&self) -> Path {
        self.path("epochs")
    }

    pub(super) fn epoch(&self, scope: ScopeId) -> Path {
        self.path(&format!("epochs/{}", hex(scope.as_bytes())))
    }

    pub(super) fn slots(&self) -> Path {
        self.path("slots")
    }

    pub(super) fn slot(&self, slot: SlotId) -> Path {
        self.path(&format!("slots/{}", hex(slot.as_bytes())))
    }
}

/// The line that the name of an object is.
pub(super) fn parse_line(kind: RecordKind, path: &Path) -> Option<ListedRecord> {
    let name = path.filename()?;
    let mut fields = name.split('.');
    let (id, length, digest) = (fields.next()?, fields.next()?, fields.next()?);
    if fields.next().is_some() || length.len() != 8 {
        return None;
    }
    Some(ListedRecord {
        id: RecordId::from_bytes(unhex(id)?),
        kind,
        body_bytes: u32::from_be_bytes(unhex(length)?),
        digest: Digest(unhex(digest)?),
    })
}

/// The id that the name of an object is.
pub(super) fn parse_id(path: &Path) -> Option<[u8; 16]> {
    unhex(path.filename()?)
}

pub(super) fn slot_object(slot: SlotId, content: &SlotContent) -> Bytes {
    let mut bytes = BytesMut::with_capacity(SLOT_HEAD_BYTES + content.body.len());
    bytes.put_slice(SLOT_MAGIC);
    bytes.put_bytes(0, 4);
    bytes.put_u64_le(content.generation);
    bytes.put_slice(&slot_digest(slot, content));
    bytes.put_slice(&content.body);
    bytes.freeze()
}

pub(super) fn parse_slot(slot: SlotId, bytes: &Bytes) -> Result<SlotContent, NotOurs> {
    let (head, body) = bytes.split_first_chunk::<SLOT_HEAD_BYTES>().ok_or(NotOurs)?;
    if !head.starts_with(SLOT_MAGIC) || body.len() > SLOT_BODY_BYTES_MAX {
        return Err(NotOurs);
    }
    let generation = u64::from_le_bytes(crate::batch::field(head, 12));
    let content = SlotContent { generation, body: bytes.slice(SLOT_HEAD_BYTES..) };
    let right = head[8..12] == [0; 4] && head[20..] == slot_digest(slot, &content);
    if right { Ok(content) } else { Err(NotOurs) }
}

fn slot_digest(slot: SlotId, content: &SlotContent) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"coffer bucket slot v1");
    hasher.update(slot.as_bytes());
    hasher.update(&content.generation.to_le_bytes());
    hasher.update(&content.body);
    *hasher.finalize().as_bytes()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
        text
    })
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, odd) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !odd.is_empty() {
        return None;
    }
    let bytes: Option<Vec<u8>> =
        pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let geometry = ClearGeometry { k: 4, m: 2, index: 3 };
        Record::new(RecordKind::Shard, RecordId::from_bytes([0xab; 16]), geometry, "body".into()).unwrap()
    }

    #[test]
    fn heads_read_back_and_every_changed_byte_is_found_out() {
        let record = record();
        let head = Head::of(&record, false);
        let bytes = head.encode();
        assert_eq!(bytes.len(), HEAD_BYTES);
        assert_eq!(Head::parse(&bytes, record.id()), Ok(head));
        assert_eq!(Head::parse(&bytes[1..], record.id()), Err(NotOurs));
        assert_eq!(Head::parse(&bytes, RecordId::from_bytes([1; 16])), Err(NotOurs));
        for at in (0..HEAD_BYTES - 4).filter(|at| *at != 13) {
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x40;
            let read = Head::parse(&changed, record.id()).and_then(|head| head.record(record.body().clone()));
            assert_eq!(read, Err(NotOurs), "byte {at}");
        }
    }

    #[test]
    fn slots_read_back_and_every_flipped_bit_is_found_out() {
        let slot = SlotId::from_bytes([5; 16]);
        let content = SlotContent { generation: 7, body: "wrapped".into() };
        let bytes = slot_object(slot, &content);
        assert_eq!(parse_slot(slot, &bytes), Ok(content));
        assert_eq!(parse_slot(SlotId::from_bytes([6; 16]), &bytes), Err(NotOurs));
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(parse_slot(slot, &changed.into()), Err(NotOurs), "bit {bit}");
        }
    }

    #[test]
    fn lines_read_back_from_names_and_sort_by_id() {
        let names = Names::below("/deployment/fra1/");
        let line = |n| ListedRecord {
            id: RecordId::from_bytes([n; 16]),
            kind: RecordKind::Log,
            body_bytes: 1 << 24,
            digest: Digest([n; 32]),
        };
        let path = names.line(RecordKind::Log, &line(9));
        assert_eq!(parse_line(RecordKind::Log, &path), Some(line(9)));
        assert!(path < names.after(RecordKind::Log, line(9).id));
        assert!(names.after(RecordKind::Log, line(9).id) < names.line(RecordKind::Log, &line(10)));
        assert!(path.as_ref().starts_with("deployment/fra1/kinds/6/"));
        let letters = names.line(RecordKind::Log, &line(0xab));
        assert_eq!(parse_line(RecordKind::Log, &letters), Some(line(0xab)));
        for bad in ["kinds/6/zz", "kinds/6/00.00.00", &format!("{path}.1"), &letters.as_ref().to_uppercase()]
        {
            assert_eq!(parse_line(RecordKind::Log, &Path::from(bad)), None, "{bad}");
        }
    }
}
