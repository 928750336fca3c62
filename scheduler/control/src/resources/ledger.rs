//! The placement ledger, as objects of the API.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Some lines of the placement ledger, in order. The lines of a segment, one
/// after the other, replay to the same bindings (`coffer_scheduler::Ledger`).
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "fleet.coffer",
    version = "v1",
    kind = "PlacementRecord",
    plural = "placementrecords",
    shortname = "pr",
    category = "coffer",
    namespaced,
    derive = "PartialEq",
    doc = "Lines of the placement ledger: every decision with its inputs, bound to the lines before by digests",
    printcolumn = r#"{"name":"Segment", "type":"string", "jsonPath":".spec.segment"}"#,
    printcolumn = r#"{"name":"First", "type":"integer", "jsonPath":".spec.first"}"#,
    printcolumn = r#"{"name":"Lines", "type":"integer", "jsonPath":".spec.count"}"#,
    printcolumn = r#"{"name":"Age", "type":"date", "jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct PlacementRecordSpec {
    /// Which run of a scheduler wrote it; each begins with everything that there was.
    pub segment: String,
    /// Number of the first line in its segment, from zero.
    pub first: u64,
    /// How many lines these are.
    pub count: u32,
    /// The lines.
    pub lines: Vec<String>,
    /// The digest of the last of them.
    pub end: String,
    /// In the first record of a segment: the end of the segment before it, if one was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<String>,
}
