//! One event of the audit log, before it is a leaf.

use serde::{Deserialize, Serialize};

use crate::{PrincipalId, TenantId, Timestamp};

/// What a principal may do. Ordered by nothing: roles are sets, not ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs the deployment: tenants and sites, never a tenant's data.
    Operator,
    /// Reads and writes the data of one tenant.
    Tenant,
}

/// Who called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Actor {
    /// A principal with a certificate.
    Principal(PrincipalId),
    /// A job of the service itself: sweeper, rebuild.
    Service,
    /// Nobody that could be identified.
    Anonymous,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// A tenant was created.
    TenantCreate,
    /// A bucket was created.
    BucketCreate,
    /// Buckets were listed.
    BucketList,
    /// A bucket was removed.
    BucketRemove,
    /// A version was written.
    ObjectPut,
    /// A version was read.
    ObjectGet,
    /// Metadata of a version was read.
    ObjectStat,
    /// Keys were listed.
    ObjectList,
    /// A version was tombstoned.
    ObjectDelete,
    /// A digest was entered into the log by the caller.
    DigestNote,
    /// A checkpoint or proof was read.
    LogRead,
    /// A drill record was signed.
    DrillSign,
    /// Sites were listed, killed or revived.
    Sites,
    /// How far each site reaches was noted.
    SiteReach,
    /// A site came back older than it was, and is not believed.
    SiteQuarantine,
    /// A quarantined site was refilled, and is believed again.
    SiteRelease,
    /// A reservation that a crash left was rolled forward or tombstoned.
    Sweep,
    /// The catalogue was rebuilt from the sites.
    Rebuild,
    /// What lay below its promise, or where it should not, was put right, or
    /// looked at, or found to be beyond repair.
    Repair,
    /// A bucket was given another policy.
    BucketPolicy,
    /// A site was read and verified, and with what end.
    Scrub,
    /// A site was asked what only a holder of a shard can answer.
    Challenge,
    /// A call that could not be taken for any of the others: malformed, or of
    /// no service that has a leaf of its own.
    Call,
    /// Objects were put under a legal hold.
    HoldPlace,
    /// A legal hold was lifted.
    HoldRelease,
    /// The legal holds were listed.
    HoldList,
    /// What lies under a legal hold was exported for a case.
    CaseExport,
    /// The facts of now about the tenant were read, or where its versions lie.
    FactsRead,
    /// A statement about a report or an evidence pack was signed.
    EvidenceSign,
    /// The deployment was opened with its root key, and by whose means.
    Unseal,
    /// The service left, and its keys with it.
    Seal,
}

/// How it ended, or that it is about to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Written before the effect.
    Intent,
    /// The effect stands.
    Done,
    /// Refused by authorization or policy.
    Denied,
    /// Failed; nothing of it stands.
    Failed,
    /// The service died before it could say. What of it stands is to be seen
    /// where it would be; nothing more will come of it.
    Interrupted,
}

/// One event. `subject` names ids only; what a tenant chose (names, keys)
/// stays out of the log unless the tenant itself asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// When.
    pub time: Timestamp,
    /// Whose log.
    pub tenant: Option<TenantId>,
    /// Who.
    pub actor: Actor,
    /// What.
    pub operation: Operation,
    /// On what: an id or a digest, empty when there is none.
    pub subject: String,
    /// With what end.
    pub outcome: Outcome,
}
