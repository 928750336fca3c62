//! Group commit: one thread takes whatever is queued, writes it as one batch,
//! fsyncs once, enters it into the index, and only then answers everybody.
//! The next batch starts after that.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;
use coffer_model::{Entropy, RecordId};
use coffer_regions::{Receipt, Record, SiteError};
use tokio::sync::{mpsc, oneshot};

use crate::batch::{
    BATCH_BODY_BYTES_MAX, BATCH_ENTRIES_MAX, BatchHeader, ENTRY_BYTES, Entry, HEADER_BYTES, chain_digest,
    table_digest,
};
use crate::disk::is_full;
use crate::index::Location;
use crate::recover::WriterStart;
use crate::scan::Chain;
use crate::shared::{DurableVolume, Shared};
use crate::volume::{FIRST_BATCH, VOLUME_BYTES_MAX, Volume};

/// Most records of one put, or ids of one delete.
pub const PUT_RECORDS_MAX: usize = BATCH_ENTRIES_MAX as usize;
/// Most body bytes of one put.
pub const PUT_BYTES_MAX: u64 = BATCH_BODY_BYTES_MAX;

/// Something to write, and who waits for it.
pub(crate) enum Request {
    Put { records: Vec<Record>, reply: oneshot::Sender<Result<Vec<Receipt>, SiteError>> },
    Delete { ids: Vec<RecordId>, reply: oneshot::Sender<Result<u64, SiteError>> },
}

impl Request {
    fn entries(&self) -> usize {
        match self {
            Self::Put { records, .. } => records.len(),
            Self::Delete { ids, .. } => ids.len(),
        }
    }

    fn body_bytes(&self) -> u64 {
        match self {
            Self::Put { records, .. } => body_bytes(records),
            Self::Delete { .. } => 0,
        }
    }
}

/// Sum of the body lengths.
pub(crate) fn body_bytes(records: &[Record]) -> u64 {
    records.iter().map(|record| u64::try_from(record.body().len()).unwrap_or(u64::MAX)).sum()
}

/// The answers that wait for the fsync.
enum Waiting {
    Put(oneshot::Sender<Result<Vec<Receipt>, SiteError>>, Vec<Receipt>),
    Delete(oneshot::Sender<Result<u64, SiteError>>, u64),
}

impl Waiting {
    /// An asker who has gone away is not an error.
    fn answer(self, outcome: Result<(), SiteError>) {
        match self {
            Self::Put(reply, receipts) => drop(reply.send(outcome.map(|()| receipts))),
            Self::Delete(reply, removed) => drop(reply.send(outcome.map(|()| removed))),
        }
    }
}

/// The next batch, as far as it has come together.
#[derive(Default)]
struct Group {
    entries: Vec<Entry>,
    bodies: Vec<Bytes>,
    body_bytes: u64,
    /// What the entries make of an id: a digest, or nothing.
    staged: HashMap<RecordId, Option<coffer_model::Digest>>,
    waiting: Vec<Waiting>,
}

/// What is already there under an id.
enum Held {
    Nothing,
    Same,
    Other,
}

impl Group {
    fn has_room_for(&self, request: &Request) -> bool {
        self.entries.len() + request.entries() <= PUT_RECORDS_MAX
            && self.body_bytes + request.body_bytes() <= PUT_BYTES_MAX
    }

    fn held(&self, shared: &Shared, record: &Record) -> Held {
        let digest = match self.staged.get(&record.id()) {
            Some(staged) => *staged,
            None => match shared.index().get(record.id()) {
                // A damaged copy is written anew; its id still takes no other content.
                Some(at) if at.damaged && at.entry.digest == record.digest() => None,
                at => at.map(|at| at.entry.digest),
            },
        };
        match digest {
            None => Held::Nothing,
            Some(digest) if digest == record.digest() => Held::Same,
            Some(_) => Held::Other,
        }
    }

