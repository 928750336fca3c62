//! `coffer.v1.Objects`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use coffer_catalog::ListRow;
use coffer_model::{Digest, Layout, Manifest, ObjectKey, Operation, Timestamp};
use coffer_proto::v1::objects_server::Objects;
use coffer_proto::v1::put_object_request::Part as PutPart;
use coffer_proto::v1::{
    DeleteObjectRequest, DeleteObjectResponse, GetObjectRequest, GetObjectResponse, ListObjectsRequest,
    ListObjectsResponse, ObjectInfo, PutHeader, PutObjectRequest, PutObjectResponse, PutSmallRequest,
    ReadSites, StatObjectRequest, StatObjectResponse, get_object_response,
};
use coffer_proto::{DATA_BYTES_MAX, InvalidMessage, SMALL_BYTES_MAX, bucket_name, object_key, own_or};
use futures::Stream;
use futures::stream::{self, StreamExt};
use std::pin::Pin;
use tonic::{Request, Response, Status, Streaming};

use super::attended::attended;
use super::status::status;
use super::{bearer, tenant_call};
use crate::delete::{Delete, delete};
use crate::get::{Get, get};
use crate::list::{List, PAGE_MAX, Stat, list, stat};
use crate::put::{Put, Source, SourceError, put};
use crate::service::Service;
use crate::terms::Terms;

/// The service over gRPC.
pub(crate) struct ObjectsApi(pub(crate) Arc<Service>);

/// More sites than any deployment has; a bound of the parser.
const SITES_LEFT_OUT_MAX: usize = 1024;

const METADATA_PAIRS_MAX: usize = 32;
const METADATA_BYTES_MAX: usize = 4096;

fn check_metadata(metadata: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, InvalidMessage> {
    let bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if metadata.len() > METADATA_PAIRS_MAX || bytes > METADATA_BYTES_MAX {
        return Err(InvalidMessage::OverLimit("metadata"));
    }
    Ok(metadata)
}

fn info(manifest: Manifest) -> ObjectInfo {
    ObjectInfo {
        version: manifest.version.as_bytes().to_vec().into(),
        key: Vec::from(manifest.key).into(),
        size: manifest.size,
        created_ns: manifest.created.0,
        content_blake3: manifest.content.0.to_vec().into(),
        metadata: manifest.metadata,
    }
}

fn line(row: ListRow) -> ObjectInfo {
    ObjectInfo {
        version: row.version.as_bytes().to_vec().into(),
        key: Vec::from(row.key).into(),
        size: row.size,
        created_ns: row.created.0,
        content_blake3: row.content.0.to_vec().into(),
        metadata: BTreeMap::new(),
    }
}

/// How a version lies, for people.
pub(super) fn geometry_text(layout: &Layout) -> String {
    match layout {
        Layout::Inline { sites } => format!("whole x {}", sites.len()),
        Layout::Striped { geometry, .. } => geometry.to_string(),
    }
}

/// The moment that a read is of; none: now.
fn moment(nanoseconds: u64) -> Option<Timestamp> {
    (nanoseconds > 0).then_some(Timestamp(nanoseconds))
}

/// Which sites a read had bytes from, now that it is over.
fn read_sites(service: &Service, terms: &Terms) -> GetObjectResponse {
    let mut answered: Vec<String> =
        terms.who_answered().into_iter().map(|site| service.sites.name(site).to_owned()).collect();
    answered.sort();
    GetObjectResponse { part: Some(get_object_response::Part::Sites(ReadSites { answered })) }
}

/// The data messages of a put, whole only with their end.
struct Upload {
    stream: Streaming<PutObjectRequest>,
    received: u64,
    ended: bool,
}

impl Source for Upload {
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        if self.ended {
            return Ok(None);
        }
        match self.stream.message().await.map_err(|_| SourceError)?.and_then(|message| message.part) {
            Some(PutPart::Data(data)) if data.len() <= DATA_BYTES_MAX => {
                self.received += data.len() as u64;
                Ok(Some(data))
            }
            Some(PutPart::End(end)) if end.size == self.received => {
                self.ended = true;
                Ok(None)
            }
            _ => Err(SourceError),
        }
    }
}

