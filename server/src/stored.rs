//! The sealed bodies of the records that the service keeps at sites. Their
//! bytes are documented in `server/RECORDS.md`; each begins with a format byte.

use bytes::Bytes;
use coffer_keys::{Context, Dek, OpenError, SealError, Wrap, open_bytes, seal_bytes};
use coffer_model::{
    BucketId, BucketName, Entropy, Manifest, ObjectId, PrincipalId, RecordId, ResidencyPolicy, Role,
    TenantId, Timestamp, VersionId,
};
use coffer_regions::{ClearGeometry, Record, RecordError, RecordKind};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The one format so far.
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
    BucketCreated { id: BucketId, name: BucketName, policy: ResidencyPolicy, created: Timestamp },
    BucketRemoved { id: BucketId, removed: Timestamp },
    PrincipalCreated(Principal),
}

/// A run of leaves of a tenant's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeafRun {
    pub(crate) first: u64,
    pub(crate) leaves: Vec<Vec<u8>>,
}

/// What is sealed under a key of the tenant, with the record kind and id bound in.
pub(crate) fn seal_fact<T: Serialize>(
    kind: RecordKind,
    key: &Dek,
    tenant: TenantId,
    fact: &T,
    entropy: &dyn Entropy,
) -> Result<Record, EncodeError> {
    let id = RecordId::generate(entropy);
    let plain = postcard::to_allocvec(fact)?;
    let mut body = vec![FORMAT];
    body.extend_from_slice(tenant_tag(key).as_slice());
    body.extend_from_slice(&seal_bytes(key, &fact_context(kind, tenant, id), entropy, &plain)?);
    Ok(Record::new(kind, id, ClearGeometry::default(), Bytes::from(body))?)
}

/// Opens what [`seal_fact`] sealed.
pub(crate) fn open_fact<T: DeserializeOwned>(
    record: &Record,
    key: &Dek,
    tenant: TenantId,
) -> Result<T, DecodeError> {
    let (format, rest) = record.body().split_first().ok_or(DecodeError::Short)?;
    if *format != FORMAT {
        return Err(DecodeError::Format);
    }
    let sealed = rest.get(TAG_BYTES..).ok_or(DecodeError::Short)?;
    let plain = open_bytes(key, &fact_context(record.kind(), tenant, record.id()), sealed)?;
    postcard::from_bytes(&plain).map_err(|_| DecodeError::Form)
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

fn fact_context(kind: RecordKind, tenant: TenantId, id: RecordId) -> Context {
    Context::named("coffer fact v1", &[&[kind.byte()], tenant.as_bytes(), id.as_bytes()])
}

/// A manifest record, taken apart. The wrap names its KEK in clear.
pub(crate) struct ManifestBody {
    /// The record that it came in.
    record: RecordId,
    pub(crate) version: VersionId,
    pub(crate) wrap: Wrap,
    sealed_manifest: Bytes,
    /// The sealed content of a small object; empty for a striped one.
    pub(crate) inline: Bytes,
}

/// Length of a wrap, see `keys/FORMAT.md`.
const WRAP_BYTES: usize = 81;

impl ManifestBody {
    /// format 1 ‖ version 16 ‖ wrap 81 ‖ u32 length ‖ sealed manifest ‖ sealed content.
    pub(crate) fn encode(
        id: RecordId,
        manifest: &Manifest,
        dek: &Dek,
        wrap: &Wrap,
        inline: &[u8],
        entropy: &dyn Entropy,
    ) -> Result<Record, EncodeError> {
        let plain = postcard::to_allocvec(manifest)?;
        let context = Context::manifest(manifest.tenant, manifest.version, id);
        let sealed = seal_bytes(&dek.subkey("manifest"), &context, entropy, &plain)?;
        let length = u32::try_from(sealed.len()).map_err(|_| RecordError::TooLong)?;
        let mut body = Vec::with_capacity(1 + 16 + WRAP_BYTES + 4 + sealed.len() + inline.len());
        body.push(FORMAT);
        body.extend_from_slice(manifest.version.as_bytes());
        body.extend_from_slice(&wrap.to_bytes());
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(&sealed);
        body.extend_from_slice(inline);
        Ok(Record::new(RecordKind::Manifest, id, ClearGeometry::default(), Bytes::from(body))?)
    }

    pub(crate) fn parse(record: &Record) -> Result<Self, DecodeError> {
        let mut rest = record.body().clone();
        let mut take = |length: usize| {
            if rest.len() < length { Err(DecodeError::Short) } else { Ok(rest.split_to(length)) }
        };
        if take(1)?.as_ref() != [FORMAT] {
            return Err(DecodeError::Format);
        }
        let version = VersionId::try_from(take(16)?.as_ref()).map_err(|_| DecodeError::Form)?;
        let wrap = Wrap::from_bytes(&take(WRAP_BYTES)?).map_err(|_| DecodeError::Form)?;
        let length: [u8; 4] = take(4)?.as_ref().try_into().map_err(|_| DecodeError::Short)?;
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| DecodeError::Short)?;
        let sealed_manifest = take(length)?;
        Ok(Self { record: record.id(), version, wrap, sealed_manifest, inline: rest })
    }

    /// Opens the manifest; the AEAD proves that it is the tenant's, this
    /// version's, and in the record that was made for it.
    pub(crate) fn open(&self, tenant: TenantId, dek: &Dek) -> Result<Manifest, DecodeError> {
        let context = Context::manifest(tenant, self.version, self.record);
        let plain = open_bytes(&dek.subkey("manifest"), &context, &self.sealed_manifest)?;
        postcard::from_bytes(&plain).map_err(|_| DecodeError::Form)
    }
}
