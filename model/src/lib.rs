//! Coffer's nouns: ids, units, places, policy, manifest, audit event, and the
//! ports through which time and chance come in. Decides nothing, does no I/O.

mod assigned;
mod audit;
mod day;
mod execution;
mod ids;
mod manifest;
mod names;
mod place;
mod policy;
mod ports;
mod secret;
mod units;

pub use audit::{Actor, AuditEvent, Operation, Outcome, Role};
pub use day::{Day, DayError};
pub use execution::Execution;
pub use ids::{
    BucketId, HoldId, IdError, KeyId, ObjectId, PrincipalId, RecordId, ScopeId, SiteId, SlotId, TenantId,
    VersionId,
};
pub use manifest::{Geometry, GeometryError, Layout, Manifest, ManifestV1, ShardDigests};
pub use names::{BucketName, NameError, ObjectKey, escape_bytes, unescape_bytes};
pub use place::{
    CERTIFICATE_TEXT_MAX, Country, FailureDomain, Jurisdiction, JurisdictionGroup, PlaceError,
    SiteDescription, Tier, TierCertificate, Topology,
};
pub use policy::{Degraded, ResidencyPolicy};
pub use ports::{Clock, Entropy};
pub use secret::CatalogKey;
pub use units::{Digest, Timestamp};
