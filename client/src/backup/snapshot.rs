//! What a backup leaves behind once all of it is durable: the snapshot record.

use core::fmt;
use core::str::FromStr;

use coffer_model::{Digest, Entropy, Timestamp};
use serde::{Deserialize, Serialize};

use super::entry_stream::StreamRef;
use crate::digits::{from_hex, hex};

/// Which snapshot: 16 random bytes, printed as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SnapshotId([u8; 16]);

/// A text that is not the id of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a snapshot id is 32 lower-case hexadecimal digits; list the snapshots to see them")]
pub struct SnapshotIdError;

impl SnapshotId {
    /// A fresh one.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self(entropy.sixteen())
    }
}

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SnapshotId {
    type Err = SnapshotIdError;
    fn from_str(text: &str) -> Result<Self, SnapshotIdError> {
        from_hex(text).map(Self).ok_or(SnapshotIdError)
    }
}

/// What was counted while a snapshot was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotStats {
    /// Entries of all kinds.
    pub entries: u64,
    /// Regular files, hard links once.
    pub files: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// Bytes read from files: data extents, hard links once.
    pub bytes: u64,
    /// Of these, bytes of chunks that the repository did not hold.
    pub new_bytes: u64,
    /// Entries that could not be read, or changed while they were.
    pub problems: u64,
}

/// One snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// When the backup began.
    pub time: Timestamp,
    /// The name of the machine, as the caller gave it.
    pub host: String,
    /// The root of the tree, as the caller gave it, raw bytes.
    pub path: Vec<u8>,
    /// SHA-256 of the source-time manifest's text.
    pub manifest_digest: Digest,
    /// Counts.
    pub stats: SnapshotStats,
    /// Where its entries are.
    pub(crate) stream: StreamRef,
}
