//! Geometry, Reed-Solomon, placement and recovery plans (pure), and the port
//! through which every kind of site is reached.

mod port;
mod record;

pub use port::{ListedRecord, Receipt, ScrubFinding, Site, SiteError, SiteState, SlotContent, SlotListing};
pub use record::{ClearGeometry, Record, RecordError, RecordKind, StoredRecord, shard_record_id};
