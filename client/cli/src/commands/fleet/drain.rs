//! `coffer fleet drain`, `cordon`, `uncordon`.

use std::collections::BTreeMap;

use coffer_control::{DRAIN, LABEL_SET, SiteSet, ours};
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, Patch};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::{Fleet, failed};
use crate::context::Context;
use crate::exit::{Exit, Failure};

async fn change(fleet: &Fleet, node: &str, patch: Value) -> Result<(), Failure> {
    let api: Api<Node> = Api::all(fleet.client.clone());
    let patched = api.patch(node, &ours(), &Patch::Merge(&patch)).await;
    patched.map(drop).map_err(|error| failed(&error))
}

pub(super) async fn cordon(context: &Context<'_>, fleet: &Fleet, node: &str) -> Result<Exit, Failure> {
    change(fleet, node, json!({ "spec": { "unschedulable": true } })).await?;
    context.output.object(&json!({ "node": node, "state": "cordoned" }));
    context.output.text(format_args!("{node} takes no new pods; those there stay"));
    Ok(Exit::Success)
}

pub(super) async fn uncordon(context: &Context<'_>, fleet: &Fleet, node: &str) -> Result<Exit, Failure> {
    let patch = json!({ "metadata": { "annotations": { DRAIN: null } }, "spec": { "unschedulable": null } });
    change(fleet, node, patch).await?;
    context.output.object(&json!({ "node": node, "state": "ready" }));
    context.output.text(format_args!("{node} takes pods again"));
    Ok(Exit::Success)
}

pub(super) async fn drain(
    context: &Context<'_>,
    fleet: &Fleet,
    node: &str,
    wait: bool,
) -> Result<Exit, Failure> {
    let now = context.clock.now().to_string();
    let patch = json!({ "metadata": { "annotations": { DRAIN: now } }, "spec": { "unschedulable": true } });
    change(fleet, node, patch).await?;
    let left = pods_on(fleet, node).await?;
    context
        .output
        .remark(format_args!("{node} takes no new pods; {} are to go, after their data", left.len()));
    if wait {
        until_empty(context, fleet, node, left).await?;
        context.output.text(format_args!("{node} is empty"));
    }
    context.output.object(&json!({ "node": node, "state": if wait { "empty" } else { "draining" } }));
    Ok(Exit::Success)
}

fn watched(node: &str) -> (String, &'static str) {
    (format!("spec.nodeName={node}"), LABEL_SET)
}

async fn pods_on(fleet: &Fleet, node: &str) -> Result<BTreeMap<String, Pod>, Failure> {
    let (fields, labels) = watched(node);
    let api: Api<Pod> = Api::namespaced(fleet.client.clone(), &fleet.namespace);
    let pods = api.list(&ListParams::default().fields(&fields).labels(labels)).await;
    let pods = pods.map_err(|error| failed(&error))?;
    Ok(pods.into_iter().map(|pod| (pod.name_any(), pod)).collect())
}

/// Follows the pods of the node until none is left; says whenever another reason holds one up.
async fn until_empty(
    context: &Context<'_>,
    fleet: &Fleet,
    node: &str,
    mut left: BTreeMap<String, Pod>,
) -> Result<(), Failure> {
    let (fields, labels) = watched(node);
    let api: Api<Pod> = Api::namespaced(fleet.client.clone(), &fleet.namespace);
    let config = watcher::Config::default().fields(&fields).labels(labels);
    let mut events = std::pin::pin!(watcher(api, config).default_backoff());
    let mut said = String::new();
    while !left.is_empty() {
        let beat = tokio::time::timeout(std::time::Duration::from_secs(2), events.try_next()).await;
        match beat {
            Ok(Ok(Some(watcher::Event::Delete(pod)))) => {
                left.remove(&pod.name_any());
                context.output.remark(format_args!("{} has left", pod.name_any()));
            }
            Ok(Ok(Some(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)))) => {
                drop(left.insert(pod.name_any(), pod));
            }
            // The watch begins, or begins anew: what left meanwhile is not told of.
            Ok(Ok(Some(watcher::Event::InitDone))) => left = pods_on(fleet, node).await?,
            Ok(_) => {}
            Err(_) => {
                if let Some(why) = held_up(fleet, &left).await? {
                    if why != said {
                        context.output.remark(format_args!("waiting: {why}"));
                    }
                    said = why;
                }
                left = pods_on(fleet, node).await?;
            }
        }
    }
    Ok(())
}

/// What the sets of these pods say.
async fn held_up(fleet: &Fleet, left: &BTreeMap<String, Pod>) -> Result<Option<String>, Failure> {
    let api: Api<SiteSet> = Api::namespaced(fleet.client.clone(), &fleet.namespace);
    for pod in left.values() {
        let Some(set) = pod.labels().get(LABEL_SET) else { continue };
        let set = api.get_opt(set).await.map_err(|error| failed(&error))?;
        let conditions = set.and_then(|set| set.status).map(|status| status.conditions).unwrap_or_default();
        let says = |type_: &str, status: &str| {
            let mut all = conditions.iter();
            all.find(|one| one.type_ == type_ && one.status == status).map(|one| one.message.clone())
        };
        let refused = [says("ShardsKnown", "False"), says("DataMoves", "False"), says("Placed", "False")];
        let refused: Vec<String> = refused.into_iter().flatten().collect();
        if !refused.is_empty() {
            return Ok(Some(refused.join("; ")));
        }
        if let Some(moves) = says("DataMoves", "True").filter(|text| text.contains(&pod.name_any())) {
            return Ok(Some(moves));
        }
    }
    Ok(left.keys().next().map(|pod| format!("the data on {pod} is moving")))
}
