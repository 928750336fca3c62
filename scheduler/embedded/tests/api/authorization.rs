//! Who may do what.

use std::sync::{Arc, Mutex};

use coffer_embedded::{Audit, AuditEvent, Embedded, Identity};
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::fixture::{Fixture, node, options, pod};

fn node_of(name: &str) -> Identity {
    Identity::new(format!("system:node:{name}"), ["system:nodes"])
}

async fn with_bound_pods() -> Fixture {
    let fixture = Fixture::new().await;
    for name in ["n1", "n2"] {
        fixture.nodes().create(&PostParams::default(), &node(name)).await.unwrap();
        let mut pod = pod(&format!("on-{name}"));
        let spec = pod.spec.as_mut().unwrap();
        spec.node_name = Some(name.into());
        spec.volumes = Some(vec![crate::fixture::of(
            json!({"name": "v", "secret": {"secretName": format!("s-{name}")}}),
        )]);
        fixture.pods().create(&PostParams::default(), &pod).await.unwrap();
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": format!("s-{name}")}})
            .to_string();
        let path = "/api/v1/namespaces/default/secrets";
        assert_eq!(fixture.send("POST", path, "application/json", secret).await.0, 201);
    }
    fixture
}

#[tokio::test]
async fn a_node_may_touch_what_is_its_own_and_nothing_else() {
    let fixture = with_bound_pods().await;
    let lease =
        |name: &str| json!({"metadata": {"name": name}, "spec": {"leaseDurationSeconds": 1}}).to_string();
    let event =
        json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "on-n1"}}).to_string();
    let (default, leases) =
        ("/api/v1/namespaces/default", "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases");
    let running = json!({"status": {"phase": "Running"}}).to_string();
    let label = json!({"metadata": {"labels": {"x": "y"}}}).to_string();
    let cordon = json!({"spec": {"unschedulable": true}}).to_string();
    let none = String::new;
    let table: Vec<(&str, String, String, u16)> = vec![
        ("GET", "/api/v1/nodes/n1".into(), none(), 200),
        ("GET", "/api/v1/nodes/n2".into(), none(), 403),
        ("GET", "/api/v1/nodes".into(), none(), 403),
        ("GET", "/api/v1/nodes?fieldSelector=metadata.name%3Dn1".into(), none(), 200),
        ("PATCH", "/api/v1/nodes/n1".into(), label.clone(), 200),
        ("PATCH", "/api/v1/nodes/n1".into(), cordon, 403),
        ("PATCH", "/api/v1/nodes/n2".into(), label, 403),
        ("PATCH", "/api/v1/nodes/n1/status".into(), json!({"status": {"phase": "x"}}).to_string(), 200),
        ("PATCH", "/api/v1/nodes/n2/status".into(), running.clone(), 403),
        ("DELETE", "/api/v1/nodes/n1".into(), none(), 403),
        ("POST", "/api/v1/nodes".into(), json!({"metadata": {"name": "n3"}}).to_string(), 403),
        ("POST", leases.into(), lease("n1"), 201),
        ("POST", leases.into(), lease("n2"), 403),
        ("POST", "/apis/coordination.k8s.io/v1/namespaces/default/leases".into(), lease("n1"), 403),
        ("GET", format!("{default}/pods"), none(), 403),
        ("GET", format!("{default}/pods?fieldSelector=spec.nodeName%3Dn1"), none(), 200),
        ("GET", format!("{default}/pods?fieldSelector=spec.nodeName%3Dn2"), none(), 403),
        ("GET", format!("{default}/pods?fieldSelector=spec.nodeName!%3Dn2"), none(), 403),
        ("GET", format!("{default}/pods/on-n2"), none(), 403),
        ("PATCH", format!("{default}/pods/on-n1/status"), running.clone(), 200),
        ("PATCH", format!("{default}/pods/on-n2/status"), running.clone(), 403),
        ("PATCH", format!("{default}/pods/on-n1"), running, 403),
        ("POST", format!("{default}/pods"), json!({"metadata": {"name": "p"}}).to_string(), 403),
        ("POST", format!("{default}/pods/on-n1/binding"), "{}".into(), 403),
        ("POST", format!("{default}/events"), event, 201),
        ("GET", format!("{default}/secrets/s-n1"), none(), 200),
        ("GET", format!("{default}/secrets/s-n2"), none(), 403),
        ("GET", format!("{default}/secrets"), none(), 403),
        ("DELETE", format!("{default}/pods/on-n2"), none(), 403),
        ("DELETE", format!("{default}/pods/on-n1?gracePeriodSeconds=0"), none(), 200),
    ];
    for (method, path, body, expected) in table {
        let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let (status, answer) = fixture.send_as(node_of("n1"), method, &path, media, body).await;
        assert_eq!(status, expected, "{method} {path}: {answer}");
    }
}

