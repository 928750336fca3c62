//! The directory adapter of the port: a site on a disk of this machine.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use coffer_model::{Entropy, RecordId, SiteDescription, SlotId};
use coffer_regions::{
    Answer, Challenge, ListedRecord, Reach, Receipt, Record, RecordKind, ScrubCursor, ScrubFinding,
    ScrubStep, Site, SiteError, SiteState, SlotContent, SlotListing, UnverifiedBytes, answer_of,
};
use tokio::sync::{mpsc, oneshot};

use crate::disk::{Disk, HostDisk, is_full};
use crate::recover;
use crate::shared::Shared;
use crate::site_dir::{OpenSiteError, SiteDir};
use crate::slots::{SLOT_BODY_BYTES_MAX, SlotError, SlotStore};
use crate::writer::{PUT_BYTES_MAX, PUT_RECORDS_MAX, Request, Writer, body_bytes};

/// Requests that wait for the writer; more wait in their callers.
const QUEUE_REQUESTS: usize = 1024;

/// A site in a local directory. It is locked while this lives; dropping it
/// waits for the batch that is being written.
pub struct DirectorySite {
    description: SiteDescription,
    shared: Arc<Shared>,
    /// `None` only while it is dropped.
    queue: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
}

impl DirectorySite {
    /// Opens the site in `path`: takes the lock, reads the framing of every
    /// volume, and cuts what a crash left behind the last valid batch (a copy
    /// goes to `quarantine/`). Blocks for as long as that takes. `entropy`
    /// gives the nonces of new volumes.
    ///
    /// # Errors
    /// [`OpenSiteError`]; a directory of another site is refused.
    pub fn open(
        path: &Path,
        description: SiteDescription,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, OpenSiteError> {
        Self::open_on(path, description, entropy, Box::new(HostDisk))
    }

    /// Creates the site in `path`, which may not hold one, and opens it.
    ///
    /// # Errors
    /// [`OpenSiteError`]; [`OpenSiteError::AlreadyASite`] where there is one.
    pub fn create(
        path: &Path,
        description: SiteDescription,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, OpenSiteError> {
        SiteDir::new(path).create(description.id)?;
        Self::open(path, description, entropy)
    }

    /// Opens the site in `path`, and creates it first if there is none.
    ///
    /// # Errors
    /// [`OpenSiteError`].
    pub fn open_or_create(
        path: &Path,
        description: SiteDescription,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, OpenSiteError> {
        if SiteDir::new(path).exists() {
            Self::open(path, description, entropy)
        } else {
            Self::create(path, description, entropy)
        }
    }

    /// Opens with a disk of the caller's, for tests that make it fail.
    pub(crate) fn open_on(
        path: &Path,
        description: SiteDescription,
        entropy: Arc<dyn Entropy>,
        disk: Box<dyn Disk>,
    ) -> Result<Self, OpenSiteError> {
        let dir = SiteDir::new(path);
        let found = dir.site()?;
        if found != description.id {
            return Err(OpenSiteError::OtherSite { path: path.to_owned(), found, expected: description.id });
        }
        let lock = dir.lock()?;
        let (opened, start) = recover::open(&dir, found, lock, disk.as_ref())?;
        let shared = Arc::new(Shared::new(opened, disk));
        let (queue, requests) = mpsc::channel(QUEUE_REQUESTS);
        let writer = Writer::new(shared.clone(), entropy, start);
        let writer = std::thread::Builder::new()
            .name("site-writer".to_owned())
            .spawn(move || writer.run(requests))
            .map_err(OpenSiteError::at(path))?;
        Ok(Self { description, shared, queue: Some(queue), writer: Some(writer) })
    }

    /// How many fsyncs of batches succeeded since the site was opened: one
    /// for each batch, however many records it holds.
    pub fn fsyncs(&self) -> u64 {
        self.shared.fsyncs()
    }

    /// Bytes of bodies that were removed or replaced and still lie in the
    /// volumes.
    pub fn dead_bytes(&self) -> u64 {
        self.shared.index().dead_bytes()
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, SiteError>>) -> Request,
    ) -> Result<T, SiteError> {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(SiteError::ReadOnly)?;
        // The writer only ends with the site; if it is gone, nothing is written.
        queue.send(request(reply)).await.map_err(|_| SiteError::ReadOnly)?;
        answer.await.map_err(|_| SiteError::ReadOnly)?
    }

    /// Runs disk work where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, SiteError> + Send + 'static,
    ) -> Result<T, SiteError> {
        let shared = self.shared.clone();
        let done = tokio::task::spawn_blocking(move || work(&shared)).await;
        done.map_err(|_| SiteError::Unreachable)?
    }

    /// Changes a slot, unless the site takes no writes.
    async fn change_slot(
        &self,
        change: impl FnOnce(&mut SlotStore) -> Result<(), SlotError> + Send + 'static,
    ) -> Result<(), SiteError> {
        self.blocking(move |shared| {
            let mut slots = shared.slots();
            if shared.is_read_only() {
                return Err(SiteError::ReadOnly);
            }
            change(&mut slots).map_err(|error| match error {
                SlotError::Disk(error) if !is_full(&error) => {
                    shared.close_for_writing();
                    SiteError::ReadOnly
                }
                error => site_error(&error),
            })
        })
        .await
    }
}

fn site_error(error: &SlotError) -> SiteError {
    match error {
        SlotError::Missing => SiteError::Missing,
        SlotError::Damaged => SiteError::Damaged,
        SlotError::Conflict => SiteError::Conflict,
        SlotError::OverLimit => SiteError::OverLimit,
        SlotError::Disk(error) if is_full(error) => SiteError::Full,
        SlotError::Disk(_) => SiteError::Unreachable,
    }
}

impl Drop for DirectorySite {
    fn drop(&mut self) {
        self.queue.take();
        if let Some(writer) = self.writer.take() {
            drop(writer.join());
        }
    }
}

#[async_trait]
impl Site for DirectorySite {
    fn description(&self) -> &SiteDescription {
        &self.description
    }