async fn header(stream: &mut Streaming<PutObjectRequest>) -> Result<PutHeader, Status> {
    match stream.message().await? {
        Some(PutObjectRequest { part: Some(PutPart::Header(header)) }) => Ok(header),
        _ => Err(status(InvalidMessage::Missing("header"))),
    }
}

/// What a repetition says that it writes; empty: it is none.
fn repeats(wire: &Bytes) -> Result<Option<Digest>, Status> {
    let digest = || coffer_proto::digest("repeats_blake3", wire).map_err(status);
    (!wire.is_empty()).then(digest).transpose()
}

/// What came in one message, and so whole.
struct Whole(Option<Bytes>);

impl Source for Whole {
    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        Ok(self.0.take())
    }
}

impl ObjectsApi {
    async fn put(
        &self,
        bearer: Option<[u8; 32]>,
        header: PutHeader,
        source: impl Source + 'static,
    ) -> Result<Response<PutObjectResponse>, Status> {
        let tenant = own_or(&header.tenant).map_err(status)?;
        let arguments = Put {
            bucket: bucket_name(header.bucket).map_err(status)?,
            key: object_key(&header.key).map_err(status)?,
            metadata: check_metadata(header.metadata).map_err(status)?,
            repeats: repeats(&header.repeats_blake3)?,
        };
        let call = tenant_call(Operation::ObjectPut, tenant, String::new(), arguments);
        let granted = self.0.authorize(bearer, call).await.map_err(status)?;
        let service = Arc::clone(&self.0);
        // On a task of its own: a caller that goes away cannot cut the story
        // off between its steps, it ends as a failed upload and is withdrawn.
        let (caller, source) = attended(source);
        let story = tokio::spawn(async move { put(&service, granted, source).await });
        let committed = story.await.map_err(|_| Status::internal("the put was cut off"))?.map_err(status)?;
        drop(caller);
        Ok(Response::new(PutObjectResponse {
            object: Some(info(committed.manifest)),
            audit_seq: committed.audit_seq,
            reduced_by: u32::try_from(committed.reduced_by).unwrap_or(u32::MAX),
        }))
    }
}

#[tonic::async_trait]
impl Objects for ObjectsApi {
    async fn put_object(
        &self,
        request: Request<Streaming<PutObjectRequest>>,
    ) -> Result<Response<PutObjectResponse>, Status> {
        let bearer = bearer(&request);
        let mut stream = request.into_inner();
        let header = header(&mut stream).await?;
        self.put(bearer, header, Upload { stream, received: 0, ended: false }).await
    }

    async fn put_small(
        &self,
        request: Request<PutSmallRequest>,
    ) -> Result<Response<PutObjectResponse>, Status> {
        let bearer = bearer(&request);
        let PutSmallRequest { header, data } = request.into_inner();
        let header = header.ok_or_else(|| status(InvalidMessage::Missing("header")))?;
        if data.len() > SMALL_BYTES_MAX {
            return Err(status(InvalidMessage::OverLimit("data")));
        }
        self.put(bearer, header, Whole(Some(data))).await
    }

    type GetObjectStream = Pin<Box<dyn Stream<Item = Result<GetObjectResponse, Status>> + Send>>;

