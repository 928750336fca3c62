//! PUT, from granted to committed. Read top-down: the type that each step
//! returns is the permission for the next one.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use coffer_catalog::{BucketRow, CatalogError, CommitError, ManifestRow, NewChallenges, NewReservation};
use coffer_keys::{Context, Dek, SealError, Sealer, Wrap, sealed_size};
use coffer_model::{
    BucketName, Degraded, Digest, Geometry, Layout, Manifest, ObjectId, ObjectKey, Outcome, RecordId,
    ResidencyPolicy, SiteId, Timestamp, VersionId,
};
use coffer_regions::{CodecError, Placement, PlacementError, Record, place, place_small};

use crate::again;
use crate::audit::AuditError;
use crate::authorize::{Grant, Granted};
use crate::jobs::Sampler;
use crate::leaf::leaf;
use crate::orders;
use crate::registry::RegistryError;
use crate::service::Service;
use crate::stored::{EncodeError, ManifestBody};
use crate::sweep::undo;
use crate::tenant::TenantKeyError;
use crate::write::{StripeWriter, Striped, WriteError};

/// Sealed bytes in every stripe but the last: a multiple of every k up to 4.
pub(crate) const STRIPE_BYTES: usize = 4 << 20;

/// Objects up to this many plaintext bytes ride whole in their manifest
/// record; larger ones are striped.
pub(crate) const INLINE_BYTES_MAX: usize = 64 << 10;
const _: () = assert!(coffer_proto::SMALL_BYTES_MAX <= INLINE_BYTES_MAX, "what comes whole rides whole");

/// The largest object of any geometry.
const OBJECT_BYTES_MAX: u64 = 128 << 30;

/// The largest object of a geometry: its manifest, with a digest for every
/// shard of every stripe, stays within three quarters of one record.
fn object_bytes_max(geometry: Geometry) -> u64 {
    let per_stripe = 33 * geometry.n() as u64 + 2;
    let stripes = Record::BODY_BYTES_MAX as u64 / 4 * 3 / per_stripe;
    (stripes * STRIPE_BYTES as u64).min(OBJECT_BYTES_MAX)
}

/// The arguments of a PUT.
pub(crate) struct Put {
    pub(crate) bucket: BucketName,
    pub(crate) key: ObjectKey,
    pub(crate) metadata: BTreeMap<String, String>,
    /// Of the content, where an attempt before may have written it already.
    pub(crate) repeats: Option<Digest>,
}

/// Where plaintext comes from, piece by piece.
pub(crate) trait Source: Send {
    /// The next piece; `None` at the end.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, SourceError>> + Send;
}

/// The caller's stream broke; nothing of the object stands.
#[derive(Debug, thiserror::Error)]
#[error("the upload broke off before its end")]
pub(crate) struct SourceError;