    fn answers(&self) -> bool {
        true
    }

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        if records.len() > PUT_RECORDS_MAX || body_bytes(&records) > PUT_BYTES_MAX {
            return Err(SiteError::OverLimit);
        }
        if records.is_empty() {
            return Ok(Vec::new());
        }
        // A record that is acknowledged again is read first, so that the
        // acknowledgement is true of the copy on the disk; a damaged copy is
        // marked by the reading and written anew by the writer.
        let again: Vec<_> = {
            let index = self.shared.index();
            let held = records.iter().filter_map(|record| {
                index.get(record.id()).filter(|at| at.entry.digest == record.digest() && !at.damaged)
            });
            held.collect()
        };
        if !again.is_empty() {
            self.blocking(move |shared| {
                again.iter().for_each(|at| drop(shared.read_at(at)));
                Ok(())
            })
            .await?;
        }
        self.ask(|reply| Request::Put { records, reply }).await
    }

    async fn get(&self, id: RecordId) -> Result<Record, SiteError> {
        self.blocking(move |shared| shared.read(id)).await
    }

    async fn get_many(&self, ids: Vec<RecordId>) -> Vec<Result<Record, SiteError>> {
        let count = ids.len();
        let read = self.blocking(move |shared| Ok(ids.into_iter().map(|id| shared.read(id)).collect()));
        read.await.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn get_range(&self, id: RecordId, range: Range<u32>) -> Result<UnverifiedBytes, SiteError> {
        self.blocking(move |shared| shared.read_range(id, range)).await.map(UnverifiedBytes)
    }

    async fn answer(&self, challenge: Challenge) -> Result<Answer, SiteError> {
        self.blocking(move |shared| {
            let record = shared.read(challenge.record)?;
            Ok(answer_of(&challenge.key, record.body()))
        })
        .await
    }

    async fn list(
        &self,
        kind: RecordKind,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<ListedRecord>, SiteError> {
        Ok(self.shared.index().list(kind, after, limit))
    }

    async fn delete(&self, ids: Vec<RecordId>) -> Result<u64, SiteError> {
        if ids.len() > PUT_RECORDS_MAX {
            return Err(SiteError::OverLimit);
        }
        if ids.is_empty() {
            return Ok(0);
        }
        self.ask(|reply| Request::Delete { ids, reply }).await
    }

    async fn scrub(&self) -> Result<Vec<ScrubFinding>, SiteError> {
        self.blocking(Shared::scrub).await
    }

    async fn scrub_step(&self, from: Option<ScrubCursor>, bytes_max: u64) -> Result<ScrubStep, SiteError> {
        self.blocking(move |shared| shared.scrub_step(from, bytes_max)).await
    }

    async fn reaches(&self, reach: Reach) -> Result<bool, SiteError> {
        self.blocking(move |shared| Ok(shared.reaches(reach))).await
    }

    async fn write_slot(&self, slot: SlotId, content: SlotContent) -> Result<(), SiteError> {
        if content.body.len() > SLOT_BODY_BYTES_MAX {
            return Err(SiteError::OverLimit);
        }
        self.change_slot(move |slots| slots.write(slot, &content)).await
    }

    async fn read_slot(&self, slot: SlotId) -> Result<SlotContent, SiteError> {
        self.blocking(move |shared| shared.slots().read(slot).map_err(|error| site_error(&error))).await
    }

    async fn wipe_superseded(&self, slot: SlotId) -> Result<(), SiteError> {
        self.change_slot(move |slots| slots.wipe_superseded(slot)).await
    }

    async fn list_slots(&self) -> Result<Vec<SlotListing>, SiteError> {
        self.blocking(|shared| shared.slots().list().map_err(|_| SiteError::Unreachable)).await
    }

    async fn state(&self) -> SiteState {
        SiteState {
            alive: true,
            records: self.shared.index().readable(),
            volume_bytes: self.shared.volume_bytes(),
            damaged: self.shared.damaged(),
            dead_bytes: self.dead_bytes(),
            free_bytes: None,
            read_only: self.shared.is_read_only(),
            reach: self.shared.last_batch(),
        }
    }
}