#[tokio::test]
async fn every_role_is_refused_what_the_table_does_not_give() {
    let fixture = with_bound_pods().await;
    let pods = "/api/v1/namespaces/default/pods";
    let table = [
        ("fleet.coffer:viewer", "GET", pods.to_owned(), 200),
        ("fleet.coffer:viewer", "GET", "/api/v1/namespaces/default/secrets".into(), 403),
        ("fleet.coffer:viewer", "DELETE", format!("{pods}/on-n1"), 403),
        ("fleet.coffer:viewer", "POST", pods.into(), 403),
        ("fleet.coffer:operator", "POST", format!("{pods}/on-n1/binding"), 403),
        ("fleet.coffer:operator", "GET", "/api/v1/namespaces/default/secrets".into(), 200),
        ("fleet.coffer:controller", "DELETE", "/api/v1/namespaces/default".into(), 403),
        ("fleet.coffer:controller", "GET", pods.into(), 200),
        ("nobody", "GET", pods.into(), 403),
        ("nobody", "GET", "/version".into(), 200),
        ("system:nodes", "GET", format!("{pods}/on-n1"), 403),
    ];
    for (group, method, path, expected) in table {
        let identity = Identity::new("somebody", [group]);
        let (status, answer) = fixture.send_as(identity, method, &path, "application/json", "").await;
        assert_eq!(status, expected, "{group} {method} {path}: {answer}");
    }
    let ask = |verb: &str| {
        json!({"spec": {"resourceAttributes": {"verb": verb, "resource": "pods", "namespace": "default"}}})
            .to_string()
    };
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    for (verb, allowed) in [("list", true), ("delete", false)] {
        let viewer = Identity::new("v", ["fleet.coffer:viewer"]);
        let (status, answer) = fixture.send_as(viewer, "POST", path, "application/json", ask(verb)).await;
        assert_eq!((status, &answer["status"]["allowed"]), (201, &json!(allowed)), "{answer}");
    }
}

#[derive(Default)]
struct Kept(Mutex<Vec<AuditEvent>>);

impl Audit for Kept {
    fn record(&self, event: AuditEvent) {
        self.0.lock().unwrap().push(event);
    }
}

#[tokio::test]
async fn every_change_and_every_refusal_is_written_down_and_no_reading_is() {
    let directory = tempfile::tempdir().unwrap();
    let kept = Arc::new(Kept::default());
    let audit = Arc::clone(&kept);
    let options = coffer_embedded::Options { audit, ..options(&directory) };
    let fixture = Fixture { embedded: Embedded::open(options).await.unwrap(), directory };
    let pods = "/api/v1/namespaces/default/pods";
    let manifest = serde_json::to_vec(&pod("a")).unwrap();
    fixture.send("POST", pods, "application/json", manifest).await;
    fixture.send("GET", pods, "", "").await;
    let viewer = || Identity::new("v", ["fleet.coffer:viewer"]);
    fixture.send_as(viewer(), "DELETE", &format!("{pods}/a"), "", "").await;
    fixture.send_as(viewer(), "GET", "/api/v1/namespaces/default/secrets/x", "", "").await;
    let events = kept.0.lock().unwrap();
    let lines: Vec<_> = events
        .iter()
        .map(|one| (one.user.as_str(), one.verb, one.name.as_str(), one.status.as_u16()))
        .collect();
    assert_eq!(lines, [("inside", "create", "a", 201), ("v", "delete", "a", 403), ("v", "get", "x", 403)]);
}

/// A log whose disk is full.
struct Full;

impl Audit for Full {
    fn record(&self, _: AuditEvent) {}

    fn can_record(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn without_an_audit_log_people_change_nothing_and_nodes_keep_their_leases() {
    let directory = tempfile::tempdir().unwrap();
    let options = coffer_embedded::Options { audit: Arc::new(Full), ..options(&directory) };
    let fixture = Fixture { embedded: Embedded::open(options).await.unwrap(), directory };
    let pods = "/api/v1/namespaces/default/pods";
    let manifest = serde_json::to_vec(&pod("a")).unwrap();
    for group in ["system:masters", "fleet.coffer:operator", "fleet.coffer:controller"] {
        let who = || Identity::new("somebody", [group]);
        let (status, answer) =
            fixture.send_as(who(), "POST", pods, "application/json", manifest.clone()).await;
        assert_eq!(status, 503, "{answer}");
        assert_eq!(fixture.send_as(who(), "GET", pods, "", "").await.0, 200);
    }
    // A node with more rights than a node is no node.
    let both = Identity::new("system:node:n1", ["system:nodes", "system:masters"]);
    assert_eq!(fixture.send_as(both, "POST", pods, "application/json", manifest).await.0, 503);
    let lease = json!({"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1"}}).to_string();
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
    let node = Identity::new("system:node:n1", ["system:nodes"]);
    assert_eq!(fixture.send_as(node, "POST", leases, "application/json", lease).await.0, 201);
    fixture.nodes().create(&PostParams::default(), &crate::fixture::node("n1")).await.unwrap();
}

#[tokio::test]
async fn a_deletion_that_only_its_body_calls_a_dry_run_is_written_down_as_one() {
    let directory = tempfile::tempdir().unwrap();
    let kept = Arc::new(Kept::default());
    let audit = Arc::clone(&kept);
    let options = coffer_embedded::Options { audit, ..options(&directory) };
    let fixture = Fixture { embedded: Embedded::open(options).await.unwrap(), directory };
    let pods = "/api/v1/namespaces/default/pods";
    fixture.send("POST", pods, "application/json", serde_json::to_vec(&pod("a")).unwrap()).await;
    let dry = json!({"dryRun": ["All"]});
    let body = |value: &Value| value.to_string();
    let one = format!("{pods}/a");
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "a"}, "deleteOptions": dry,
    });
    for (method, path, body) in [
        ("DELETE", one.clone(), body(&dry)),
        ("DELETE", pods.to_owned(), body(&dry)),
        ("POST", format!("{one}/eviction"), body(&eviction)),
    ] {
        let (status, answer) = fixture.send(method, &path, "application/json", body).await;
        assert!((200..300).contains(&status), "{path}: {answer}");
    }
    assert_eq!(fixture.send("GET", &one, "", "").await.0, 200, "nothing was deleted");
    fixture.send("DELETE", &one, "application/json", "{}").await;
    let events = kept.0.lock().unwrap();
    let dry: Vec<_> = events.iter().map(|event| event.dry_run).collect();
    assert_eq!(dry, [false, true, true, true, false]);
}
