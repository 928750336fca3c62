//! What the platform controllers do through the API. A conflict and an object that
//! is gone are no faults: the next look decides anew.

use std::collections::{BTreeSet, HashMap};

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::nodes::Act;
use super::{Fault, Told, budgets};

fn settled<T>(done: Result<T, kube::Error>, deed: &'static str, object: String) -> Result<(), Fault> {
    match done {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(source) => Err(Fault::Request { deed, object, source }),
    }
}

fn only(uid: Option<String>) -> Preconditions {
    Preconditions { uid, resource_version: None }
}

/// Carries out what the lookout decided.
pub(super) async fn act(client: &Client, act: Act) -> Result<(), Fault> {
    let nodes = || Api::<Node>::all(client.clone());
    let pods = |pod: &Pod| Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let how = PatchParams::default();
    match act {
        Act::Conditions(node, conditions) => {
            let change = json!({"metadata": {"resourceVersion": node.resource_version()}, "status": {"conditions": conditions}});
            let done = nodes().patch_status(&node.name_any(), &how, &Patch::Merge(change)).await;
            settled(done, "marking the silence", node.name_any())
        }
        Act::Taints(node, taints) => {
            let change =
                json!({"metadata": {"resourceVersion": node.resource_version()}, "spec": {"taints": taints}});
            let done = nodes().patch(&node.name_any(), &how, &Patch::Merge(change)).await;
            settled(done, "tainting", node.name_any())
        }
        Act::NotReady(pod, conditions) => {
            let change = json!({"metadata": {"resourceVersion": pod.resource_version()}, "status": {"conditions": conditions}});
            let done = pods(&pod).patch_status(&pod.name_any(), &how, &Patch::Merge(change)).await;
            settled(done, "marking unready", pod.name_any())
        }
        Act::Evict(pod) => {
            let how = DeleteParams::default().preconditions(only(pod.uid()));
            settled(pods(&pod).delete(&pod.name_any(), &how).await, "eviction", pod.name_any())
        }
        Act::Force(pod) => {
            let how = DeleteParams::default().grace_period(0).preconditions(only(pod.uid()));
            settled(pods(&pod).delete(&pod.name_any(), &how).await, "removal by force", pod.name_any())
        }
    }
}

/// Writes the status of a budget, unless somebody was quicker.
pub(super) async fn budget(
    client: &Client,
    budget: &PodDisruptionBudget,
    status: PodDisruptionBudgetStatus,
) -> Result<(), Fault> {
    let api = Api::<PodDisruptionBudget>::namespaced(client.clone(), &budget.namespace().unwrap_or_default());
    let changed = PodDisruptionBudget { status: Some(status), ..budget.clone() };
    let done = api.replace_status(&budget.name_any(), &PostParams::default(), &changed).await;
    settled(done, "status of the budget", budget.name_any())
}

/// Makes the slices of one service what they should be.
pub(super) async fn slices(client: &Client, has: &[&EndpointSlice], wanted: Vec<EndpointSlice>, told: &Told) {
    let names: BTreeSet<String> = wanted.iter().map(ResourceExt::name_any).collect();
    for slice in has.iter().filter(|slice| !names.contains(&slice.name_any())) {
        let api = Api::<EndpointSlice>::namespaced(client.clone(), &slice.namespace().unwrap_or_default());
        let how = DeleteParams::default().preconditions(only(slice.uid()));
        if let Err(fault) = settled(api.delete(&slice.name_any(), &how).await, "deletion", slice.name_any()) {
            told(fault);
        }
    }
    for mut slice in wanted {
        let name = slice.name_any();
        let api = Api::<EndpointSlice>::namespaced(client.clone(), &slice.namespace().unwrap_or_default());
        let done = match has.iter().find(|there| there.name_any() == name) {
            Some(there) if same(there, &slice) => continue,
            Some(there) => {
                slice.metadata.resource_version = there.resource_version();
                api.replace(&name, &PostParams::default(), &slice).await
            }
            None => api.create(&PostParams::default(), &slice).await,
        };
        if let Err(fault) = settled(done, "writing endpoints", name) {
            told(fault);
        }
    }
}

fn same(there: &EndpointSlice, wanted: &EndpointSlice) -> bool {
    there.endpoints == wanted.endpoints
        && there.ports.as_deref().unwrap_or_default() == wanted.ports.as_deref().unwrap_or_default()
        && there.address_type == wanted.address_type
        && there.metadata.owner_references == wanted.metadata.owner_references
}

/// How many pods controllers want, asked once a look.
pub(super) struct Scales {
    client: Client,
    /// What kinds are called in paths, by version and kind.
    resources: HashMap<(String, String), ApiResource>,
    /// By uid of the controller.
    known: HashMap<String, Option<i32>>,
}

impl Scales {
    pub(super) fn new(client: Client) -> Self {
        Self { client, resources: HashMap::new(), known: HashMap::new() }
    }

    /// What was asked for the last look is old.
    pub(super) fn forget(&mut self) {
        self.known.clear();
    }

    /// How many pods the controllers of these pods want together.
    pub(super) async fn of(&mut self, namespace: &str, pods: &[&Pod]) -> Result<i32, budgets::Unknown> {
        let mut counted = BTreeSet::new();
        let mut sum = 0_i32;
        for pod in pods {
            let unknown = || budgets::Unknown::NoScale(pod.name_any());
            let owners = pod.owner_references();
            let controller =
                owners.iter().find(|owner| owner.controller == Some(true)).ok_or_else(unknown)?;
            if !counted.insert(&controller.uid) {
                continue;
            }
            let wanted = match self.known.get(&controller.uid) {
                Some(known) => *known,
                None => {
                    let (version, kind) = (&controller.api_version, &controller.kind);
                    let asked = self.ask(namespace, version, kind, &controller.name).await;
                    self.known.insert(controller.uid.clone(), asked);
                    asked
                }
            };
            sum = sum.saturating_add(wanted.ok_or_else(unknown)?);
        }
        Ok(sum)
    }

    async fn ask(&mut self, namespace: &str, version: &str, kind: &str, name: &str) -> Option<i32> {
        let key = (version.to_owned(), kind.to_owned());
        if !self.resources.contains_key(&key) {
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            let gvk = GroupVersionKind::gvk(group, version, kind);
            let (resource, _) = kube::discovery::pinned_kind(&self.client, &gvk).await.ok()?;
            self.resources.insert(key.clone(), resource);
        }
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), namespace, self.resources.get(&key)?);
        let scale: Value = serde_json::to_value(api.get_subresource("scale", name).await.ok()?).ok()?;
        i32::try_from(scale.pointer("/spec/replicas")?.as_i64()?).ok()
    }
}
