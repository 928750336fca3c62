//! GET: authorize, locate, fetch, verify, decode, open. Plaintext leaves only
//! as whole, authenticated chunks, in order.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use coffer_catalog::{BucketRow, CatalogError, ManifestRow};
use coffer_keys::{CHUNK_BYTES, Context, Dek, HEADER_BYTES, OpenError, RangeOpener, SEALED_CHUNK_BYTES};
use coffer_model::{BucketName, Layout, Manifest, ObjectKey, Outcome, SiteId};
use coffer_regions::{Codec, Record, SiteError};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::audit::AuditError;
use crate::authorize::{Grant, Granted};
use crate::fetch::{FetchError, Stripes};
use crate::service::Service;
use crate::stored::ManifestBody;
use crate::sweep::wrap_of;
use crate::tenant::TenantKeyError;

/// The arguments of a GET.
pub(crate) struct Get {
    pub(crate) bucket: BucketName,
    pub(crate) key: ObjectKey,
    pub(crate) range: Option<Range<u64>>,
}

/// Why an object, or the rest of it, is not returned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GetError {
    #[error("there is no bucket {0}")]
    NoBucket(BucketName),
    #[error("there is no such object")]
    NoObject,
    #[error("the range lies outside the object of {size} bytes")]
    Range { size: u64 },
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("no holder of this object returned it: {}", .0.join(", "))]
    NoHolder(Vec<String>),
    #[error("the stored bytes do not open: {0}")]
    Open(#[from] OpenError),
    #[error("the catalogue holds no usable wrap of this version; rebuild it from the sites")]
    Wrap,
    #[error(transparent)]
    Keys(#[from] TenantKeyError),
    #[error("refused, because the audit log cannot be written: {0}")]
    Audit(#[from] AuditError),
    #[error("the catalogue failed: {0}")]
    Catalog(#[from] CatalogError),
    #[error("the read was cut off by the service stopping")]
    Stopped,
}

/// Stripes fetched ahead of the one being opened: the memory of one GET.
const AHEAD: usize = 3;

/// A version found, its pieces about to follow.
pub(crate) struct Found {
    pub(crate) manifest: Manifest,
    pub(crate) pieces: mpsc::Receiver<Result<Bytes, GetError>>,
}

/// The whole story; the pieces come through the receiver as they are opened.
pub(crate) async fn get(service: &Arc<Service>, get: Granted<Get>) -> Result<Found, GetError> {
    let (get, grant) = get.into_parts();
    let found = locate(&grant, &get.bucket, &get.key).await;
    let (_, row) = grant.settled(service, found).await?;
    let range = grant.settled(service, check_range(get.range, row.manifest.size)).await?;
    let subject = row.manifest.version.to_string();
    grant.tenant().note(&grant.event(service, Some(subject.clone()), Outcome::Intent)).await?;
    let manifest = row.manifest.clone();
    let (send, pieces) = mpsc::channel(4);
    let service = Arc::clone(service);
    tokio::spawn(async move {
        let outcome = match deliver(&service, &grant, &row, range, &send).await {
            Ok(()) => Outcome::Done,
            Err(error) => {
                let _ = send.send(Err(error)).await;
                Outcome::Failed
            }
        };
        let event = grant.event(&service, Some(subject), outcome);
        if let Err(error) = grant.tenant().note(&event).await {
            let _ = send.send(Err(error.into())).await;
        }
    });
    Ok(Found { manifest, pieces })
}

/// The bucket, and the catalogue's row of the newest version of a key in it.
pub(crate) async fn locate(
    grant: &Grant,
    bucket: &BucketName,
    key: &ObjectKey,
) -> Result<(BucketRow, ManifestRow), GetError> {
    let catalog = &grant.tenant().catalog;
    let found = catalog.bucket(bucket).await?.ok_or_else(|| GetError::NoBucket(bucket.clone()))?;
    let row = catalog.latest(found.id, key).await?.ok_or(GetError::NoObject)?;
    Ok((found, row))
}

fn check_range(range: Option<Range<u64>>, size: u64) -> Result<Range<u64>, GetError> {
    match range {
        None => Ok(0..size),
        Some(range) if range.start <= range.end && range.end <= size => Ok(range),
        Some(_) => Err(GetError::Range { size }),
    }
}

async fn deliver(
    service: &Arc<Service>,
    grant: &Grant,
    row: &ManifestRow,
    range: Range<u64>,
    send: &mpsc::Sender<Result<Bytes, GetError>>,
) -> Result<(), GetError> {
    let manifest = &row.manifest;
    let wrap = wrap_of(row).ok_or(GetError::Wrap)?;
    let dek = grant.tenant().secrets.unwrap(manifest.version, &wrap)?;
    if let Layout::Inline { sites } = &manifest.layout {
        let content = read_inline(service, row, sites, &dek).await?;
        return deliver_inline(&content, &range, send).await;
    }
    let key = dek.subkey("content");
    let context = Context::object(manifest.tenant, manifest.bucket, manifest.object, manifest.version);
    let chunks = Chunks::covering(&range, manifest.size);
    let needed = chunks.sealed(manifest.sealed_size);
    let mut sealed = SealedReader::new(service, row, &needed)?;
    let header = sealed.header().await?;
    let opener = RangeOpener::new(&key, &context, &header)?;
    sealed.skip_to(needed.start).await?;
    let mut plain = Vec::with_capacity(coffer_proto::DATA_BYTES_MAX);
    for index in chunks.first..=chunks.last {
        let length = SEALED_CHUNK.min(manifest.sealed_size.saturating_sub(sealed.position));
        let chunk = sealed.take(usize::try_from(length).unwrap_or(0)).await?;
        opener.open_chunk(index, index == chunks.last_of_object, &chunk, &mut plain)?;
        if plain.len() + CHUNK_BYTES > coffer_proto::DATA_BYTES_MAX || index == chunks.last {
            let end = ((index + 1) * CHUNK).min(manifest.size);
            let piece = cut(std::mem::take(&mut plain), end, &range);
            plain.reserve(coffer_proto::DATA_BYTES_MAX);
            if !piece.is_empty() && send.send(Ok(piece)).await.is_err() {
                return Err(GetError::Stopped);
            }
        }
    }
    Ok(())
}

/// Sends what a range asks for of a small object's content.
async fn deliver_inline(
    content: &Bytes,
    range: &Range<u64>,
    send: &mpsc::Sender<Result<Bytes, GetError>>,
) -> Result<(), GetError> {
    let at = |offset: u64| usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
    let mut rest = content.slice(at(range.start)..at(range.end));
    while !rest.is_empty() {
        let piece = rest.split_to(rest.len().min(coffer_proto::DATA_BYTES_MAX));
        send.send(Ok(piece)).await.map_err(|_| GetError::Stopped)?;
    }
    Ok(())
}

const CHUNK: u64 = CHUNK_BYTES as u64;
const SEALED_CHUNK: u64 = SEALED_CHUNK_BYTES as u64;

/// The chunks that a range of plaintext touches. A range that ends with the
/// object includes its last chunk, which is always short and may be empty, so
/// that the end of the object is authenticated with it.
struct Chunks {
    first: u64,
    last: u64,
    last_of_object: u64,
}

impl Chunks {
    fn covering(range: &Range<u64>, size: u64) -> Self {
        let last_of_object = size / CHUNK;
        let first = range.start / CHUNK;
        let last = if range.end == size { last_of_object } else { range.end.saturating_sub(1) / CHUNK };
        Self { first, last: last.max(first), last_of_object }
    }

    /// Where they lie in the sealed object.
    fn sealed(&self, sealed_size: u64) -> Range<u64> {
        let offset = |chunk: u64| HEADER_BYTES as u64 + chunk * SEALED_CHUNK;
        offset(self.first)..offset(self.last + 1).min(sealed_size)
    }
}

/// The part of `plain`, which ends at plaintext offset `end`, inside `range`.
fn cut(plain: Vec<u8>, end: u64, range: &Range<u64>) -> Bytes {
    let start = end - plain.len() as u64;
    let from = usize::try_from(range.start.saturating_sub(start)).unwrap_or(usize::MAX).min(plain.len());
    let to = usize::try_from(range.end.saturating_sub(start)).unwrap_or(usize::MAX).min(plain.len());
    Bytes::from(plain).slice(from..to.max(from))
}

/// The sealed bytes of a version in order, stripes fetched ahead.
struct SealedReader {
    service: Arc<Service>,
    stripes: Arc<Stripes>,
    buffer: Bytes,
    /// Sealed offset of the buffer's first byte.
    position: u64,
    next: u32,
    end: u32,
    ahead: VecDeque<JoinHandle<Result<Bytes, FetchError>>>,
}

impl SealedReader {
    fn new(service: &Arc<Service>, row: &ManifestRow, needed: &Range<u64>) -> Result<Self, GetError> {
        let Layout::Striped { geometry, sites, stripe_bytes, locator, digests } = &row.manifest.layout else {
            return Err(GetError::Open(OpenError::Truncated));
        };
        let stripe_bytes = u64::from((*stripe_bytes).max(1));
        let end = u32::try_from(needed.end.div_ceil(stripe_bytes)).unwrap_or(u32::MAX);
        let stripes = Arc::new(Stripes {
            codec: Codec::new(*geometry).map_err(FetchError::from)?,
            sites: sites.clone(),
            stripe_bytes,
            locator: *locator,
            digests: digests.clone(),
            sealed_size: row.manifest.sealed_size,
        });
        let (service, ahead) = (Arc::clone(service), VecDeque::new());
        Ok(Self { service, stripes, buffer: Bytes::new(), position: 0, next: 0, end, ahead })
    }

    /// The seal's header. Call first.
    async fn header(&mut self) -> Result<[u8; HEADER_BYTES], GetError> {
        let bytes = self.take(HEADER_BYTES).await?;
        bytes.as_ref().try_into().map_err(|_| GetError::Open(OpenError::Truncated))
    }

    /// Moves to a later sealed offset without fetching the stripes between.
    async fn skip_to(&mut self, offset: u64) -> Result<(), GetError> {
        let buffered = self.position + self.buffer.len() as u64;
        if offset > buffered {
            let stripe = u32::try_from(offset / self.stripes.stripe_bytes).unwrap_or(u32::MAX);
            if stripe > self.next {
                self.ahead.drain(..).for_each(|read| read.abort());
                self.next = stripe;
                self.buffer = Bytes::new();
                self.position = u64::from(stripe) * self.stripes.stripe_bytes;
            }
        }
        let rest = usize::try_from(offset.saturating_sub(self.position)).unwrap_or(usize::MAX);
        self.take(rest).await.map(|_| ())
    }

    /// The next `length` sealed bytes; a slice of one stripe where possible.
    async fn take(&mut self, length: usize) -> Result<Bytes, GetError> {
        if self.buffer.len() < length {
            let mut joined = Vec::with_capacity(length);
            joined.extend_from_slice(&self.buffer);
            while joined.len() < length {
                let stripe = self.next_stripe().await?;
                let wanted = (length - joined.len()).min(stripe.len());
                joined.extend_from_slice(&stripe[..wanted]);
                self.buffer = stripe.slice(wanted..);
            }
            self.position += length as u64;
            return Ok(Bytes::from(joined));
        }
        self.position += length as u64;
        Ok(self.buffer.split_to(length))
    }

    async fn next_stripe(&mut self) -> Result<Bytes, GetError> {
        while self.ahead.len() < AHEAD && self.next < self.end {
            let (service, stripes, stripe) =
                (Arc::clone(&self.service), Arc::clone(&self.stripes), self.next);
            self.ahead.push_back(tokio::spawn(async move { service.fetch_stripe(&stripes, stripe).await }));
            self.next += 1;
        }
        let read = self.ahead.pop_front().ok_or(GetError::Open(OpenError::Truncated))?;
        let stripe = read.await.map_err(|_| GetError::Stopped)??;
        if stripe.is_empty() { Err(GetError::Open(OpenError::Truncated)) } else { Ok(stripe) }
    }
}

impl Drop for SealedReader {
    fn drop(&mut self) {
        self.ahead.iter().for_each(|read| read.abort());
    }
}

/// The content of a small object from the first holder whose copy is whole and
/// belongs to this version. Holders that answered otherwise are reported, and
/// get the good copy.
async fn read_inline(
    service: &Service,
    row: &ManifestRow,
    sites: &[SiteId],
    dek: &Dek,
) -> Result<Bytes, GetError> {
    let mut failed = Vec::new();
    let mut blamed = Vec::new();
    for id in sites {
        let error = match read_holder(service, row, dek, *id).await {
            Ok((record, content)) => {
                for id in blamed {
                    if service.sites.replace(id, record.clone()).await {
                        service.damage.mended(id, row.record);
                    }
                }
                return Ok(content);
            }
            Err(error) => error,
        };
        if error != SiteError::Unreachable {
            service.sites.report(*id);
            service.damage.note(*id, row.record);
            blamed.push(*id);
        }
        failed.push(format!("{} ({error})", service.sites.name(*id)));
    }
    Err(GetError::NoHolder(failed))
}

async fn read_holder(
    service: &Service,
    row: &ManifestRow,
    dek: &Dek,
    id: SiteId,
) -> Result<(Record, Bytes), SiteError> {
    let record = service.sites.get(id).ok_or(SiteError::Unreachable)?.get(row.record).await?;
    let body = ManifestBody::parse(&record).map_err(|_| SiteError::Damaged)?;
    // A site can make up a record whose digest is right; it cannot make up one
    // that opens. Opened here, so that the next holder is asked if it does not.
    let opened = body.open_whole(row.manifest.tenant, dek).map_err(|_| SiteError::Damaged)?;
    if opened.manifest == row.manifest { Ok((record, opened.content)) } else { Err(SiteError::Damaged) }
}
