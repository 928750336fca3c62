//! `metrics.k8s.io/v1beta1`: what nodes and pods use now, from the summaries that the
//! nodes give. Nothing is stored; a node that does not answer has no metrics,
//! and so have its pods.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use coffer_model::Timestamp;
use futures::{StreamExt as _, stream};
use serde_json::{Map, Value, json};

use crate::api::Api;
use crate::moment;
use crate::node_access::NodeAccess;
use crate::read::{form, partial, table_options};
use crate::refusal::Refusal;
use crate::reply::Reply;
use crate::request::{Accept, Form, Objects, Query};
use crate::table::render;

const API_VERSION: &str = "metrics.k8s.io/v1beta1";
/// Over how long a summary's rates are taken.
const WINDOW: &str = "10s";
/// Nodes that are asked at once.
const AT_ONCE: usize = 16;

/// Answers a request for metrics, by asking the nodes.
pub(crate) async fn answer(
    api: &Api,
    objects: &Objects,
    query: &Query,
    accept: &Accept,
) -> Result<Reply, Refusal> {
    let form = form(accept)?;
    let items = measured(api, objects, query).await;
    let kind = &objects.resource.kind.kind;
    if let Some(name) = &objects.name {
        let missing = || Refusal::NotFound(objects.resource.subject(name));
        let item = items.first().ok_or_else(missing)?;
        return Ok(match form {
            Form::Table(version) => table(api, objects, query, version, &items),
            Form::Partial => Reply::json(&partial(item)),
            Form::Plain | Form::Discovery(_) => Reply::json(item),
        });
    }
    Ok(match form {
        Form::Table(version) => table(api, objects, query, version, &items),
        Form::Partial | Form::Plain | Form::Discovery(_) => Reply::json(&list(kind, &items)),
    })
}

fn table(api: &Api, objects: &Objects, query: &Query, version: &'static str, items: &[Value]) -> Reply {
    let options = table_options(query, version);
    Reply::json(&render(&objects.resource, items, json!({}), &options, api.clock.now()))
}

/// The metrics of all that the request is about. Nodes that do not answer in time have none.
async fn measured(api: &Api, objects: &Objects, query: &Query) -> Vec<Value> {
    let of_nodes = !objects.resource.kind.namespaced;
    let now = api.clock.now();
    let nodes = stored(api, "nodes", "");
    let wanted = if of_nodes { nodes.clone() } else { stored(api, "pods", &objects.namespace) };
    let wanted: Vec<Value> = wanted.into_iter().filter(|object| chosen(object, objects, query)).collect();
    let node_of = |object: &Value| {
        let at = if of_nodes { "/metadata/name" } else { "/spec/nodeName" };
        object.pointer(at).and_then(Value::as_str).map(str::to_owned)
    };
    let asked: BTreeSet<String> = wanted.iter().filter_map(node_of).collect();
    let asked = nodes.into_iter().filter(|node| node_name(node).is_some_and(|name| asked.contains(name)));
    let answers: Vec<_> = asked.map(|node| summary(Arc::clone(&api.nodes), node)).collect();
    let answers: Vec<Option<(String, Value)>> =
        stream::iter(answers).buffer_unordered(AT_ONCE).collect().await;
    let summaries: HashMap<String, Value> = answers.into_iter().flatten().collect();
    let items = wanted.iter().filter_map(|object| {
        let summary = summaries.get(&node_of(object)?)?;
        if of_nodes { of_node(object, summary, now) } else { of_pod(object, summary, now) }
    });
    items.collect()
}

/// What a node says, under its name; None if it says nothing.
async fn summary(nodes: Arc<dyn NodeAccess>, node: Value) -> Option<(String, Value)> {
    let summary = nodes.usage(&node).await.ok()?;
    Some((node_name(&node)?.to_owned(), summary))
}

fn node_name(node: &Value) -> Option<&str> {
    node.pointer("/metadata/name").and_then(Value::as_str)
}

fn chosen(object: &Value, objects: &Objects, query: &Query) -> bool {
    let label = |name: &str| object.pointer("/metadata/labels")?.get(name)?.as_str();
    let named = objects.name.as_deref().is_none_or(|name| node_name(object) == Some(name));
    named && query.labels.fits(label)
}

fn stored(api: &Api, resource: &str, namespace: &str) -> Vec<Value> {
    let within = (!namespace.is_empty()).then_some(namespace);
    api.store.list(resource, within).iter().map(|object| object.value()).collect()
}

/// The metrics of a node from its summary; None if that has no such figures.
fn of_node(node: &Value, summary: &Value, now: Timestamp) -> Option<Value> {
    let usage = usage(summary.get("node")?)?;
    let mut made = shell("NodeMetrics", node, now);
    made["usage"] = usage;
    Some(made)
}

/// The metrics of a pod from its node's summary; None if the node knows nothing
/// of this pod. A pod of the same name and another uid is another pod.
fn of_pod(pod: &Value, summary: &Value, now: Timestamp) -> Option<Value> {
    let same =
        |field: &str, reference: &Value| pod.pointer(&format!("/metadata/{field}")) == reference.get(field);
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
fn list(kind: &str, items: &[Value]) -> Value {
    json!({"kind": format!("{kind}List"), "apiVersion": API_VERSION, "metadata": {}, "items": items})
}

fn shell(kind: &str, of: &Value, now: Timestamp) -> Value {
    let mut metadata = Map::new();
    for field in ["name", "namespace", "labels"] {
        if let Some(value) = of.pointer(&format!("/metadata/{field}")) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    let now = moment::text(now);
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
        assert_eq!(
            made["containers"],
            json!([{"name": "site", "usage": {"cpu": "250000000n", "memory": "4Ki"}}])
        );
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
