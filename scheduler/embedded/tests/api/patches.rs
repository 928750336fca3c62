//! The four ways to say a change.

use k8s_openapi::DeepMerge as _;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, PodSpec};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixture::{Fixture, code, node, of, pod};

fn apply(manager: &str) -> PatchParams {
    PatchParams::apply(manager)
}

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": data})
}

#[tokio::test]
async fn applying_creates_shares_and_takes_back_only_what_is_ones_own() {
    let fixture = Fixture::new().await;
    let maps: Api<ConfigMap> = Api::namespaced(fixture.embedded.client(), "default");
    let patch = |manager: &'static str, data: Value| {
        let maps = maps.clone();
        async move { maps.patch("m", &apply(manager), &Patch::Apply(map(data))).await }
    };
    let made = patch("one", json!({"a": "1", "b": "1"})).await.unwrap();
    assert_eq!(made.data.unwrap().len(), 2);
    let both = patch("two", json!({"b": "1", "c": "2"})).await.unwrap();
    assert_eq!(both.data.unwrap().len(), 3);
    assert_eq!(code(patch("two", json!({"a": "9", "b": "1", "c": "2"})).await), 409);
    // `b` stays, because the other one wants it too; `a` goes.
    let left = patch("one", json!({})).await.unwrap();
    assert_eq!(left.data.unwrap().into_keys().collect::<Vec<_>>(), ["b", "c"]);
    let again = patch("two", json!({"b": "1", "c": "2"})).await.unwrap();
    let more = patch("two", json!({"b": "1", "c": "2"})).await.unwrap();
    assert_eq!(again.resource_version(), more.resource_version(), "nothing changed, nothing is written");
    let forced = maps.patch("m", &apply("one").force(), &Patch::Apply(map(json!({"c": "3"})))).await.unwrap();
    assert_eq!(forced.data.unwrap()["c"], "3");
    assert_eq!(code(patch("two", json!({"b": "1", "c": "2"})).await), 409, "it is one's now");
    let nobody = PatchParams::default();
    assert_eq!(code(maps.patch("m", &nobody, &Patch::Apply(map(json!({})))).await), 400);
}

#[tokio::test]
async fn a_field_that_somebody_changed_otherwise_is_a_conflict_for_its_old_owner() {
    let fixture = Fixture::new().await;
    let maps: Api<ConfigMap> = Api::namespaced(fixture.embedded.client(), "default");
    maps.patch("m", &apply("one"), &Patch::Apply(map(json!({"a": "1"})))).await.unwrap();
    let params = PatchParams { field_manager: Some("hand".into()), ..PatchParams::default() };
    maps.patch("m", &params, &Patch::Merge(json!({"data": {"a": "2"}}))).await.unwrap();
    let refused = maps.patch("m", &apply("one"), &Patch::Apply(map(json!({"a": "1"})))).await;
    let Err(kube::Error::Api(status)) = refused else { panic!() };
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert!(status.message.contains("\"hand\"") && status.message.contains(".data.a"), "{}", status.message);
}

#[tokio::test]
async fn applied_lists_are_told_apart_by_their_keys() {
    let fixture = Fixture::new().await;
    let pods = fixture.pods();
    let manifest = |containers: Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers},
        })
    };
    let both = json!([{"name": "a", "image": "i:1"}, {"name": "b", "image": "i:1"}]);
    pods.patch("p", &apply("one"), &Patch::Apply(manifest(both))).await.unwrap();
    let params = PatchParams { field_manager: Some("other".into()), ..PatchParams::default() };
    let image = json!({"spec": {"containers": [{"name": "b", "image": "i:2"}]}});
    let changed = pods.patch("p", &params, &Patch::Strategic(image)).await.unwrap();
    let images: Vec<_> = changed.spec.unwrap().containers.into_iter().filter_map(|one| one.image).collect();
    assert_eq!(images, ["i:1", "i:2"]);
    let alone = manifest(json!([{"name": "a", "image": "i:1"}, {"name": "b"}]));
    let kept = pods.patch("p", &apply("one"), &Patch::Apply(alone)).await.unwrap();
    assert_eq!(kept.spec.unwrap().containers[1].image.as_deref(), Some("i:2"), "the image is the other's");
}

