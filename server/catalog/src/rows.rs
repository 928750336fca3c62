//! What goes into a catalogue and comes out of it.

use std::collections::BTreeMap;

use coffer_model::{
    BucketId, BucketName, Digest, Manifest, ObjectId, ObjectKey, RecordId, ResidencyPolicy, SiteId,
    Timestamp, VersionId,
};
use serde::{Deserialize, Serialize};

/// One leaf of the audit log; opaque to the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The event, canonical JSON.
    pub body: Vec<u8>,
    /// The RFC 6962 leaf hash of the body, SHA-256.
    pub hash: Digest,
}

/// One bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketRow {
    /// Its id.
    pub id: BucketId,
    /// Its name, unique in the catalogue.
    pub name: BucketName,
    /// What its tenant was promised.
    pub policy: ResidencyPolicy,
    /// When it was made.
    pub created: Timestamp,
    /// Its registry record at the sites.
    pub record: RecordId,
}

/// One version, as its manifest describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestRow {
    /// The manifest record at the sites.
    pub record: RecordId,
    /// The manifest.
    pub manifest: Manifest,
    /// The version's wrapped key; opaque here.
    pub wrap: Vec<u8>,
    /// Shards short of the promise when the version was accepted.
    pub reduced: u8,
    /// Whether the sealed bytes ride in the manifest record.
    pub inline: bool,
}

/// One version and whether it can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRow {
    /// The version.
    pub manifest: ManifestRow,
    /// Whether a tombstone hides it, or its bucket is gone.
    pub hidden: bool,
}

/// A put that is about to write to the sites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewReservation {
    /// The version, minted before sealing.
    pub version: VersionId,
    /// The bucket.
    pub bucket: BucketId,
    /// Its registry record when the sites were chosen: refused if it has another
    /// by now.
    pub under: RecordId,
    /// The name within it.
    pub key: ObjectKey,
    /// A fresh object id, taken if the key has none yet.
    pub object: ObjectId,
    /// When.
    pub created: Timestamp,
    /// The id that the manifest record will have.
    pub record: RecordId,
    /// The sites of the placement, in shard order.
    pub sites: Vec<SiteId>,
    /// Seed of the ids of the shard records.
    pub locator: [u8; 32],
    /// Whether it is striped; if not, the sealed bytes ride in the manifest record.
    pub striped: bool,
    /// The version's wrapped key; opaque here.
    pub wrap: Vec<u8>,
}

/// What a reservation was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Place in the tenant's order; higher than every one given before.
    pub order: u64,
    /// The object: the key's own, or the one that was offered.
    pub object: ObjectId,
    /// Position of the intent leaf in the log.
    pub audit_seq: u64,
}

/// A reservation that is neither committed nor abandoned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservationRow {
    /// The version.
    pub version: VersionId,
    /// The bucket.
    pub bucket: BucketId,
    /// The name within it.
    pub key: ObjectKey,
    /// The object.
    pub object: ObjectId,
    /// Place in the tenant's order.
    pub order: u64,
    /// When.
    pub created: Timestamp,
    /// The id that the manifest record will have.
    pub record: RecordId,
    /// The sites of the placement, in shard order.
    pub sites: Vec<SiteId>,
    /// Seed of the ids of the shard records.
    pub locator: [u8; 32],
    /// Whether it is striped.
    pub striped: bool,
    /// The version's wrapped key; opaque here.
    pub wrap: Vec<u8>,
}

/// A deletion: hides every version of the object up to its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TombstoneRow {
    /// The tombstone record at the sites.
    pub record: RecordId,
    /// The bucket.
    pub bucket: BucketId,
    /// The object.
    pub object: ObjectId,
    /// The version that was the latest.
    pub version: VersionId,
    /// Versions of the object with this order or a lower one are hidden.
    pub order: u64,
    /// When.
    pub created: Timestamp,
}

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListRow {
    /// The name.
    pub key: ObjectKey,
    /// Plaintext length in bytes.
    pub size: u64,
    /// When the version was reserved.
    pub created: Timestamp,
    /// The latest version.
    pub version: VersionId,
    /// BLAKE3 of the plaintext.
    pub content: Digest,
}

/// An opaque fact about the tenant: a principal, a hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactRow {
    /// What kind of fact.
    pub kind: String,
    /// Its id within the kind.
    pub id: [u8; 16],
    /// What it says; opaque here.
    pub body: Vec<u8>,
}

/// What a site must answer when it is asked about one record. The key of the
/// question is derived by the caller, from a secret and the nonce; it is not here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeRow {
    /// The version that the record belongs to.
    pub version: VersionId,
    /// Who holds the record.
    pub site: SiteId,
    /// The record.
    pub record: RecordId,
    /// Tells the questions about one record apart.
    pub nonce: [u8; 8],
    /// The answer; opaque here.
    pub answer: Digest,
}

/// Challenges of one version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewChallenges {
    /// In the place of all that the version has at the sites which these name.
    pub rows: Vec<ChallengeRow>,
    /// Whether every shard of the version has some now.
    pub whole: bool,
}

/// A challenge on its way to its site; it already counts as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrawnChallenge {
    /// Its number in the catalogue.
    pub id: u64,
    /// What is asked and expected.
    pub row: ChallengeRow,
    /// Whether it was asked before: nothing new was left for its site.
    pub repeated: bool,
    /// Whether nothing new is left for its version at its site.
    pub last: bool,
}

/// How many challenges there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChallengeCounts {
    /// Never asked, for each site that has any.
    pub fresh: BTreeMap<SiteId, u64>,
    /// Striped versions of which at least one shard has no challenge.
    pub unchallenged_versions: u64,
}

/// Versions of some kind, or of every kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// How many, hidden ones included.
    pub versions: u64,
    /// Bytes of their contents.
    pub bytes: u64,
}

/// A part of what the sites hold, on its way into a new catalogue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RebuildBatch {
    /// Buckets; one that is there already is replaced.
    pub buckets: Vec<BucketRow>,
    /// Versions; one that is there already is replaced, unless its manifest has
    /// a higher revision.
    pub manifests: Vec<ManifestRow>,
    /// Tombstones, whether or not their versions came yet.
    pub tombstones: Vec<TombstoneRow>,
    /// Leaves that follow those which are there, in order.
    pub leaves: Vec<Leaf>,
    /// Facts; one that is there already is replaced.
    pub facts: Vec<FactRow>,
    /// The next order given is higher than this and than every one loaded.
    pub order_floor: u64,
}

/// How much a catalogue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Buckets.
    pub buckets: u64,
    /// Versions, hidden ones included.
    pub versions: u64,
    /// Names in existing buckets with a version that is not hidden.
    pub live_objects: u64,
    /// Leaves of the audit log.
    pub leaves: u64,
    /// Reservations that are neither committed nor abandoned.
    pub reservations: u64,
}
