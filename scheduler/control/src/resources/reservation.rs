//! What is promised of a node to pods that are about to be bound to it, where
//! binding and counting cannot be one transaction.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What pods that wait for their binding hold of one node. Changed only by comparison of its resource
/// version: of two schedulers that reserve at once, one tries again.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[kube(
    group = "fleet.coffer",
    version = "v1",
    kind = "Reservation",
    plural = "reservations",
    category = "coffer",
    namespaced,
    derive = "PartialEq",
    doc = "What storage pods hold of one node while they are being bound to it",
    printcolumn = r#"{"name":"Age", "type":"date", "jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ReservationSpec {
    /// What each pod holds, by its namespace and name, `NAMESPACE/NAME`.
    #[serde(default)]
    pub pods: BTreeMap<String, Held>,
}

/// What one pod holds.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Held {
    /// Thousandths of a CPU.
    pub cpu_millis: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of disk for shards.
    pub disk_bytes: u64,
    /// Operations a second.
    pub iops: u64,
}

impl From<coffer_scheduler::Resources> for Held {
    fn from(needs: coffer_scheduler::Resources) -> Self {
        let coffer_scheduler::Resources { cpu_millis, memory_bytes, disk_bytes, iops } = needs;
        Self { cpu_millis, memory_bytes, disk_bytes, iops }
    }
}

impl From<Held> for coffer_scheduler::Resources {
    fn from(held: Held) -> Self {
        let Held { cpu_millis, memory_bytes, disk_bytes, iops } = held;
        Self { cpu_millis, memory_bytes, disk_bytes, iops }
    }
}
