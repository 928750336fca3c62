//! The `Site` port: put, get, list, delete, scrub, and the overwritable key
//! slots. Every adapter (directory, pod, bucket, simulation) passes the same
//! conformance suite.

use std::ops::Range;

use async_trait::async_trait;
use bytes::Bytes;
use coffer_model::{Digest, RecordId, ScopeId, SiteDescription, SiteId, SlotId};
use serde::{Deserialize, Serialize};

use crate::{Answer, Challenge, Change, Changed, Fence, Record, RecordKind};

/// Proof that a site has fsynced a record. Made by adapters after the fsync
/// returned; compared with what was sent before it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Which site.
    pub site: SiteId,
    /// Which record.
    pub record: RecordId,
    /// The digest that the site stored.
    pub digest: Digest,
}

impl Receipt {
    /// The receipt of `site` for a record.
    pub fn of(site: SiteId, record: &Record) -> Self {
        Self { site, record: record.id(), digest: record.digest() }
    }
}

/// One line of a listing; no body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedRecord {
    /// Its id.
    pub id: RecordId,
    /// Its kind.
    pub kind: RecordKind,
    /// Body length in bytes.
    pub body_bytes: u32,
    /// The digest that the site stored.
    pub digest: Digest,
}

/// One damaged record, as a scrub found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubFinding {
    /// The record, where its header could still be read.
    pub record: Option<RecordId>,
    /// Volume file name and byte offset, for people.
    pub place: String,
}

/// Where a scrub in steps goes on: opaque to the caller, in an order of the
/// site's own that stays the same from pass to pass, so that what is read next
/// is what was verified longest ago. A volume store reads as it wrote, oldest
/// first; a bucket by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ScrubCursor(pub [u8; 16]);

/// What one step of a scrub read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubStep {
    /// Damage in what was read.
    pub findings: Vec<ScrubFinding>,
    /// Records read and verified.
    pub records: u64,
    /// Bytes that were read: bodies, and what holds them together.
    pub bytes: u64,
    /// Where the next step goes on; `None` when the pass is complete.
    pub next: Option<ScrubCursor>,
}

/// Bytes from the middle of a record. No digest covers them alone: whoever
/// uses them must authenticate them by other means, the seal of a whole chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnverifiedBytes(pub Bytes);

/// How far a site's history goes: the sequence number of a batch, and the
/// digest of its header, which chains to all headers before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Number of the batch.
    pub sequence: u64,
    /// Digest of its header.
    pub digest: Digest,
}

/// What a key slot holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotContent {
    /// Higher replaces lower; equal is refused unless the bytes are the same.
    pub generation: u64,
    /// Wrapped keys, opaque to the site. At most 64 KiB.
    pub body: Bytes,
}

/// One line of a listing of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotListing {
    /// Its id.
    pub slot: SlotId,
    /// Its current generation; 0 where it cannot be read, which
    /// [`Site::read_slot`] tells from a generation 0.
    pub generation: u64,
}

/// How a site is doing, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteState {
    /// Whether it answers.
    pub alive: bool,
    /// Records that can be read.
    pub records: u64,
    /// Bytes in volume files, headers and dead records included.
    pub volume_bytes: u64,
    /// Damaged records found since it was opened.
    pub damaged: u64,
    /// Bytes of removed records that still lie in the volumes.
    pub dead_bytes: u64,
    /// Bytes that may still be written; `None` where nobody knows.
    pub free_bytes: Option<u64>,
    /// Whether it takes no writes.
    pub read_only: bool,
    /// Its last durable batch; `None` where it has none, or keeps no history.
    pub reach: Option<Reach>,
}

impl SiteState {
    /// The state of a site that does not answer.
    pub const DEAD: Self = Self {
        alive: false,
        records: 0,
        volume_bytes: 0,
        damaged: 0,
        dead_bytes: 0,
        free_bytes: None,
        read_only: false,
        reach: None,
    };
}

/// Why a site did not do what was asked; split by whose move is next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SiteError {
    /// It does not answer: dead, killed, cut off. Another site may.
    #[error("the site does not answer")]
    Unreachable,
    /// It holds no record, or no slot, with this id.
    #[error("the site holds no such record")]
    Missing,
    /// It holds the record, but its bytes do not match their digest.
    #[error("the record is damaged at this site")]
    Damaged,
    /// A record with this id and other content is already there, or a slot
    /// has the same or a higher generation with other content.
    #[error("the site already holds something else under this id")]
    Conflict,
    /// No room; reads go on.
    #[error("the site has no room left")]
    Full,
    /// A write or fsync failed; the site takes no more writes until it is
    /// reopened, reads go on.
    #[error("the site takes no writes since a write to its disk failed")]
    ReadOnly,
    /// What answers is not the site that it should be, or its word does not
    /// stand: a wrong certificate, a receipt that is forged or replayed, bytes
    /// that are no message of a site. Nothing it says counts.
    #[error("what answers there is not to be believed")]
    Untrusted,
    /// The request breaks a stated limit.
    #[error("the request is over a limit of the site")]
    OverLimit,
    /// The change comes from an owner that has been followed by another, or
    /// from somebody who names no owner where there is one. Nothing was changed.
    #[error("the site knows a later owner than the one who asks")]
    Superseded,
    /// The site has no lease any more, or was replaced: it takes no changes,
    /// reads go on.
    #[error("the lease of the site has run out; it takes no writes")]
    NoLease,
}