    fn stage(&mut self, shared: &Shared, request: Request) {
        match request {
            Request::Put { records, reply } => match self.stage_put(shared, records) {
                Ok(receipts) => self.waiting.push(Waiting::Put(reply, receipts)),
                Err(error) => drop(reply.send(Err(error))),
            },
            Request::Delete { ids, reply } => {
                let removed = self.stage_delete(shared, ids);
                self.waiting.push(Waiting::Delete(reply, removed));
            }
        }
    }

    fn stage_put(&mut self, shared: &Shared, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        // All or nothing: a conflict is found before anything is staged.
        let mut own = HashMap::new();
        for record in &records {
            let clash = own.insert(record.id(), record.digest()).is_some_and(|d| d != record.digest());
            if clash || matches!(self.held(shared, record), Held::Other) {
                return Err(SiteError::Conflict);
            }
        }
        let mut receipts = Vec::with_capacity(records.len());
        for record in records {
            receipts.push(Receipt { site: shared.site, record: record.id(), digest: record.digest() });
            if matches!(self.held(shared, &record), Held::Same) {
                continue;
            }
            self.staged.insert(record.id(), Some(record.digest()));
            self.entries.push(Entry::of(&record).ok_or(SiteError::OverLimit)?);
            let body = record.into_body();
            self.body_bytes += u64::try_from(body.len()).unwrap_or(u64::MAX);
            self.bodies.push(body);
        }
        Ok(receipts)
    }

    fn stage_delete(&mut self, shared: &Shared, ids: Vec<RecordId>) -> u64 {
        let mut removed = 0;
        for id in ids {
            let there = match self.staged.get(&id) {
                Some(staged) => staged.is_some(),
                None => shared.index().get(id).is_some(),
            };
            if there {
                removed += 1;
                self.staged.insert(id, None);
                self.entries.push(Entry::Removal(id));
            }
        }
        removed
    }
}

