//! The shard store of one site, and the site daemon.
//!
//! [`DirectorySite`] keeps records in append-only volume files with group
//! commit, and key slots in files that are overwritten. The bytes on disk and
//! the crash argument are in `regions/LAYOUT.md`. A site never sees a key.

mod batch;
pub mod conformance;
mod directory;
mod disk;
pub mod faults;
mod index;
mod inspect;
mod options;
mod pen;
mod recover;
mod scan;
mod shared;
mod simulated;
mod site_dir;
mod slots;
mod volume;
#[cfg(test)]
mod write_faults;
mod writer;

pub use directory::DirectorySite;
pub use disk::{Disk, HostDisk, Room};
pub use inspect::{Inspection, inspect};
pub use options::{Execution, SiteOptions};
pub use simulated::SimulatedSite;
pub use site_dir::OpenSiteError;
pub use writer::{PUT_BYTES_MAX, PUT_RECORDS_MAX};
