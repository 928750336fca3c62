//! The `Site` port: put, get, list, delete, scrub, and the overwritable key
//! slots. Every adapter (directory, pod, bucket, simulation) passes the same
//! conformance suite.

use async_trait::async_trait;
use bytes::Bytes;
use coffer_model::{Digest, RecordId, SiteDescription, SiteId, SlotId};
use serde::{Deserialize, Serialize};

use crate::{Record, RecordKind};

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
    /// Its current generation.
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
    /// The request breaks a stated limit.
    #[error("the request is over a limit of the site")]
    OverLimit,
}

/// One place that stores records. It never sees a key.
#[async_trait]
pub trait Site: Send + Sync {
    /// What the topology says about it.
    fn description(&self) -> &SiteDescription;

    /// Stores records; returns when all of them are fsynced. A record that is
    /// already there with the same digest is acknowledged again.
    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError>;

    /// Reads one record and verifies its digest.
    async fn get(&self, id: RecordId) -> Result<Record, SiteError>;

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

    /// Overwrites a key slot; returns when fsynced. After it returns, the
    /// slot's older generations but the last are gone from its file.
    async fn write_slot(&self, slot: SlotId, content: SlotContent) -> Result<(), SiteError>;

    /// Reads a key slot.
    async fn read_slot(&self, slot: SlotId) -> Result<SlotContent, SiteError>;

    /// Overwrites every superseded generation in a slot's file with zeros.
    async fn wipe_superseded(&self, slot: SlotId) -> Result<(), SiteError>;

    /// All slots.
    async fn list_slots(&self) -> Result<Vec<SlotListing>, SiteError>;

    /// How it is doing. Answers even when the site is dead.
    async fn state(&self) -> SiteState;
}
