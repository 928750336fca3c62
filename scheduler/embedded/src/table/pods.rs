//! The columns of pods. What a pod's one-word status is follows the rules of
//! `kubectl`: the worst that a container says, unless the pod is on its way out.

use coffer_model::Timestamp;
use serde_json::{Value, json};

use super::{AGE, Column, NAME, Type, age, condition, items, text, text_or};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    Column {
        name: "Ready",
        of: Type::Text,
        wide: 0,
        help: "Containers that are ready, of all.",
        cell: ready,
    },
    Column { name: "Status", of: Type::Text, wide: 0, help: "What the pod does, in one word.", cell: status },
    Column { name: "Restarts", of: Type::Text, wide: 0, help: "Restarts of its containers.", cell: restarts },
    AGE,
    Column {
        name: "IP",
        of: Type::Text,
        wide: 1,
        help: "Its address.",
        cell: |pod, _| text_or(pod, "/status/podIP", "<none>"),
    },
    Column {
        name: "Node",
        of: Type::Text,
        wide: 1,
        help: "Where it runs.",
        cell: |pod, _| text_or(pod, "/spec/nodeName", "<none>"),
    },
    Column {
        name: "Nominated Node",
        of: Type::Text,
        wide: 1,
        help: "Where it will run once others have left.",
        cell: |pod, _| text_or(pod, "/status/nominatedNodeName", "<none>"),
    },
    Column {
        name: "Readiness Gates",
        of: Type::Text,
        wide: 1,
        help: "Gates that are open, of all.",
        cell: gates,
    },
];

/// Statuses of what restarts for as long as the pod lives: its containers
/// and the init containers that are sidecars.
fn long_lived(pod: &Value) -> impl Iterator<Item = &Value> {
    let sidecars = sidecars(pod);
    let inits = items(pod, "/status/initContainerStatuses").iter();
    inits
        .filter(move |status| sidecars.iter().any(|name| status["name"] == **name))
        .chain(items(pod, "/status/containerStatuses"))
}

fn sidecars(pod: &Value) -> Vec<&str> {
    let inits = items(pod, "/spec/initContainers").iter();
    inits.filter(|init| init["restartPolicy"] == "Always").filter_map(|init| init["name"].as_str()).collect()
}

fn ready(pod: &Value, _: Timestamp) -> Value {
    let all = items(pod, "/spec/containers").len() + sidecars(pod).len();
    let ready = long_lived(pod).filter(|status| status["ready"] == true).count();
    json!(format!("{ready}/{all}"))
}

fn restarts(pod: &Value, now: Timestamp) -> Value {
    let count: u64 = long_lived(pod).filter_map(|status| status["restartCount"].as_u64()).sum();
    let last = long_lived(pod).filter_map(|status| text(status, "/lastState/terminated/finishedAt")).max();
    match last.filter(|_| count > 0) {
        Some(last) => json!(format!("{count} ({} ago)", age::since(Some(last), now))),
        None => json!(count.to_string()),
    }
}

fn gates(pod: &Value, _: Timestamp) -> Value {
    let gates = items(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return json!("<none>");
    }
    let open = gates.iter().filter_map(|gate| gate["conditionType"].as_str());
    let open = open.filter(|gate| condition(pod, gate) == Some("True")).count();
    json!(format!("{open}/{}", gates.len()))
}

fn status(pod: &Value, _: Timestamp) -> Value {
    let phase = text(pod, "/status/phase").unwrap_or("Unknown");
    let over = matches!(phase, "Succeeded" | "Failed");
    if pod.pointer("/metadata/deletionTimestamp").is_some() && !over {
        let lost = text(pod, "/status/reason") == Some("NodeLost");
        return json!(if lost { "Unknown" } else { "Terminating" });
    }
    let scheduled =
        items(pod, "/status/conditions").iter().find(|condition| condition["type"] == "PodScheduled");
    let gated = scheduled.is_some_and(|condition| condition["reason"] == "SchedulingGated");
    let whole = if gated { "SchedulingGated" } else { text(pod, "/status/reason").unwrap_or(phase) };
    json!(starting(pod).or_else(|| running(pod)).unwrap_or_else(|| whole.to_owned()))
}

/// What the first unfinished init container says.
fn starting(pod: &Value) -> Option<String> {
    let all = items(pod, "/spec/initContainers").len();
    let sidecars = sidecars(pod);
    for (at, status) in items(pod, "/status/initContainerStatuses").iter().enumerate() {
        let sidecar = sidecars.iter().any(|name| status["name"] == **name);
        if status.pointer("/state/terminated/exitCode") == Some(&json!(0)) {
            continue;
        }
        if sidecar && status["started"] == true {
            continue;
        }
        if let Some(over) = status.pointer("/state/terminated") {
            return Some(format!("Init:{}", ended(over)));
        }
        return Some(match text(status, "/state/waiting/reason") {
            Some(reason) if reason != "PodInitializing" => format!("Init:{reason}"),
            _ => format!("Init:{at}/{all}"),
        });
    }
    None
}

/// What the first container with something to say says.
fn running(pod: &Value) -> Option<String> {
    let statuses = items(pod, "/status/containerStatuses");
    let runs =
        statuses.iter().any(|status| status["ready"] == true && status.pointer("/state/running").is_some());
    let said = statuses.iter().find_map(|status| {
        let waiting = text(status, "/state/waiting/reason").map(str::to_owned);
        waiting.or_else(|| status.pointer("/state/terminated").map(ended))
    });
    match said {
        Some(word) if word == "Completed" && runs => {
            let ready = condition(pod, "Ready") == Some("True");
            Some(if ready { "Running" } else { "NotReady" }.to_owned())
        }
        said => said,
    }
}

/// Why a container ended.
fn ended(terminated: &Value) -> String {
    if let Some(reason) = text(terminated, "/reason") {
        return reason.to_owned();
    }
    let number = |field: &str| terminated.get(field).and_then(Value::as_i64).unwrap_or(0);
    match number("signal") {
        0 => format!("ExitCode:{}", number("exitCode")),
        signal => format!("Signal:{signal}"),
    }
}
