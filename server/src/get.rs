//! GET: authorize, locate, fetch, verify, decode, open. Plaintext leaves only
//! as whole, authenticated chunks, in order, and only once the log says so.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use coffer_catalog::{BucketRow, CatalogError, ManifestRow};
use coffer_keys::{Context, Dek};
use coffer_model::{BucketName, Layout, Manifest, ObjectKey, Outcome, Timestamp};
use tokio::sync::{mpsc, oneshot};

use crate::audit::AuditError;
use crate::authorize::{Grant, Granted};
use crate::fetch::{FetchError, Stripes};
use crate::plain::{Plain, PlainError, Seal};
use crate::sealed::SealedError;
use crate::service::Service;
use crate::small::NoHolder;
use crate::sweep::wrap_of;
use crate::tenant::TenantKeyError;
use crate::terms::Terms;

/// The arguments of a GET.
pub(crate) struct Get {
    pub(crate) bucket: BucketName,
    pub(crate) key: ObjectKey,
    pub(crate) range: Option<Range<u64>>,
    /// Of which moment; none: of now.
    pub(crate) as_of: Option<Timestamp>,
    pub(crate) terms: Terms,
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
    Plain(#[from] PlainError),
    #[error(transparent)]
    NoHolder(#[from] NoHolder),
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

/// Plaintext that is opened before anything is said.
const AT_ONCE_BYTES_MAX: u64 = 1 << 20;

/// Pieces that wait for the wire.
const PIECES_WAITING: usize = 8;

/// A version found, its pieces about to follow.
pub(crate) struct Found {
    pub(crate) manifest: Manifest,
    pub(crate) pieces: mpsc::Receiver<Result<Bytes, GetError>>,
}

/// The whole story; the pieces come through the receiver as they are opened.
/// What is small is opened before anything is said, so that its two leaves
/// take one commit.
pub(crate) async fn get(service: &Arc<Service>, get: Granted<Get>) -> Result<Found, GetError> {
    let (get, grant) = get.into_parts();
    let found = locate_at(&grant, &get.bucket, &get.key, get.as_of).await;
    let (_, row) = grant.settled(service, found).await?;
    let range = grant.settled(service, check_range(get.range, row.manifest.size)).await?;
    if range.end - range.start <= AT_ONCE_BYTES_MAX {
        at_once(service, &grant, row, range, &get.terms).await
    } else {
        piece_by_piece(service, grant, row, range, get.terms).await
    }
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

/// The same of a moment: the version that was the newest then, whatever was
/// written or deleted since. A tombstone only hides until retention ends.
pub(crate) async fn locate_at(
    grant: &Grant,
    bucket: &BucketName,
    key: &ObjectKey,
    as_of: Option<Timestamp>,
) -> Result<(BucketRow, ManifestRow), GetError> {
    let Some(moment) = as_of else { return locate(grant, bucket, key).await };
    let catalog = &grant.tenant().catalog;
    let found = catalog.bucket(bucket).await?.ok_or_else(|| GetError::NoBucket(bucket.clone()))?;
    let row = catalog.latest_at(found.id, key, moment).await?.ok_or(GetError::NoObject)?;
    Ok((found, row))
}

fn check_range(range: Option<Range<u64>>, size: u64) -> Result<Range<u64>, GetError> {
    match range {
        None => Ok(0..size),
        Some(range) if range.start <= range.end && range.end <= size => Ok(range),
        Some(_) => Err(GetError::Range { size }),
    }
}

/// Opens all of a small answer, then makes intent and outcome durable
/// together; nothing of it leaves before.
async fn at_once(
    service: &Arc<Service>,
    grant: &Grant,
    row: ManifestRow,
    range: Range<u64>,
    terms: &Terms,
) -> Result<Found, GetError> {
    let subject = Some(row.manifest.version.to_string());
    let intent = grant.event(service, subject.clone(), Outcome::Intent);
    let row = Arc::new(row);
    let open = |row: Arc<ManifestRow>| {
        let range = range.clone();
        async move { open_row(service, grant, &row, range, terms).await }
    };
    let opened = open_where_it_is(grant, &row, open).await;
    let outcome = if opened.is_ok() { Outcome::Done } else { Outcome::Failed };
    grant.tenant().note_both(&intent, &grant.event(service, subject, outcome)).await?;
    let opened = opened.map_or_else(|error| vec![Err(error)], |pieces| pieces.into_iter().map(Ok).collect());
    let (send, pieces) = mpsc::channel(opened.len().max(1));
    // There is room for all of it, and the receiver lives.
    opened.into_iter().for_each(|piece| drop(send.try_send(piece)));
    Ok(Found { manifest: Arc::unwrap_or_clone(row).manifest, pieces })
}

/// Opens a version; once more where it moved while it was read, and those that
/// were asked gave up what they had.
async fn open_where_it_is<T, F>(
    grant: &Grant,
    row: &Arc<ManifestRow>,
    open: impl Fn(Arc<ManifestRow>) -> F,
) -> Result<T, GetError>
where
    F: Future<Output = Result<T, GetError>>,
{
    match open(Arc::clone(row)).await {
        Err(error) if error.is_of_a_place() => match moved(grant, row).await? {
            Some(row) => open(Arc::new(row)).await,
            None => Err(error),
        },
        opened => opened,
    }
}

/// The version's row, if it is another one by now.
async fn moved(grant: &Grant, row: &ManifestRow) -> Result<Option<ManifestRow>, CatalogError> {
    let now = grant.tenant().catalog.version(row.manifest.version).await?;
    Ok(now.filter(|now| now.record != row.record))
}

impl GetError {
    /// Whether it says that the places that were asked do not have enough.
    fn is_of_a_place(&self) -> bool {
        matches!(
            self,
            Self::NoHolder(_)
                | Self::Plain(PlainError::Sealed(SealedError::Fetch(FetchError::TooFewShards { .. })))
        )
    }
}

async fn open_row(
    service: &Arc<Service>,
    grant: &Grant,
    row: &ManifestRow,
    range: Range<u64>,
    terms: &Terms,
) -> Result<Vec<Bytes>, GetError> {
    let mut pieces = Vec::new();
    if matches!(row.manifest.layout, Layout::Inline { .. }) {
        pieces.push(service.read_small(row, dek_of(grant, row)?, range, terms).await?);
    } else {
        let mut plain = open_striped(service, grant, row, range, terms).await?;
        while let Some(piece) = plain.next().await? {
            pieces.push(piece);
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    Ok(pieces)
}

/// Fetches while the intent becomes durable, and hands on each piece.
async fn piece_by_piece(
    service: &Arc<Service>,
    grant: Grant,
    row: ManifestRow,
    range: Range<u64>,
    terms: Terms,
) -> Result<Found, GetError> {
    let subject = Some(row.manifest.version.to_string());
    let intent = grant.event(service, subject.clone(), Outcome::Intent);
    let (manifest, row) = (row.manifest.clone(), Arc::new(row));
    let tenant = Arc::clone(grant.tenant());
    let (send, pieces) = mpsc::channel(PIECES_WAITING);
    let (durable, logged) = oneshot::channel();
    let service = Arc::clone(service);
    tokio::spawn(async move {
        let read = Read { row: &row, range, terms: &terms };
        let outcome = match deliver(&service, &grant, read, logged, &send).await {
            Ok(()) => Outcome::Done,
            Err(error) => {
                let _ = send.send(Err(error)).await;
                Outcome::Failed
            }
        };
        let event = grant.event(&service, subject, outcome);
        if let Err(error) = grant.tenant().note(&event).await {
            let _ = send.send(Err(error.into())).await;
        }
    });
    tenant.note(&intent).await?;
    // If nobody takes it, the reading has failed already and says so itself.
    let _ = durable.send(());
    Ok(Found { manifest, pieces })
}

/// What is read, and how.
struct Read<'a> {
    row: &'a Arc<ManifestRow>,
    range: Range<u64>,
    terms: &'a Terms,
}

async fn deliver(
    service: &Arc<Service>,
    grant: &Grant,
    Read { row, range, terms }: Read<'_>,
    logged: oneshot::Receiver<()>,
    send: &mpsc::Sender<Result<Bytes, GetError>>,
) -> Result<(), GetError> {
    let open = |row: Arc<ManifestRow>| {
        let range = range.clone();
        async move { open_striped(service, grant, &row, range, terms).await }
    };
    let opened = open_where_it_is(grant, row, open).await;
    // Nothing leaves, and no outcome is noted, before the intent is durable,
    // whatever went wrong so far.
    logged.await.map_err(|_| GetError::Stopped)?;
    let mut plain = opened?;
    while let Some(piece) = plain.next().await? {
        if !piece.is_empty() && send.send(Ok(piece)).await.is_err() {
            return Err(GetError::Stopped);
        }
    }
    Ok(())
}

async fn open_striped(
    service: &Arc<Service>,
    grant: &Grant,
    row: &ManifestRow,
    range: Range<u64>,
    terms: &Terms,
) -> Result<Plain, GetError> {
    let manifest = &row.manifest;
    let key = dek_of(grant, row)?.subkey("content");
    let context = Context::object(manifest.tenant, manifest.bucket, manifest.object, manifest.version);
    let stripes = Stripes::of(manifest, terms.clone()).map_err(PlainError::from)?;
    Ok(Plain::open(service, manifest, stripes, &Seal { key, context }, range).await?)
}

/// The key of a version.
fn dek_of(grant: &Grant, row: &ManifestRow) -> Result<Dek, GetError> {
    let wrap = wrap_of(row).ok_or(GetError::Wrap)?;
    Ok(grant.tenant().secrets.unwrap(row.manifest.version, &wrap)?)
}