#[tokio::test]
async fn a_dry_run_answers_as_if_and_changes_nothing() {
    let fixture = Fixture::new().await;
    let maps: Api<ConfigMap> = Api::namespaced(fixture.embedded.client(), "default");
    let before = fixture.embedded.store().revision();
    let made = maps.patch("m", &apply("one").dry_run(), &Patch::Apply(map(json!({"a": "1"})))).await.unwrap();
    assert_eq!(made.data.unwrap()["a"], "1");
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    fixture.pods().create(&dry, &pod("p")).await.unwrap();
    assert_eq!(code(maps.get("m").await), 404);
    assert_eq!(code(fixture.pods().get("p").await), 404);
    assert_eq!(fixture.embedded.store().revision(), before);
}

#[tokio::test]
async fn nodes_are_cordoned_tainted_and_labelled_as_the_tools_do_it() {
    let fixture = Fixture::new().await;
    let nodes = fixture.nodes();
    nodes.create(&PostParams::default(), &node("n")).await.unwrap();
    let strategic = |patch: Value| {
        let nodes = nodes.clone();
        async move { nodes.patch("n", &PatchParams::default(), &Patch::Strategic(patch)).await }
    };
    let cordoned = strategic(json!({"spec": {"unschedulable": true}})).await.unwrap();
    assert_eq!(cordoned.spec.unwrap().unschedulable, Some(true));
    let open = strategic(json!({"spec": {"unschedulable": null}})).await.unwrap();
    assert_eq!(open.spec.unwrap_or_default().unschedulable, None);
    let taint = json!({"key": "k", "effect": "NoSchedule"});
    let tainted = strategic(json!({"spec": {"taints": [taint]}})).await.unwrap();
    assert_eq!(tainted.spec.unwrap().taints.unwrap().len(), 1);
    let odd = json!({"spec": {"taints": [{"key": "k", "effect": "Sometimes"}]}});
    assert_eq!(code(strategic(odd).await), 422);
}

#[tokio::test]
async fn a_json_patch_may_test_that_there_is_nothing_and_fails_as_a_whole() {
    let fixture = Fixture::new().await;
    let pods = fixture.pods();
    pods.create(&PostParams::default(), &pod("p")).await.unwrap();
    let json = |operations: Value| {
        let path = "/api/v1/namespaces/default/pods/p";
        fixture.send("PATCH", path, "application/json-patch+json", operations.to_string())
    };
    let finalizer = json!([
        {"op": "test", "path": "/metadata/finalizers", "value": null},
        {"op": "add", "path": "/metadata/finalizers", "value": ["fleet.coffer/x"]},
    ]);
    assert_eq!(json(finalizer.clone()).await.1["metadata"]["finalizers"], json!(["fleet.coffer/x"]));
    assert_eq!(json(finalizer).await.0, 422);
    let half = json!([
        {"op": "add", "path": "/metadata/labels/x", "value": "y"},
        {"op": "remove", "path": "/metadata/nothing"},
    ]);
    assert_eq!(json(half).await.0, 422);
    assert!(!pods.get("p").await.unwrap().labels().contains_key("x"));
}

