//! The kinds whose rules fit a few lines.

use serde_json::{Value, json};

use super::{differs, required};
use crate::object::{elements, field, set, text};
use crate::refusal::{Cause, Fault};
use crate::selector::is_label_name;

/// There is no proxy here: a service is the name of its endpoints, and has no address of its own.
pub(super) fn on_service(service: &mut Value) {
    if let Some(spec) = service.get_mut("spec")
        && spec.get("clusterIP").is_none()
        && field(spec, "type") == "ClusterIP"
    {
        set(spec, "clusterIP", Some("None".into()));
        set(spec, "clusterIPs", Some(json!(["None"])));
    }
    set(service, "status", Some(json!({"loadBalancer": {}})));
}

pub(super) fn check_node(node: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (at, taint) in elements(node, "/spec/taints").iter().enumerate() {
        if !is_label_name(field(taint, "key")) {
            causes.push(Cause::new(
                Fault::Invalid,
                format!("spec.taints[{at}].key"),
                "a label's name is needed",
            ));
        }
        if !matches!(field(taint, "effect"), "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
            let message = "supported values: \"NoExecute\", \"NoSchedule\", \"PreferNoSchedule\"";
            causes.push(Cause::new(Fault::Unsupported, format!("spec.taints[{at}].effect"), message));
        }
    }
    causes
}

pub(super) fn check_service(service: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    for (at, port) in elements(service, "/spec/ports").iter().enumerate() {
        let number = port.get("port").and_then(Value::as_u64).unwrap_or(0);
        if !(1..=65_535).contains(&number) {
            causes.push(Cause::new(
                Fault::Invalid,
                format!("spec.ports[{at}].port"),
                "must be between 1 and 65535",
            ));
        }
    }
    let kind = text(service, "/spec/type");
    if !matches!(kind, "ClusterIP" | "ExternalName") {
        let message = format!("{kind:?}: supported values: \"ClusterIP\", \"ExternalName\"");
        causes.push(Cause::new(Fault::Unsupported, "spec.type", message));
    }
    causes
}

pub(super) fn check_lease(lease: &Value) -> Vec<Cause> {
    let seconds = lease.pointer("/spec/leaseDurationSeconds").and_then(Value::as_i64);
    let transitions = lease.pointer("/spec/leaseTransitions").and_then(Value::as_i64);
    let mut causes = Vec::new();
    if seconds.is_some_and(|seconds| seconds <= 0) {
        causes.push(Cause::new(Fault::Invalid, "spec.leaseDurationSeconds", "must be greater than 0"));
    }
    if transitions.is_some_and(|transitions| transitions < 0) {
        causes.push(Cause::new(
            Fault::Invalid,
            "spec.leaseTransitions",
            "must be greater than or equal to 0",
        ));
    }
    causes
}

pub(super) fn check_budget(budget: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let bounds =
        ["minAvailable", "maxUnavailable"].map(|name| (name, budget.pointer(&format!("/spec/{name}"))));
    if bounds.iter().all(|(_, bound)| bound.is_some()) {
        let message = "minAvailable and maxUnavailable cannot be both set";
        causes.push(Cause::new(Fault::Invalid, "spec", message));
    }
    for (name, bound) in bounds {
        let fits = match bound {
            None => true,
            Some(Value::String(text)) => text
                .strip_suffix('%')
                .and_then(|percent| percent.parse::<u32>().ok())
                .is_some_and(|one| one <= 100),
            Some(bound) => bound.as_i64().is_some_and(|bound| bound >= 0),
        };
        if !fits {
            let message = "must be a number of pods or a percentage, as 1 or \"50%\"";
            causes.push(Cause::new(Fault::Invalid, format!("spec.{name}"), message));
        }
    }
    causes
}

pub(super) fn check_priority(class: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if class.get("value").is_none() {
        causes.push(Cause::new(Fault::Required, "value", "must be given"));
    }
    if old.is_some_and(|old| differs(old, class, "/value")) {
        causes.push(Cause::new(Fault::Forbidden, "value", "may not be changed in an update"));
    }
    causes
}

pub(super) fn check_slice(slice: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if !matches!(text(slice, "/addressType"), "IPv4" | "IPv6" | "FQDN") {
        let message = "supported values: \"IPv4\", \"IPv6\", \"FQDN\"";
        causes.push(Cause::new(Fault::Unsupported, "addressType", message));
    }
    if old.is_some_and(|old| differs(old, slice, "/addressType")) {
        causes.push(Cause::new(Fault::Invalid, "addressType", "field is immutable"));
    }
    for (at, endpoint) in elements(slice, "/endpoints").iter().enumerate() {
        if elements(endpoint, "/addresses").is_empty() {
            causes.push(Cause::new(Fault::Required, format!("endpoints[{at}].addresses"), "must be given"));
        }
    }
    causes
}

pub(super) fn check_event(event: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let about = if event.get("regarding").is_some() { "/regarding/kind" } else { "/involvedObject/kind" };
    if event.get("regarding").is_some() || event.get("involvedObject").is_some() {
        required(event, about, &mut causes);
    }
    causes
}
