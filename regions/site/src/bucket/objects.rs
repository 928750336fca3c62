//! The calls that a bucket adapter makes, each within a deadline, with what
//! its failure means for the site. This is a network adapter.

use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coffer_regions::SiteError;
use futures::stream::FuturesUnordered;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::path::Path;
use object_store::{
    GetOptions, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions,
    PutPayload, UpdateVersion,
};

use super::BucketTiming;
use crate::circuit::Circuit;

/// What a conditional put met.
pub(super) enum Created {
    /// The object is new.
    New,
    /// There is one of this name.
    Existed,
}

/// An object with what a conditional overwrite needs.
pub(super) struct Found {
    pub(super) bytes: Bytes,
    pub(super) version: UpdateVersion,
}

/// The calls.
pub(super) struct Objects {
    store: Box<dyn ObjectStore>,
    timing: BucketTiming,
    circuit: Circuit,
}

type Failure = object_store::Error;

impl Objects {
    pub(super) fn new(store: Box<dyn ObjectStore>, timing: BucketTiming) -> Self {
        Self { store, timing, circuit: Circuit::open() }
    }

    pub(super) fn answers(&self) -> bool {
        self.circuit.answers()
    }

    pub(super) fn timing(&self) -> &BucketTiming {
        &self.timing
    }

