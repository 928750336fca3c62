//! A site set: storage pods that hold shards of the same objects, with what is
//! wanted of them and what has become of it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Affinity;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is wanted of a site set.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "fleet.coffer",
    version = "v1",
    kind = "SiteSet",
    plural = "sitesets",
    shortname = "ss",
    category = "coffer",
    namespaced,
    derive = "PartialEq",
    status = "SiteSetStatus",
    doc = "Storage pods that hold shards of the same objects; placed together or not at all",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn = r#"{"name":"Wanted", "type":"integer", "jsonPath":".spec.replicas"}"#,
    printcolumn = r#"{"name":"Ready", "type":"integer", "jsonPath":".status.ready"}"#,
    printcolumn = r#"{"name":"May lose", "type":"integer", "jsonPath":".status.mayLose"}"#,
    printcolumn = r#"{"name":"Age", "type":"date", "jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct SiteSetSpec {
    /// How many pods are wanted.
    pub replicas: u32,
    /// Shards that suffice to read an object: k.
    pub data_shards: u32,
    /// Shards beside these: m.
    pub parity_shards: u32,
    /// Where the pods may stand.
    #[serde(default)]
    pub residency: SiteSetResidency,
    /// How they are spread.
    #[serde(default)]
    pub spread: SiteSetSpread,
    /// What each pod is like.
    pub template: SiteTemplate,
    /// Seconds for which a silent node is waited for before its pods are replaced.
    #[serde(default = "grace")]
    pub grace_seconds: u32,
    /// Seconds for which a silent node is waited for before what its pods hold is rebuilt elsewhere; no less
    /// than the grace. A node that is back by then costs no copy. Deleting the Node object ends the wait.
    #[serde(default = "rebuild_after")]
    pub rebuild_after_seconds: u32,
}

/// What a machine takes to start again, and somebody to look after it.
fn rebuild_after() -> u32 {
    600
}

fn grace() -> u32 {
    5
}

/// Where the pods of a set may stand, by signed attestations of their nodes.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteSetResidency {
    /// Countries (ISO 3166-1 alpha-2) or the groups EU and EEA; none means every one.
    #[serde(default)]
    pub allow: Vec<String>,
    /// The same, denied: a denial beats an allowance.
    #[serde(default)]
    pub deny: Vec<String>,
    /// Lowest tier of a building: I, II, III or IV.
    #[serde(default = "lowest_tier")]
    pub tier_min: String,
}

fn lowest_tier() -> String {
    "I".to_owned()
}

impl Default for SiteSetResidency {
    fn default() -> Self {
        Self { allow: Vec::new(), deny: Vec::new(), tier_min: lowest_tier() }
    }
}

/// How the pods of a set are spread. Two of them never share a node.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteSetSpread {
    /// Pods in one failure domain at most.
    #[serde(default = "one")]
    pub per_domain: u32,
    /// Pods in one country at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_country: Option<u32>,
    /// By how many pods the countries may differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country_skew: Option<u32>,
}

fn one() -> u32 {
    1
}

impl Default for SiteSetSpread {
    fn default() -> Self {
        Self { per_domain: one(), per_country: None, country_skew: None }
    }
}

/// What a storage pod is like.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteTemplate {
    /// The image, by digest.
    pub image: String,
    /// Arguments of the site daemon.
    #[serde(default)]
    pub args: Vec<String>,
    /// What it needs.
    pub resources: SiteResources,
    /// Labels that its node must have. They decide nothing about jurisdictions.
    #[serde(default)]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that it does not mind.
    #[serde(default)]
    pub tolerations: Vec<SiteToleration>,
    /// Nodes that it demands or prefers, and pods of others that it wants to be near to or apart from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Its PriorityClass: it may take the room of pods with a lower priority, where no data is lost by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
    /// The class of the claim that holds its bytes; none: a directory that the node's agent keeps for the site.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// The port that it serves on.
    #[serde(default = "port")]
    pub port: u16,
    /// Seconds that it gets to end.
    #[serde(default = "termination")]
    pub termination_grace_seconds: u32,
}

fn port() -> u16 {
    7420
}

fn termination() -> u32 {
    30
}

/// What a storage pod needs.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteResources {
    /// CPU, as Kubernetes writes it: `500m`, `2`.
    pub cpu: Quantity,
    /// Memory, as Kubernetes writes it: `512Mi`.
    pub memory: Quantity,
    /// Bytes of disk for shards.
    pub disk_bytes: u64,
    /// Operations a second of that disk.
    pub iops: u64,
}

/// A taint that a storage pod does not mind.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteToleration {
    /// The taint's key.
    pub key: String,
    /// Its value; none: whatever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// Its effect, NoSchedule or NoExecute; none: whatever it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<String>,
}

/// What has become of a site set.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SiteSetStatus {
    /// The generation of the wish that this speaks of.
    #[serde(default)]
    pub observed_generation: i64,
    /// Pods that there are.
    #[serde(default)]
    pub replicas: u32,
    /// Pods that serve.
    #[serde(default)]
    pub ready: u32,
    /// Selector of the pods, for whoever scales.
    #[serde(default)]
    pub selector: String,
    /// How many pods may be lost by choice at this moment.
    #[serde(default)]
    pub may_lose: u32,
    /// The number that the next pod gets; none is ever given twice.
    #[serde(default)]
    pub next_ordinal: u32,
    /// The sites of the set, whether a pod of theirs runs or not.
    #[serde(default)]
    pub members: Vec<Member>,
    /// Sites that have left, and whose bytes are on their disks still.
    #[serde(default)]
    pub departed: Vec<Departed>,
    /// Conditions, one of a type.
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// One site of a set.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Its number in the set.
    pub ordinal: u32,
    /// The node with its disk, once it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The country in which its node stood when it came there: for life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Why it is to go, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaves: Option<String>,
    /// Whether the ledger of shards took it as a site. Only where this says no is it known to be empty although the ledger does not list it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub is_site: Option<bool>,
    /// How often a pod was made for it: an earlier one is refused where it writes.
    #[serde(default)]
    pub epoch: u64,
    /// How often its certificate was renewed: a pod that began with an earlier one is restarted.
    #[serde(default)]
    pub certificate: u64,
}

/// A site that has left its set. Its room is its own until its bytes are gone.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Departed {
    /// Its number in the set.
    pub ordinal: u32,
    /// The node with its disk.
    pub node: String,
    /// Whether the ledger of shards took it off for good: only then are its bytes removed.
    pub retired: bool,
}

/// A condition, as Kubernetes has them.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Its type.
    #[serde(rename = "type")]
    pub type_: String,
    /// True, False or Unknown.
    pub status: String,
    /// One word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// Since when the status is what it is, RFC 3339.
    pub last_transition_time: String,
}