#[tokio::test]
async fn status_and_specification_are_changed_apart() {
    let fixture = Fixture::new().await;
    let pods = fixture.pods();
    let made = pods.create(&PostParams::default(), &pod("p")).await.unwrap();
    let both = json!({"metadata": {"labels": {"x": "y"}}, "status": {"phase": "Running"}});
    let main = pods.patch("p", &PatchParams::default(), &Patch::Merge(both.clone())).await.unwrap();
    assert_eq!(main.status.unwrap().phase.as_deref(), Some("Pending"));
    let status = json!({"metadata": {"labels": {"x": "z"}}, "status": {"phase": "Running"}});
    let status = pods.patch_status("p", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    assert_eq!(status.status.as_ref().unwrap().phase.as_deref(), Some("Running"));
    assert_eq!(status.labels()["x"], "y");
    assert_eq!(status.metadata.generation, made.metadata.generation);
    let moved = json!({"spec": {"schedulerName": "other"}});
    assert_eq!(code(pods.patch("p", &PatchParams::default(), &Patch::Merge(moved)).await), 422);
}

fn containers() -> impl Strategy<Value = Value> {
    let one = (0_u8..4, prop::option::of("[a-c]{1,3}"), prop::collection::vec((0_u8..3, "[xy]{1}"), 0..3));
    prop::collection::vec(one, 1..4).prop_map(|containers| {
        let mut seen = std::collections::BTreeSet::new();
        let unique = containers.into_iter().filter(|(name, _, _)| seen.insert(*name));
        let json = unique.map(|(name, image, env)| {
            let mut names = std::collections::BTreeSet::new();
            let env = env.into_iter().filter(|(name, _)| names.insert(*name));
            let env: Vec<Value> =
                env.map(|(name, value)| json!({"name": format!("E{name}"), "value": value})).collect();
            let mut container = json!({"name": format!("c{name}")});
            if let Some(image) = image {
                container["image"] = json!(image);
            }
            if !env.is_empty() {
                container["env"] = json!(env);
            }
            container
        });
        json!({"containers": json.collect::<Vec<_>>()})
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The merge of the published types is the oracle.
    #[test]
    fn a_strategic_merge_does_what_the_types_of_kubernetes_do(mut present in containers(), patch in containers()) {
        for container in present["containers"].as_array_mut().unwrap() {
            container["image"] = json!("i:1");
        }
        let mut expected: PodSpec = of(present.clone());
        expected.merge_from(of(patch.clone()));
        let merged = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let fixture = Fixture::new().await;
            let maps: Api<Pod> = fixture.pods();
            let manifest: Pod = of(json!({"metadata": {"name": "p"}, "spec": present}));
            maps.create(&PostParams::default(), &manifest).await.unwrap();
            let params = PatchParams { dry_run: true, ..PatchParams::default() };
            maps.patch("p", &params, &Patch::Strategic(json!({"spec": patch}))).await
        });
        // Only images of a pod may change: where the types agree on more, the server refuses.
        if let Ok(merged) = merged {
            let brief = |spec: &PodSpec| -> Vec<(String, Option<String>, usize)> {
                let one = |c: &k8s_openapi::api::core::v1::Container| {
                    (c.name.clone(), c.image.clone(), c.env.as_ref().map_or(0, Vec::len))
                };
                spec.containers.iter().map(one).collect()
            };
            prop_assert_eq!(brief(&merged.spec.unwrap()), brief(&expected));
        }
    }

    #[test]
    fn nodes_merge_by_the_keys_of_their_types(kinds in prop::collection::vec(0_u8..3, 0..4), changed in prop::collection::vec(0_u8..4, 0..4)) {
        let conditions = |kinds: &[u8], status: &str| {
            let mut seen = std::collections::BTreeSet::new();
            let unique: Vec<u8> = kinds.iter().copied().filter(|kind| seen.insert(*kind)).collect();
            unique.iter().map(|kind| json!({"type": format!("T{kind}"), "status": status})).collect::<Vec<_>>()
        };
        let (before, patch) = (conditions(&kinds, "True"), conditions(&changed, "False"));
        let mut expected: Node = of(json!({"metadata": {"name": "n"}, "status": {"conditions": before}}));
        let manifest = expected.clone();
        expected.merge_from(of(json!({"metadata": {}, "status": {"conditions": patch}})));
        let merged = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let fixture = Fixture::new().await;
            fixture.nodes().create(&PostParams::default(), &manifest).await.unwrap();
            let patch = Patch::Strategic(json!({"status": {"conditions": patch}}));
            fixture.nodes().patch_status("n", &PatchParams::default(), &patch).await.unwrap()
        });
        let conditions = |node: Node| node.status.and_then(|status| status.conditions).unwrap_or_default();
        prop_assert_eq!(conditions(merged), conditions(expected));
    }
}
