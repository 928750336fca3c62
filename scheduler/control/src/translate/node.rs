//! A node of the API. Where it stands is not read here: only its attestation
//! says that.

use std::collections::BTreeMap;

use coffer_scheduler::{Effect, Node, NodeName, Resources, Taint};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{QuantityError, millis, whole};
use crate::names::{DISK_BYTES, IOPS};

/// Why a node takes no part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeRefusal {
    /// Its name is none.
    #[error("a node's name is a DNS name (RFC 1123), not \"{0}\"")]
    Name(String),
    /// Its agent has not said yet what it has.
    #[error("the node does not say what it has (status.allocatable)")]
    Silent,
    /// What it has cannot be read.
    #[error("what the node has of {0} cannot be read: {1}")]
    Amount(&'static str, QuantityError),
}

/// The node, without a place.
///
/// # Errors
/// [`NodeRefusal`].
pub fn node(object: &core::Node) -> Result<Node, NodeRefusal> {
    let text = object.metadata.name.clone().unwrap_or_default();
    let name: NodeName = text.parse().map_err(|_| NodeRefusal::Name(text))?;
    let status = object.status.as_ref();
    let has = status.and_then(|status| status.allocatable.as_ref()).ok_or(NodeRefusal::Silent)?;
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
    let spec = object.spec.as_ref();
    let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    Ok(Node {
        name,
        total: total(has)?,
        attested: None,
        labels: object.metadata.labels.clone().unwrap_or_default(),
        taints: taints.iter().filter_map(taint).collect(),
        cordoned: spec.and_then(|spec| spec.unschedulable).unwrap_or(false),
        // A node on its way out takes nothing.
        ready: ready && object.metadata.deletion_timestamp.is_none(),
    })
}

fn total(has: &BTreeMap<String, Quantity>) -> Result<Resources, NodeRefusal> {
    let read = |name: &'static str, unit: fn(&Quantity) -> Result<u64, QuantityError>| match has.get(name) {
        None => Ok(0),
        Some(amount) => unit(amount).map_err(|why| NodeRefusal::Amount(name, why)),
    };
    Ok(Resources {
        cpu_millis: read("cpu", millis)?,
        memory_bytes: read("memory", whole)?,
        disk_bytes: read(DISK_BYTES, whole)?,
        iops: read(IOPS, whole)?,
    })
}

/// Taints that only ask (PreferNoSchedule) keep nobody away. The mark of a cordon says nothing
/// that `spec.unschedulable` does not, and those of silence nothing that the condition does not.
fn taint(taint: &core::Taint) -> Option<Taint> {
    const SAID_OTHERWISE: [&str; 3] = [
        "node.kubernetes.io/unschedulable",
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    ];
    let effect = match taint.effect.as_str() {
        "NoSchedule" => Effect::NoSchedule,
        "NoExecute" => Effect::NoExecute,
        _ => return None,
    };
    let said = SAID_OTHERWISE.contains(&taint.key.as_str());
    let value = taint.value.clone().unwrap_or_default();
    (!said).then(|| Taint { key: taint.key.clone(), value, effect })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(value: serde_json::Value) -> Result<Node, NodeRefusal> {
        node(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_node_is_read_whole_and_its_labels_say_nothing_of_its_place() {
        let node = of(json!({
            "metadata": { "name": "fra1", "labels": { "topology.kubernetes.io/region": "DE" } },
            "spec": { "unschedulable": true, "taints": [
                { "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" },
                { "key": "disk", "value": "old", "effect": "NoExecute" },
                { "key": "slow", "effect": "PreferNoSchedule" },
            ] },
            "status": {
                "allocatable": { "cpu": "1500m", "memory": "1Gi", "fleet.coffer/disk-bytes": "10", "fleet.coffer/iops": "7" },
                "conditions": [{ "type": "Ready", "status": "True" }],
            },
        }))
        .unwrap();
        let total = Resources { cpu_millis: 1500, memory_bytes: 1 << 30, disk_bytes: 10, iops: 7 };
        assert_eq!((node.total, node.cordoned, node.ready, &node.attested), (total, true, true, &None));
        let taint = Taint { key: "disk".into(), value: "old".into(), effect: Effect::NoExecute };
        assert_eq!(node.taints, [taint].into());
    }

    #[test]
    fn a_node_that_says_nothing_or_nonsense_takes_no_part() {
        assert_eq!(of(json!({ "metadata": { "name": "a_b" } })), Err(NodeRefusal::Name("a_b".into())));
        assert_eq!(of(json!({ "metadata": { "name": "a" } })), Err(NodeRefusal::Silent));
        let odd = json!({ "metadata": { "name": "a" }, "status": { "allocatable": { "cpu": "lots" } } });
        assert!(matches!(of(odd), Err(NodeRefusal::Amount("cpu", _))));
    }

    #[test]
    fn a_node_without_the_condition_or_on_its_way_out_is_not_ready() {
        let bare = json!({ "metadata": { "name": "a" }, "status": { "allocatable": {} } });
        assert!(!of(bare).unwrap().ready);
        let going = json!({
            "metadata": { "name": "a", "deletionTimestamp": "2026-01-01T00:00:00Z" },
            "status": { "allocatable": {}, "conditions": [{ "type": "Ready", "status": "True" }] },
        });
        assert!(!of(going).unwrap().ready);
    }
}
