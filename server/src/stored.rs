//! The sealed bodies of the records that the service keeps at sites. Their
//! bytes are documented in `server/RECORDS.md`; each begins with a format byte.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::{Buf, Bytes};
use coffer_keys::{Context, Dek, OpenError, SealError, Sealer, Wrap, open_bytes, seal_bytes, sealed_size};
use coffer_model::{
    BucketId, BucketName, Digest, Entropy, HoldId, Layout, Manifest, ManifestV1, ObjectId, ObjectKey,
    PrincipalId, RecordId, ResidencyPolicy, Role, SiteId, TenantId, Timestamp, VersionId,
};
use coffer_regions::{ClearGeometry, Record, RecordError, RecordKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Format 1 of a body.
const FORMAT: u8 = 1;

/// Why a body could not be made. Our side's fault or a limit; nothing was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    #[error("the fact cannot be serialised: {0}")]
    Serialise(#[from] postcard::Error),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("the fact cannot be compressed")]
    Pack,
}

/// Why a body from a site is not what it should be. The site's bytes are untrusted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("the record is cut short")]
    Short,
    #[error("the record has a format that this program does not read")]
    Format,
    #[error("the record does not open under the tenant's key: {0}")]
    Open(#[from] OpenError),
    #[error("the opened record is not of the expected form")]
    Form,
}

/// A tombstone: every version of the object up to `order` is gone from view.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tombstone {
    pub(crate) bucket: BucketId,
    pub(crate) object: ObjectId,
    pub(crate) version: VersionId,
    pub(crate) order: u64,
    pub(crate) created: Timestamp,
    /// A put that failed: the version never was, its predecessors stand.
    pub(crate) failed_put: bool,
}

/// A principal of a tenant, or an operator of the deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Principal {
    pub(crate) id: PrincipalId,
    /// BLAKE3 of the certificate, DER.
    pub(crate) fingerprint: [u8; 32],
    pub(crate) role: Role,
    pub(crate) tenant: Option<TenantId>,
    pub(crate) created: Timestamp,
}

/// A fact of a tenant's registry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Fact {
    BucketCreated {
        id: BucketId,
        name: BucketName,
        policy: ResidencyPolicy,
        created: Timestamp,
    },
    BucketRemoved {
        id: BucketId,
        removed: Timestamp,
    },
    PrincipalCreated(Principal),
    /// A bucket under another policy: all that is to be known of it, so that
    /// the fact of its creation is not needed any more. The latest stands.
    BucketPolicy {
        id: BucketId,
        name: BucketName,
        policy: ResidencyPolicy,
        created: Timestamp,
        changed: Timestamp,
    },
    /// The sites of the deployment, in the realm of the service. The highest
    /// generation stands.
    Sites {
        generation: u64,
        sites: Vec<crate::standing::SiteLine>,
    },
    /// A legal hold, as it was placed.
    HoldPlaced(crate::hold::Hold),
    HoldReleased {
        id: HoldId,
        released: Timestamp,
        by: PrincipalId,
    },
    /// A rebuilt catalogue gives no order below this.
    Orders {
        floor: u64,
    },
    /// There is this tenant, in the realm of the service.
    TenantMade {
        id: TenantId,
    },
}

/// A run of leaves of a tenant's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeafRun {
    pub(crate) first: u64,
    pub(crate) leaves: Vec<Vec<u8>>,
}

/// Format 2 of the body of a fact: compressed before it is sealed.
const PACKED: u8 = 2;

/// What a packed fact may hold, unpacked.
const UNPACKED_BYTES_MAX: usize = Record::BODY_BYTES_MAX;

/// What is sealed under a key of the tenant, with the record kind and id bound in.
pub(crate) fn seal_fact<T: Serialize>(
    kind: RecordKind,
    key: &Dek,
    tenant: TenantId,
    fact: &T,
    entropy: &dyn Entropy,
) -> Result<Record, EncodeError> {
    fact_record(FORMAT, kind, key, tenant, &postcard::to_allocvec(fact)?, entropy)
}

