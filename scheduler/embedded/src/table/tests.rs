//! What tables show.

use serde_json::{Value, json};

use super::*;
use crate::kinds::built_in;

const NOW: Timestamp = Timestamp(1_700_000_000 * 1_000_000_000);

fn table(group: &str, kind: &str, objects: &[Value]) -> Value {
    let kind = built_in().iter().find(|known| known.group == group && known.kind == kind).unwrap();
    of_kind(kind, objects, json!({"resourceVersion": "7"}), &options(None), NOW)
}

fn options(include: Option<&str>) -> TableOptions {
    TableOptions { version: "v1", include_object: include.map(str::to_owned), no_headers: false }
}

fn cell(table: &Value, column: &str) -> Value {
    let at = table["columnDefinitions"].as_array().unwrap().iter().position(|c| c["name"] == column).unwrap();
    table["rows"][0]["cells"][at].clone()
}

fn pod_status(pod: Value) -> Value {
    cell(&table("", "Pod", &[pod]), "Status")
}

#[test]
fn every_built_in_kind_has_as_many_cells_as_columns() {
    for kind in built_in() {
        let object = json!({"metadata": {"name": "x"}});
        let made = table(&kind.group, &kind.kind, &[object]);
        let columns = made["columnDefinitions"].as_array().unwrap();
        assert_eq!(columns.len(), made["rows"][0]["cells"].as_array().unwrap().len(), "{}", kind.kind);
        assert!(columns.iter().any(|column| column["format"] == "name"), "{}", kind.kind);
        assert_eq!(made["metadata"]["resourceVersion"], "7");
    }
}

#[test]
fn a_pod_that_is_being_deleted_says_so_unless_it_is_over() {
    let deleted = |phase: &str| {
        pod_status(json!({
            "metadata": {"deletionTimestamp": "2023-11-14T22:13:20Z"}, "status": {"phase": phase},
        }))
    };
    assert_eq!(deleted("Running"), "Terminating");
    assert_eq!(deleted("Succeeded"), "Succeeded");
}

#[test]
fn a_pod_says_the_worst_of_its_containers() {
    let with = |state: Value| {
        pod_status(json!({"status": {"phase": "Running", "containerStatuses": [
            {"name": "a", "ready": true, "state": {"running": {}}}, {"name": "b", "state": state},
        ]}}))
    };
    assert_eq!(with(json!({"waiting": {"reason": "CrashLoopBackOff"}})), "CrashLoopBackOff");
    assert_eq!(with(json!({"terminated": {"exitCode": 3}})), "ExitCode:3");
    assert_eq!(with(json!({"terminated": {"exitCode": 137, "signal": 9}})), "Signal:9");
    assert_eq!(with(json!({"terminated": {"reason": "Completed"}})), "NotReady");
    assert_eq!(with(json!({"running": {}})), "Running");
}

#[test]
fn init_containers_are_told_until_the_last_is_done() {
    let with = |statuses: Value| {
        pod_status(json!({
            "spec": {"initContainers": [{"name": "a"}, {"name": "b"}]},
            "status": {"phase": "Pending", "initContainerStatuses": statuses},
        }))
    };
    let done = json!({"name": "a", "state": {"terminated": {"exitCode": 0}}});
    assert_eq!(
        with(json!([done, {"name": "b", "state": {"waiting": {"reason": "PodInitializing"}}}])),
        "Init:1/2"
    );
    assert_eq!(with(json!([{"name": "a", "state": {"terminated": {"exitCode": 2}}}])), "Init:ExitCode:2");
    assert_eq!(with(json!([done, {"name": "b", "state": {"terminated": {"exitCode": 0}}}])), "Pending");
}

#[test]
fn restarts_tell_when_the_last_one_was() {
    let pod = json!({"spec": {"containers": [{"name": "a"}]}, "status": {"containerStatuses": [{
        "name": "a", "ready": true, "restartCount": 4,
        "lastState": {"terminated": {"finishedAt": "2023-11-14T22:12:20Z"}},
    }]}});
    let made = table("", "Pod", &[pod]);
    assert_eq!(cell(&made, "Restarts"), "4 (60s ago)");
    assert_eq!(cell(&made, "Ready"), "1/1");
}

#[test]
fn a_cordoned_node_that_is_silent_is_both() {
    let node = json!({
        "metadata": {"labels": {"node-role.kubernetes.io/storage": "", "kubernetes.io/role": "old"}},
        "spec": {"unschedulable": true},
        "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]},
    });
    let made = table("", "Node", &[node]);
    assert_eq!(cell(&made, "Status"), "NotReady,SchedulingDisabled");
    assert_eq!(cell(&made, "Roles"), "old,storage");
}

#[test]
fn both_views_of_an_event_print_alike() {
    let core = json!({
        "metadata": {"name": "e"}, "type": "Warning", "reason": "Unplaceable", "message": "no node",
        "involvedObject": {"kind": "Pod", "name": "p"}, "lastTimestamp": "2023-11-14T22:13:10Z", "count": 2,
        "source": {"component": "coffer"},
    });
    let mut new = core.clone();
    crate::convert::from_stored(&mut new);
    assert_eq!(
        table("", "Event", std::slice::from_ref(&core))["rows"][0]["cells"],
        table("events.k8s.io", "Event", &[new])["rows"][0]["cells"]
    );
    assert_eq!(cell(&table("", "Event", std::slice::from_ref(&core)), "Object"), "pod/p");
    assert_eq!(cell(&table("", "Event", std::slice::from_ref(&core)), "Last Seen"), "10s");
}

#[test]
fn ports_and_selectors_of_services_are_listed() {
    let service = json!({"spec": {
        "ports": [{"port": 80, "nodePort": 30080}, {"port": 53, "protocol": "UDP"}], "selector": {"a": "b", "c": "d"},
    }});
    let made = table("", "Service", &[service]);
    assert_eq!(cell(&made, "Port(s)"), "80:30080/TCP,53/UDP");
    assert_eq!(cell(&made, "Selector"), "a=b,c=d");
}

#[test]
fn custom_columns_take_their_types_and_nothing_else() {
    let crd = json!({"spec": {
        "group": "g", "scope": "Namespaced", "names": {"kind": "Thing", "plural": "things"},
        "versions": [{"name": "v1", "served": true, "additionalPrinterColumns": [
            {"name": "N", "type": "integer", "jsonPath": ".spec.n"},
            {"name": "Bad", "type": "integer", "jsonPath": ".spec.word"},
            {"name": "Word", "type": "string", "jsonPath": ".spec.n"},
            {"name": "When", "type": "date", "jsonPath": ".metadata.creationTimestamp", "priority": 1},
            {"name": "Nowhere", "type": "string", "jsonPath": ".spec.none"},
            {"name": "Broken", "type": "string", "jsonPath": "spec["},
        ]}],
    }});
    let kind = &Kind::of_crd(&crd)[0];
    let object = json!({"metadata": {"name": "t", "creationTimestamp": "2023-11-14T22:13:19Z"},
        "spec": {"n": 3, "word": "x"}});
    let made = of_kind(kind, &[object], json!({}), &options(Some("None")), NOW);
    assert_eq!(made["rows"][0], json!({"cells": ["t", 3, null, "3", "1s", null, null]}));
    assert_eq!(made["columnDefinitions"][4]["priority"], 1);
}
