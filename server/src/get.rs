//! GET: authorize, locate, fetch, verify, decode, open. Plaintext leaves only
//! as whole, authenticated chunks, in order, and only once the log says so.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use coffer_catalog::{BucketRow, CatalogError, ManifestRow};
use coffer_keys::{Context, Dek};
use coffer_model::{BucketName, Layout, Manifest, ObjectKey, Outcome};
use tokio::sync::{mpsc, oneshot};

use crate::audit::AuditError;
use crate::authorize::{Grant, Granted};
use crate::fetch::Stripes;
use crate::plain::{Plain, PlainError, Seal};
use crate::service::Service;
use crate::small::NoHolder;
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

/// Pieces that wait for the wire.
const PIECES_WAITING: usize = 2;

/// A version found, its pieces about to follow.
pub(crate) struct Found {
    pub(crate) manifest: Manifest,
    pub(crate) pieces: mpsc::Receiver<Result<Bytes, GetError>>,
}

/// The whole story; the pieces come through the receiver as they are opened.
/// What fits into one piece is opened before anything is said, so that its
/// two leaves take one commit.
pub(crate) async fn get(service: &Arc<Service>, get: Granted<Get>) -> Result<Found, GetError> {
    let (get, grant) = get.into_parts();
    let found = locate(&grant, &get.bucket, &get.key).await;
    let (_, row) = grant.settled(service, found).await?;
    let range = grant.settled(service, check_range(get.range, row.manifest.size)).await?;
    if range.end - range.start <= coffer_proto::DATA_BYTES_MAX as u64 {
        at_once(service, &grant, row, range).await
    } else {
        piece_by_piece(service, grant, row, range).await
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
) -> Result<Found, GetError> {
    let subject = Some(row.manifest.version.to_string());
    let intent = grant.event(service, subject.clone(), Outcome::Intent);
    let opened = open_all(service, grant, &row, range).await;
    let outcome = if opened.is_ok() { Outcome::Done } else { Outcome::Failed };
    grant.tenant().note_both(&intent, &grant.event(service, subject, outcome)).await?;
    let (send, pieces) = mpsc::channel(1);
    if !opened.as_ref().is_ok_and(Bytes::is_empty) {
        // There is room for it, and the receiver lives.
        drop(send.try_send(opened));
    }
    Ok(Found { manifest: row.manifest, pieces })
}

async fn open_all(
    service: &Arc<Service>,
    grant: &Grant,
    row: &ManifestRow,
    range: Range<u64>,
) -> Result<Bytes, GetError> {
    if matches!(row.manifest.layout, Layout::Inline { .. }) {
        return Ok(service.read_small(row, dek_of(grant, row)?, range).await?);
    }
    let mut plain = open_striped(service, grant, row, range).await?;
    let Some(mut all) = plain.next().await? else { return Ok(Bytes::new()) };
    // A range that begins within a chunk touches one chunk more than a piece holds.
    while let Some(more) = plain.next().await? {
        all = Bytes::from([all, more].concat());
    }
    Ok(all)
}

/// Fetches while the intent becomes durable, and hands on each piece.
async fn piece_by_piece(
    service: &Arc<Service>,
    grant: Grant,
    row: ManifestRow,
    range: Range<u64>,
) -> Result<Found, GetError> {
    let subject = Some(row.manifest.version.to_string());
    let intent = grant.event(service, subject.clone(), Outcome::Intent);
    let manifest = row.manifest.clone();
    let tenant = Arc::clone(grant.tenant());
    let (send, pieces) = mpsc::channel(PIECES_WAITING);
    let (durable, logged) = oneshot::channel();
    let service = Arc::clone(service);
    tokio::spawn(async move {
        let outcome = match deliver(&service, &grant, &row, range, logged, &send).await {
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

async fn deliver(
    service: &Arc<Service>,
    grant: &Grant,
    row: &ManifestRow,
    range: Range<u64>,
    logged: oneshot::Receiver<()>,
    send: &mpsc::Sender<Result<Bytes, GetError>>,
) -> Result<(), GetError> {
    let opened = open_striped(service, grant, row, range).await;
    // Nothing leaves, and no outcome is noted, before the intent is durable.
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
) -> Result<Plain, GetError> {
    let manifest = &row.manifest;
    let key = dek_of(grant, row)?.subkey("content");
    let context = Context::object(manifest.tenant, manifest.bucket, manifest.object, manifest.version);
    let stripes = Stripes::of(manifest).map_err(PlainError::from)?;
    Ok(Plain::open(service, manifest, stripes, &Seal { key, context }, range).await?)
}

/// The key of a version.
fn dek_of(grant: &Grant, row: &ManifestRow) -> Result<Dek, GetError> {
    let wrap = wrap_of(row).ok_or(GetError::Wrap)?;
    Ok(grant.tenant().secrets.unwrap(row.manifest.version, &wrap)?)
}