/// [`seal_fact`] for what repeats itself: a run of leaves.
pub(crate) fn seal_packed<T: Serialize>(
    kind: RecordKind,
    key: &Dek,
    tenant: TenantId,
    fact: &T,
    entropy: &dyn Entropy,
) -> Result<Record, EncodeError> {
    let plain = postcard::to_allocvec(fact)?;
    if plain.len() > UNPACKED_BYTES_MAX {
        return Err(RecordError::TooLong.into());
    }
    let packed = zstd::bulk::compress(&plain, PACKING_LEVEL).map_err(|_| EncodeError::Pack)?;
    fact_record(PACKED, kind, key, tenant, &packed, entropy)
}

/// A level of zstd that costs a leaf some microseconds.
const PACKING_LEVEL: i32 = 9;

fn fact_record(
    format: u8,
    kind: RecordKind,
    key: &Dek,
    tenant: TenantId,
    plain: &[u8],
    entropy: &dyn Entropy,
) -> Result<Record, EncodeError> {
    let id = RecordId::generate(entropy);
    let mut body = vec![format];
    body.extend_from_slice(tenant_tag(key).as_slice());
    body.extend_from_slice(&seal_bytes(key, &fact_context(format, kind, tenant, id), entropy, plain)?);
    Ok(Record::new(kind, id, ClearGeometry::default(), Bytes::from(body))?)
}

/// Opens what [`seal_fact`] or [`seal_packed`] sealed.
pub(crate) fn open_fact<T: DeserializeOwned>(
    record: &Record,
    key: &Dek,
    tenant: TenantId,
) -> Result<T, DecodeError> {
    let (format, rest) = record.body().split_first().ok_or(DecodeError::Short)?;
    if !matches!(*format, FORMAT | PACKED) {
        return Err(DecodeError::Format);
    }
    let sealed = rest.get(TAG_BYTES..).ok_or(DecodeError::Short)?;
    let plain = open_bytes(key, &fact_context(*format, record.kind(), tenant, record.id()), sealed)?;
    let fact =
        if *format == PACKED { postcard::from_bytes(&unpack(&plain)?) } else { postcard::from_bytes(&plain) };
    fact.map_err(|_| DecodeError::Form)
}

/// No more is allocated than the frame says that it holds, within the limit.
fn unpack(packed: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let length = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten();
    let length = length.and_then(|length| usize::try_from(length).ok());
    let length = length.filter(|length| *length <= UNPACKED_BYTES_MAX).ok_or(DecodeError::Form)?;
    zstd::bulk::decompress(packed, length).map_err(|_| DecodeError::Form)
}

const TAG_BYTES: usize = 16;

/// Sixteen bytes that tell, to whoever has the key, whose record this is, so
/// that a rebuild opens each record once. It links the records of one tenant
/// to each other for whoever has not; `RECORDS.md` lists that leak.
pub(crate) fn tenant_tag(key: &Dek) -> [u8; TAG_BYTES] {
    let mut tag = [0; TAG_BYTES];
    let derived = key.subkey("record tag");
    tag.copy_from_slice(&derived.danger_expose()[..TAG_BYTES]);
    tag
}

/// The tag of a record of facts.
pub(crate) fn tag_of(record: &Record) -> Option<[u8; TAG_BYTES]> {
    record.body().get(1..=TAG_BYTES)?.try_into().ok()
}

fn fact_context(format: u8, kind: RecordKind, tenant: TenantId, id: RecordId) -> Context {
    let label = if format == PACKED { "coffer fact v2" } else { "coffer fact v1" };
    Context::named(label, &[&[kind.byte()], tenant.as_bytes(), id.as_bytes()])
}

/// A manifest record, taken apart. The wrap names its KEK in clear.
pub(crate) struct ManifestBody {
    /// The record that it came in.
    record: RecordId,
    pub(crate) version: VersionId,
    pub(crate) wrap: Wrap,
    sealed: SealedManifest,
}

/// What is sealed in a manifest record, by the format of its body.
enum SealedManifest {
    /// The manifest under one seal, a small object's content under another.
    Format1 { manifest: Bytes, content: Bytes },
    /// Both under one seal.
    Format2(Bytes),
}

/// A manifest record, opened.
pub(crate) struct OpenedManifest {
    pub(crate) manifest: Manifest,
    /// The plaintext of a small object; empty for a striped one.
    pub(crate) content: Bytes,
}

/// Format 2 of the body of a manifest record.
const MANIFEST_FORMAT: u8 = 2;

/// Length of a wrap, see `keys/FORMAT.md`.
const WRAP_BYTES: usize = 81;