    /// One call within its deadline. A bucket that says that there is no such
    /// object answers as well as one that gives it.
    async fn call<T>(
        &self,
        bytes: u64,
        work: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<Result<T, Failure>, SiteError> {
        let limit = self.timing.deadline(bytes);
        let done = tokio::time::timeout(limit, work).await;
        match done {
            Ok(Err(error)) if !is_answer(&error) => {
                self.circuit.failed();
                Err(SiteError::Unreachable)
            }
            Ok(done) => Ok(done),
            Err(_) => {
                self.circuit.failed();
                Err(SiteError::Unreachable)
            }
        }
    }

    /// Fails at once while the bucket is known not to answer.
    pub(super) fn closed(&self) -> Result<(), SiteError> {
        if self.circuit.answers() { Ok(()) } else { Err(SiteError::Unreachable) }
    }

    /// The bucket answered, and it is the right one.
    pub(super) fn confirm(&self) {
        self.circuit.answered();
    }

    /// Creates an object; an existing one stays as it is.
    pub(super) async fn create(&self, path: &Path, pieces: PutPayload) -> Result<Created, SiteError> {
        let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
        let bytes = length(pieces.content_length());
        match self.call(bytes, self.store.put_opts(path, pieces, options)).await? {
            Ok(_) => Ok(Created::New),
            Err(Failure::AlreadyExists { .. } | Failure::Precondition { .. }) => Ok(Created::Existed),
            Err(_) => Err(SiteError::Unreachable),
        }
    }

    /// Writes an object, whether or not there is one. Whether the bucket
    /// keeps versions.
    pub(super) async fn overwrite(&self, path: &Path, bytes: Bytes) -> Result<bool, SiteError> {
        let size = length(bytes.len());
        let put = self.call(size, self.store.put(path, bytes.into())).await?;
        put.map(|put| put.version.is_some()).map_err(|_| SiteError::Unreachable)
    }

    /// Overwrites exactly the object that was read; `Ok(false)` if it is not
    /// there any more as it was.
    pub(super) async fn update(
        &self,
        path: &Path,
        bytes: Bytes,
        read: Option<UpdateVersion>,
    ) -> Result<bool, SiteError> {
        let mode = read.map_or(PutMode::Create, PutMode::Update);
        let options = PutOptions { mode, ..PutOptions::default() };
        let size = length(bytes.len());
        match self.call(size, self.store.put_opts(path, bytes.into(), options)).await? {
            // A bucket that keeps versions would keep what this overwrote.
            Ok(put) if put.version.is_some() => Err(SiteError::ReadOnly),
            Ok(_) => Ok(true),
            Err(Failure::AlreadyExists { .. } | Failure::Precondition { .. } | Failure::NotFound { .. }) => {
                Ok(false)
            }
            Err(_) => Err(SiteError::Unreachable),
        }
    }

    /// Writes a long object in parts, several on the way at the same time. An
    /// upload that fails, comes too late or is not waited for is given up, so
    /// that its parts do not lie where no listing shows them.
    pub(super) async fn upload(&self, path: &Path, body: Bytes) -> Result<(), SiteError> {
        let (size, part_bytes) = (length(body.len()), self.timing.part_bytes.max(1));
        let begun = self.call(0, self.store.put_multipart(path)).await?;
        let upload = begun.map_err(|_| SiteError::Unreachable)?;
        let mut upload = Upload { upload: Some(upload), patience: self.timing.deadline(0) };
        let done = self.call(size, upload.write(body, part_bytes)).await;
        let whole = matches!(done, Ok(Ok(())));
        if whole {
            upload.ended();
        } else {
            upload.give_up().await;
        }
        done?.map_err(|_| SiteError::Unreachable)
    }

    /// A whole object of at most `limit` bytes.
    pub(super) async fn read(&self, path: &Path, limit: usize) -> Result<Found, SiteError> {
        let work = async {
            let got = self.store.get_opts(path, GetOptions::default()).await?;
            let version = UpdateVersion { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
            if got.meta.size > length(limit) {
                return Ok(None);
            }
            let mut bytes = BytesMut::new();
            let mut pieces = got.into_stream();
            while let Some(piece) = pieces.try_next().await? {
                if piece.len() > limit - bytes.len() {
                    return Ok(None);
                }
                bytes.extend_from_slice(&piece);
            }
            Ok(Some(Found { bytes: bytes.freeze(), version }))
        };
        match self.call(length(limit), work).await? {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(SiteError::Damaged),
            Err(Failure::NotFound { .. }) => Err(SiteError::Missing),
            Err(_) => Err(SiteError::Unreachable),
        }
    }

    /// Bytes from the middle of an object, all of them or none.
    pub(super) async fn read_range(&self, path: &Path, range: Range<u64>) -> Result<Bytes, SiteError> {
        let (bytes, end) = (range.end - range.start, range.end);
        let read = tokio::time::timeout(self.timing.deadline(bytes), self.store.get_range(path, range)).await;
        match read {
            Ok(Ok(read)) if length(read.len()) == bytes => Ok(read),
            Ok(Ok(_)) => Err(SiteError::OverLimit),
            Ok(Err(Failure::NotFound { .. })) => Err(SiteError::Missing),
            // A range that begins behind the end is refused with an error like
            // any other; an object that is too short says nothing of its bucket.
            Ok(Err(_)) if self.size(path).await? < end => Err(SiteError::OverLimit),
            Ok(Err(_)) | Err(_) => {
                self.circuit.failed();
                Err(SiteError::Unreachable)
            }
        }
    }

    /// The size of an object.
    pub(super) async fn size(&self, path: &Path) -> Result<u64, SiteError> {
        match self.call(0, self.store.head(path)).await? {
            Ok(meta) => Ok(meta.size),
            Err(Failure::NotFound { .. }) => Err(SiteError::Missing),
            Err(_) => Err(SiteError::Unreachable),
        }
    }

    /// Removes an object; one that is not there is removed.
    pub(super) async fn remove(&self, path: &Path) -> Result<(), SiteError> {
        match self.call(0, self.store.delete(path)).await? {
            Ok(()) | Err(Failure::NotFound { .. }) => Ok(()),
            Err(_) => Err(SiteError::Unreachable),
        }
    }

    /// Objects below `prefix` that sort behind `after`, in order, at most `limit`.
    pub(super) async fn list(
        &self,
        prefix: &Path,
        after: Option<&Path>,
        limit: usize,
    ) -> Result<Vec<ObjectMeta>, SiteError> {
        let listing = match after {
            Some(after) => self.store.list_with_offset(Some(prefix), after),
            None => self.store.list(Some(prefix)),
        };
        let pages = length(limit) / LIST_PAGE;
        let lines =
            self.call(pages.saturating_mul(PAGE_BYTES), listing.take(limit).try_collect::<Vec<_>>()).await?;
        lines.map_err(|_| SiteError::Unreachable)
    }
}

/// An upload in parts that has begun. Dropped before its end, it is given up.
struct Upload {
    /// `None` once it has ended.
    upload: Option<Box<dyn MultipartUpload>>,
    /// How long giving it up may take.
    patience: Duration,
}

impl Upload {
    async fn write(&mut self, mut rest: Bytes, part_bytes: usize) -> Result<(), Failure> {
        let Some(upload) = self.upload.as_mut() else { return Ok(()) };
        let mut parts = FuturesUnordered::new();
        while !rest.is_empty() {
            if parts.len() >= PARTS_IN_FLIGHT {
                parts.try_next().await?;
            }
            parts.push(upload.put_part(rest.split_to(part_bytes.min(rest.len())).into()));
        }
        while parts.try_next().await?.is_some() {}
        upload.complete().await.map(drop)
    }

    /// Its end has come.
    fn ended(&mut self) {
        self.upload = None;
    }

    async fn give_up(&mut self) {
        if let Some(upload) = self.upload.take() {
            give_up(upload, self.patience).await;
        }
    }
}

/// Has the bucket forget the parts of an upload. Where it does not hear of it,
/// they stay until its own rules remove them.
async fn give_up(mut upload: Box<dyn MultipartUpload>, patience: Duration) {
    let _ = tokio::time::timeout(patience, upload.abort()).await;
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(upload) = self.upload.take() else { return };
        // Without a runtime nobody is left who could ask.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(give_up(upload, self.patience));
        }
    }
}

/// Parts of one upload that are on the way at the same time.
const PARTS_IN_FLIGHT: usize = 4;
/// Lines that the bucket gives at a time.
const LIST_PAGE: u64 = 1000;
/// What a page of a listing counts for in a deadline.
const PAGE_BYTES: u64 = 1 << 20;

/// Whether an error is the bucket's answer, and not the way to it.
fn is_answer(error: &Failure) -> bool {
    matches!(error, Failure::NotFound { .. } | Failure::AlreadyExists { .. } | Failure::Precondition { .. })
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

impl BucketTiming {
    /// The deadline of a call that moves so many bytes, repetitions included.
    pub fn deadline(&self, bytes: u64) -> Duration {
        let rate = self.bytes_per_second.max(1);
        self.call.saturating_add(Duration::from_millis(bytes.saturating_mul(1000) / rate))
    }
}
