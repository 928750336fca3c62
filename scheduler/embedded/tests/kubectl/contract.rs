//! The real binary, where the machine has one. Where it has none, each test says so.

use k8s_openapi::api::core::v1::{Event, Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, DynamicObject, PostParams};
use serde_json::{Value, json};

use crate::binary;
use crate::cluster::{Cluster, made, until};

/// A cluster, or the end of the test, said aloud.
macro_rules! cluster {
    ($test:literal) => {
        match binary::kubectl() {
            Some(binary) => Cluster::start(binary).await,
            None => return binary::say_that_there_is_none($test),
        }
    };
}

#[tokio::test(flavor = "multi_thread")]
async fn get_prints_tables_and_wide_tables_and_objects() {
    let cluster = cluster!("get");
    let pods = cluster.kubectl("get pods").await.worked();
    let mut lines = pods.lines();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(lines.next().unwrap()), ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
    assert_eq!(words(lines.next().unwrap())[..4], ["a", "1/1", "Running", "0"]);
    let wide = cluster.kubectl("get po -o wide").await.worked();
    assert!(wide.contains("NOMINATED NODE") && wide.contains("10.1.0.1") && wide.contains("birch"), "{wide}");
    let nodes = cluster.kubectl("get nodes -o wide").await.worked();
    assert!(
        nodes.contains("storage") && nodes.contains("coffer-0.1.0") && nodes.contains("10.0.0.2"),
        "{nodes}"
    );
    let yaml = cluster.kubectl("get pod a -o yaml").await.worked();
    assert!(yaml.contains("apiVersion: v1\nkind: Pod\n") && yaml.contains("nodeName: ash"), "{yaml}");
    let json: Value =
        serde_json::from_str(&cluster.kubectl("get pods -o json -l app=site").await.worked()).unwrap();
    assert_eq!(json["items"].as_array().unwrap().len(), 3);
    let on_birch = cluster.kubectl("get pods --field-selector spec.nodeName=birch -o name").await.worked();
    assert_eq!(on_birch, "pod/c\n");
    let all = cluster.kubectl("get all -A").await.worked();
    assert!(all.contains("pod/a"), "{all}");
    let missing = cluster.kubectl("get pod nobody").await.failed();
    assert!(missing.contains("NotFound") && missing.contains("nobody"), "{missing}");
    let resources = cluster.kubectl("api-resources").await.worked();
    for name in ["pods", "sitesets", "poddisruptionbudgets", "customresourcedefinitions"] {
        assert!(resources.contains(name), "{resources}");
    }
    let version = cluster.kubectl("version").await.worked();
    assert!(version.contains("Server Version: v1.32"), "{version}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_prints_what_changes() {
    let cluster = cluster!("get -w");
    let mut lines = cluster.lines("get pods -w");
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(lines.next().await);
    }
    assert!(seen[0].starts_with("NAME"), "{seen:?}");
    cluster.kubectl("delete pod c --wait=false").await.worked();
    let gone = lines.next().await;
    assert!(gone.starts_with("c ") && gone.contains("Terminating"), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn describe_tells_of_pods_nodes_and_their_events() {
    let cluster = cluster!("describe");
    let events = Api::<DynamicObject>::namespaced_with(
        cluster.client.clone(),
        "coffer",
        &kube::core::ApiResource::erase::<k8s_openapi::api::events::v1::Event>(&()),
    );
    let pod = Api::<Pod>::namespaced(cluster.client.clone(), "coffer").get("a").await.unwrap();
    let event = made(json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "a.1", "namespace": "coffer"},
        "regarding": {"apiVersion": "v1", "kind": "Pod", "name": "a", "namespace": "coffer", "uid": pod.metadata.uid},
        "note": "Placed on ash because it is cheap", "reason": "Scheduled", "type": "Normal", "action": "Binding",
        "reportingController": "coffer", "reportingInstance": "one", "eventTime": "2026-01-01T00:00:00.000000Z",
    }));
    events.create(&PostParams::default(), &event).await.unwrap();
    let said = cluster.kubectl("describe pod a").await.worked();
    assert!(said.contains("Placed on ash because it is cheap"), "{said}");
    assert!(said.contains("Node:") && said.contains("ash"), "{said}");
    let said = cluster.kubectl("describe node ash").await.worked();
    assert!(said.contains("Non-terminated Pods:") && said.contains("(2 in total)"), "{said}");
    let said = cluster.kubectl("get events").await.worked();
    assert!(said.contains("pod/a") && said.contains("Scheduled"), "{said}");
    let core = Api::<Event>::namespaced(cluster.client.clone(), "coffer").get("a.1").await.unwrap();
    assert_eq!(core.message.as_deref(), Some("Placed on ash because it is cheap"));
    for what in ["namespace coffer", "crd sitesets.fleet.coffer"] {
        let said = cluster.kubectl(&format!("describe {what}")).await.worked();
        assert!(said.contains("Name:"), "{said}");
    }
}

