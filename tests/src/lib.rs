//! Stories, vectors, independent checkers and the rules of the architecture.
//!
//! What the stories share is here: a whole deployment on loopback, real
//! sockets, real SQLite, real disks, in a directory that goes away.
#![expect(clippy::unwrap_used, reason = "the harness of tests: a failure here is a failed test")]

mod clock;
mod deployment;
mod files;
mod ledger;
mod lying;
mod pods;
#[path = "../../regions/site/tests/support/s3.rs"]
mod s3;
pub mod storm;
mod tree;
mod watched;
mod wire;

pub use clock::HandClock;
pub use deployment::{AuditLeaf, Deployment, TenantClient, bucket_name, host, object_key, pattern, policy};
pub use files::{Files, copy_tree, cut, flip, replace_tree, site_files, volumes, write_at};
pub use ledger::{Ledger, Lines, TenantKey, catalogue_keys, leaves};
pub use lying::{Lies, LyingSites};
pub use pods::{Firewall, Pod};
pub use s3::{ACCESS_KEY, S3Server, SECRET_KEY};
pub use tree::{Backups, source_tree};
pub use watched::{Returned, Watch, WatchedSites, Watches};
pub use wire::Wire;
