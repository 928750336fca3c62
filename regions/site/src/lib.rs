//! The shard store of one site, the daemon that serves it, and the adapters
//! that reach a site: a directory, a pod, a bucket.
//!
//! [`DirectorySite`] keeps records in append-only volume files with group
//! commit, and key slots in files that are overwritten. The bytes on disk and
//! the crash argument are in `regions/LAYOUT.md`. A site never sees a key.

mod batch;
mod bench;
mod bucket;
mod checkpoint;
mod circuit;
pub mod conformance;
pub mod daemon;
mod directory;
mod disk;
pub mod entrances;
mod epochs;
pub mod faults;
mod group;
mod holdings;
mod host;
mod identity;
mod index;
mod inspect;
mod lease;
mod losses;
mod options;
mod parts;
mod pen;
mod pod;
mod pod_process;
pub mod program;
mod pulse;
mod receipt;
mod recover;
mod report;
mod retired;
mod scan;
mod scrub;
mod shared;
mod simulated;
mod site_dir;
mod slots;
mod space;
mod upkeep;
mod volume;
mod wire;
#[cfg(test)]
mod write_faults;
mod writer;

pub use bucket::{BucketError, BucketOptions, BucketSite, BucketTiming};
pub use directory::DirectorySite;
pub use disk::{Disk, HostDisk, Room};
pub use group::{PUT_BYTES_MAX, PUT_RECORDS_MAX};
pub use identity::{IdentityError, SiteIdentity};
pub use inspect::{CheckpointSeen, Inspection, TornTail, inspect};
pub use lease::{LeaseError, LeaseFile};
pub use losses::Loss;
pub use options::SiteOptions;
pub use pod::{
    AsListed, Discovery, EndpointsError, EndpointsFile, PodConfigError, PodCredentials, PodOptions,
    PodRefusal, PodSite, PodTiming, Whereabouts, Witness, is_pod_endpoint,
};
pub use receipt::{NotAReceiptKey, ReceiptKey, ReceiptSigner};
pub use simulated::SimulatedSite;
pub use site_dir::OpenSiteError;
pub use upkeep::Upkeep;
