//! The names that the fleet writes into objects of the API, each said once.

use kube::api::PatchParams;

/// API group of the fleet's own resources.
pub const GROUP: &str = "fleet.coffer";
/// Who owns the fields that the controllers apply.
pub const FIELD_MANAGER: &str = "coffer";

/// A merge whose fields are the controllers'. An apply is another thing: what it does not name it takes away.
pub fn ours() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// `spec.schedulerName` of the pods that are placed here.
pub const SCHEDULER_NAME: &str = "coffer";
/// The namespace of storage pods, where no other is asked for.
pub const NAMESPACE: &str = "coffer";

/// Label of a pod: the set that it belongs to.
pub const LABEL_SET: &str = "fleet.coffer/site-set";
/// Label of a pod: its number in the set, for life.
pub const LABEL_ORDINAL: &str = "fleet.coffer/ordinal";
/// Label of a pod: its site, `SET-NUMBER`.
pub const LABEL_SITE: &str = "fleet.coffer/site";

/// Annotation of a node: the signed statement of where it stands.
pub const ATTESTATION: &str = "fleet.coffer/attestation";
/// Annotation of a node: an operator wants it empty.
pub const DRAIN: &str = "fleet.coffer/drain";
/// What annotations of a node begin with that name directories of sites that are retired for good, between
/// commas; behind it the set. Whoever has the disk removes them.
pub const DISCARD: &str = "discard.fleet.coffer/";
/// Annotation of a node: those of them that are removed.
pub const DISCARDED: &str = "fleet.coffer/discarded";
/// Annotation of a pod: which version of its set's template it was made from.
pub const TEMPLATE: &str = "fleet.coffer/template";
/// Annotation of a pod: the port that it serves on, where the node's agent chose one.
pub const PORT: &str = "fleet.coffer/port";
/// Annotation of a binding and of its pod: the line of the placement ledger that decided it.
pub const DECISION: &str = "fleet.coffer/decision";

/// Annotation of an endpoint slice: the id of the site that answers there.
pub const SITE_ID: &str = "fleet.coffer/site-id";
/// Annotation of a pod, and of its endpoint slice: how often its site was started.
pub const EPOCH: &str = "fleet.coffer/epoch";
/// The file of a certificate's secret that says which site it is of.
pub const SITE_FILE: &str = "site";

/// Extended resource of nodes: bytes of disk for shards.
pub const DISK_BYTES: &str = "fleet.coffer/disk-bytes";
/// Extended resource of nodes: operations a second of that disk.
pub const IOPS: &str = "fleet.coffer/iops";
/// Finalizer of a site set: its pods leave before it does.
pub const FINALIZER: &str = "fleet.coffer/site-set";
/// The map of revoked attestations.
pub const REVOCATIONS: &str = "revoked-attestations";
