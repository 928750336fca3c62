//! One encrypted catalogue per tenant: an index over what the sites hold, in
//! one SQLCipher file, rebuilt from the sites when it is lost.
//!
//! Callers use the typed operations of [`Catalog`] and never see SQL. Every
//! change is committed together with its leaf of the audit log, so that no
//! effect stands without its leaf and no leaf without its effect. `SCHEMA.md`
//! describes the file, the crash argument and what is not promised.

mod catalog;
mod changes;
mod error;
mod file;
mod known;
mod operations;
mod orders;
mod readers;
mod removed;
mod repair;
mod rows;
mod schema;
mod stored;
mod writer;

pub use catalog::Catalog;
pub use error::{
    BucketError, CatalogError, CommitError, OpenCatalogError, ReplaceError, StorageError, TombstoneError,
};
pub use rows::{
    BucketRow, ChallengeCounts, ChallengeRow, Content, Counts, DrawnChallenge, FactRow, Leaf, ListRow,
    ManifestRow, NewChallenges, NewReservation, RebuildBatch, ReservationRow, Reserved, TombstoneRow,
    VersionRow,
};
pub use writer::Grouping;
