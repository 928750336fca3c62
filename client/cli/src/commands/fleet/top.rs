//! `coffer fleet top`.

use coffer_control::translate::{self, millis, whole};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::{Value, json};

use super::{Fleet, failed, table};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::bytes_text;

pub(super) async fn top(context: &Context<'_>, fleet: &Fleet) -> Result<Exit, Failure> {
    let base = "/apis/metrics.k8s.io/v1beta1";
    let nodes = items(fleet, &format!("{base}/nodes")).await?;
    let pods = items(fleet, &format!("{base}/namespaces/{}/pods", fleet.namespace)).await?;
    let mut rows = Vec::new();
    for node in &nodes {
        rows.push(row(context, "node", node, &[node.get("usage")]));
    }
    for pod in &pods {
        let containers = pod.get("containers").and_then(Value::as_array);
        let usages: Vec<Option<&Value>> =
            containers.into_iter().flatten().map(|container| container.get("usage")).collect();
        rows.push(row(context, "pod", pod, &usages));
    }
    table(context, &["KIND", "NAME", "CPU", "MEMORY"], &rows);
    Ok(Exit::Success)
}

async fn items(fleet: &Fleet, path: &str) -> Result<Vec<Value>, Failure> {
    let request = http::Request::get(path).body(Vec::new())?;
    let list: Value = fleet.client.request(request).await.map_err(|error| match &error {
        kube::Error::Api(status) if status.code == 404 => {
            Failure::new("this cluster does not measure what its nodes and pods use: it has no metrics API")
                .safe("nothing was changed")
                .next("install metrics-server there, or look at `coffer fleet nodes` for what nodes have")
        }
        other => failed(other),
    })?;
    Ok(list.get("items").and_then(Value::as_array).cloned().unwrap_or_default())
}

fn row(context: &Context<'_>, kind: &str, object: &Value, usages: &[Option<&Value>]) -> Vec<String> {
    let name = object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let sum = |what: &str, unit: fn(&Quantity) -> Result<u64, translate::QuantityError>| {
        let texts = usages.iter().filter_map(|usage| usage.as_ref()?.get(what)?.as_str());
        texts.filter_map(|text| unit(&Quantity(text.to_owned())).ok()).sum::<u64>()
    };
    let (cpu, memory) = (sum("cpu", millis), sum("memory", whole));
    context.output.object(&json!({ "kind": kind, "name": name, "cpu_millis": cpu, "memory_bytes": memory }));
    vec![kind.to_owned(), name.to_owned(), format!("{cpu}m"), bytes_text(memory)]
}
