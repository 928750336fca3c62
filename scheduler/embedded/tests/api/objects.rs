//! Objects come, change and go.

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use kube::ResourceExt as _;
use kube::api::{
    DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use serde_json::json;

use crate::fixture::{Fixture, code, node, of, options, pod};

#[tokio::test]
async fn a_pod_that_is_created_can_be_read_listed_changed_and_deleted() {
    let fixture = Fixture::new().await;
    let pods = fixture.pods();
    let made = pods.create(&PostParams::default(), &pod("a")).await.unwrap();
    assert!(made.uid().is_some() && made.resource_version().is_some());
    assert_eq!(made.status.as_ref().unwrap().phase.as_deref(), Some("Pending"));
    let spec = made.spec.as_ref().unwrap();
    assert_eq!(spec.restart_policy.as_deref(), Some("Always"));
    assert_eq!(spec.termination_grace_period_seconds, Some(30));
    assert_eq!(spec.containers[0].image_pull_policy.as_deref(), Some("IfNotPresent"));
    assert_eq!(pods.get("a").await.unwrap(), made);

    let patch = Patch::Merge(json!({"metadata": {"labels": {"app": "other"}}}));
    let changed = pods.patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(changed.labels()["app"], "other");
    assert_ne!(changed.resource_version(), made.resource_version());
    assert_eq!(pods.list(&ListParams::default().labels("app=site")).await.unwrap().items.len(), 0);
    assert_eq!(
        pods.list(&ListParams::default().labels("app!=site,app in (other)")).await.unwrap().items.len(),
        1
    );

    assert_eq!(code(pods.replace("a", &PostParams::default(), &made).await), 409, "an old revision");
    assert_eq!(code(pods.create(&PostParams::default(), &pod("a")).await), 409);
    pods.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(pods.get("a").await), 404);
    assert_eq!(code(pods.delete("a", &DeleteParams::default()).await), 404);
}

#[tokio::test]
async fn a_watch_shows_every_change_from_the_revision_of_the_list_on() {
    let fixture = Fixture::new().await;
    let pods = fixture.pods();
    let listed = pods.list(&ListParams::default()).await.unwrap();
    let from = listed.metadata.resource_version.unwrap();
    pods.create(&PostParams::default(), &pod("a")).await.unwrap();
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"x": "y"}}}));
    pods.patch("a", &PatchParams::default(), &patch).await.unwrap();
    pods.delete("a", &DeleteParams::default()).await.unwrap();
    let mut watch = pods.watch(&WatchParams::default(), &from).await.unwrap().boxed();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.push(match watch.try_next().await.unwrap().unwrap() {
            WatchEvent::Added(pod) => ("added", pod.name_any()),
            WatchEvent::Modified(pod) => ("modified", pod.name_any()),
            WatchEvent::Deleted(pod) => ("deleted", pod.name_any()),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(seen, [("added", "a".into()), ("modified", "a".into()), ("deleted", "a".into())]);
}

#[tokio::test]
async fn a_pod_is_bound_once() {
    let fixture = Fixture::new().await;
    let pods = fixture.pods();
    fixture.nodes().create(&PostParams::default(), &node("n1")).await.unwrap();
    pods.create(&PostParams::default(), &pod("a")).await.unwrap();
    let binding = Binding {
        metadata: ObjectMeta { name: Some("a".into()), ..ObjectMeta::default() },
        target: ObjectReference {
            kind: Some("Node".into()),
            name: Some("n1".into()),
            ..ObjectReference::default()
        },
    };
    let bind = || async {
        let answer: Result<kube::core::Status, _> =
            pods.create_subresource("binding", "a", &PostParams::default(), &binding).await;
        answer
    };
    bind().await.unwrap();
    let bound = pods.get("a").await.unwrap();
    assert_eq!(bound.spec.unwrap().node_name.as_deref(), Some("n1"));
    assert_eq!(code(bind().await), 409);
    let mine = ListParams::default().fields("spec.nodeName=n1");
    assert_eq!(pods.list(&mine).await.unwrap().items.len(), 1);
}

/// The client's worker holds the service until its task has ended.
async fn opened_again(directory: &tempfile::TempDir) -> coffer_embedded::Embedded {
    loop {
        match coffer_embedded::Embedded::open(options(directory)).await {
            Ok(embedded) => break embedded,
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_the_store_is_opened_again() {
    let Fixture { embedded, directory } = Fixture::new().await;
    let pods: kube::Api<Pod> = kube::Api::namespaced(embedded.client(), "default");
    let made = pods
        .create(
            &PostParams::default(),
            &of(json!({
                "metadata": {"generateName": "site-"}, "spec": {"containers": [{"name": "c", "image": "i"}]},
            })),
        )
        .await
        .unwrap();
    assert!(made.name_any().starts_with("site-") && made.name_any().len() == 10);
    drop((pods, embedded));
    let embedded = opened_again(&directory).await;
    let pods: kube::Api<Pod> = kube::Api::namespaced(embedded.client(), "default");
    assert_eq!(pods.get(&made.name_any()).await.unwrap(), made);
}

#[tokio::test]
async fn the_answer_to_a_change_is_what_a_get_shows_in_every_view() {
    let fixture = Fixture::new().await;
    let about = json!({"kind": "Pod", "name": "p", "namespace": "default"});
    let newer = json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "newer"}, "regarding": about, "type": "Normal",
        "reason": "r", "action": "a", "reportingController": "c", "reportingInstance": "i", "eventTime": "2026-01-01T00:00:00.000000Z",
    });
    let older = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "older"}, "involvedObject": about, "type": "Normal", "reason": "r",
    });
    let config =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b"}});
    for (collection, object) in [
        ("/apis/events.k8s.io/v1/namespaces/default/events", newer),
        ("/api/v1/namespaces/default/events", older),
        ("/api/v1/namespaces/default/configmaps", config),
    ] {
        let (status, made) = fixture.send("POST", collection, "application/json", object.to_string()).await;
        assert_eq!(status, 201, "{made}");
        let path = format!("{collection}/{}", object["metadata"]["name"].as_str().unwrap());
        assert_eq!(fixture.send("GET", &path, "", "").await, (200, made));
        let labels = json!({"metadata": {"labels": {"of": "here"}}}).to_string();
        let (status, changed) =
            fixture.send("PATCH", &path, "application/merge-patch+json", labels.clone()).await;
        assert_eq!((status, &changed["metadata"]["labels"]["of"]), (200, &json!("here")));
        assert_eq!(fixture.send("GET", &path, "", "").await, (200, changed.clone()));
        // Nothing changes, and the answer is the same.
        let again = fixture.send("PATCH", &path, "application/merge-patch+json", labels).await;
        assert_eq!(again, (200, changed));
    }
}