const SET: &str = r#"{"apiVersion": "fleet.coffer/v1", "kind": "SiteSet", "metadata": {"name": "six"}, "spec": {"sites": 6}}"#;
const BUDGET: &str = r#"{"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "sites"},
    "spec": {"minAvailable": 3, "selector": {"matchLabels": {"app": "site"}}}}"#;
const MAP: &str =
    r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map"}, "data": {"a": "one"}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn apply_creates_changes_and_leaves_alone() {
    let cluster = cluster!("apply");
    for (manifest, what, changed) in [
        (SET, "siteset.fleet.coffer/six", SET.replace('6', "7")),
        (MAP, "configmap/map", MAP.replace("one", "two")),
    ] {
        let said = cluster.kubectl_reading("apply -f -", manifest).await.worked();
        assert_eq!(said, format!("{what} created\n"));
        let said = cluster.kubectl_reading("apply -f -", manifest).await.worked();
        assert_eq!(said, format!("{what} unchanged\n"));
        let said = cluster.kubectl_reading("apply -f -", &changed).await.worked();
        assert_eq!(said, format!("{what} configured\n"));
    }
    let wrong = SET.replace("sites", "sitez");
    let said = cluster.kubectl_reading("apply -f -", &wrong).await.failed();
    assert!(said.contains("sitez"), "{said}");
    let negative = SET.replace('6', "-1");
    let said = cluster.kubectl_reading("apply -f -", &negative).await.failed();
    assert!(said.contains("spec.sites"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn server_side_apply_owns_fields_and_quarrels_over_them() {
    let cluster = cluster!("apply --server-side");
    let said = cluster.kubectl_reading("apply --server-side --field-manager=one -f -", MAP).await.worked();
    assert_eq!(said, "configmap/map serverside-applied\n");
    let other = MAP.replace("one", "two");
    let said = cluster.kubectl_reading("apply --server-side --field-manager=two -f -", &other).await.failed();
    assert!(said.contains("conflict") && said.contains("one") && said.contains(".data.a"), "{said}");
    let said = cluster
        .kubectl_reading("apply --server-side --field-manager=two --force-conflicts -f -", &other)
        .await;
    assert_eq!(said.worked(), "configmap/map serverside-applied\n");
    let said = cluster.kubectl("get cm map -o yaml --show-managed-fields").await.worked();
    assert!(said.contains("manager: two") && said.contains("f:data"), "{said}");
    let said = cluster.kubectl_reading("apply --server-side -f -", SET).await.worked();
    assert_eq!(said, "siteset.fleet.coffer/six serverside-applied\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn diff_shows_what_would_change_and_changes_nothing() {
    let cluster = cluster!("diff");
    let new = cluster.kubectl_reading("diff -f -", MAP).await;
    assert!(!new.ok && new.out.contains("+kind: ConfigMap"), "{new:?}");
    cluster.kubectl("get cm map").await.failed();
    cluster.kubectl_reading("apply -f -", MAP).await.worked();
    assert_eq!(cluster.kubectl_reading("diff -f -", MAP).await.worked(), "");
    let changed = cluster.kubectl_reading("diff -f -", &MAP.replace("one", "two")).await;
    assert!(
        !changed.ok && changed.out.contains("-  a: one") && changed.out.contains("+  a: two"),
        "{changed:?}"
    );
    let changed = cluster
        .kubectl_reading("diff --server-side --force-conflicts -f -", &MAP.replace("one", "three"))
        .await;
    assert!(!changed.ok && changed.out.contains("+  a: three"), "{changed:?}");
    let data = cluster.kubectl("get cm map -o jsonpath={.data.a}").await.worked();
    assert_eq!(data, "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn scale_label_annotate_taint_and_patch_change_what_they_say() {
    let cluster = cluster!("scale, label, annotate, taint, patch");
    cluster.kubectl_reading("apply -f -", SET).await.worked();
    let said = cluster.kubectl("scale siteset six --replicas=9").await.worked();
    assert_eq!(said, "siteset.fleet.coffer/six scaled\n");
    assert_eq!(cluster.kubectl("get ss six -o jsonpath={.spec.sites}").await.worked(), "9");
    let said = cluster.kubectl("get ss").await.worked();
    assert!(said.starts_with("NAME   SITES   AGE\nsix    9 "), "{said}");
    let said = cluster.kubectl("scale siteset six --replicas=3 --current-replicas=5").await.failed();
    assert!(said.contains("5"), "{said}");
    cluster.kubectl("label pod a tier=III").await.worked();
    let said = cluster.kubectl("label pod a tier=IV").await.failed();
    assert!(said.contains("--overwrite"), "{said}");
    assert_eq!(cluster.kubectl("get pods -l tier=III -o name").await.worked(), "pod/a\n");
    cluster.kubectl("label pod a tier-").await.worked();
    cluster.kubectl("annotate node ash note=old").await.worked();
    assert_eq!(
        cluster.kubectl("get node ash -o jsonpath={.metadata.annotations.note}").await.worked(),
        "old"
    );
    cluster.kubectl("taint node birch disk=worn:NoSchedule").await.worked();
    let said = cluster.kubectl("get node birch -o jsonpath={.spec.taints[*].key}").await.worked();
    assert_eq!(said, "disk");
    cluster.kubectl("taint node birch disk-").await.worked();
    cluster
        .run(&["patch", "ss", "six", "--type=merge", "-p", r#"{"spec":{"tier":"IV"}}"#], "")
        .await
        .worked();
    let patch = r#"[{"op":"test","path":"/spec/tier","value":"IV"},{"op":"replace","path":"/spec/tier","value":"II"}]"#;
    cluster.run(&["patch", "ss", "six", "--type=json", "-p", patch], "").await.worked();
    cluster.run(&["patch", "ss", "six", "--type=json", "-p", patch], "").await.failed();
    let said = cluster
        .run(&["patch", "ss", "six", "--type=merge", "-p", r#"{"spec":{"tier":"V"}}"#], "")
        .await
        .failed();
    assert!(said.contains("spec.tier"), "{said}");
    let strategic = r#"{"spec":{"containers":[{"name":"site","image":"coffer.local/site@sha256:01"}]}}"#;
    cluster.run(&["patch", "pod", "a", "-p", strategic], "").await.worked();
    let ports = cluster.kubectl("get pod a -o jsonpath={.spec.containers[*].ports[*].name}").await.worked();
    assert_eq!(ports, "grpc", "a container that is named is changed, not replaced");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_would_break_the_budget_is_refused_until_it_would_not() {
    let cluster = cluster!("cordon, drain, uncordon");
    let budgets = Api::<PodDisruptionBudget>::namespaced(cluster.client.clone(), "coffer");
    cluster.kubectl_reading("create -f -", BUDGET).await.worked();
    until(&budgets, "sites", |budget| {
        budget.and_then(|budget| budget.status.as_ref()).is_some_and(|status| status.current_healthy == 3)
    })
    .await;
    let said = cluster.kubectl("cordon ash").await.worked();
    assert_eq!(said, "node/ash cordoned\n");
    let said = cluster.kubectl("get node ash").await.worked();
    assert!(said.contains("Ready,SchedulingDisabled"), "{said}");
    let said = cluster.kubectl("drain ash --force --timeout=1s").await.failed();
    assert!(said.contains("Cannot evict pod as it would violate the pod's disruption budget"), "{said}");
    assert_eq!(cluster.kubectl("get pods -o name").await.worked(), "pod/a\npod/b\npod/c\n");
    let patch = r#"{"spec":{"minAvailable":1}}"#;
    cluster.run(&["patch", "pdb", "sites", "--type=merge", "-p", patch], "").await.worked();
    let said = cluster.kubectl("drain ash --force --timeout=30s").await.worked();
    assert!(said.contains("node/ash drained"), "{said}");
    assert_eq!(cluster.kubectl("get pods -o name").await.worked(), "pod/c\n");
    cluster.kubectl("uncordon ash").await.worked();
    let node = Api::<Node>::all(cluster.client.clone()).get("ash").await.unwrap();
    assert_eq!(node.spec.unwrap().unschedulable, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_waits_until_it_is_gone() {
    let cluster = cluster!("delete");
    assert_eq!(cluster.kubectl("delete pod a").await.worked(), "pod \"a\" deleted\n");
    cluster.kubectl("get pod a").await.failed();
    cluster.kubectl("delete pod nobody").await.failed();
    cluster.kubectl("delete pod nobody --ignore-not-found").await.worked();
    cluster.kubectl("delete pods --all").await.worked();
    assert_eq!(cluster.kubectl("get pods -o name").await.worked(), "");
    cluster.kubectl_reading("create -f -", MAP).await.worked();
    let twice = cluster.kubectl_reading("create -f -", MAP).await.failed();
    assert!(twice.contains("AlreadyExists"), "{twice}");
    cluster.kubectl("delete namespace coffer").await.worked();
    cluster.kubectl("get namespace coffer").await.failed();
    cluster.kubectl("get cm map").await.failed();
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_and_top_come_from_the_nodes() {
    let cluster = cluster!("logs, top");
    assert_eq!(cluster.kubectl("logs a").await.worked(), "one\ntwo\nthree\n");
    assert_eq!(cluster.kubectl("logs a -c site --tail=1").await.worked(), "three\n");
    let wrong = cluster.kubectl("logs a -c other").await.failed();
    assert!(wrong.contains("other"), "{wrong}");
    let said = cluster.kubectl("top nodes").await.worked();
    assert!(said.contains("ash") && said.contains("250m"), "{said}");
    let said = cluster.kubectl("top pods").await.worked();
    assert!(said.contains('a') && said.contains("125m") && said.contains("64Mi"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wait_and_explain_answer() {
    let cluster = cluster!("wait, explain");
    cluster.kubectl("wait pod/a --for=condition=Ready --timeout=30s").await.worked();
    let said = cluster.kubectl("wait pod/a --for=delete --timeout=1s").await.failed();
    assert!(said.contains("timed out"), "{said}");
    let said = cluster.kubectl("explain pod.spec").await.worked();
    assert!(said.contains("containers") && said.contains("nodeName"), "{said}");
    let said = cluster.kubectl("explain siteset.spec").await.worked();
    assert!(said.contains("What is wanted of the set.") && said.contains("How many sites."), "{said}");
    let said = cluster.kubectl("explain pdb").await.worked();
    assert!(said.contains("PodDisruptionBudget"), "{said}");
    cluster.kubectl("explain siteset.spec.nothing").await.failed();
}
