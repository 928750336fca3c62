//! What ends by itself: namespaces whose deletion was asked for, events that are old,
//! pods that have finished and are too many.

use std::sync::Arc;
use std::time::Duration;

use coffer_model::{Clock, Timestamp};
use k8s_openapi::api::core::v1::{Event, Namespace, Pod};
use k8s_openapi::jiff;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams, Preconditions};
use kube::core::ApiResource;
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Api, Client, ResourceExt};

use super::{Fault, Settings, Told};

/// How often old events and finished pods are looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// How many objects are read at once.
const PAGE: u32 = 500;

/// Ends things until it is dropped.
pub(super) async fn run(client: &Client, clock: &Arc<dyn Clock>, settings: &Settings, told: &Told) {
    let mut swept: Option<Duration> = None;
    loop {
        tell(told, end_namespaces(client).await);
        let now = clock.monotonic();
        if swept.is_none_or(|swept| now.saturating_sub(swept) >= SWEEP) {
            tell(told, expire_events(client, clock.now(), settings.event_life).await);
            tell(told, sweep_finished(client, settings.finished_pods).await);
            swept = Some(now);
        }
        tokio::time::sleep(settings.period).await;
    }
}

fn tell(told: &Told, done: Result<(), Fault>) {
    if let Err(fault) = done {
        told(fault);
    }
}

/// An object that is gone, or was written meanwhile, is no fault.
fn settled<T>(done: Result<T, kube::Error>, deed: &'static str, object: &str) -> Result<Option<T>, Fault> {
    match done {
        Ok(done) => Ok(Some(done)),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(None),
        Err(source) => Err(Fault::Request { deed, object: object.to_owned(), source }),
    }
}

/// Deletes what is in namespaces that are being deleted, and then lets them go.
async fn end_namespaces(client: &Client) -> Result<(), Fault> {
    let api = Api::<Namespace>::all(client.clone());
    let all = settled(api.list(&ListParams::default()).await, "list", "namespaces")?;
    for namespace in
        all.into_iter().flatten().filter(|namespace| namespace.metadata.deletion_timestamp.is_some())
    {
        end_namespace(client, &api, namespace).await?;
    }
    Ok(())
}

async fn end_namespace(client: &Client, api: &Api<Namespace>, mut namespace: Namespace) -> Result<(), Fault> {
    let name = namespace.name_any();
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.clone()).unwrap_or_default();
    if !finalizers.iter().any(|finalizer| finalizer == "kubernetes") {
        return Ok(());
    }
    let mut left = false;
    for resource in contents(client).await? {
        let inside: Api<DynamicObject> = Api::namespaced_with(client.clone(), &name, &resource);
        let how = DeleteParams::background();
        settled(
            inside.delete_collection(&how, &ListParams::default()).await,
            "deletion of all",
            &resource.plural,
        )?;
        let some = settled(inside.list(&ListParams::default().limit(1)).await, "list", &resource.plural)?;
        left |= some.is_none_or(|some| !some.items.is_empty());
    }
    if left {
        return Ok(());
    }
    if let Some(spec) = &mut namespace.spec {
        spec.finalizers =
            Some(finalizers.into_iter().filter(|finalizer| finalizer != "kubernetes").collect());
    }
    let done = api.replace_subresource("finalize", &name, &PostParams::default(), &namespace).await;
    settled(done, "finalize", &name).map(drop)
}

/// All kinds of which a namespace may have objects.
async fn contents(client: &Client) -> Result<Vec<ApiResource>, Fault> {
    let discovery = Discovery::new(client.clone()).run_aggregated().await.map_err(Fault::Discovery)?;
    let all = discovery.groups().flat_map(|group| group.recommended_resources());
    Ok(all
        .filter(|(_, abilities)| {
            abilities.scope == Scope::Namespaced
                && abilities.supports_operation(verbs::DELETE_COLLECTION)
                && abilities.supports_operation(verbs::LIST)
        })
        .map(|(resource, _)| resource)
        .collect())
}

async fn expire_events(client: &Client, now: Timestamp, life: Duration) -> Result<(), Fault> {
    let api = Api::<Event>::all(client.clone());
    let mut page = ListParams::default().limit(PAGE);
    loop {
        let Some(events) = settled(api.list(&page).await, "list", "events")? else { return Ok(()) };
        for event in events.items.iter().filter(|event| expired(event, now, life)) {
            let inside = Api::<Event>::namespaced(client.clone(), &event.namespace().unwrap_or_default());
            // An event that happened again meanwhile has another version and stays.
            let only = Preconditions { uid: event.uid(), resource_version: event.resource_version() };
            let how = DeleteParams::default().preconditions(only);
            settled(inside.delete(&event.name_any(), &how).await, "expiry", &event.name_any())?;
        }
        match events.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}

/// Whether the event last happened longer ago than events live. One that does
/// not say when it happened is as old as its object.
fn expired(event: &Event, now: Timestamp, life: Duration) -> bool {
    let series =
        event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let last = [
        series,
        event.last_timestamp.as_ref().map(|time| time.0),
        event.event_time.as_ref().map(|time| time.0),
        event.metadata.creation_timestamp.as_ref().map(|time| time.0),
    ];
    let Some(last) = last.into_iter().flatten().max() else { return false };
    let now = jiff::Timestamp::from_nanosecond(i128::from(now.0)).unwrap_or(jiff::Timestamp::MAX);
    now.duration_since(last) > jiff::SignedDuration::try_from(life).unwrap_or(jiff::SignedDuration::MAX)
}

/// Deletes the oldest finished pods beyond those that are kept.
async fn sweep_finished(client: &Client, keep: usize) -> Result<(), Fault> {
    let api = Api::<Pod>::all(client.clone());
    let mut finished = Vec::new();
    for phase in ["Succeeded", "Failed"] {
        let which = ListParams::default().fields(&format!("status.phase={phase}"));
        let Some(pods) = settled(api.list(&which).await, "list", "pods")? else { return Ok(()) };
        finished.extend(pods.items);
    }
    finished.sort_by_key(|pod| pod.metadata.creation_timestamp.clone());
    let surplus = finished.len().saturating_sub(keep);
    for pod in finished.iter().take(surplus) {
        let inside = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
        let only = Preconditions { uid: pod.uid(), resource_version: None };
        let how = DeleteParams::default().grace_period(0).preconditions(only);
        settled(inside.delete(&pod.name_any(), &how).await, "sweeping", &pod.name_any())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_that_happened_again_is_as_young_as_that() {
        let event = |more: serde_json::Value| {
            let mut event = json!({
                "metadata": {"creationTimestamp": "1970-01-01T00:00:00Z"}, "involvedObject": {},
            });
            event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value::<Event>(event).unwrap()
        };
        let old = |event: Event| expired(&event, Timestamp(7_200_000_000_000), Duration::from_secs(3600));
        assert!(old(event(json!({}))));
        assert!(!old(event(json!({"lastTimestamp": "1970-01-01T01:30:00Z"}))));
        assert!(!old(event(
            json!({"series": {"count": 2, "lastObservedTime": "1970-01-01T01:30:00.000000Z"}})
        )));
        assert!(old(event(json!({"eventTime": "1970-01-01T00:30:00.000000Z"}))));
        assert!(!expired(&Event::default(), Timestamp(u64::MAX), Duration::ZERO));
    }
}
