//! The directory adapter of the port: a site on a disk of this machine.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::disk::is_full;
use crate::options::{Execution, SiteOptions};
use crate::pen::Pen;
use crate::recover;
use crate::shared::Shared;
use crate::site_dir::{OpenSiteError, SiteDir};
use crate::slots::{SLOT_BODY_BYTES_MAX, SlotError, SlotStore};
use crate::writer::{PUT_BYTES_MAX, PUT_RECORDS_MAX, Request, Writer, body_bytes};
use async_trait::async_trait;
use coffer_model::{Entropy, RecordId, SiteDescription, SlotId};
use coffer_regions::{
    Answer, Challenge, ListedRecord, Reach, Receipt, Record, RecordKind, ScrubCursor, ScrubFinding,
    ScrubStep, Site, SiteError, SiteState, SlotContent, SlotListing, UnverifiedBytes, answer_of,
};

/// A site in a local directory. It is locked while this lives; dropping it
/// waits for the batch that is being written.
pub struct DirectorySite {
    description: SiteDescription,
    shared: Arc<Shared>,
    execution: Execution,
    /// `None` only while it is dropped.
    pen: Option<Pen>,
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
        Self::open_with(path, description, entropy, SiteOptions::default())
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
        Self::create_with(path, description, entropy, SiteOptions::default())
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

    /// As [`DirectorySite::create`], with a disk, an execution and a size of
    /// the caller's choice.
    ///
    /// # Errors
    /// As [`DirectorySite::create`].
    pub fn create_with(
        path: &Path,
        description: SiteDescription,
        entropy: Arc<dyn Entropy>,
        options: SiteOptions,
    ) -> Result<Self, OpenSiteError> {
        SiteDir::new(path).create(description.id, options.disk.as_ref())?;
        Self::open_with(path, description, entropy, options)
    }

    /// As [`DirectorySite::open`], with a disk, an execution and a size of
    /// the caller's choice.
    ///
    /// # Errors
    /// As [`DirectorySite::open`].
    pub fn open_with(
        path: &Path,
        description: SiteDescription,
        entropy: Arc<dyn Entropy>,
        options: SiteOptions,
    ) -> Result<Self, OpenSiteError> {
        let dir = SiteDir::new(path);
        let found = dir.site()?;
        if found != description.id {
            return Err(OpenSiteError::OtherSite { path: path.to_owned(), found, expected: description.id });
        }
        let lock = dir.lock()?;
        let (opened, start) = recover::open(&dir, found, lock, &options.disk)?;
        let shared = Arc::new(Shared::new(opened, options.disk));
        let writer = Writer::new(shared.clone(), entropy, start);
        let pen = Pen::new(writer, options.execution).map_err(OpenSiteError::at(path))?;
        Ok(Self { description, shared, execution: options.execution, pen: Some(pen) })
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
        request: impl FnOnce(tokio::sync::oneshot::Sender<Result<T, SiteError>>) -> Request,
    ) -> Result<T, SiteError> {
        self.pen.as_ref().ok_or(SiteError::ReadOnly)?.ask(request).await
    }

    /// Runs disk work where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, SiteError> + Send + 'static,
    ) -> Result<T, SiteError> {
        if self.execution == Execution::Inline {
            return work(&self.shared);
        }
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
        if let Some(pen) = self.pen.take() {
            pen.put_down();
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