/// One place that stores records. It never sees a key.
#[async_trait]
pub trait Site: Send + Sync {
    /// What the topology says about it.
    fn description(&self) -> &SiteDescription;

    /// Whether it answered when last heard of; asks nobody and costs nothing.
    fn answers(&self) -> bool;

    /// Stores records; returns when all of them are fsynced. A record that is
    /// already there with the same digest is acknowledged again.
    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError>;

    /// Reads one record and verifies its digest.
    async fn get(&self, id: RecordId) -> Result<Record, SiteError>;

    /// Reads many records, each verified, one answer for each id in their
    /// order. An adapter for which one request costs less than many overrides it.
    async fn get_many(&self, ids: Vec<RecordId>) -> Vec<Result<Record, SiteError>> {
        let mut answers = Vec::with_capacity(ids.len());
        for id in ids {
            answers.push(self.get(id).await);
        }
        answers
    }

    /// Reads a part of a record's body, for a reader that authenticates it
    /// itself; a range that reaches past the end is [`SiteError::OverLimit`].
    async fn get_range(&self, id: RecordId, range: Range<u32>) -> Result<UnverifiedBytes, SiteError>;

    /// Answers a challenge from the bytes on its disk, read now.
    async fn answer(&self, challenge: Challenge) -> Result<Answer, SiteError>;

    /// Records of one kind with ids above `after`, in order of id, at most `limit`.
    async fn list(
        &self,
        kind: RecordKind,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<ListedRecord>, SiteError>;

    /// Removes records for good; returns, fsynced, how many were there.
    async fn delete(&self, ids: Vec<RecordId>) -> Result<u64, SiteError>;

    /// Reads every record and verifies it, without any key.
    async fn scrub(&self) -> Result<Vec<ScrubFinding>, SiteError>;

    /// Reads and verifies records from `from` on (`None`: from the first)
    /// until about `bytes_max` bytes are read, at least one record; after the
    /// last of them what holds them together, headers and tables of volumes or
    /// the lines of listings, where the site has such. A record that could not
    /// be read is not passed over.
    async fn scrub_step(&self, from: Option<ScrubCursor>, bytes_max: u64) -> Result<ScrubStep, SiteError>;

    /// Whether its history contains that batch: a site that came back older
    /// than it was does not.
    async fn reaches(&self, reach: Reach) -> Result<bool, SiteError>;

    /// Overwrites a key slot; returns when fsynced. After it returns, the
    /// slot's older generations but the last are gone from its file.
    async fn write_slot(&self, slot: SlotId, content: SlotContent) -> Result<(), SiteError>;

    /// Reads a key slot.
    async fn read_slot(&self, slot: SlotId) -> Result<SlotContent, SiteError>;

    /// Overwrites every superseded generation in a slot's file with zeros.
    async fn wipe_superseded(&self, slot: SlotId) -> Result<(), SiteError>;

    /// Raises the epoch of a scope, durably. From its return on no change under
    /// a lower one is made, or acknowledged if it was under way, and none at all
    /// that names no epoch. One that is not higher than the site's is
    /// [`SiteError::Superseded`]; the same again is no error. An adapter that
    /// cannot hold an epoch says [`SiteError::OverLimit`].
    async fn raise(&self, _fence: Fence) -> Result<(), SiteError> {
        Err(SiteError::OverLimit)
    }

    /// The epoch of a scope; 0 where none was ever raised.
    async fn epoch(&self, _scope: ScopeId) -> Result<u64, SiteError> {
        Ok(0)
    }

    /// Makes a change under an epoch: [`SiteError::Superseded`] under a lower
    /// one than the site's; a higher one raises it first.
    async fn change_under(&self, _fence: Fence, _change: Change) -> Result<Changed, SiteError> {
        Err(SiteError::OverLimit)
    }

    /// All slots in order of id, those that are damaged among them: what is left
    /// out is missed by nobody, and never written anew.
    async fn list_slots(&self) -> Result<Vec<SlotListing>, SiteError>;

    /// How it is doing. Answers even when the site is dead.
    async fn state(&self) -> SiteState;
}
