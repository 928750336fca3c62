//! The next batch, as it comes together from requests: what each of them may
//! write is decided here, against the index and against the batch so far.

use std::collections::HashMap;
use std::mem;

use bytes::Bytes;
use coffer_model::{Digest, RecordId};
use coffer_regions::{Fence, Receipt, Record, SiteError};
use tokio::sync::oneshot;

use crate::batch::{BATCH_BODY_BYTES_MAX, BATCH_ENTRIES_MAX, ENTRY_BYTES, Entry, HEADER_BYTES};
use crate::index::Location;
use crate::shared::Shared;

/// Most records of one put, or ids of one delete.
pub const PUT_RECORDS_MAX: usize = BATCH_ENTRIES_MAX as usize;
/// Most body bytes of one put.
pub const PUT_BYTES_MAX: u64 = BATCH_BODY_BYTES_MAX;

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, SiteError>>;

/// Something to write, and who waits for it.
pub(crate) enum Request {
    Put {
        records: Vec<Record>,
        fence: Option<Fence>,
        reply: Reply<Vec<Receipt>>,
    },
    Delete {
        ids: Vec<RecordId>,
        fence: Option<Fence>,
        reply: Reply<u64>,
    },
    /// Writes records again that still lie where they were read.
    Copy {
        records: Vec<(Location, Record)>,
        reply: Reply<u64>,
    },
    /// Writes removals again, of ids that are still not held.
    Carry {
        ids: Vec<RecordId>,
        reply: Reply<u64>,
    },
    /// The next batch goes to another volume.
    Seal {
        reply: Reply<()>,
    },
    /// Raises an epoch: what is under way is written before, and nothing
    /// under a lower one after it.
    Raise {
        fence: Fence,
        reply: Reply<()>,
    },
    /// Removes a volume that holds nothing any more; false where it does.
    Retire {
        number: u32,
        reply: Reply<bool>,
    },
}

impl Request {
    fn entries(&self) -> usize {
        match self {
            Self::Put { records, .. } => records.len(),
            Self::Delete { ids, .. } | Self::Carry { ids, .. } => ids.len(),
            Self::Copy { records, .. } => records.len(),
            Self::Seal { .. } | Self::Raise { .. } | Self::Retire { .. } => 0,
        }
    }

    fn body_bytes(&self) -> u64 {
        match self {
            Self::Put { records, .. } => body_bytes(records),
            Self::Copy { records, .. } => records.iter().map(|(_, record)| length(record.body())).sum(),
            _ => 0,
        }
    }

    /// Whether it is no part of a batch.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self, Self::Seal { .. } | Self::Raise { .. } | Self::Retire { .. })
    }

    /// Whether somebody outside waits for it.
    pub(crate) fn is_foreground(&self) -> bool {
        matches!(self, Self::Put { .. } | Self::Delete { .. })
    }
}

fn length(body: &[u8]) -> u64 {
    u64::try_from(body.len()).unwrap_or(u64::MAX)
}

/// Sum of the body lengths.
pub(crate) fn body_bytes(records: &[Record]) -> u64 {
    records.iter().map(|record| length(record.body())).sum()
}

/// The answers that wait for the fsync.
enum Waiting {
    Receipts(Reply<Vec<Receipt>>, Vec<Receipt>),
    Count(Reply<u64>, u64),
}

impl Waiting {
    /// An asker who has gone away is not an error.
    fn answer(self, outcome: Result<(), SiteError>) {
        match self {
            Self::Receipts(reply, receipts) => drop(reply.send(outcome.map(|()| receipts))),
            Self::Count(reply, count) => drop(reply.send(outcome.map(|()| count))),
        }
    }
}

/// What is already there under an id.
enum Held {
    Nothing,
    Same,
    Other,
}

/// The next batch, as far as it has come together.
#[derive(Default)]
pub(crate) struct Group {
    pub(crate) entries: Vec<Entry>,
    pub(crate) bodies: Vec<Bytes>,
    pub(crate) body_bytes: u64,
    /// What the entries make of an id: a digest, or nothing.
    staged: HashMap<RecordId, Option<Digest>>,
    waiting: Vec<Waiting>,
    /// Requests from outside among them.
    pub(crate) foreground: u64,
    /// Bytes that puts may still write, once asked for.
    budget: Option<u64>,
}

impl Group {
    pub(crate) fn has_room_for(&self, request: &Request) -> bool {
        !request.is_alone()
            && self.entries.len() + request.entries() <= PUT_RECORDS_MAX
            && self.body_bytes + request.body_bytes() <= PUT_BYTES_MAX
    }

    /// Bytes of the batch.
    pub(crate) fn extent(&self) -> u64 {
        let table = u64::try_from(self.entries.len() * ENTRY_BYTES).unwrap_or(u64::MAX);
        HEADER_BYTES as u64 + table + self.body_bytes
    }

