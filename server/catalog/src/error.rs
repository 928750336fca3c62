//! One error for each kind of operation, split by whose move is next.

use std::path::PathBuf;
use std::sync::Arc;

use coffer_model::{BucketName, TenantId};

/// What the database said, for people; never part of a decision.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct StorageError(Arc<rusqlite::Error>);

/// Why an operation on an open catalogue failed. Unless the variant says
/// otherwise, nothing of the operation stands, its leaf included.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// The catalogue was closed; open it again.
    #[error("the catalogue is closed; open it again")]
    Closed,
    /// Somebody reads, so that what was loaded cannot be brought into the file.
    #[error("the catalogue is being read, so that what was loaded is not safe yet; try again")]
    Busy,
    /// The file or its disk failed. After a commit that failed it is unknown
    /// whether the change stands; see [`CatalogError::ReadOnly`].
    #[error(
        "the catalogue's file failed: {0}; check its disk, then open it again or rebuild it from the sites"
    )]
    Storage(StorageError),
    /// A commit failed earlier; what it left is known only after a reopen.
    #[error(
        "the catalogue takes no writes since a commit failed, and without a log nothing is served; make room on its disk or mend it, then start the service again"
    )]
    ReadOnly,
    /// A stored value is not what this version writes.
    #[error("the catalogue holds a {0} that cannot be read; rebuild it from the sites")]
    Damaged(&'static str),
    /// A number is above 2^63 - 1 and cannot be stored.
    #[error("the {0} is too large for the catalogue")]
    TooLarge(&'static str),
    /// The reservation names a bucket that does not exist.
    #[error("the bucket does not exist; it may have been removed meanwhile")]
    NoBucket,
    /// The removal of the bucket has begun, and nobody knows yet how it ends.
    #[error("the bucket is being removed; remove it again to finish that, and make a new one")]
    Leaving,
    /// The bucket has another registry record than the one under which sites
    /// were chosen: its policy was changed.
    #[error("the bucket's policy was changed meanwhile; look at it again")]
    PolicyChanged,
    /// A reservation with this version id, or a version, is already there.
    #[error("the version id is already taken; mint a new one")]
    VersionTaken,
    /// There is nothing to abandon: committed, abandoned or never made.
    #[error("the version has no reservation; it was committed or abandoned before")]
    NoReservation,
    /// The log has fewer leaves than were said to be safe.
    #[error("the log has {size} leaves, so {claimed} of them cannot be replicated")]
    BeyondLog {
        /// Leaves in the log.
        size: u64,
        /// What was claimed.
        claimed: u64,
    },
    /// Two buckets with one name came from the sites.
    #[error("the sites hold two buckets with the name \"{0}\"; remove one of them first")]
    BucketNameTwice(BucketName),
    /// A manifest of another tenant came from the sites.
    #[error("a manifest of {0} does not belong into this catalogue")]
    OtherTenant(TenantId),
}

impl From<rusqlite::Error> for CatalogError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Storage(StorageError(Arc::new(error)))
    }
}

/// Why a catalogue was not made or not opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenCatalogError {
    /// There is a file already; nothing was written.
    #[error("{0} exists already; open it, or name another file")]
    Exists(PathBuf),
    /// There is no file; make one, or rebuild it from the sites.
    #[error("{0} does not exist; create the catalogue, or rebuild it from the sites")]
    NoFile(PathBuf),
    /// The key does not open the file, or its first page is damaged.
    #[error("the key does not open {0}, or the file's first page is damaged; the file was not changed")]
    WrongKey(PathBuf),
    /// The file is something else.
    #[error("{0} is not a catalogue; the file was not changed")]
    NotACatalogue(PathBuf),
    /// The catalogue of another tenant.
    #[error("{path} is the catalogue of {found}; the file was not changed")]
    OtherTenant {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: TenantId,
    },
    /// Written by a later version of Coffer.
    #[error("{path} has format {found}, and this version reads up to {known}; use a newer version of Coffer")]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// The format of the file.
        found: i64,
        /// The newest format that this version knows.
        known: i64,
    },
    /// The file system refused.
    #[error("the file system refused {path}: {source}")]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The database or the system failed in another way.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl From<rusqlite::Error> for OpenCatalogError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Catalog(error.into())
    }
}

/// Why a bucket was not made or not removed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BucketError {
    /// Another bucket has the name, or the id.
    #[error("a bucket with this name exists already")]
    NameTaken,
    /// It holds objects, or puts are under way.
    #[error("the bucket is not empty; delete its objects and wait for puts under way")]
    NotEmpty,
    /// There is no such bucket.
    #[error("there is no such bucket")]
    Missing,
    /// Anything that can befall every operation.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Why a version was not committed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The reservation is gone: the sweeper took it, or it was never made.
    /// Tombstone what was written and report the put as failed.
    #[error("the version has no reservation any more; the put took too long, try it again")]
    NoReservation,
    /// The manifest is not that of the reservation: a defect of the caller.
    #[error("the manifest contradicts its reservation in its {0}")]
    Mismatch(&'static str),
    /// Anything that can befall every operation.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Why an object was not hidden.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TombstoneError {
    /// There is no such version, or it is hidden already.
    #[error("there is no such version, or it is deleted already")]
    Missing,
    /// The tombstone is not that of the version: a defect of the caller.
    #[error("the tombstone contradicts its version in its {0}")]
    Mismatch(&'static str),
    /// Anything that can befall every operation.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

/// Why a version keeps the manifest that it has.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplaceError {
    /// There is no such version, or it has another manifest by now.
    #[error("the version has another manifest by now")]
    Superseded,
    /// Anything that can befall every operation.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

macro_rules! from_database {
    ($($error:ident),*) => {$(
        impl From<rusqlite::Error> for $error {
            fn from(error: rusqlite::Error) -> Self {
                Self::Catalog(error.into())
            }
        }
    )*};
}
from_database!(BucketError, CommitError, ReplaceError, TombstoneError);
