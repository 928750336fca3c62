//! Geometry, Reed-Solomon, placement and recovery plans (pure), and the port
//! through which every kind of site is reached.

mod balance;
mod challenge;
mod codec;
mod delay;
pub mod durability;
mod fence;
mod placement;
mod port;
mod record;
mod recovery;
mod repair;

pub use balance::{Level, Load, Loads, ShardMove};
pub use challenge::{Answer, Challenge, answer_of};
pub use codec::{Codec, CodecError, Stripe, join, shard_bytes};
pub use delay::{BASELINE_MAX, BASELINE_MIN, Baseline, DelayError, DelayVerdict, RoundPlan};
pub use fence::{Change, Changed, Fence};
pub use placement::{
    Denial, Placement, PlacementError, Unmet, acknowledgeable, place, place_small, satisfiable,
};
pub use port::{
    ListedRecord, Reach, Receipt, ScrubCursor, ScrubFinding, ScrubStep, Site, SiteError, SiteState,
    SlotContent, SlotListing, UnverifiedBytes,
};
pub use record::{ClearGeometry, Record, RecordError, RecordKind, StoredRecord, shard_record_id};
pub use recovery::{RecoveryShortfall, Survey};
pub use repair::{
    Action, Coding, Holdings, Plan, PlanBuilder, RepairSite, SiteNames, SiteTable, Standing, Step, Stray,
    Trouble, Troubled, VersionInventory, VersionPlan, plan_version,
};
