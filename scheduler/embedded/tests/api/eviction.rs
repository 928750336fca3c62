//! Evictions obey the budgets of disruption.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{EvictParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::fixture::{Fixture, code, of, pod};

async fn running(fixture: &Fixture, name: &str) {
    let mut pod = pod(name);
    pod.spec.as_mut().unwrap().node_name = Some("n".into());
    fixture.pods().create(&PostParams::default(), &pod).await.unwrap();
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    fixture.pods().patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

async fn budget(fixture: &Fixture, status: Value) -> Api<PodDisruptionBudget> {
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(fixture.embedded.client(), "default");
    let manifest = of(json!({
        "metadata": {"name": "b", "annotations": {"fleet.coffer/budget-reason": "3 objects would be lost"}},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "site"}}},
    }));
    budgets.create(&PostParams::default(), &manifest).await.unwrap();
    budgets
        .patch_status("b", &PatchParams::default(), &Patch::Merge(json!({"status": status})))
        .await
        .unwrap();
    budgets
}

#[tokio::test]
async fn an_eviction_beyond_the_budget_is_refused_and_says_what_would_be_lost() {
    let fixture = Fixture::new().await;
    running(&fixture, "a").await;
    running(&fixture, "b").await;
    let status = json!({"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2});
    let budgets = budget(&fixture, status).await;
    fixture.pods().evict("a", &EvictParams::default()).await.unwrap();
    assert!(fixture.pods().get("a").await.unwrap().metadata.deletion_timestamp.is_some());
    let taken = budgets.get("b").await.unwrap().status.unwrap();
    assert_eq!((taken.disruptions_allowed, taken.disrupted_pods.unwrap().len()), (0, 1));
    let Err(kube::Error::Api(refused)) = fixture.pods().evict("b", &EvictParams::default()).await else {
        panic!()
    };
    let cause = &refused.details.as_ref().unwrap().causes[0];
    assert_eq!((refused.code, cause.reason.as_str()), (429, "DisruptionBudget"));
    assert!(cause.message.contains("3 objects would be lost"), "{}", cause.message);
    // All that `kubectl drain` shows.
    assert!(refused.message.ends_with("b: 3 objects would be lost"), "{}", refused.message);
    assert!(fixture.pods().get("b").await.unwrap().metadata.deletion_timestamp.is_none());
}

#[tokio::test]
async fn a_budget_that_nobody_has_counted_yet_allows_nothing() {
    let fixture = Fixture::new().await;
    running(&fixture, "a").await;
    budget(&fixture, json!({"observedGeneration": 0, "disruptionsAllowed": 5, "currentHealthy": 2, "desiredHealthy": 1, "expectedPods": 2})).await;
    assert_eq!(code(fixture.pods().evict("a", &EvictParams::default()).await), 429);
}

#[tokio::test]
async fn a_pod_that_does_not_run_yet_is_evicted_whatever_the_budget_says() {
    let fixture = Fixture::new().await;
    fixture.pods().create(&PostParams::default(), &pod("p")).await.unwrap();
    budget(&fixture, json!({"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 1, "expectedPods": 1})).await;
    fixture.pods().evict("p", &EvictParams::default()).await.unwrap();
    assert_eq!(code(fixture.pods().get("p").await), 404);
}

#[tokio::test]
async fn of_many_evictions_at_once_no_more_pass_than_the_budget_allows() {
    let fixture = Fixture::new().await;
    for at in 0..8 {
        running(&fixture, &format!("p{at}")).await;
    }
    let status = json!({"observedGeneration": 1, "disruptionsAllowed": 3, "currentHealthy": 8, "desiredHealthy": 5, "expectedPods": 8});
    budget(&fixture, status).await;
    let evictions = (0..8).map(|at| {
        let pods = fixture.pods();
        async move { pods.evict(&format!("p{at}"), &EvictParams::default()).await.is_ok() }
    });
    let passed = futures::future::join_all(evictions).await.into_iter().filter(|passed| *passed).count();
    assert_eq!(passed, 3);
}