    /// Answers everybody who waits for the batch.
    pub(crate) fn answer(&mut self, outcome: &Result<(), SiteError>) {
        mem::take(&mut self.waiting).into_iter().for_each(|waiting| waiting.answer(outcome.clone()));
    }

    fn held(&self, shared: &Shared, record: &Record) -> Held {
        let digest = match self.staged.get(&record.id()) {
            Some(staged) => *staged,
            None => match shared.holdings().index.get(record.id()) {
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

    /// Takes a request into the batch, or answers why not.
    pub(crate) fn stage(&mut self, shared: &Shared, request: Request) {
        self.foreground += u64::from(request.is_foreground());
        match request {
            Request::Put { records, fence, reply } => {
                let admitted = shared.admit(&mut shared.epochs(), fence);
                match admitted.and_then(|()| self.stage_put(shared, records)) {
                    Ok(receipts) => self.waiting.push(Waiting::Receipts(reply, receipts)),
                    Err(error) => drop(reply.send(Err(error))),
                }
            }
            Request::Delete { ids, fence, reply } => match shared.admit(&mut shared.epochs(), fence) {
                Ok(()) => {
                    let removed = self.stage_delete(shared, ids);
                    self.waiting.push(Waiting::Count(reply, removed));
                }
                Err(error) => drop(reply.send(Err(error))),
            },
            Request::Copy { records, reply } => match self.stage_copy(shared, records) {
                Ok(copied) => self.waiting.push(Waiting::Count(reply, copied)),
                Err(error) => drop(reply.send(Err(error))),
            },
            Request::Carry { ids, reply } => {
                let carried = self.stage_carry(shared, ids);
                self.waiting.push(Waiting::Count(reply, carried));
            }
            Request::Seal { .. } | Request::Raise { .. } | Request::Retire { .. } => {}
        }
    }

    fn stage_put(&mut self, shared: &Shared, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        // All or nothing: a conflict, and that there is no room, are found
        // before anything is staged.
        let (mut own, mut new, mut needed) = (HashMap::new(), Vec::new(), 0);
        let mut receipts = Vec::with_capacity(records.len());
        for record in records {
            receipts.push(Receipt::of(shared.site, &record));
            match own.insert(record.id(), record.digest()) {
                Some(digest) if digest == record.digest() => continue,
                Some(_) => return Err(SiteError::Conflict),
                None => {}
            }
            match self.held(shared, &record) {
                Held::Other => return Err(SiteError::Conflict),
                Held::Same => {}
                Held::Nothing => {
                    needed += length(record.body()) + ENTRY_BYTES as u64;
                    new.push(record);
                }
            }
        }
        self.spend(shared, needed)?;
        new.into_iter().try_for_each(|record| self.add(record))?;
        Ok(receipts)
    }

    /// Takes bytes from what puts may write.
    fn spend(&mut self, shared: &Shared, needed: u64) -> Result<(), SiteError> {
        if needed == 0 {
            return Ok(());
        }
        let budget = match self.budget {
            Some(budget) => budget,
            None => shared.free_for_puts().unwrap_or(u64::MAX),
        };
        let left = budget.checked_sub(needed.saturating_add(HEADER_BYTES as u64));
        self.budget = Some(left.unwrap_or(budget));
        left.map(drop).ok_or(SiteError::Full)
    }

    fn add(&mut self, record: Record) -> Result<(), SiteError> {
        self.entries.push(Entry::of(&record).ok_or(SiteError::OverLimit)?);
        self.staged.insert(record.id(), Some(record.digest()));
        let body = record.into_body();
        self.body_bytes += length(&body);
        self.bodies.push(body);
        Ok(())
    }

    fn is_held(&self, shared: &Shared, id: RecordId) -> bool {
        match self.staged.get(&id) {
            Some(staged) => staged.is_some(),
            None => shared.holdings().index.get(id).is_some(),
        }
    }

    fn add_removal(&mut self, id: RecordId) {
        self.staged.insert(id, None);
        self.entries.push(Entry::Removal(id));
    }

    fn stage_delete(&mut self, shared: &Shared, ids: Vec<RecordId>) -> u64 {
        let mut removed = 0;
        for id in ids {
            if self.is_held(shared, id) {
                removed += 1;
                self.add_removal(id);
            }
        }
        removed
    }

    fn stage_copy(&mut self, shared: &Shared, records: Vec<(Location, Record)>) -> Result<u64, SiteError> {
        let mut copied = 0;
        for (at, record) in records {
            // Removed, replaced or copied since it was read: then it is dead.
            let now = shared.holdings().index.get(record.id());
            if !self.staged.contains_key(&record.id()) && now.is_some_and(|now| now.is_place_of(&at)) {
                copied += 1;
                self.add(record)?;
            }
        }
        Ok(copied)
    }

    fn stage_carry(&mut self, shared: &Shared, ids: Vec<RecordId>) -> u64 {
        let mut carried = 0;
        for id in ids {
            if !self.staged.contains_key(&id) && !self.is_held(shared, id) {
                carried += 1;
                self.add_removal(id);
            }
        }
        carried
    }
}
