//! `metrics.k8s.io/v1beta1`: what nodes and pods use now, from the summaries that the
//! nodes give. Nothing is stored; a node that does not answer has no metrics,
//! and so have its pods.

use coffer_model::Timestamp;
use serde_json::{Map, Value, json};

const API_VERSION: &str = "metrics.k8s.io/v1beta1";
/// Over how long a summary's rates are taken.
const WINDOW: &str = "10s";

/// The metrics of a node from its summary; None if that has no such figures.
#[must_use]
pub fn of_node(node: &Value, summary: &Value, now: Timestamp) -> Option<Value> {
    let usage = usage(summary.get("node")?)?;
    let mut made = shell("NodeMetrics", node, now);
    made["usage"] = usage;
    Some(made)
}

/// The metrics of a pod from its node's summary; None if the node knows nothing
/// of this pod. A pod of the same name and another uid is another pod.
#[must_use]
pub fn of_pod(pod: &Value, summary: &Value, now: Timestamp) -> Option<Value> {
    let same = |field: &str, reference: &Value| pod.pointer(&format!("/metadata/{field}")) == reference.get(field);
    let stats = summary.get("pods")?.as_array()?.iter().find(|stats| {
        let reference = &stats["podRef"];
        let uid = reference.get("uid").is_none() || same("uid", reference);
        same("name", reference) && same("namespace", reference) && uid
    })?;
    let containers = stats.get("containers")?.as_array()?.iter();
    let containers: Vec<Value> = containers
        .filter_map(|container| Some(json!({"name": container.get("name")?, "usage": usage(container)?})))
        .collect();
    let mut made = shell("PodMetrics", pod, now);
    made["containers"] = json!(containers);
    Some(made)
}

/// The list of some metrics.
#[must_use]
pub fn list(kind: &str, items: Vec<Value>) -> Value {
    json!({"kind": format!("{kind}List"), "apiVersion": API_VERSION, "metadata": {}, "items": items})
}

fn shell(kind: &str, of: &Value, now: Timestamp) -> Value {
    let mut metadata = Map::new();
    for field in ["name", "namespace", "labels"] {
        if let Some(value) = of.pointer(&format!("/metadata/{field}")) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    let now = Timestamp(now.0 / 1_000_000_000 * 1_000_000_000).to_string();
    metadata.insert("creationTimestamp".to_owned(), json!(now));
    json!({"kind": kind, "apiVersion": API_VERSION, "metadata": metadata, "timestamp": now, "window": WINDOW})
}

/// CPU in nanocores, memory in KiB, as quantities.
fn usage(stats: &Value) -> Option<Value> {
    let cpu = stats.pointer("/cpu/usageNanoCores")?.as_u64()?;
    let memory = stats.pointer("/memory/workingSetBytes")?.as_u64()?;
    Some(json!({"cpu": format!("{cpu}n"), "memory": format!("{}Ki", memory / 1024)}))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Value {
        let stats = json!({"usageNanoCores": 250_000_000});
        let memory = json!({"workingSetBytes": 4096});
        json!({
            "node": {"cpu": stats, "memory": memory},
            "pods": [{"podRef": {"name": "p", "namespace": "n", "uid": "u"}, "containers": [
                {"name": "site", "cpu": stats, "memory": memory}, {"name": "new"},
            ]}],
        })
    }

    #[test]
    fn a_pod_of_another_uid_has_no_metrics() {
        let pod = |uid: &str| json!({"metadata": {"name": "p", "namespace": "n", "uid": uid}});
        assert_eq!(of_pod(&pod("other"), &summary(), Timestamp(0)), None);
        let made = of_pod(&pod("u"), &summary(), Timestamp(0)).unwrap();
        assert_eq!(made["containers"], json!([{"name": "site", "usage": {"cpu": "250000000n", "memory": "4Ki"}}]));
    }

    #[test]
    fn a_node_without_figures_has_no_metrics() {
        let node = json!({"metadata": {"name": "a"}});
        assert_eq!(of_node(&node, &json!({"node": {}}), Timestamp(0)), None);
        let made = of_node(&node, &summary(), Timestamp(1_500_000_000)).unwrap();
        assert_eq!(made["timestamp"], "1970-01-01T00:00:01Z");
        assert_eq!(made["usage"]["memory"], "4Ki");
    }
}
