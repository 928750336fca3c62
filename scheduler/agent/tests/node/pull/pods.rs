//! Pods whose image the agent pulls: started under both runtimes, told in events
//! and states as a kubelet tells them, and let go while the pull goes on.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use coffer_agent::{Registry, RuntimeKind};
use hyper::StatusCode;
use k8s_openapi::api::core::v1::{Event, Secret};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use super::picture::{MANIFEST, Picture};
use super::real::Real;
use super::registry::{Served, status, streamed};
use super::{STUCK, had};
use crate::fleet::{Fleet, Running, ready, waits};

/// An agent that asks this registry.
fn start(fleet: &Fleet, registry: &str, runtime: RuntimeKind) -> Running {
    let registry = Registry::parse(registry).unwrap();
    fleet.start_with(|config| {
        config.registries.registries = vec![registry];
        config.runtime = runtime;
    })
}

/// The container of a pod that runs this image; its program waits.
fn container(picture: &Picture, host: &str) -> Value {
    json!({ "image": format!("{host}/coffer/site@{}", picture.digest) })
}

/// Waits until the pod has an event of that reason whose message has these words.
async fn until_told(fleet: &Fleet, pod: &str, reason: &str, words: &str) {
    let events: Api<Event> = Api::namespaced(fleet.embedded().client(), "coffer");
    let look = async {
        loop {
            let all = events.list(&Default::default()).await.unwrap().items;
            let told = all.iter().any(|event| {
                event.involved_object.name.as_deref() == Some(pod)
                    && event.reason.as_deref() == Some(reason)
                    && event.message.as_ref().is_some_and(|message| message.contains(words))
            });
            if told {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(STUCK, look).await.is_err() {
        let all = events.list(&Default::default()).await.unwrap().items;
        let told: Vec<_> = all.into_iter().map(|event| (event.reason, event.message)).collect();
        panic!("{reason} {words:?} was never told: {told:#?}");
    }
}

/// From a registry to a pod that says that it runs.
async fn runs(fleet: &Fleet, picture: &Picture, host: &str, registry: &str, runtime: RuntimeKind) {
    let agent = start(fleet, registry, runtime);
    fleet.create("pulled", &["wait"], container(picture, host)).await;
    fleet.until("pulled", ready).await;
    fleet.until_says(&agent, "pulled", "ready").await;
    until_told(fleet, "pulled", "Pulling", host).await;
    until_told(fleet, "pulled", "Pulled", "Successfully pulled").await;
    fleet.create("again", &["wait"], container(picture, host)).await;
    fleet.until("again", ready).await;
    until_told(fleet, "again", "Pulled", "already present").await;
    agent.end_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_from_an_image_that_a_registry_has() {
    let Some(fleet) = Fleet::new("pulls").await else { return };
    let picture = Picture::of_sample();
    let registry = Served::honest(&picture).await;
    runs(&fleet, &picture, &registry.host(), &registry.plain(), RuntimeKind::Process).await;
    assert_eq!(registry.asked_for("/manifests/"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_from_a_registry_that_other_people_wrote() {
    let Some(fleet) = Fleet::new("pullsreal").await else { return };
    let Some(real) = Real::start("a pod from a real registry", false).await else { return };
    let picture = Picture::of_sample();
    real.push(&picture).await;
    runs(&fleet, &picture, real.host(), &real.plain(), RuntimeKind::Process).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_of_runc_runs_from_a_registry_that_other_people_wrote() {
    let Some(fleet) = Fleet::new("pullsrunc").await else { return };
    if let Err(reason) = fleet.probe().runc {
        eprintln!("NOT TESTED HERE: a pulled image under runc: {reason}");
        return;
    }
    let Some(real) = Real::start("a container of runc from a real registry", false).await else { return };
    let picture = Picture::of_sample();
    real.push(&picture).await;
    runs(&fleet, &picture, real.host(), &real.plain(), RuntimeKind::Runc).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_cannot_be_had_is_waited_for_and_the_pod_runs_when_it_is_there() {
    let Some(fleet) = Fleet::new("pullsback").await else { return };
    let picture = Picture::of_sample();
    let closed = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let door = std::sync::Arc::clone(&closed);
    let registry = Served::odd(&picture, move |_| {
        door.load(std::sync::atomic::Ordering::SeqCst).then(|| status(StatusCode::SERVICE_UNAVAILABLE))
    })
    .await;
    let agent = start(&fleet, &registry.plain(), RuntimeKind::Process);
    fleet.create("patient", &["wait"], container(&picture, &registry.host())).await;
    fleet.until("patient", |pod| waits(pod, "ErrImagePull")).await;
    fleet.until("patient", |pod| waits(pod, "ImagePullBackOff")).await;
    until_told(&fleet, "patient", "Failed", "Failed to pull image").await;
    until_told(&fleet, "patient", "Failed", "Error: ErrImagePull").await;
    until_told(&fleet, "patient", "BackOff", "Back-off pulling image").await;
    closed.store(false, std::sync::atomic::Ordering::SeqCst);
    fleet.until("patient", ready).await;
    agent.end_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_never_pulls_does_not_and_one_whose_registry_was_not_named_does_not() {
    let Some(fleet) = Fleet::new("pullsnever").await else { return };
    let picture = Picture::of_sample();
    let (registry, other) = (Served::honest(&picture).await, Served::honest(&picture).await);
    let agent = start(&fleet, &registry.plain(), RuntimeKind::Process);
    let mut never = container(&picture, &registry.host());
    never["imagePullPolicy"] = json!("Never");
    fleet.create("never", &["wait"], never.clone()).await;
    fleet.until("never", |pod| waits(pod, "ErrImageNeverPull")).await;
    fleet.create("elsewhere", &["wait"], container(&picture, &other.host())).await;
    fleet.until("elsewhere", |pod| waits(pod, "ImagePullBackOff")).await;
    until_told(&fleet, "elsewhere", "Failed", "--registry").await;
    assert!(registry.seen().is_empty() && other.seen().is_empty());
    // What another pod had pulled is there for it too.
    fleet.create("pulls", &["wait"], container(&picture, &registry.host())).await;
    fleet.until("pulls", ready).await;
    fleet.until("never", ready).await;
    agent.end_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_goes_while_its_image_is_pulled_is_gone_and_the_agent_waits_for_no_registry() {
    let Some(fleet) = Fleet::new("pullsgone").await else { return };
    let picture = Picture::of(b"true");
    let registry = Served::odd(&picture, |_| Some(streamed(MANIFEST, futures::stream::pending()))).await;
    let agent = start(&fleet, &registry.plain(), RuntimeKind::Process);
    fleet.create("hangs", &["wait"], container(&picture, &registry.host())).await;
    until_told(&fleet, "hangs", "Pulling", "").await;
    fleet.delete("hangs").await;
    fleet.until_gone("hangs").await;
    agent.end_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_image_is_pulled_with_the_secret_of_the_pod_and_not_without_it() {
    let Some(fleet) = Fleet::new("pullsecret").await else { return };
    let picture = Picture::of_sample();
    // "alice:secret" in base64.
    let basic = "YWxpY2U6c2VjcmV0";
    let registry = Served::odd(&picture, move |seen| {
        let known = seen.authorization.as_deref() == Some(&format!("Basic {basic}"));
        (!known).then(|| {
            let mut answer = status(StatusCode::UNAUTHORIZED);
            answer.headers_mut().insert("www-authenticate", "Basic realm=\"x\"".parse().unwrap());
            answer
        })
    })
    .await;
    let agent = start(&fleet, &registry.plain(), RuntimeKind::Process);
    let secrets: Api<Secret> = Api::namespaced(fleet.embedded().client(), "coffer");
    let list = json!({ "auths": { (registry.host()): { "auth": basic } } }).to_string();
    for (name, kind, key) in
        [("login", "kubernetes.io/dockerconfigjson", ".dockerconfigjson"), ("another", "Opaque", "password")]
    {
        let secret = json!({ "metadata": { "name": name }, "type": kind, "data": { key: BASE64_STANDARD.encode(&list) } });
        secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    }
    fleet.create("stranger", &["wait"], container(&picture, &registry.host())).await;
    fleet.until("stranger", |pod| waits(pod, "ImagePullBackOff")).await;
    let pull =
        json!({ "imagePullSecrets": [{ "name": "missing" }, { "name": "another" }, { "name": "login" }] });
    fleet.create_with("known", &["wait"], container(&picture, &registry.host()), pull).await;
    fleet.until("known", ready).await;
    until_told(&fleet, "known", "FailedToRetrieveImagePullSecret", "missing").await;
    until_told(&fleet, "known", "FailedToRetrieveImagePullSecret", "another").await;
    assert!(!had().is_empty());
    agent.end_all().await;
}
