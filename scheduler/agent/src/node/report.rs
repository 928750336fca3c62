//! The status of a pod as the API has it: written from what the worker knows,
//! and told until the API has it, however often it was away.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodCondition};
use kube::Api;
use kube::api::Patch;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::Context;
use super::record::{Over, PodRecord};
use super::worker::Wish;
use crate::clock;
use crate::runtime::Exit;

/// How the pod's container is, for the status.
#[derive(Debug, Clone)]
pub(crate) enum Shown {
    /// Not started yet, or not again yet.
    Waiting { reason: &'static str, message: String },
    /// It runs.
    Running { started_unix_ms: u64, ready: bool, started: bool },
    /// It has ended and is not started again.
    Ended(Value),
}

/// Since when each condition is as it is.
#[derive(Debug, Default)]
pub(crate) struct Since(BTreeMap<&'static str, (bool, String)>);

impl Since {
    /// What the API knew before this agent did is not younger than it.
    fn condition(&mut self, before: &[PodCondition], kind: &'static str, holds: bool) -> Value {
        let known = || {
            let holds = |one: &&PodCondition| (one.status == "True") == holds && one.status != "Unknown";
            let same = before.iter().filter(|one| one.type_ == kind).find(holds);
            same.and_then(|one| json!(one.last_transition_time).as_str().map(str::to_owned))
        };
        let entry = self.0.entry(kind).or_insert_with(|| (holds, known().unwrap_or_else(now)));
        if entry.0 != holds {
            *entry = (holds, now());
        }
        let status = if holds { "True" } else { "False" };
        json!({ "type": kind, "status": status, "lastTransitionTime": entry.1 })
    }
}

fn now() -> String {
    seconds(clock::millis(clock::wall()))
}

/// Kubernetes' times have whole seconds.
fn seconds(unix_ms: u64) -> String {
    clock::timestamp(Duration::from_secs(unix_ms / 1000)).to_string()
}

/// The end of a container, in the words of a status.
pub(crate) fn terminated(exit: &Exit) -> Value {
    let reason = match exit {
        Exit { not_started: Some(_), .. } => "StartError",
        Exit { out_of_memory: true, .. } => "OOMKilled",
        Exit { code: 0, .. } => "Completed",
        _ => "Error",
    };
    let mut value = json!({
        "exitCode": exit.code, "reason": reason,
        "startedAt": seconds(exit.started_unix_ms), "finishedAt": seconds(exit.finished_unix_ms),
    });
    if let Some(message) = &exit.not_started {
        value["message"] = json!(message);
    }
    if let Some(signal) = exit.signal {
        value["signal"] = json!(signal);
    }
    value
}

/// The whole status.
pub(crate) fn status(context: &Context, record: &PodRecord, shown: &Shown, since: &mut Since) -> Value {
    let container =
        record.pod.spec.as_ref().and_then(|spec| spec.containers.first()).cloned().unwrap_or_default();
    let (state, ready, started) = match shown {
        Shown::Waiting { reason, message } => {
            (json!({ "waiting": { "reason": reason, "message": message } }), false, false)
        }
        Shown::Running { started_unix_ms, ready, started } => {
            (json!({ "running": { "startedAt": seconds(*started_unix_ms) } }), *ready, *started)
        }
        Shown::Ended(end) => (json!({ "terminated": end }), false, false),
    };
    let over = record.over.as_ref();
    let phase = over.map_or_else(|| phase(record, shown), |over| over.phase.as_str());
    let last = record.last_end.as_ref().map_or_else(|| json!({}), |end| json!({ "terminated": end }));
    let id = record.container().map(|id| format!("coffer://{id}")).unwrap_or_default();
    let before = record.pod.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
    let mut conditions = vec![
        since.condition(&before, "Initialized", true),
        since.condition(&before, "ContainersReady", ready),
        since.condition(&before, "Ready", ready),
    ];
    for other in before {
        if !["Initialized", "ContainersReady", "Ready"].contains(&other.type_.as_str()) {
            conditions.extend(serde_json::to_value(other));
        }
    }
    let address = super::describe::pod_address(context, record);
    let image = container.image.clone().unwrap_or_default();
    json!({
        "phase": phase,
        "reason": over.and_then(|over| over.reason.clone()),
        "message": over.and_then(|over| over.message.clone()),
        "hostIP": context.config.address.to_string(),
        "podIP": address,
        "podIPs": [{ "ip": address }],
        "startTime": record.started_unix_ms.map(seconds),
        "conditions": conditions,
        "containerStatuses": [{
            "name": container.name, "image": image, "imageID": image, "containerID": id,
            "ready": ready, "started": started, "restartCount": record.restarts,
            "state": state, "lastState": last,
        }],
    })
}

fn phase(record: &PodRecord, shown: &Shown) -> &'static str {
    match shown {
        Shown::Waiting { .. } if record.restarts == 0 => "Pending",
        _ => "Running",
    }
}

/// The end of a pod that is not started again.
pub(crate) fn over(exit: &Exit) -> Over {
    let phase = if exit.code == 0 { "Succeeded" } else { "Failed" };
    Over { phase: phase.to_owned(), reason: None, message: exit.not_started.clone() }
}

/// Tells the API the latest status for ever, and again whenever it has another.
pub(crate) async fn keep_telling(
    context: Arc<Context>,
    uid: String,
    mut told: watch::Receiver<Option<Value>>,
    mut wishes: watch::Receiver<Wish>,
) {
    let mut retry = super::backoff::Retry::default();
    loop {
        let wanted = told.borrow_and_update().clone();
        let server = wishes.borrow_and_update().pod().cloned();
        let news = wanted.zip(server).filter(|(status, pod)| differs(pod, status));
        if let Some((status, pod)) = news {
            match tell(&context, &uid, &pod, &status).await {
                Ok(()) => kube::runtime::utils::Backoff::reset(&mut retry),
                Err(kube::Error::Api(refused)) if refused.code == 404 || refused.code == 409 => {}
                Err(_) => {
                    let pause = retry.pause();
                    tokio::time::sleep(pause).await;
                    continue;
                }
            }
        }
        tokio::select! {
            changed = told.changed() => if changed.is_err() { return },
            changed = wishes.changed() => if changed.is_err() { return },
        }
    }
}

async fn tell(context: &Context, uid: &str, pod: &Pod, status: &Value) -> kube::Result<()> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), namespace);
    // The uid makes it a conflict to tell the status of a pod to its successor of the same name.
    let patch = json!({ "metadata": { "uid": uid }, "status": status });
    pods.patch_status(name, &super::ours(), &Patch::Merge(&patch)).await.map(drop)
}

