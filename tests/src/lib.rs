//! Stories, vectors, independent checkers and the rules of the architecture.
//!
//! What the stories share is here: a whole deployment on loopback, real
//! sockets, real SQLite, real disks, in a directory that goes away.
#![expect(clippy::unwrap_used, reason = "the harness of tests: a failure here is a failed test")]

mod clock;
mod deployment;
pub mod drills;
mod files;
pub mod fleet;
mod gate;
mod held;
mod ledger;
mod lying;
mod measure;
pub mod moves;
mod namespaces;
mod pods;
mod process;
#[path = "../../regions/site/tests/support/s3.rs"]
mod s3;
mod slow_disk;
pub mod storm;
mod tree;
mod twist;
mod watched;
mod wire;

pub use clock::HandClock;
pub use deployment::{
    AuditLeaf, COUNTRIES, Deployment, TenantClient, bucket_name, fast_sites, fast_sites_and, host,
    object_key, pattern, policy, roomy,
};
pub use files::{Files, copy_tree, cut, flip, replace_tree, site_files, volumes, write_at};
pub use gate::{Gate, Gated};
pub use held::Held;
pub use ledger::{Ledger, Lines, TenantKey, catalogue_keys, leaves};
pub use lying::Lies;
pub use measure::{Limits, elapsed, median, quantile, seconds};
pub use namespaces::Namespace;
pub use pods::{Firewall, Launch, Pod};
pub use process::Process;
pub use s3::{ACCESS_KEY, S3Server, SECRET_KEY};
pub use slow_disk::{SlowDisk, SlowSites};
pub use tree::{Backups, source_tree};
pub use twist::{OpenedThrough, Twist, Twisted, twisted};
pub use watched::{Returned, Watch, Watches};
pub use wire::Wire;
