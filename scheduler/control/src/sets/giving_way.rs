//! Room for pods that fit nowhere: pods of others with a lower priority are told to end, as their disruption budgets
//! allow, and it is said of the pods that wait where room is kept for them.

use std::collections::BTreeMap;

use coffer_scheduler::NodeName;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use kube::api::{DeleteParams, EvictParams, Patch, PatchParams, PostParams, Preconditions};
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::{Look, SetError};
use crate::book::Evicted;

impl Look<'_> {
    /// Tells those to end who give way to pods of the set. Nobody else takes pods down meanwhile. What that runs into
    /// is the condition `RoomKept`, and never the end of the look: the set has to be looked after all the same.
    pub(super) async fn make_room(&mut self) {
        let undone = self.sets.changed(|book| book.undone_for(&self.name));
        if let Some(why) = undone {
            self.sets
                .teller
                .tell(self.object.as_ref(), EventType::Warning, ("Preempt", "RoomLost"), &why)
                .await;
        }
        let (kept, evicted, waits_for) = self.sets.locked(|book| {
            let kept = book
                .nomination(&self.name)
                .map(|one| one.claims.iter().map(|claim| (claim.ordinal, claim.node.clone())).collect());
            (kept.unwrap_or_default(), book.evicted_for(&self.name), book.why_not(&self.name))
        });
        let mut troubles = Vec::new();
        if let Err(error) = self.nominate(&kept, waits_for.as_deref().unwrap_or_default()).await {
            troubles.push(format!("it cannot be said where room is kept: {error}"));
        }
        for one in evicted {
            self.busy = true;
            troubles.extend(self.evict(&one).await);
        }
        self.room_kept(&kept, &troubles);
    }

    /// Says of each pod that waits where room is kept for it.
    async fn nominate(&self, kept: &BTreeMap<u32, NodeName>, note: &str) -> Result<(), SetError> {
        for (ordinal, pod) in &self.pods {
            if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
                continue;
            }
            let known = pod.status.as_ref().and_then(|status| status.nominated_node_name.as_deref());
            let node = kept.get(ordinal).map(NodeName::as_str);
            if known.filter(|known| !known.is_empty()) == node {
                continue;
            }
            let patch =
                json!({ "metadata": { "uid": pod.metadata.uid }, "status": { "nominatedNodeName": node } });
            let (api, how) = (self.pod_api(), PatchParams::default());
            match api.patch_status(&pod.name_any(), &how, &Patch::Merge(&patch)).await {
                Ok(_) => {}
                // It is another one by now, or none.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => continue,
                Err(error) => return Err(error.into()),
            }
            if let Some(node) = node {
                let note = format!("room is kept for it on {node}: {note}");
                self.sets.teller.tell(pod, EventType::Normal, ("Preempt", "Nominated"), &note).await;
            }
        }
        Ok(())
    }

    /// What it ran into, if it was nothing that may be expected.
    async fn evict(&self, one: &Evicted) -> Option<String> {
        let pods: Api<Pod> = Api::namespaced(self.sets.control.client.clone(), &one.namespace);
        let uid = Some(one.uid.clone());
        let only = Preconditions { uid: uid.clone(), resource_version: None };
        let how = EvictParams {
            delete_options: Some(DeleteParams::default().preconditions(only)),
            post_options: PostParams::default(),
        };
        let name = one.victim.name.as_str();
        match pods.evict(name, &how).await {
            Ok(_) => {
                let object = ObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(name.to_owned()),
                    namespace: Some(one.namespace.clone()),
                    uid,
                    ..ObjectReference::default()
                };
                let note = format!(
                    "gives way on {} to pods of the site set {}/{}, whose priority is higher than its {}",
                    one.node, self.namespace, self.name, one.priority
                );
                self.sets.teller.tell_of(&object, EventType::Warning, ("Preempt", "Preempted"), &note).await;
            }
            // It has gone, or another one has come in its place.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            // Its budget does not let it go, or there are two of them, which an API answers as a fault of its own, or
            // we may not tell it to: others are looked for.
            Err(kube::Error::Api(status)) => {
                let note = format!("{name} does not give way: {}", status.message);
                self.sets
                    .teller
                    .tell(self.object.as_ref(), EventType::Normal, ("Preempt", "Stays"), &note)
                    .await;
                self.sets.changed(|book| book.does_not_go(one.victim.clone()));
            }
            // Whether it was told is not known: it is told again with the next look.
            Err(error) => return Some(format!("{name} could not be told to give way: {error}")),
        }
        None
    }
}
