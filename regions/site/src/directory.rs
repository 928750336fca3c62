//! The directory adapter of the port: a site on a disk of this machine.

use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use crate::disk::is_full;
use crate::group::{PUT_BYTES_MAX, PUT_RECORDS_MAX, Reply, Request, body_bytes};
use crate::options::SiteOptions;
use crate::pen::Pen;
use crate::recover;
use crate::shared::Shared;
use crate::site_dir::{OpenSiteError, SiteDir};
use crate::slots::{SLOT_BODY_BYTES_MAX, SlotError, SlotStore};
use crate::upkeep::{self, Upkeep};
use crate::writer::Writer;
use async_trait::async_trait;
use coffer_model::{Entropy, Execution, RecordId, ScopeId, SiteDescription, SlotId};
use coffer_regions::{
    Answer, Challenge, Change, Changed, Fence, ListedRecord, Reach, Receipt, Record, RecordKind, ScrubCursor,
    ScrubFinding, ScrubStep, Site, SiteError, SiteState, SlotContent, SlotListing, UnverifiedBytes,
    answer_of,
};

/// A site in a local directory. It is locked while this lives; dropping it
/// waits for the batch that is being written.
pub struct DirectorySite {
    description: SiteDescription,
    shared: Arc<Shared>,
    execution: Execution,
    /// `None` only while it is dropped.
    pen: Option<Arc<Pen>>,
    /// Compacts and writes checkpoints, where there are threads.
    keeper: Option<JoinHandle<()>>,
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
        let (mut opened, current) = recover::open(&dir, found, lock, &options.disk)?;
        let torn = std::mem::take(&mut opened.torn);
        let shared = Arc::new(Shared::new(opened, &options));
        let mut writer = Writer::new(shared.clone(), entropy, current);
        writer.heal(torn);
        let execution = options.execution;
        let pen = Arc::new(Pen::new(writer, execution).map_err(OpenSiteError::at(path))?);
        let keeper = match execution {
            Execution::Inline => None,
            Execution::Threads => {
                let (shared, pen) = (shared.clone(), pen.clone());
                let thread = std::thread::Builder::new().name("site-keeper".to_owned());
                let keeper = thread.spawn(move || upkeep::run(&shared, &pen));
                Some(keeper.map_err(OpenSiteError::at(path))?)
            }
        };
        Ok(Self { description, shared, execution, pen: Some(pen), keeper })
    }

    /// How many fsyncs of batches succeeded since the site was opened: one
    /// for each batch, however many records it holds.
    pub fn fsyncs(&self) -> u64 {
        self.shared.fsyncs()
    }

    /// Bytes of bodies that were removed or replaced and still lie in the
    /// volumes.
    pub fn dead_bytes(&self) -> u64 {
        self.shared.holdings().index.dead_bytes()
    }

    /// Bytes of volumes that had to be scanned when the site was opened: all
    /// of them, or what a checkpoint did not cover.
    pub fn scanned_bytes(&self) -> u64 {
        self.shared.scanned_bytes()
    }

    /// Does one bounded step of upkeep, if one is due: compaction, or a
    /// checkpoint of the index. With [`Execution::Threads`] this happens by
    /// itself while nobody waits.
    ///
    /// # Errors
    /// [`SiteError::ReadOnly`], [`SiteError::Full`], [`SiteError::Unreachable`].
    pub async fn maintain(&self) -> Result<Upkeep, SiteError> {
        let pen = self.pen.clone().ok_or(SiteError::ReadOnly)?;
        self.blocking(move |shared| upkeep::step(shared, &pen)).await
    }

    async fn ask<T: Send>(&self, request: impl FnOnce(Reply<T>) -> Request + Send) -> Result<T, SiteError> {
        let pen = self.pen.as_ref().ok_or(SiteError::ReadOnly)?;
        let counted = |reply| {
            self.shared.pulse.asked();
            request(reply)
        };
        pen.ask(counted).await
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

    async fn store(&self, fence: Option<Fence>, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
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
            let holdings = self.shared.holdings();
            let held = records.iter().filter_map(|record| {
                holdings.index.get(record.id()).filter(|at| at.entry.digest == record.digest() && !at.damaged)
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
        self.ask(|reply| Request::Put { records, fence, reply }).await
    }

    async fn remove(&self, fence: Option<Fence>, ids: Vec<RecordId>) -> Result<u64, SiteError> {
        if ids.len() > PUT_RECORDS_MAX {
            return Err(SiteError::OverLimit);
        }
        if ids.is_empty() {
            return Ok(0);
        }
        self.ask(|reply| Request::Delete { ids, fence, reply }).await
    }

    async fn overwrite(
        &self,
        fence: Option<Fence>,
        slot: SlotId,
        content: SlotContent,
    ) -> Result<(), SiteError> {
        if content.body.len() > SLOT_BODY_BYTES_MAX {
            return Err(SiteError::OverLimit);
        }
        self.change_slot(fence, move |slots| slots.write(slot, &content)).await
    }

    /// Changes a slot, unless the site takes no writes, or not from this owner.
    async fn change_slot(
        &self,
        fence: Option<Fence>,
        change: impl FnOnce(&mut SlotStore) -> Result<(), SlotError> + Send + 'static,
    ) -> Result<(), SiteError> {
        self.blocking(move |shared| {
            let mut epochs = shared.epochs();
            shared.admit(&mut epochs, fence)?;
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
        self.shared.pulse.stop();
        if let Some(keeper) = self.keeper.take() {
            drop(keeper.join());
        }
        if let Some(pen) = self.pen.take().and_then(Arc::into_inner) {
            pen.put_down();
        }
        let _alone = self.shared.upkeep.lock().unwrap_or_else(PoisonError::into_inner);
        if self.shared.has_uncovered() && !self.shared.is_read_only() {
            // Without it the next opening only takes longer.
            let _ = self.shared.write_checkpoint();
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
        self.store(None, records).await
    }

    async fn get(&self, id: RecordId) -> Result<Record, SiteError> {
        if let Some(read) = self.shared.read_cached(id) {
            return read;
        }
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
        Ok(self.shared.holdings().index.list(kind, after, limit))
    }

    async fn delete(&self, ids: Vec<RecordId>) -> Result<u64, SiteError> {
        self.remove(None, ids).await
    }

    async fn scrub(&self) -> Result<Vec<ScrubFinding>, SiteError> {
        self.blocking(Shared::scrub).await
    }

    async fn scrub_step(&self, from: Option<ScrubCursor>, bytes_max: u64) -> Result<ScrubStep, SiteError> {
        self.blocking(move |shared| shared.scrub_step(from, bytes_max)).await
    }

    async fn reaches(&self, reach: Reach) -> Result<bool, SiteError> {
        self.blocking(move |shared| shared.reaches(reach)).await
    }

    async fn write_slot(&self, slot: SlotId, content: SlotContent) -> Result<(), SiteError> {
        self.overwrite(None, slot, content).await
    }

    async fn read_slot(&self, slot: SlotId) -> Result<SlotContent, SiteError> {
        self.blocking(move |shared| shared.slots().read(slot).map_err(|error| site_error(&error))).await
    }

    async fn wipe_superseded(&self, slot: SlotId) -> Result<(), SiteError> {
        self.change_slot(None, move |slots| slots.wipe_superseded(slot)).await
    }

    async fn raise(&self, fence: Fence) -> Result<(), SiteError> {
        // No part of a batch, so that nothing counts it as waiting for one.
        let pen = self.pen.as_ref().ok_or(SiteError::ReadOnly)?;
        pen.ask(|reply| Request::Raise { fence, reply }).await
    }

    async fn epoch(&self, scope: ScopeId) -> Result<u64, SiteError> {
        Ok(self.shared.epochs().of(scope))
    }

    async fn change_under(&self, fence: Fence, change: Change) -> Result<Changed, SiteError> {
        let fence = Some(fence);
        match change {
            Change::Put(records) => self.store(fence, records).await.map(Changed::Stored),
            Change::Delete(ids) => self.remove(fence, ids).await.map(Changed::Removed),
            Change::WriteSlot(slot, content) => {
                self.overwrite(fence, slot, content).await.map(|()| Changed::Slot)
            }
            Change::WipeSuperseded(slot) => {
                let wiped = self.change_slot(fence, move |slots| slots.wipe_superseded(slot)).await;
                wiped.map(|()| Changed::Slot)
            }
        }
    }

    async fn list_slots(&self) -> Result<Vec<SlotListing>, SiteError> {
        self.blocking(|shared| shared.slots().list().map_err(|_| SiteError::Unreachable)).await
    }

    async fn state(&self) -> SiteState {
        let read_only = self.shared.is_read_only();
        let holdings = self.shared.holdings();
        let volume_bytes = holdings.volume_bytes();
        SiteState {
            alive: true,
            records: holdings.index.readable(),
            volume_bytes,
            damaged: self.shared.damaged(),
            dead_bytes: holdings.index.dead_bytes(),
            free_bytes: self.shared.space.free_for_puts(volume_bytes),
            read_only,
            reach: holdings.chain.reach(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use bytes::Bytes;
    use coffer_regions::ClearGeometry;

    use super::*;
    use crate::write_faults::{Zeros, description};

    fn shard(n: u8) -> Record {
        let (id, geometry) = (RecordId::from_bytes([n; 16]), ClearGeometry { k: 4, m: 2, index: 0 });
        Record::new(RecordKind::Shard, id, geometry, Bytes::from(vec![n; 100])).unwrap()
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_read_is_not_verified_and_the_pass_waits_for_it() {
        let dir = tempfile::TempDir::new().unwrap();
        let options = SiteOptions { execution: Execution::Inline, ..SiteOptions::default() };
        let site = DirectorySite::create_with(dir.path(), description(), Arc::new(Zeros), options).unwrap();
        site.put(vec![shard(1), shard(2)]).await.unwrap();
        let whole = site.shared.holdings().volumes.values().next().unwrap().volume.file.clone();
        let put_in = |file: Arc<std::fs::File>| {
            site.shared.holdings_mut().volumes.values_mut().for_each(|held| held.volume.file = file.clone());
        };
        // Open for writing only: a read fails, and not because of the medium.
        let path = dir.path().join("volumes").join("00000000.vol");
        put_in(Arc::new(OpenOptions::new().write(true).open(path).unwrap()));
        assert_eq!(site.scrub_step(None, u64::MAX).await, Err(SiteError::Unreachable));
        assert_eq!(site.scrub().await, Err(SiteError::Unreachable));
        put_in(whole);
        let step = site.scrub_step(None, u64::MAX).await.unwrap();
        assert_eq!((step.records, step.findings), (2, Vec::new()));
    }
}
