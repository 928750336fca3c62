//! Pods: defaults that depend on each other, what may not change, how long
//! stopping may take.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::differs;
use crate::api::Api;
use crate::object::{elements, field, meta, set, text};
use crate::quantity;
use crate::refusal::{Cause, Fault, Refusal};
use crate::registry::Resource;
use crate::selector::is_subdomain;

/// Seconds that a pod stays bound to a node that is not ready or not reachable, unless it says otherwise.
const TOLERATION_SECONDS: u32 = 300;
const LISTS: [&str; 2] = ["/spec/containers", "/spec/initContainers"];

pub(super) fn on_create(api: &Api, resource: &Resource, pod: &mut Value) -> Result<(), Refusal> {
    for list in LISTS {
        for container in pod.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            complete(container);
        }
    }
    set_priority(api, resource, pod)?;
    tolerate(pod);
    let class = quality(pod);
    set(pod, "status", Some(json!({"phase": "Pending", "qosClass": class})));
    Ok(())
}

pub(super) fn on_update(old: &Value, pod: &mut Value) {
    // What admission wrote stays, also where a client sends a manifest without it.
    if let Some(spec) = pod.get_mut("spec") {
        for kept in ["nodeName", "priority", "preemptionPolicy"] {
            if spec.get(kept).is_none() {
                set(spec, kept, old.pointer(&format!("/spec/{kept}")).cloned());
            }
        }
    }
    for list in LISTS {
        for container in pod.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            complete(container);
        }
    }
}

/// Pull policy by the image, requests by the limits.
fn complete(container: &mut Value) {
    if container.get("imagePullPolicy").is_none() {
        let image = field(container, "image");
        let last = image.rsplit('/').next().unwrap_or_default();
        let is_moving = !image.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
        let policy = if is_moving { "Always" } else { "IfNotPresent" };
        set(container, "imagePullPolicy", Some(policy.into()));
    }
    let Some(resources) = container.get_mut("resources") else { return };
    let Some(limits) = resources.get("limits").and_then(Value::as_object).cloned() else { return };
    let mut requests = resources.get("requests").and_then(Value::as_object).cloned().unwrap_or_default();
    for (name, limit) in limits {
        requests.entry(name).or_insert(limit);
    }
    set(resources, "requests", Some(requests.into()));
}

fn set_priority(api: &Api, resource: &Resource, pod: &mut Value) -> Result<(), Refusal> {
    let name = text(pod, "/spec/priorityClassName").to_owned();
    let (mut priority, mut policy) = (json!(0), json!("PreemptLowerPriority"));
    if !name.is_empty() {
        let classes = api.registry.find("scheduling.k8s.io", "v1", "priorityclasses");
        let class = classes.and_then(|classes| api.get(&classes, "", &name));
        let Some(class) = class else {
            let why = format!("no PriorityClass with name {name} was found");
            return Err(Refusal::Forbidden { subject: resource.subject(meta(pod, "name")), why });
        };
        priority = class.get("value").cloned().unwrap_or(priority);
        policy = class.get("preemptionPolicy").cloned().unwrap_or(policy);
    }
    if let Some(spec) = pod.get_mut("spec") {
        set(spec, "priority", Some(priority));
        set(spec, "preemptionPolicy", Some(policy));
    }
    Ok(())
}

fn tolerate(pod: &mut Value) {
    let mut tolerations = elements(pod, "/spec/tolerations").to_vec();
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let is_said = |one: &Value| {
            let of_key = field(one, "key") == key
                || (field(one, "key").is_empty() && field(one, "operator") == "Exists");
            of_key && matches!(field(one, "effect"), "NoExecute" | "")
        };
        if !tolerations.iter().any(is_said) {
            tolerations.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": TOLERATION_SECONDS,
            }));
        }
    }
    if let Some(spec) = pod.get_mut("spec") {
        set(spec, "tolerations", Some(tolerations.into()));
    }
}

/// The quality-of-service class, by requests and limits of CPU and memory.
fn quality(pod: &Value) -> &'static str {
    let containers: Vec<&Value> = LISTS.iter().flat_map(|list| elements(pod, list)).collect();
    let amount = |container: &Value, kind: &str, name: &str| {
        quantity::milli(container.pointer(&format!("/resources/{kind}/{name}"))).filter(|amount| *amount > 0)
    };
    let amounts = |kind: &'static str| {
        containers
            .iter()
            .flat_map(move |container| ["cpu", "memory"].map(|name| amount(container, kind, name)))
    };
    if amounts("limits").all(|amount| amount.is_some()) && amounts("limits").eq(amounts("requests")) {
        "Guaranteed"
    } else if amounts("limits").chain(amounts("requests")).all(|amount| amount.is_none()) {
        "BestEffort"
    } else {
        "Burstable"
    }
}

