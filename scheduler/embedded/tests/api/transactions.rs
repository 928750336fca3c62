//! Several changes, all or none.

use coffer_embedded::{Change, Refusal};
use kube::api::PostParams;
use serde_json::json;

use crate::fixture::{Fixture, pod};

fn binding(pod: &str) -> Change {
    Change::Bind(
        json!({"metadata": {"name": pod, "namespace": "default"}, "target": {"kind": "Node", "name": "n"}}),
    )
}

fn record(name: &str) -> Change {
    let metadata = json!({"name": name, "namespace": "default"});
    Change::Create(
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"why": "score"}}),
    )
}

#[tokio::test]
async fn a_binding_goes_with_its_record_or_not_at_all() {
    let fixture = Fixture::new().await;
    fixture.pods().create(&PostParams::default(), &pod("a")).await.unwrap();
    let done = fixture.embedded.transaction("coffer", &[binding("a"), record("r1")]).await.unwrap();
    assert_eq!(done.iter().map(|one| &*one.key.resource).collect::<Vec<&str>>(), ["pods", "configmaps"]);
    assert_eq!(done[0].value()["spec"]["nodeName"], "n");
    let before = fixture.embedded.store().revision();
    let again = fixture.embedded.transaction("coffer", &[record("r2"), binding("a")]).await;
    assert!(matches!(again, Err(Refusal::Conflict { .. })));
    let exists = fixture.embedded.transaction("coffer", &[record("r1")]).await;
    assert!(matches!(exists, Err(Refusal::AlreadyExists(_))));
    assert_eq!(fixture.embedded.store().revision(), before, "no record without its binding");
}

#[tokio::test]
async fn of_two_transactions_that_take_the_same_capacity_one_is_refused() {
    let fixture = Fixture::new().await;
    let made = fixture.embedded.transaction("coffer", &[record("capacity")]).await.unwrap();
    let take = |by: &str| {
        let mut object = made[0].value();
        object["data"]["taken"] = json!(by);
        Change::Replace(object)
    };
    for name in ["a", "b"] {
        fixture.pods().create(&PostParams::default(), &pod(name)).await.unwrap();
    }
    let (a, b) = ([binding("a"), take("a")], [binding("b"), take("b")]);
    let (first, second) =
        tokio::join!(fixture.embedded.transaction("coffer", &a), fixture.embedded.transaction("coffer", &b));
    assert_eq!([first.is_ok(), second.is_ok()].iter().filter(|ok| **ok).count(), 1);
    let bound =
        fixture.pods().list(&kube::api::ListParams::default().fields("spec.nodeName=n")).await.unwrap();
    assert_eq!(bound.items.len(), 1);
}

#[tokio::test]
async fn a_transaction_that_takes_the_last_finalizer_off_deletes_what_is_being_deleted() {
    let fixture = Fixture::new().await;
    let metadata = json!({"name": "held", "namespace": "default", "finalizers": ["fleet.coffer/x"]});
    let held = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
    fixture.embedded.transaction("coffer", &[Change::Create(held)]).await.unwrap();
    let path = "/api/v1/namespaces/default/configmaps/held";
    let (_, mut marked) = fixture.send("DELETE", path, "", "").await;
    assert!(marked["metadata"]["deletionTimestamp"].is_string(), "{marked}");
    marked["metadata"]["finalizers"] = json!([]);
    let done = fixture.embedded.transaction("coffer", &[Change::Replace(marked), record("r")]).await.unwrap();
    assert_eq!(done.len(), 2, "the object as it was last, and the record");
    assert_eq!(fixture.send("GET", path, "", "").await.0, 404);
}
