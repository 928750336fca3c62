//! Objects: streams in both directions, whose memory does not depend on the
//! size of the object.

mod body;
mod source;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use bytes::Bytes;
use coffer_model::{BucketName, Digest, ObjectKey, Timestamp, VersionId};
use coffer_proto::v1;
use futures::{Stream, StreamExt as _};
use tokio::io::AsyncRead;

use crate::call::{CallError, bad_answer, once, repeat};
use crate::connect::Client;
use crate::terms::ReadTerms;

pub use body::{GetError, ObjectBody};

/// The size of the pieces in which object data travels, in bytes: the most
/// that one message of the wire may carry.
pub const PIECE_BYTES: usize = coffer_proto::DATA_BYTES_MAX;

/// One version of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectInfo {
    /// The version.
    pub version: VersionId,
    /// The key.
    pub key: ObjectKey,
    /// Size in bytes.
    pub size: u64,
    /// When it was written.
    pub created: Timestamp,
    /// BLAKE3 of the content.
    pub content_blake3: Digest,
    /// What the writer attached.
    pub metadata: BTreeMap<String, String>,
}

/// An object and where its shards lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPlacement {
    /// The newest version.
    pub object: ObjectInfo,
    /// How it is coded, for example `4+2`.
    pub geometry: String,
    /// The names of its sites, in shard order.
    pub sites: Vec<String>,
}

/// A write that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutOutcome {
    /// What was written.
    pub object: ObjectInfo,
    /// Its outcome in the tenant's log.
    pub audit_seq: u64,
    /// Shards short of the promise, when a degraded write was accepted.
    pub reduced_by: u32,
}

/// A version that was tombstoned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The version that is now hidden, reversible until retention ends.
    pub version: VersionId,
    /// Its outcome in the tenant's log.
    pub audit_seq: u64,
}

/// Why an object was not written. Nothing of it stands, except after
/// [`CallError::TimedOut`], where that is not known.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The source could not be read to its end.
    #[error("the source could not be read: {0}; nothing was stored")]
    Source(io::Error),
    /// The service refused or failed.
    #[error(transparent)]
    Call(#[from] CallError),
}

pub(crate) fn info(message: Option<v1::ObjectInfo>) -> Result<ObjectInfo, CallError> {
    let message = message.ok_or_else(|| bad_answer("no object"))?;
    Ok(ObjectInfo {
        version: coffer_proto::id("version", &message.version).map_err(bad_answer)?,
        key: coffer_proto::object_key(&message.key).map_err(bad_answer)?,
        size: message.size,
        created: Timestamp(message.created_ns),
        content_blake3: coffer_proto::digest("content_blake3", &message.content_blake3)
            .map_err(bad_answer)?,
        metadata: message.metadata,
    })
}

fn put_header(bucket: &BucketName, key: &ObjectKey, metadata: BTreeMap<String, String>) -> v1::PutHeader {
    v1::PutHeader {
        tenant: Bytes::new(),
        bucket: bucket.to_string(),
        key: Bytes::copy_from_slice(key.as_bytes()),
        metadata,
        repeats_blake3: Bytes::new(),
    }
}

fn first(header: v1::PutHeader) -> v1::PutObjectRequest {
    v1::PutObjectRequest { part: Some(v1::put_object_request::Part::Header(header)) }
}

fn data(piece: Bytes) -> v1::PutObjectRequest {
    v1::PutObjectRequest { part: Some(v1::put_object_request::Part::Data(piece)) }
}

fn end(size: u64) -> v1::PutObjectRequest {
    v1::PutObjectRequest { part: Some(v1::put_object_request::Part::End(v1::PutEnd { size })) }
}

/// Data messages for the pieces, then the end, which says that they are all.
fn data_and_end<S>(pieces: S) -> impl Stream<Item = v1::PutObjectRequest> + Send + 'static
where
    S: Stream<Item = Bytes> + Send + 'static,
{
    futures::stream::unfold(Some((Box::pin(pieces), 0_u64)), |state| async {
        let (mut pieces, size) = state?;
        Some(match pieces.next().await {
            Some(piece) => {
                let size = size + piece.len() as u64;
                (data(piece), Some((pieces, size)))
            }
            None => (end(size), None),
        })
    })
}

fn outcome(answer: v1::PutObjectResponse) -> Result<PutOutcome, CallError> {
    let object = info(answer.object)?;
    Ok(PutOutcome { object, audit_seq: answer.audit_seq, reduced_by: answer.reduced_by })
}