/// The only writer of a site's volumes.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    entropy: Arc<dyn Entropy>,
    current: Option<DurableVolume>,
    next_number: u32,
    chain: Chain,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, entropy: Arc<dyn Entropy>, start: WriterStart) -> Self {
        let WriterStart { current, next_number, chain } = start;
        Self { shared, entropy, current, next_number, chain }
    }

    /// Serves the queue until all its senders are gone.
    pub(crate) fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        let mut carried = None;
        while let Some(first) = carried.take().or_else(|| queue.blocking_recv()) {
            carried = self.serve(first, || queue.try_recv().ok());
        }
    }

    /// Writes one batch: `first`, and of `more` what fits. Returns what was
    /// taken and does not fit.
    pub(crate) fn serve(
        &mut self,
        first: Request,
        mut more: impl FnMut() -> Option<Request>,
    ) -> Option<Request> {
        let mut group = Group::default();
        group.stage(&self.shared, first);
        let mut carried = None;
        while let Some(request) = more() {
            if !group.has_room_for(&request) {
                carried = Some(request);
                break;
            }
            group.stage(&self.shared, request);
        }
        self.commit(group);
        carried
    }

    fn commit(&mut self, group: Group) {
        let outcome = if self.shared.is_read_only() {
            Err(SiteError::ReadOnly)
        } else if group.entries.is_empty() {
            Ok(())
        } else {
            self.write(&group)
        };
        group.waiting.into_iter().for_each(|waiting| waiting.answer(outcome.clone()));
    }

    fn write(&mut self, group: &Group) -> Result<(), SiteError> {
        let mut durable = self.volume_for(group)?;
        let at = durable.length;
        let (head, header) = self.encode(group, &durable.volume, at).ok_or(SiteError::OverLimit)?;
        let mut parts = Vec::with_capacity(1 + group.bodies.len());
        parts.push(IoSlice::new(&head));
        parts.extend(group.bodies.iter().map(|body| IoSlice::new(body)));
        let file = &durable.volume.file;
        if let Err(error) = self.shared.disk.write(file, &mut parts, at) {
            return Err(self.append_failed(&durable, &error));
        }
        if self.shared.disk.sync_data(file).is_err() {
            // What the kernel did with the pages is unknown; a second fsync
            // that succeeds would prove nothing.
            self.shared.close_for_writing();
            return Err(SiteError::ReadOnly);
        }
        self.shared.count_fsync();
        durable.length += header.extent();
        self.chain = Chain { next: header.sequence + 1, previous: Some(chain_of(&head)) };
        self.enter(group, durable.volume.number, at + HEADER_BYTES as u64 + header.table_bytes());
        self.shared.set_volume(durable.clone());
        self.shared.set_last_batch(self.chain.reach());
        self.current = Some(durable);
        Ok(())
    }

    /// The bytes before the bodies, and the header as a value.
    fn encode(&self, group: &Group, volume: &Volume, at: u64) -> Option<(Vec<u8>, BatchHeader)> {
        let mut head = vec![0; HEADER_BYTES];
        head.reserve(group.entries.len() * ENTRY_BYTES);
        group.entries.iter().for_each(|entry| entry.encode(&mut head));
        let header = BatchHeader {
            sequence: self.chain.next,
            previous: self.chain.previous.unwrap_or([0; 32]),
            entries: u32::try_from(group.entries.len()).ok()?,
            body_bytes: group.body_bytes,
            table_digest: table_digest(&volume.key, self.chain.next, &head[HEADER_BYTES..]),
        };
        head[..HEADER_BYTES].copy_from_slice(&header.encode(&volume.key, at));
        Some((head, header))
    }

    /// Makes the batch visible, in the order of its entries.
    fn enter(&self, group: &Group, volume: u32, mut offset: u64) {
        let mut index = self.shared.index_mut();
        for entry in &group.entries {
            match entry {
                Entry::Record(entry) => {
                    index.insert(Location { volume, offset, entry: *entry, damaged: false });
                }
                Entry::Removal(id) => index.remove(*id),
            }
            offset += u64::from(entry.body_bytes());
        }
    }

    /// The volume that takes the batch: the current one, or a new one where
    /// that is full. A new volume proves that its predecessor was fsynced.
    fn volume_for(&mut self, group: &Group) -> Result<DurableVolume, SiteError> {
        let room = |durable: &DurableVolume| {
            durable.length <= FIRST_BATCH || durable.length + group.body_bytes <= VOLUME_BYTES_MAX
        };
        if let Some(durable) = self.current.as_ref().filter(|durable| room(durable)) {
            return Ok(durable.clone());
        }
        let (dir, site) = (&self.shared.volumes_dir, self.shared.site);
        let disk = self.shared.disk.as_ref();
        let created = Volume::create(disk, dir, site, self.next_number, self.entropy.as_ref());
        let volume = created.map_err(|error| self.refuse(&error))?;
        self.next_number += 1;
        let durable = DurableVolume { volume, length: FIRST_BATCH };
        self.shared.set_volume(durable.clone());
        self.current = Some(durable.clone());
        Ok(durable)
    }

    /// A batch was written in part, or not at all, and not fsynced. Where
    /// only room was lacking, it is cut away and the site goes on.
    fn append_failed(&self, durable: &DurableVolume, error: &io::Error) -> SiteError {
        let (disk, file) = (self.shared.disk.as_ref(), &durable.volume.file);
        let cut = || disk.cut(file, durable.length).and_then(|()| disk.sync_all(file));
        if is_full(error) && cut().is_err() {
            self.shared.close_for_writing();
            return SiteError::ReadOnly;
        }
        self.refuse(error)
    }

    fn refuse(&self, error: &io::Error) -> SiteError {
        if is_full(error) {
            return SiteError::Full;
        }
        self.shared.close_for_writing();
        SiteError::ReadOnly
    }
}

fn chain_of(head: &[u8]) -> [u8; 32] {
    chain_digest(&crate::batch::field(head, 0))
}