/// Why nothing of the object stands.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError {
    #[error("there is no bucket {0}")]
    NoBucket(BucketName),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("an object of this bucket has at most {0} bytes")]
    TooLarge(u64),
    #[error("refused before any byte moved: {0}")]
    Placement(#[from] PlacementError),
    #[error("refused before any byte moved, because the orders after a rebuild are not safe yet: {0}")]
    Orders(#[from] RegistryError),
    #[error(
        "nothing of the object stands: the policy of bucket {0} was changed meanwhile to one that its sites are not legal under; put it again, and it goes to sites of the new policy"
    )]
    PolicyChanged(BucketName),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("only {stored} of {needed} sites stored the manifest; the version was withdrawn")]
    Manifest { stored: usize, needed: usize },
    #[error(
        "the outcome is undecided: sites failed while the version was being withdrawn. The next start of the service settles it"
    )]
    Undecided,
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Keys(#[from] TenantKeyError),
    #[error("refused, because the audit log cannot be written: {0}")]
    Audit(#[from] AuditError),
    #[error("the catalogue failed: {0}")]
    Catalog(#[from] CatalogError),
    #[error("the catalogue failed: {0}")]
    Commit(#[from] CommitError),
}

/// A version that stands.
pub(crate) struct Committed {
    pub(crate) manifest: Manifest,
    pub(crate) audit_seq: u64,
    pub(crate) reduced_by: usize,
}

/// The whole story.
pub(crate) async fn put(
    service: &Service,
    put: Granted<Put>,
    mut source: impl Source,
) -> Result<Committed, PutError> {
    let (put, grant) = put.into_parts();
    let standing = again::standing(service, &grant, &put).await;
    if let Some(standing) = grant.settled(service, standing).await? {
        return Ok(standing);
    }
    let _under_way = again::begin(service, &grant, &put);
    let head = begin(&grant, &put.bucket, &mut source).await;
    let head = grant.settled(service, head).await?;
    let reservation = loop {
        let admitted = admit(service, &grant, &put.bucket, head.whole).await;
        let admitted = grant.settled(service, admitted).await?;
        match reserve(service, &grant, admitted, &put.key, head.whole).await {
            // Nothing is written yet: sites are chosen under the policy of now.
            Err(PutError::Catalog(CatalogError::PolicyChanged)) => {}
            reserved => break reserved?,
        }
    };
    match write_and_commit(service, &grant, &reservation, put, head, source).await {
        Ok(committed) => Ok(committed),
        Err(error) => Err(withdraw(service, &grant, &reservation, error).await),
    }
}

/// Waits for the beginning of what goes to a bucket. That can take its time,
/// and the bucket be another one afterwards.
async fn begin(grant: &Grant, bucket: &BucketName, source: &mut impl Source) -> Result<Head, PutError> {
    locate(grant, bucket).await?;
    Head::receive(source).await
}

/// A put that has a bucket and sites that are legal under its policy; nothing
/// is stored yet.
struct Admitted {
    bucket: BucketRow,
    version: VersionId,
    placement: Placement,
}

async fn admit(
    service: &Service,
    grant: &Grant,
    bucket: &BucketName,
    small: bool,
) -> Result<Admitted, PutError> {
    let bucket = locate(grant, bucket).await?;
    let version = VersionId::generate(service.host.entropy.as_ref());
    let policy = policy_of(service, grant, &bucket, small);
    let placement = choose_sites(service, &policy, version, small)?;
    orders::open(service, grant.tenant()).await?;
    Ok(Admitted { bucket, version, placement })
}

async fn locate(grant: &Grant, name: &BucketName) -> Result<BucketRow, PutError> {
    let found = grant.tenant().catalog.bucket(name).await?;
    found.ok_or_else(|| PutError::NoBucket(name.clone()))
}

/// The beginning of the plaintext: enough to know whether it is small.
struct Head {
    bytes: Bytes,
    /// Whether this is all of it.
    whole: bool,
}

impl Head {
    async fn receive(source: &mut impl Source) -> Result<Self, PutError> {
        let first = source.next().await?.unwrap_or_default();
        if first.len() > INLINE_BYTES_MAX {
            return Ok(Self { bytes: first, whole: false });
        }
        // What comes in one piece is not copied.
        let Some(second) = source.next().await? else { return Ok(Self { bytes: first, whole: true }) };
        let mut bytes = BytesMut::with_capacity(first.len() + second.len());
        bytes.extend_from_slice(&first);
        bytes.extend_from_slice(&second);
        while bytes.len() <= INLINE_BYTES_MAX {
            match source.next().await? {
                Some(piece) => bytes.extend_from_slice(&piece),
                None => return Ok(Self { bytes: bytes.freeze(), whole: true }),
            }
        }
        Ok(Self { bytes: bytes.freeze(), whole: false })
    }
}

/// Under which policy a put to a bucket is placed and acknowledged now.
pub(crate) fn policy_of(
    service: &Service,
    grant: &Grant,
    bucket: &BucketRow,
    small: bool,
) -> ResidencyPolicy {
    service.sites.owner().strict(&grant.tenant().confined(&bucket.policy), small)
}

fn choose_sites(
    service: &Service,
    policy: &ResidencyPolicy,
    version: VersionId,
    small: bool,
) -> Result<Placement, PutError> {
    let alive = service.sites.alive();
    let is_alive = |id| alive.contains(&id);
    let topology = service.sites.taking();
    let choose = if small { place_small } else { place };
    Ok(choose(version.as_bytes(), topology, policy, is_alive)?)
}

/// A version about to be written: its intent is in the log, its trace in the
/// catalogue, so that a crash from here on is rolled forward or withdrawn.
pub(crate) struct Reservation {
    pub(crate) bucket: BucketRow,
    pub(crate) version: VersionId,
    pub(crate) object: ObjectId,
    pub(crate) order: u64,
    pub(crate) created: Timestamp,
    pub(crate) record: RecordId,
    pub(crate) locator: [u8; 32],
    placement: Placement,
    small: bool,
    dek: Dek,
    wrap: Wrap,
}

async fn reserve(
    service: &Service,
    grant: &Grant,
    Admitted { bucket, version, placement }: Admitted,
    key: &ObjectKey,
    small: bool,
) -> Result<Reservation, PutError> {
    let entropy = service.host.entropy.as_ref();
    let tenant = grant.tenant();
    let dek = Dek::generate(entropy);
    let wrap = tenant.secrets.wrap(version, &dek, entropy)?;
    let mut locator = [0; 32];
    entropy.fill(&mut locator);
    let created = service.host.clock.now();
    let record = RecordId::generate(entropy);
    let new = NewReservation {
        version,
        bucket: bucket.id,
        under: bucket.record,
        key: key.clone(),
        object: tenant.secrets.object(bucket.id, key),
        created,
        record,
        sites: placement.sites().to_vec(),
        locator,
        striped: !small,
        wrap: wrap.to_bytes().to_vec(),
    };
    let intent =
        leaf(&grant.event(service, Some(version.to_string()), Outcome::Intent)).map_err(AuditError::from)?;
    let reserved = tenant.catalog.reserve(new, intent).await?;
    let (object, order) = (reserved.object, reserved.order);
    Ok(Reservation { bucket, version, object, order, created, record, locator, placement, small, dek, wrap })
}

/// What the manifest says of the content. That of a striped object is on every
/// site of the acknowledgement rule, fsynced.
struct Durable {
    size: u64,
    sealed_size: u64,
    content: Digest,
    layout: Layout,
    /// The plaintext of a small object: it rides, sealed, in the manifest record.
    inline: Bytes,
    /// Sites of the placement that missed a shard, where the policy accepts that.
    missed: Vec<SiteId>,
    /// What its sites will be asked one day.
    challenges: NewChallenges,
}

async fn write_and_commit(
    service: &Service,
    grant: &Grant,
    reservation: &Reservation,
    put: Put,
    head: Head,
    source: impl Source,
) -> Result<Committed, PutError> {
    let durable = if head.whole {
        small(reservation, head.bytes)
    } else {
        seal_and_write(service, grant, reservation, head.bytes, source).await?
    };
    commit(service, grant, reservation, put, durable).await
}

fn context(grant: &Grant, reservation: &Reservation) -> Context {
    Context::object(grant.tenant().id, reservation.bucket.id, reservation.object, reservation.version)
}

/// A small object goes to its sites with its manifest, under one seal.
fn small(reservation: &Reservation, plain: Bytes) -> Durable {
    let size = plain.len() as u64;
    Durable {
        size,
        sealed_size: sealed_size(size),
        content: Digest(*blake3::hash(&plain).as_bytes()),
        layout: Layout::Inline { sites: reservation.placement.sites().to_vec() },
        inline: plain,
        missed: reservation.placement.absent().to_vec(),
        challenges: NewChallenges::default(),
    }
}

/// Writes the stripes of an object. Where that fails, what was sent has arrived
/// or failed before this returns, so that it is withdrawn with the rest, and not
/// on its way to a site that a policy changed meanwhile excludes. Of a site that
/// did not answer in time nobody knows: what it stores all the same is found as
/// what no layout names.
async fn seal_and_write(
    service: &Service,
    grant: &Grant,
    reservation: &Reservation,
    head: Bytes,
    source: impl Source,
) -> Result<Durable, PutError> {
    let mut writer = StripeWriter::new(
        &service.sites,
        &reservation.placement,
        reservation.locator,
        policy_of(service, grant, &reservation.bucket, false).degraded,
        Sampler::new(
            grant.tenant().secrets.challenge_key(),
            reservation.version,
            service.host.entropy.as_ref(),
        ),
    )?;
    let (size, content) = match write_stripes(service, grant, reservation, &mut writer, head, source).await {
        Ok(written) => written,
        Err(error) => {
            writer.settle().await;
            return Err(error);
        }
    };
    let Striped { layout, sealed_size, missed, challenges } = writer.finish(STRIPE_BYTES)?;
    Ok(Durable { size, sealed_size, content, layout, inline: Bytes::new(), missed, challenges })
}

/// One pass over the bytes: each piece is hashed, sealed, and, whenever a
/// stripe is full, coded and sent to its sites while the next one fills. How
/// many bytes they are, and their digest, once all of it has arrived.
async fn write_stripes(
    service: &Service,
    grant: &Grant,
    reservation: &Reservation,
    writer: &mut StripeWriter<'_>,
    head: Bytes,
    mut source: impl Source,
) -> Result<(u64, Digest), PutError> {
    let mut content = blake3::Hasher::new();
    let mut size = 0_u64;
    let size_max = object_bytes_max(reservation.placement.geometry());
    let mut sealed = stripe_buffer();
    let key = reservation.dek.subkey("content");
    let mut sealer =
        Sealer::new(&key, &context(grant, reservation), service.host.entropy.as_ref(), &mut sealed);
    let mut next = Some(head);
    while let Some(piece) = next {
        size += piece.len() as u64;
        if size > size_max {
            return Err(PutError::TooLarge(size_max));
        }
        content.update(&piece);
        sealer.push(&piece, &mut sealed)?;
        while sealed.len() >= STRIPE_BYTES {
            send(service, grant, reservation, writer, take_stripe(&mut sealed)).await?;
        }
        next = source.next().await?;
    }
    sealer.finish(&mut sealed)?;
    while !sealed.is_empty() {
        send(service, grant, reservation, writer, take_stripe(&mut sealed)).await?;
    }
    writer.arrived().await?;
    Ok((size, Digest(*content.finalize().as_bytes())))
}

/// Sends one stripe on its way, if its sites are still legal. Whoever changes the
/// policy waits for those that have begun.
async fn send(
    service: &Service,
    grant: &Grant,
    reservation: &Reservation,
    writer: &mut StripeWriter<'_>,
    sealed: Vec<u8>,
) -> Result<(), PutError> {
    let placing = Arc::new(Arc::clone(&grant.tenant().placing).read_owned().await);
    reservation.still_legal(service, grant, 0).await?;
    Ok(writer.write(sealed, &placing).await?)
}

/// Room for a stripe, what the last piece adds to it, and its parity, so that
/// coding it moves no byte.
fn stripe_buffer() -> Vec<u8> {
    Vec::with_capacity(STRIPE_BYTES * 2)
}

/// The first stripe of what is sealed; the rest stays.
fn take_stripe(sealed: &mut Vec<u8>) -> Vec<u8> {
    let cut = sealed.len().min(STRIPE_BYTES);
    let mut rest = stripe_buffer();
    rest.extend_from_slice(&sealed[cut..]);
    sealed.truncate(cut);
    std::mem::replace(sealed, rest)
}

/// The manifest at its sites is the fact; the catalogue indexes it together
/// with its outcome leaf.
async fn commit(
    service: &Service,
    grant: &Grant,
    reservation: &Reservation,
    put: Put,
    durable: Durable,
) -> Result<Committed, PutError> {
    let tenant = grant.tenant();
    let manifest = Manifest {
        tenant: tenant.id,
        bucket: reservation.bucket.id,
        object: reservation.object,
        version: reservation.version,
        key: put.key,
        order: reservation.order,
        created: reservation.created,
        size: durable.size,
        sealed_size: durable.sealed_size,
        content: durable.content,
        metadata: put.metadata,
        layout: durable.layout,
        revision: 0,
    };
    let record = ManifestBody::encode(
        reservation.record,
        &manifest,
        &reservation.dek,
        &reservation.wrap,
        &durable.inline,
        service.host.entropy.as_ref(),
    )?;
    // The policy is not changed to another one while manifests are sent.
    let _placing = tenant.placing.read().await;
    let mut under = reservation.still_legal(service, grant, durable.missed.len()).await?;
    let sites: Vec<_> =
        manifest.layout.sites().iter().filter(|id| !durable.missed.contains(id)).copied().collect();
    let stored = service.sites.put_everywhere(&sites, &record).await;
    if !stored.missing.is_empty() {
        return Err(PutError::Manifest { stored: stored.by.len(), needed: sites.len() });
    }
    let outcome = grant.event(service, Some(manifest.version.to_string()), Outcome::Done);
    let row = ManifestRow {
        record: record.id(),
        manifest: manifest.clone(),
        wrap: reservation.wrap.to_bytes().to_vec(),
        reduced: u8::try_from(durable.missed.len()).unwrap_or(u8::MAX),
        inline: matches!(manifest.layout, Layout::Inline { .. }),
    };
    let leaf = leaf(&outcome).map_err(AuditError::from)?;
    let audit_seq = loop {
        let (row, leaf) = (row.clone(), leaf.clone());
        let committed = tenant.catalog.commit_under(row, Some(under), durable.challenges.clone(), leaf);
        match committed.await {
            Err(CommitError::Catalog(CatalogError::PolicyChanged)) => {
                under = reservation.still_legal(service, grant, durable.missed.len()).await?;
            }
            committed => break committed?,
        }
    };
    service.holders.note(&manifest.layout, &durable.missed);
    Ok(Committed { manifest, audit_seq, reduced_by: durable.missed.len() })
}

/// A failed put is withdrawn before its error returns; where even that fails,
/// the reservation stays for the sweeper and the answer says so.
async fn withdraw(service: &Service, grant: &Grant, reservation: &Reservation, error: PutError) -> PutError {
    let tenant = grant.tenant();
    let outcome = grant.event(service, Some(reservation.version.to_string()), Outcome::Failed);
    match undo(service, tenant, &reservation.traces(), outcome).await {
        Ok(()) => error,
        Err(_) => PutError::Undecided,
    }
}

impl Reservation {
    /// The registry record of the bucket under which this version may go on:
    /// its own, or that of a later policy which admits all its sites, codes as
    /// it is coded, and accepts that so many of its sites miss something.
    async fn still_legal(
        &self,
        service: &Service,
        grant: &Grant,
        missed: usize,
    ) -> Result<RecordId, PutError> {
        let now = locate(grant, &self.bucket.name).await?;
        if now.record == self.bucket.record {
            return Ok(now.record);
        }
        let policy = policy_of(service, grant, &now, self.small);
        let topology = service.sites.topology();
        let admitted = |id: &SiteId| topology.site(*id).is_some_and(|site| policy.admits(site));
        let legal = self.placement.sites().iter().all(admitted)
            && policy.geometry == self.placement.geometry()
            && (missed == 0 || policy.degraded == Degraded::Accept);
        if legal { Ok(now.record) } else { Err(PutError::PolicyChanged(now.name)) }
    }

    /// Where this version may have left something.
    fn traces(&self) -> crate::sweep::Traces {
        crate::sweep::Traces {
            bucket: self.bucket.id,
            object: self.object,
            version: self.version,
            order: self.order,
            record: self.record,
            locator: self.locator,
            sites: self.placement.sites().to_vec(),
        }
    }
}