/// The fields of a sealed manifest in format 2: what is neither in clear, nor
/// bound into the seal, nor to be computed from the rest.
#[derive(Serialize, Deserialize)]
struct ManifestFields<'a> {
    revision: u32,
    bucket: BucketId,
    object: ObjectId,
    key: Cow<'a, ObjectKey>,
    order: u64,
    created: Timestamp,
    metadata: Cow<'a, BTreeMap<String, String>>,
    place: Place<'a>,
}

/// Where the content of a version lies. A small object lies behind the fields
/// under the same seal, which tells its size and digest.
#[derive(Serialize, Deserialize)]
enum Place<'a> {
    Here { sites: Cow<'a, [SiteId]> },
    There { size: u64, content: Digest, layout: Cow<'a, Layout> },
}

impl ManifestBody {
    /// format 2 ‖ version 16 ‖ wrap 81 ‖ sealed (u32 length ‖ fields ‖ `content`),
    /// `content` being the plaintext of a small object, and empty for a striped one.
    pub(crate) fn encode(
        id: RecordId,
        manifest: &Manifest,
        dek: &Dek,
        wrap: &Wrap,
        content: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<Record, EncodeError> {
        let fields = postcard::to_allocvec(&ManifestFields::of(manifest))?;
        let length = u32::try_from(fields.len()).map_err(|_| RecordError::TooLong)?;
        let plain = length.to_be_bytes().len() + fields.len() + content.len();
        let sealed = usize::try_from(sealed_size(plain as u64)).map_err(|_| RecordError::TooLong)?;
        let mut body = Vec::with_capacity(1 + 16 + WRAP_BYTES + sealed);
        body.push(MANIFEST_FORMAT);
        body.extend_from_slice(manifest.version.as_bytes());
        body.extend_from_slice(&wrap.to_bytes());
        let context = Context::manifest(manifest.tenant, manifest.version, id);
        let mut sealer = Sealer::new(&dek.subkey("manifest"), &context, entropy, &mut body);
        sealer.push(&length.to_be_bytes(), &mut body)?;
        sealer.push(&fields, &mut body)?;
        sealer.push(content, &mut body)?;
        sealer.finish(&mut body)?;
        Ok(Record::new(RecordKind::Manifest, id, ClearGeometry::default(), Bytes::from(body))?)
    }

    /// Takes a body of any format apart; nothing of it is authentic yet.
    pub(crate) fn parse(record: &Record) -> Result<Self, DecodeError> {
        let mut rest = record.body().clone();
        let mut take = |length: usize| {
            if rest.len() < length { Err(DecodeError::Short) } else { Ok(rest.split_to(length)) }
        };
        let format = take(1)?[0];
        let version = VersionId::try_from(take(16)?.as_ref()).map_err(|_| DecodeError::Form)?;
        let wrap = Wrap::from_bytes(&take(WRAP_BYTES)?).map_err(|_| DecodeError::Form)?;
        let sealed = match format {
            FORMAT => {
                let length: [u8; 4] = take(4)?.as_ref().try_into().map_err(|_| DecodeError::Short)?;
                let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| DecodeError::Short)?;
                SealedManifest::Format1 { manifest: take(length)?, content: rest }
            }
            MANIFEST_FORMAT => SealedManifest::Format2(rest),
            _ => return Err(DecodeError::Format),
        };
        Ok(Self { record: record.id(), version, wrap, sealed })
    }

    /// Opens the manifest; the AEAD proves that it is the tenant's, this
    /// version's, and in the record that was made for it.
    pub(crate) fn open(&self, tenant: TenantId, dek: &Dek) -> Result<Manifest, DecodeError> {
        match &self.sealed {
            SealedManifest::Format1 { manifest, .. } => {
                let context = Context::manifest(tenant, self.version, self.record);
                let plain = open_bytes(&dek.subkey("manifest"), &context, manifest)?;
                let manifest: ManifestV1 = postcard::from_bytes(&plain).map_err(|_| DecodeError::Form)?;
                Ok(manifest.into())
            }
            SealedManifest::Format2(_) => self.open_whole(tenant, dek).map(|opened| opened.manifest),
        }
    }

    /// Opens the manifest and, of a small object, its content.
    pub(crate) fn open_whole(&self, tenant: TenantId, dek: &Dek) -> Result<OpenedManifest, DecodeError> {
        match &self.sealed {
            SealedManifest::Format1 { content, .. } => {
                let manifest = self.open(tenant, dek)?;
                let content = match manifest.layout {
                    Layout::Striped { .. } => Bytes::new(),
                    Layout::Inline { .. } => {
                        let context =
                            Context::object(tenant, manifest.bucket, manifest.object, manifest.version);
                        opened(&dek.subkey("content"), &context, content)?
                    }
                };
                Ok(OpenedManifest { manifest, content })
            }
            SealedManifest::Format2(sealed) => {
                let context = Context::manifest(tenant, self.version, self.record);
                let mut plain = opened(&dek.subkey("manifest"), &context, sealed)?;
                let (length, _) = plain.split_first_chunk().ok_or(DecodeError::Form)?;
                let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| DecodeError::Form)?;
                plain.advance(size_of::<u32>());
                if plain.len() < length {
                    return Err(DecodeError::Form);
                }
                let fields = plain.split_to(length);
                match postcard::take_from_bytes::<ManifestFields<'_>>(&fields) {
                    Ok((fields, [])) => fields.with_content(tenant, self.version, plain),
                    _ => Err(DecodeError::Form),
                }
            }
        }
    }
}

