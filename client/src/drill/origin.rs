//! Where the bytes of a drill come from, where that is not the service that
//! planned it: a service that was made again from what a loss leaves, or a
//! reader that shares nothing with this program. What came before the first
//! byte is part of the recovery time.
//!
//! The service that was made again is never asked for a checkpoint: two signed
//! logs of one history would be a fork that nobody could tell from a fraud. So
//! plan, source and record are proven by the log of the service that lives.

use std::path::Path;

use async_trait::async_trait;

use super::plan::ScenarioKind;
use super::record::Shares;
use super::timeline::Timeline;
use crate::backup::Repository;
use crate::connect::Client;

/// Where a drill's bytes come from. The default is the service that planned it.
#[derive(Default)]
pub struct Origin<'a> {
    /// The service that was made again, for a tree or objects.
    pub client: Option<&'a Client>,
    /// The repository in it, opened with the keys that are left.
    pub repository: Option<&'a Repository>,
    /// Who restores in the place of this program, for a tree.
    pub reader: Option<&'a dyn OtherReader>,
    /// The axis from the declared loss, with what was done until now.
    pub timeline: Option<Timeline>,
    /// The shares that opened keys on the way.
    pub shares: Shares,
    /// Why nothing can be read at all, in a word that names nothing of the
    /// tenant: then the record says so.
    pub failed: Option<String>,
}

impl Origin<'_> {
    /// Whether this is where a drill of that kind begins.
    pub(super) fn suits(&self, kind: ScenarioKind) -> bool {
        if self.failed.is_some() {
            return kind.begins_cold() || kind.is_by_another_reader();
        }
        self.client.is_some() == kind.begins_cold() && self.reader.is_some() == kind.is_by_another_reader()
    }
}

/// What another reader says that it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OtherReport {
    /// Entries of the tree.
    pub entries: u64,
    /// Bytes of its files, hard links once, without holes.
    pub bytes: u64,
}

/// Why another reader brought nothing back that could be looked at.
#[derive(Debug, thiserror::Error)]
pub enum OtherReaderError {
    /// It could not be started, or did not end by itself.
    #[error("the reader could not be run: {0}")]
    Run(#[source] std::io::Error),
    /// Less is left of an object than it needs.
    #[error("the reader found too few shards of an object: {0}")]
    TooFew(String),
    /// Something opens to another content, or not at all.
    #[error("the reader found damage: {0}")]
    Damaged(String),
    /// It refused for another reason.
    #[error("the reader refused: {0}")]
    Refused(String),
}

/// A reader of somebody else's that restores a tree.
#[async_trait]
pub trait OtherReader: Send + Sync {
    /// Puts the tree of a snapshot into a directory that is new or empty.
    ///
    /// # Errors
    /// [`OtherReaderError`]; what it left is no tree then.
    async fn restore(&self, snapshot: &str, target: &Path) -> Result<OtherReport, OtherReaderError>;
}
