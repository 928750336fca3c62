//! What holds an object back, and for how long.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use crate::fixture::{Fixture, code, of, pod};

#[tokio::test]
async fn a_finalizer_holds_an_object_until_it_is_taken_off() {
    let fixture = Fixture::new().await;
    let maps: Api<ConfigMap> = Api::namespaced(fixture.embedded.client(), "default");
    let map = of(json!({"metadata": {"name": "m", "finalizers": ["fleet.coffer/x"]}}));
    maps.create(&PostParams::default(), &map).await.unwrap();
    let marked = maps.delete("m", &DeleteParams::default()).await.unwrap().left().unwrap();
    assert!(marked.metadata.deletion_timestamp.is_some());
    let more = json!({"metadata": {"finalizers": ["fleet.coffer/x", "fleet.coffer/y"]}});
    assert_eq!(code(maps.patch("m", &PatchParams::default(), &Patch::Merge(more)).await), 422);
    let none = json!({"metadata": {"finalizers": null}});
    maps.patch("m", &PatchParams::default(), &Patch::Merge(none)).await.unwrap();
    assert_eq!(code(maps.get("m").await), 404);
}

#[tokio::test]
async fn a_bound_pod_goes_when_its_node_says_so_or_at_once_by_force() {
    let fixture = Fixture::new().await;
    let pods = fixture.pods();
    for name in ["graceful", "forced", "unbound", "over"] {
        let mut pod = pod(name);
        if name != "unbound" {
            pod.spec.as_mut().unwrap().node_name = Some("n".into());
        }
        pods.create(&PostParams::default(), &pod).await.unwrap();
    }
    let marked =
        pods.delete("graceful", &DeleteParams::default().grace_period(7)).await.unwrap().left().unwrap();
    assert_eq!(marked.metadata.deletion_grace_period_seconds, Some(7));
    let longer =
        pods.delete("graceful", &DeleteParams::default().grace_period(70)).await.unwrap().left().unwrap();
    assert_eq!(longer.metadata.deletion_grace_period_seconds, Some(7), "a second deletion never delays");
    pods.delete("graceful", &DeleteParams::default().grace_period(0)).await.unwrap();
    assert_eq!(code(pods.get("graceful").await), 404);
    pods.delete("forced", &DeleteParams::default().grace_period(0)).await.unwrap();
    pods.delete("unbound", &DeleteParams::default()).await.unwrap();
    let over = json!({"status": {"phase": "Succeeded"}});
    pods.patch_status("over", &PatchParams::default(), &Patch::Merge(over)).await.unwrap();
    pods.delete("over", &DeleteParams::default()).await.unwrap();
    assert!(pods.list(&ListParams::default()).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_deletion_of_another_object_of_the_same_name_is_refused() {
    let fixture = Fixture::new().await;
    let pods = fixture.pods();
    let made = pods.create(&PostParams::default(), &pod("a")).await.unwrap();
    let with = |uid: &str| DeleteParams {
        preconditions: Some(Preconditions { uid: Some(uid.to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    assert_eq!(code(pods.delete("a", &with("other")).await), 409);
    pods.delete("a", &with(&made.uid().unwrap())).await.unwrap();
}

#[tokio::test]
async fn a_collection_is_deleted_as_far_as_the_selector_goes() {
    let fixture = Fixture::new().await;
    let pods = fixture.pods();
    for name in ["a", "b", "c"] {
        let mut pod = pod(name);
        pod.metadata.labels = Some([("n".to_owned(), name.to_owned())].into());
        pods.create(&PostParams::default(), &pod).await.unwrap();
    }
    pods.delete_collection(&DeleteParams::default(), &ListParams::default().labels("n in (a,b)"))
        .await
        .unwrap();
    let left = pods.list(&ListParams::default()).await.unwrap();
    assert_eq!(left.items.iter().map(|pod| pod.name_any()).collect::<Vec<_>>(), ["c"]);
}

#[tokio::test]
async fn nothing_is_made_in_a_namespace_that_is_missing_or_going() {
    let fixture = Fixture::new().await;
    let client = fixture.embedded.client();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let maps: Api<ConfigMap> = Api::namespaced(client, "ns");
    let map: ConfigMap = of(json!({"metadata": {"name": "m"}}));
    assert_eq!(code(maps.create(&PostParams::default(), &map).await), 404);
    namespaces.create(&PostParams::default(), &of(json!({"metadata": {"name": "ns"}}))).await.unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    namespaces.delete("ns", &DeleteParams::default()).await.unwrap();
    let going = namespaces.get("ns").await.unwrap();
    assert_eq!(going.status.unwrap().phase.as_deref(), Some("Terminating"));
    let other: ConfigMap = of(json!({"metadata": {"name": "n"}}));
    assert_eq!(code(maps.create(&PostParams::default(), &other).await), 403);
    let done = json!({"metadata": {"name": "ns"}, "spec": {"finalizers": []}}).to_string();
    let (status, _) = fixture.send("PUT", "/api/v1/namespaces/ns/finalize", "application/json", done).await;
    assert_eq!(status, 200);
    assert_eq!(code(namespaces.get("ns").await), 404);
    assert_eq!(code(namespaces.delete("default", &DeleteParams::default()).await), 403);
}