#[tokio::test]
async fn every_row_and_every_commit_is_counted() {
    let fixture = Fixture::new().await;
    let (pods, store) = (fixture.pods(), fixture.embedded.store());
    let before = store.figures();
    let names: Vec<String> = (0..40).map(|n| format!("p{n}")).collect();
    let params = PostParams::default();
    let made = names.iter().map(|name| pod(name)).map(|pod| {
        let (pods, params) = (&pods, &params);
        async move { pods.create(params, &pod).await }
    });
    futures::future::try_join_all(made).await.unwrap();
    let figures = store.figures().since(&before);
    assert_eq!(figures.rows, 40);
    assert!((1..=40).contains(&figures.groups) && figures.bytes > 40 * 100, "{figures:?}");
    // A refused change is no row.
    assert_eq!(code(pods.create(&params, &pod("p0")).await), 409);
    assert_eq!(store.figures().since(&before).rows, 40);
}

#[tokio::test]
async fn metadata_alone_is_that_of_the_whole_object_before_and_after_a_start() {
    let fixture = Fixture::new().await;
    fixture.pods().create(&PostParams::default(), &pod("a")).await.unwrap();
    let list = |pods: &kube::Api<Pod>| {
        let pods = pods.clone();
        async move {
            let whole = pods.get("a").await.unwrap().metadata;
            let params = WatchParams::default();
            let mut watch = pods.watch_metadata(&params, "0").await.unwrap().boxed();
            let Some(Ok(WatchEvent::Added(seen))) = watch.next().await else { panic!("nothing was there") };
            (whole, seen.metadata, pods.get_metadata("a").await.unwrap().metadata)
        }
    };
    let (whole, watched, read) = list(&fixture.pods()).await;
    assert_eq!((&whole, &whole), (&watched, &read));
    let directory = fixture.directory;
    drop(fixture.embedded);
    let again = opened_again(&directory).await;
    let (stored, watched, read) = list(&kube::Api::namespaced(again.client(), "default")).await;
    assert_eq!((&stored, &stored, &stored), (&whole, &watched, &read));
}