fn opened(key: &Dek, context: &Context, sealed: &[u8]) -> Result<Bytes, OpenError> {
    let mut plain = open_bytes(key, context, sealed)?;
    Ok(Bytes::from(std::mem::take(&mut *plain)))
}

impl<'a> ManifestFields<'a> {
    fn of(manifest: &'a Manifest) -> Self {
        let place = match &manifest.layout {
            Layout::Inline { sites } => Place::Here { sites: Cow::Borrowed(sites) },
            layout @ Layout::Striped { .. } => {
                Place::There { size: manifest.size, content: manifest.content, layout: Cow::Borrowed(layout) }
            }
        };
        Self {
            revision: manifest.revision,
            bucket: manifest.bucket,
            object: manifest.object,
            key: Cow::Borrowed(&manifest.key),
            order: manifest.order,
            created: manifest.created,
            metadata: Cow::Borrowed(&manifest.metadata),
            place,
        }
    }

    fn with_content(
        self,
        tenant: TenantId,
        version: VersionId,
        inline: Bytes,
    ) -> Result<OpenedManifest, DecodeError> {
        let (size, content, layout) = match self.place {
            Place::Here { sites } => {
                let content = Digest(*blake3::hash(&inline).as_bytes());
                (inline.len() as u64, content, Layout::Inline { sites: sites.into_owned() })
            }
            Place::There { size, content, layout } => match layout.into_owned() {
                layout @ Layout::Striped { .. } if inline.is_empty() => (size, content, layout),
                _ => return Err(DecodeError::Form),
            },
        };
        let manifest = Manifest {
            tenant,
            bucket: self.bucket,
            object: self.object,
            version,
            key: self.key.into_owned(),
            order: self.order,
            created: self.created,
            size,
            sealed_size: sealed_size(size),
            content,
            metadata: self.metadata.into_owned(),
            layout,
            revision: self.revision,
        };
        Ok(OpenedManifest { manifest, content: inline })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use coffer_keys::{Kek, wrap_dek};
    use coffer_model::{Geometry, KeyId};

    use super::*;

    /// What chance gives, byte by byte, when it counts up from zero.
    struct Counting(Mutex<u8>);
    impl Entropy for Counting {
        fn fill(&self, out: &mut [u8]) {
            let mut next = self.0.lock().unwrap();
            for byte in out {
                *byte = *next;
                *next = next.wrapping_add(1);
            }
        }
    }

    const CONTENT: &[u8] = b"what a small object holds";
    const TENANT: TenantId = TenantId::from_bytes([1; 16]);
    const RECORD: RecordId = RecordId::from_bytes([9; 16]);

    fn manifest(layout: Layout, size: u64) -> Manifest {
        Manifest {
            tenant: TENANT,
            bucket: BucketId::from_bytes([2; 16]),
            object: ObjectId::from_bytes([3; 16]),
            version: VersionId::from_bytes([4; 16]),
            key: ObjectKey::new(b"a/key".to_vec()).unwrap(),
            order: 77,
            created: Timestamp(1_700_000_000_000_000_000),
            size,
            sealed_size: sealed_size(size),
            content: Digest(*blake3::hash(CONTENT).as_bytes()),
            metadata: [("colour".to_owned(), "gray".to_owned())].into(),
            layout,
            revision: 0,
        }
    }

    fn sites() -> Vec<SiteId> {
        [11, 12, 13].map(|i| SiteId::from_bytes([i; 16])).to_vec()
    }

    fn inline() -> Manifest {
        manifest(Layout::Inline { sites: sites() }, CONTENT.len() as u64)
    }

    fn striped() -> Manifest {
        let digests = [[21, 22, 23], [24, 25, 26]];
        let layout = Layout::Striped {
            geometry: Geometry::new(2, 1).unwrap(),
            sites: sites(),
            stripe_bytes: 4 << 20,
            locator: [14; 32],
            digests: digests.map(|stripe| stripe.map(|i| Digest([i; 32])).to_vec()).to_vec(),
        };
        manifest(layout, 5_000_000)
    }

    /// The keys of the vectors: the first 32 bytes wrap, the next 32 seal.
    fn keys() -> (Counting, Dek, Wrap) {
        let entropy = Counting(Mutex::new(0));
        let (kek, dek) = (Kek::generate(&entropy), Dek::generate(&entropy));
        let version = VersionId::from_bytes([4; 16]);
        let wrap = wrap_dek(&kek, KeyId::from_bytes([5; 16]), 3, TENANT, version, &dek, &entropy);
        (entropy, dek, wrap)
    }

    fn record(body: Vec<u8>) -> Record {
        Record::new(RecordKind::Manifest, RECORD, ClearGeometry::default(), body.into()).unwrap()
    }

    fn vector(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.as_chunks().0.iter().map(byte).collect()
    }

    /// Every stored body of a past format, and of this one: its version, what it holds.
    fn vectors() -> [(Vec<u8>, Manifest, &'static [u8]); 4] {
        [
            (vector(include_str!("../vectors/manifest-v1-inline.hex")), inline(), CONTENT),
            (vector(include_str!("../vectors/manifest-v1-striped.hex")), striped(), b""),
            (vector(include_str!("../vectors/manifest-v2-inline.hex")), inline(), CONTENT),
            (vector(include_str!("../vectors/manifest-v2-striped.hex")), striped(), b""),
        ]
    }

    #[test]
    fn a_body_of_every_format_opens_to_what_was_put_in() {
        let (_, dek, wrap) = keys();
        for (bytes, expected, content) in vectors() {
            let body = ManifestBody::parse(&record(bytes)).unwrap();
            assert_eq!(body.version, expected.version);
            assert_eq!(body.wrap.to_bytes(), wrap.to_bytes());
            assert_eq!(body.open(TENANT, &dek).unwrap(), expected);
            let opened = body.open_whole(TENANT, &dek).unwrap();
            assert_eq!((opened.manifest, opened.content.as_ref()), (expected, content));
        }
    }

    #[test]
    fn what_is_written_today_is_format_2_byte_for_byte() {
        for (number, manifest, content) in [(2, inline(), CONTENT), (3, striped(), b"")] {
            let (entropy, dek, wrap) = keys();
            let record = ManifestBody::encode(RECORD, &manifest, &dek, &wrap, content, &entropy).unwrap();
            assert_eq!(record.body(), &vectors()[number].0);
        }
    }

    #[test]
    fn a_revision_survives_and_a_large_small_object_too() {
        let (entropy, dek, wrap) = keys();
        let content = vec![7; 65_536];
        let mut expected = Manifest { revision: 3, size: 65_536, ..inline() };
        expected.sealed_size = sealed_size(expected.size);
        expected.content = Digest(*blake3::hash(&content).as_bytes());
        let record = ManifestBody::encode(RECORD, &expected, &dek, &wrap, &content, &entropy).unwrap();
        let opened = ManifestBody::parse(&record).unwrap().open_whole(TENANT, &dek).unwrap();
        assert_eq!((opened.manifest, opened.content.as_ref()), (expected, content.as_slice()));
    }

    #[test]
    fn a_flipped_bit_behind_the_wrap_a_cut_and_another_record_are_refused() {
        let (_, dek, _) = keys();
        let open = |record: &Record| {
            ManifestBody::parse(record).and_then(|body| body.open_whole(TENANT, &dek)).is_ok()
        };
        for (bytes, ..) in vectors() {
            assert!(open(&record(bytes.clone())));
            for bit in (1 + 16 + WRAP_BYTES) * 8..bytes.len() * 8 {
                let mut other = bytes.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                assert!(!open(&record(other)), "bit {bit}");
            }
            for end in 0..bytes.len() {
                assert!(!open(&record(bytes[..end].to_vec())), "cut to {end}");
            }
            let moved = RecordId::from_bytes([10; 16]);
            let moved =
                Record::new(RecordKind::Manifest, moved, ClearGeometry::default(), bytes.into()).unwrap();
            assert!(!open(&moved), "under the id of another record");
        }
    }

    #[test]
    fn a_body_of_a_format_that_is_not_known_is_refused_as_such() {
        let mut bytes = vectors()[2].0.clone();
        bytes[0] = 3;
        assert!(matches!(ManifestBody::parse(&record(bytes)), Err(DecodeError::Format)));
    }

    fn run() -> LeafRun {
        LeafRun { first: 3, leaves: (0..9).map(|i| format!("a leaf, number {i}").into_bytes()).collect() }
    }

    #[test]
    fn a_run_of_leaves_opens_packed_and_as_it_was_before() {
        let (entropy, key, _) = keys();
        let before = seal_fact(RecordKind::Log, &key, TENANT, &run(), &entropy).unwrap();
        let packed = seal_packed(RecordKind::Log, &key, TENANT, &run(), &entropy).unwrap();
        assert!(packed.body().len() < before.body().len());
        for record in [before, packed] {
            assert_eq!(open_fact::<LeafRun>(&record, &key, TENANT).unwrap(), run());
        }
    }

    #[test]
    fn a_fact_under_another_format_byte_or_with_a_flipped_bit_is_refused() {
        let (entropy, key, _) = keys();
        let packed = seal_packed(RecordKind::Log, &key, TENANT, &run(), &entropy).unwrap();
        for bit in (0..8).chain((1 + TAG_BYTES) * 8..packed.body().len() * 8) {
            let mut body = packed.body().to_vec();
            body[bit / 8] ^= 1 << (bit % 8);
            let other = Record::new(RecordKind::Log, packed.id(), ClearGeometry::default(), body.into());
            assert!(open_fact::<LeafRun>(&other.unwrap(), &key, TENANT).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_frame_that_says_more_than_the_limit_is_refused_before_it_is_unpacked() {
        let long = zstd::bulk::compress(&vec![0; UNPACKED_BYTES_MAX + 1], 1).unwrap();
        assert!(matches!(unpack(&long), Err(DecodeError::Form)));
        assert!(matches!(unpack(b"no frame"), Err(DecodeError::Form)));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic_as_a_manifest_and_none_of_them_open(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600),
            format in 0_u8..4,
        ) {
            let (_, dek, _) = keys();
            let mut formed = bytes.clone();
            if let Some(first) = formed.first_mut() {
                *first = format;
            }
            for body in [bytes, formed] {
                let opened =
                    ManifestBody::parse(&record(body)).and_then(|body| body.open_whole(TENANT, &dek));
                proptest::prop_assert!(opened.is_err());
            }
        }

        #[test]
        fn a_manifest_of_any_content_opens_to_it(
            content in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..3000),
            revision in 0_u32..9,
        ) {
            let (entropy, dek, wrap) = keys();
            let size = content.len() as u64;
            let mut expected = Manifest { revision, size, sealed_size: sealed_size(size), ..inline() };
            expected.content = Digest(*blake3::hash(&content).as_bytes());
            let record = ManifestBody::encode(RECORD, &expected, &dek, &wrap, &content, &entropy).unwrap();
            let opened = ManifestBody::parse(&record).unwrap().open_whole(TENANT, &dek).unwrap();
            proptest::prop_assert_eq!((opened.manifest, opened.content.as_ref()), (expected, content.as_slice()));
        }
    }

    #[test]
    fn a_small_object_costs_less_than_three_hundred_bytes_beside_its_content() {
        let (entropy, dek, wrap) = keys();
        let record = ManifestBody::encode(RECORD, &inline(), &dek, &wrap, CONTENT, &entropy).unwrap();
        assert!(record.body().len() < CONTENT.len() + 300, "{}", record.body().len());
    }
}