impl Client {
    /// Writes an object from a stream of pieces of any size. If the source
    /// fails, the call is abandoned before its end, so that the service never
    /// takes the beginning for the whole. Not repeated; it begins when the
    /// service is reached.
    ///
    /// # Errors
    /// [`PutError`].
    pub async fn put<S>(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        metadata: BTreeMap<String, String>,
        source: S,
    ) -> Result<PutOutcome, PutError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        self.reached().await?;
        let (pieces, failed) = source::until_failure(source);
        let first = futures::stream::iter([first(put_header(bucket, key, metadata))]);
        let mut client = self.objects();
        let call = client.put_object(first.chain(data_and_end(pieces)));
        tokio::select! {
            biased;
            error = failed => Err(PutError::Source(error)),
            answer = call => {
                let answer = answer.map_err(|status| CallError::from_status(&status))?;
                Ok(outcome(answer.into_inner())?)
            }
        }
    }

    /// [`Self::put`] from a reader.
    ///
    /// # Errors
    /// [`PutError`].
    pub async fn put_reader<R>(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        metadata: BTreeMap<String, String>,
        reader: R,
    ) -> Result<PutOutcome, PutError>
    where
        R: AsyncRead + Unpin + Send + 'static,
    {
        self.put(bucket, key, metadata, source::pieces_of(reader)).await
    }

    /// Writes an object that lies in memory; repeated while the service is
    /// unavailable, because the source can start again. A repetition says what
    /// it repeats: if the attempt before arrived and only its answer was lost,
    /// that version is the answer, and there is no second one. A small object
    /// goes in one message.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn put_bytes(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        metadata: &BTreeMap<String, String>,
        body: Bytes,
    ) -> Result<PutOutcome, CallError> {
        let mut attempted = false;
        let answer = repeat(&self.patience, self.entropy.as_ref(), || {
            let mut header = put_header(bucket, key, metadata.clone());
            if std::mem::replace(&mut attempted, true) {
                header.repeats_blake3 = Bytes::copy_from_slice(blake3::hash(&body).as_bytes());
            }
            let (mut client, body) = (self.objects(), body.clone());
            async move {
                let answer = if body.len() <= coffer_proto::SMALL_BYTES_MAX {
                    client.put_small(v1::PutSmallRequest { header: Some(header), data: body }).await
                } else {
                    let size = body.len() as u64;
                    let pieces = source::cut(body).map(data);
                    let messages = std::iter::once(first(header)).chain(pieces).chain([end(size)]);
                    client.put_object(futures::stream::iter(messages)).await
                };
                answer.map_err(|status| CallError::from_status(&status))
            }
        });
        outcome(answer.await?.into_inner())
    }

    /// Opens an object, or a range of it, for reading. The body checks that
    /// it is whole and, where it is read whole, that it has the content
    /// digest of its description.
    ///
    /// # Errors
    /// [`GetError`].
    pub async fn get(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        range: Option<Range<u64>>,
    ) -> Result<(ObjectInfo, ObjectBody), GetError> {
        self.get_on(bucket, key, range, &ReadTerms::default()).await
    }

    /// [`Self::get`] on terms of the caller's own.
    ///
    /// # Errors
    /// [`GetError`].
    pub async fn get_on(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        range: Option<Range<u64>>,
        terms: &ReadTerms,
    ) -> Result<(ObjectInfo, ObjectBody), GetError> {
        let wanted = range.clone();
        let mut stream = repeat(&self.patience, self.entropy.as_ref(), || async {
            let request = v1::GetObjectRequest {
                tenant: Bytes::new(),
                bucket: bucket.to_string(),
                key: Bytes::copy_from_slice(key.as_bytes()),
                range: range
                    .clone()
                    .map(|r| v1::Range { offset: r.start, length: r.end.saturating_sub(r.start) }),
                as_of_ns: terms.as_of_ns(),
                without_sites: terms.without.clone(),
                tell_sites: terms.seen.is_some(),
            };
            let answer = self.objects().get_object(request).await;
            answer.map_err(|status| CallError::from_status(&status))
        })
        .await?
        .into_inner();
        let first = stream.message().await.map_err(|status| CallError::from_status(&status))?;
        let Some(v1::get_object_response::Part::Object(object)) = first.and_then(|message| message.part)
        else {
            return Err(CallError::Answer("the first message describes no object".to_owned()).into());
        };
        let object = info(Some(object))?;
        let body = ObjectBody::new(stream, &object, wanted, terms.seen.clone());
        Ok((object, body))
    }

    /// Describes the newest version of an object and where it lies.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn stat(&self, bucket: &BucketName, key: &ObjectKey) -> Result<ObjectPlacement, CallError> {
        self.stat_at(bucket, key, None).await
    }

    /// [`Self::stat`] of the version that was the newest at a moment.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn stat_at(
        &self,
        bucket: &BucketName,
        key: &ObjectKey,
        as_of: Option<Timestamp>,
    ) -> Result<ObjectPlacement, CallError> {
        let answer = repeat(&self.patience, self.entropy.as_ref(), || async {
            let request = v1::StatObjectRequest {
                tenant: Bytes::new(),
                bucket: bucket.to_string(),
                key: Bytes::copy_from_slice(key.as_bytes()),
                as_of_ns: as_of.map_or(0, |moment| moment.0),
            };
            self.objects().stat_object(request).await.map_err(|status| CallError::from_status(&status))
        });
        let answer = answer.await?.into_inner();
        Ok(ObjectPlacement { object: info(answer.object)?, geometry: answer.geometry, sites: answer.sites })
    }

    /// One page of the objects whose key starts with `prefix` and comes after
    /// `after`, and whether there are more.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list_page(
        &self,
        bucket: &BucketName,
        prefix: &[u8],
        after: &[u8],
    ) -> Result<(Vec<ObjectInfo>, bool), CallError> {
        self.list_page_at(bucket, prefix, after, None).await
    }

    /// [`Self::list_page`] as it was at a moment.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list_page_at(
        &self,
        bucket: &BucketName,
        prefix: &[u8],
        after: &[u8],
        as_of: Option<Timestamp>,
    ) -> Result<(Vec<ObjectInfo>, bool), CallError> {
        let answer = repeat(&self.patience, self.entropy.as_ref(), || async {
            let request = v1::ListObjectsRequest {
                tenant: Bytes::new(),
                bucket: bucket.to_string(),
                prefix: Bytes::copy_from_slice(prefix),
                after: Bytes::copy_from_slice(after),
                limit: 0,
                as_of_ns: as_of.map_or(0, |moment| moment.0),
            };
            self.objects().list_objects(request).await.map_err(|status| CallError::from_status(&status))
        });
        let answer = answer.await?.into_inner();
        let page: Result<Vec<_>, _> = answer.objects.into_iter().map(|object| info(Some(object))).collect();
        Ok((page?, answer.more))
    }

    /// All objects whose key starts with `prefix`, page after page.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list(&self, bucket: &BucketName, prefix: &[u8]) -> Result<Vec<ObjectInfo>, CallError> {
        self.list_at(bucket, prefix, None).await
    }

    /// [`Self::list`] as it was at a moment.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn list_at(
        &self,
        bucket: &BucketName,
        prefix: &[u8],
        as_of: Option<Timestamp>,
    ) -> Result<Vec<ObjectInfo>, CallError> {
        let mut all: Vec<ObjectInfo> = Vec::new();
        loop {
            let after = all.last().map(|object| object.key.as_bytes().to_vec()).unwrap_or_default();
            let (page, more) = self.list_page_at(bucket, prefix, &after, as_of).await?;
            let forward = page.first().is_none_or(|first| first.key.as_bytes() > after.as_slice());
            // A page that does not move on would be read for ever.
            if !forward || (more && page.is_empty()) {
                return Err(CallError::Answer("the pages of the listing do not move on".to_owned()));
            }
            all.extend(page);
            if !more {
                return Ok(all);
            }
        }
    }

    /// Tombstones the newest version of an object.
    ///
    /// # Errors
    /// [`CallError`].
    pub async fn delete(&self, bucket: &BucketName, key: &ObjectKey) -> Result<Removed, CallError> {
        let request = v1::DeleteObjectRequest {
            tenant: Bytes::new(),
            bucket: bucket.to_string(),
            key: Bytes::copy_from_slice(key.as_bytes()),
        };
        let answer =
            once(self, || async { self.objects().delete_object(request.clone()).await }).await?.into_inner();
        let version = coffer_proto::id("version", &answer.version).map_err(bad_answer)?;
        Ok(Removed { version, audit_seq: answer.audit_seq })
    }
}