/// How long the pod may take to stop. One that no node has, or that is over, has nothing to stop.
pub(super) fn grace_seconds(pod: &Value, asked: Option<u32>) -> u32 {
    let is_over = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    if text(pod, "/spec/nodeName").is_empty() || is_over {
        return 0;
    }
    let own = pod.pointer("/spec/terminationGracePeriodSeconds").and_then(Value::as_u64);
    asked.unwrap_or_else(|| own.and_then(|own| u32::try_from(own).ok()).unwrap_or(30))
}

pub(super) fn check(pod: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if elements(pod, "/spec/containers").is_empty() {
        causes.push(Cause::new(Fault::Required, "spec.containers", "must be given"));
    }
    let policy = text(pod, "/spec/restartPolicy");
    if !matches!(policy, "Always" | "OnFailure" | "Never") {
        let message = format!("{policy:?}: supported values: \"Always\", \"OnFailure\", \"Never\"");
        causes.push(Cause::new(Fault::Unsupported, "spec.restartPolicy", message));
    }
    let volumes: BTreeSet<&str> =
        elements(pod, "/spec/volumes").iter().map(|volume| field(volume, "name")).collect();
    let mut names = BTreeSet::new();
    for list in LISTS {
        for (at, container) in elements(pod, list).iter().enumerate() {
            let place = format!("{}[{at}]", list.trim_start_matches('/').replace('/', "."));
            check_container(container, &place, &volumes, &mut causes);
            if !names.insert(field(container, "name")) {
                causes.push(Cause::new(Fault::Duplicate, format!("{place}.name"), field(container, "name")));
            }
        }
    }
    if let Some(old) = old {
        check_change(old, pod, &mut causes);
    }
    causes
}

fn check_container(container: &Value, place: &str, volumes: &BTreeSet<&str>, causes: &mut Vec<Cause>) {
    let name = field(container, "name");
    if name.is_empty() {
        causes.push(Cause::new(Fault::Required, format!("{place}.name"), "must be given"));
    } else if name.contains('.') || !is_subdomain(name, 63) {
        causes.push(Cause::new(
            Fault::Invalid,
            format!("{place}.name"),
            format!("{name:?}: an RFC 1123 label is needed"),
        ));
    }
    if field(container, "image").is_empty() {
        causes.push(Cause::new(Fault::Required, format!("{place}.image"), "must be given"));
    }
    for mount in elements(container, "/volumeMounts") {
        if !volumes.contains(field(mount, "name")) {
            let message = format!("no volume is called {:?}", field(mount, "name"));
            causes.push(Cause::new(Fault::Invalid, format!("{place}.volumeMounts.name"), message));
        }
    }
    let amounts = |kind: &str| container.pointer(&format!("/resources/{kind}")).and_then(Value::as_object);
    for kind in ["limits", "requests"] {
        for (name, amount) in amounts(kind).into_iter().flatten() {
            let field = format!("{place}.resources.{kind}[{name}]");
            match quantity::milli(Some(amount)) {
                None => causes.push(Cause::new(Fault::Invalid, field, format!("{amount} is no quantity"))),
                Some(asked) if kind == "requests" => {
                    let limit = amounts("limits").and_then(|limits| quantity::milli(limits.get(name)));
                    if limit.is_some_and(|limit| asked > limit) {
                        causes.push(Cause::new(
                            Fault::Invalid,
                            field,
                            "must be less than or equal to the limit",
                        ));
                    }
                }
                Some(_) => {}
            }
        }
    }
}

/// Of a pod's specification, images, deadline, tolerations and gates may change, and where it runs once.
fn check_change(old: &Value, new: &Value, causes: &mut Vec<Cause>) {
    let mut rest = [old.clone(), new.clone()];
    for pod in &mut rest {
        for list in LISTS {
            for container in pod.pointer_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                set(container, "image", None);
                set(container, "imagePullPolicy", None);
            }
        }
        if let Some(spec) = pod.get_mut("spec") {
            let free =
                ["activeDeadlineSeconds", "tolerations", "schedulingGates", "terminationGracePeriodSeconds"];
            free.iter().for_each(|free| set(spec, free, None));
        }
    }
    let [before, after] = &rest;
    if differs(before, after, "/spec") {
        let message = "pod updates may not change fields other than `spec.containers[*].image`, \
            `spec.initContainers[*].image`, `spec.activeDeadlineSeconds`, `spec.tolerations` and \
            `spec.terminationGracePeriodSeconds`";
        causes.push(Cause::new(Fault::Forbidden, "spec", message));
    }
    let kept = |one: &Value| elements(new, "/spec/tolerations").contains(one);
    if !elements(old, "/spec/tolerations").iter().all(kept) {
        causes.push(Cause::new(
            Fault::Forbidden,
            "spec.tolerations",
            "existing tolerations may not be taken off",
        ));
    }
    let gates = |pod: &Value| -> BTreeSet<String> {
        elements(pod, "/spec/schedulingGates").iter().map(|gate| field(gate, "name").to_owned()).collect()
    };
    if !gates(new).is_subset(&gates(old)) {
        causes.push(Cause::new(Fault::Forbidden, "spec.schedulingGates", "gates may be taken off only"));
    }
}