/// Whether what the API has lacks something of what it should have.
fn differs(pod: &Pod, wanted: &Value) -> bool {
    let has = pod.status.as_ref().and_then(|status| serde_json::to_value(status).ok()).unwrap_or(Value::Null);
    !holds(&has, wanted)
}

fn holds(has: &Value, wanted: &Value) -> bool {
    static NOTHING: Value = Value::Null;
    match (has, wanted) {
        (_, Value::Object(wanted)) => {
            let none = Map::new();
            let has = has.as_object().unwrap_or(&none);
            let looked_at = wanted.iter().filter(|(key, _)| key.as_str() != "lastTransitionTime");
            looked_at.into_iter().all(|(key, wanted)| holds(has.get(key).unwrap_or(&NOTHING), wanted))
        }
        (Value::Array(has), Value::Array(wanted)) => {
            has.len() == wanted.len() && has.iter().zip(wanted).all(|(has, wanted)| holds(has, wanted))
        }
        (has, wanted) => has == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_that_somebody_else_changed_is_told_again() {
        let wanted = json!({ "phase": "Running", "reason": null, "conditions": [
            { "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" } ] });
        let mut has = wanted.clone();
        has["conditions"][0]["lastTransitionTime"] = json!("2025-01-01T00:00:00Z");
        has["qosClass"] = json!("Burstable");
        assert!(holds(&has, &wanted));
        has["conditions"][0]["status"] = json!("False");
        assert!(!holds(&has, &wanted));
    }
}