    async fn get_object(
        &self,
        request: Request<GetObjectRequest>,
    ) -> Result<Response<Self::GetObjectStream>, Status> {
        let bearer = bearer(&request);
        let wire = request.into_inner();
        let tenant = own_or(&wire.tenant).map_err(status)?;
        let range = wire.range.map(|range| range.offset..range.offset.saturating_add(range.length));
        let bucket = bucket_name(wire.bucket).map_err(status)?;
        if wire.without_sites.len() > SITES_LEFT_OUT_MAX {
            return Err(status(InvalidMessage::OverLimit("without_sites")));
        }
        let terms = match (wire.without_sites.as_slice(), wire.tell_sites) {
            ([], false) => Terms::default(),
            (names, _) => Terms::without(&self.0.sites, names).map_err(status)?,
        };
        let told = wire.tell_sites.then(|| terms.clone());
        let (key, as_of) = (object_key(&wire.key).map_err(status)?, moment(wire.as_of_ns));
        let arguments = Get { bucket, key, range, as_of, terms };
        let call = tenant_call(Operation::ObjectGet, tenant, String::new(), arguments);
        let granted = self.0.authorize(bearer, call).await.map_err(status)?;
        let found = get(&self.0, granted).await.map_err(status)?;
        let first = get_object_response::Part::Object(info(found.manifest));
        let first = stream::once(std::future::ready(Ok(GetObjectResponse { part: Some(first) })));
        let pieces = stream::unfold(found.pieces, |mut pieces| async move {
            let piece = pieces.recv().await?;
            let data = |data| GetObjectResponse { part: Some(get_object_response::Part::Data(data)) };
            Some((piece.map(data).map_err(status), pieces))
        });
        let service = Arc::clone(&self.0);
        let last = stream::iter(told).map(move |terms| Ok(read_sites(&service, &terms)));
        Ok(Response::new(Box::pin(first.chain(pieces).chain(last))))
    }

    async fn stat_object(
        &self,
        request: Request<StatObjectRequest>,
    ) -> Result<Response<StatObjectResponse>, Status> {
        let bearer = bearer(&request);
        let wire = request.into_inner();
        let tenant = own_or(&wire.tenant).map_err(status)?;
        let (bucket, as_of) = (bucket_name(wire.bucket).map_err(status)?, moment(wire.as_of_ns));
        let arguments = Stat { bucket, key: object_key(&wire.key).map_err(status)?, as_of };
        let call = tenant_call(Operation::ObjectStat, tenant, String::new(), arguments);
        let granted = self.0.authorize(bearer, call).await.map_err(status)?;
        let manifest = stat(&self.0, granted).await.map_err(status)?.manifest;
        let sites = manifest.layout.sites().iter().map(|id| self.0.sites.name(*id).to_owned()).collect();
        let geometry = geometry_text(&manifest.layout);
        Ok(Response::new(StatObjectResponse { object: Some(info(manifest)), geometry, sites }))
    }

    async fn list_objects(
        &self,
        request: Request<ListObjectsRequest>,
    ) -> Result<Response<ListObjectsResponse>, Status> {
        let bearer = bearer(&request);
        let wire = request.into_inner();
        let tenant = own_or(&wire.tenant).map_err(status)?;
        if wire.prefix.len() > ObjectKey::BYTES_MAX {
            return Err(status(InvalidMessage::OverLimit("prefix")));
        }
        let after = if wire.after.is_empty() { None } else { Some(object_key(&wire.after).map_err(status)?) };
        let limit = usize::try_from(wire.limit).unwrap_or(PAGE_MAX);
        let limit = if limit == 0 { PAGE_MAX } else { limit.min(PAGE_MAX) };
        let bucket = bucket_name(wire.bucket).map_err(status)?;
        let as_of = moment(wire.as_of_ns);
        let arguments = List { bucket, prefix: wire.prefix.to_vec(), after, limit, as_of };
        let call = tenant_call(Operation::ObjectList, tenant, String::new(), arguments);
        let granted = self.0.authorize(bearer, call).await.map_err(status)?;
        let (rows, more) = list(&self.0, granted).await.map_err(status)?;
        Ok(Response::new(ListObjectsResponse { objects: rows.into_iter().map(line).collect(), more }))
    }

    async fn delete_object(
        &self,
        request: Request<DeleteObjectRequest>,
    ) -> Result<Response<DeleteObjectResponse>, Status> {
        let bearer = bearer(&request);
        let wire = request.into_inner();
        let tenant = own_or(&wire.tenant).map_err(status)?;
        let bucket = bucket_name(wire.bucket).map_err(status)?;
        let arguments = Delete { bucket, key: object_key(&wire.key).map_err(status)? };
        let call = tenant_call(Operation::ObjectDelete, tenant, String::new(), arguments);
        let granted = self.0.authorize(bearer, call).await.map_err(status)?;
        let (version, audit_seq) = delete(&self.0, granted).await.map_err(status)?;
        Ok(Response::new(DeleteObjectResponse { version: version.as_bytes().to_vec().into(), audit_seq }))
    }
}
