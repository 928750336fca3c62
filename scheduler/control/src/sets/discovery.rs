//! Where each site answers: a headless Service for the set, and for each pod an
//! EndpointSlice of its own, so that a server finds its sites wherever they are.

use std::collections::BTreeMap;

use coffer_scheduler::PodId;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Resource as _};
use serde_json::{Value, json};

use super::{Look, SetError};
use crate::names::{EPOCH, FIELD_MANAGER, LABEL_ORDINAL, LABEL_SET, LABEL_SITE, PORT, SITE_ID};
use crate::translate;

impl Look<'_> {
    /// Applies the Service and the slices of pods that have an address.
    pub(super) async fn publish(&mut self) -> Result<(), SetError> {
        let client = self.sets.control.client.clone();
        let services: Api<Service> = Api::namespaced(client.clone(), &self.namespace);
        let name = self.name.to_string();
        if services.get_opt(&name).await?.is_none() {
            services.patch(&name, &apply(), &Patch::Apply(&self.service())).await?;
        }
        let slices: Api<EndpointSlice> = Api::namespaced(client, &self.namespace);
        for (ordinal, pod) in &self.pods {
            // One that has left is nobody's site any more, although it has not ended yet.
            if !self.status.members.iter().any(|member| member.ordinal == *ordinal) {
                continue;
            }
            let Some(mut wanted) = self.slice(*ordinal, pod) else { continue };
            let name = self.id(*ordinal).to_string();
            let known = slices.get_opt(&name).await?.map(serde_json::to_value).transpose()?;
            let said = known.as_ref().and_then(|known| says(known, SITE_ID)).cloned();
            // A pod whose node is not attested any more is the site that it was.
            if says(&wanted, SITE_ID).is_none()
                && let Some(site) = said
                && let Some(Value::Object(annotations)) = wanted.pointer_mut("/metadata/annotations")
            {
                annotations.insert(SITE_ID.to_owned(), site);
            }
            let same = known.is_some_and(|known| {
                let named = |name: &str| says(&known, name) == says(&wanted, name);
                known.get("endpoints") == wanted.get("endpoints")
                    && known.get("ports") == wanted.get("ports")
                    && named(SITE_ID)
                    && named(EPOCH)
            });
            if !same {
                slices.patch(&name, &apply(), &Patch::Apply(&wanted)).await?;
            }
        }
        Ok(())
    }

    /// Nobody answers there any more.
    pub(super) async fn unpublish(&self, id: &PodId) -> Result<(), SetError> {
        let slices: Api<EndpointSlice> = Api::namespaced(self.sets.control.client.clone(), &self.namespace);
        match slices.delete(&id.to_string(), &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn service(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": self.name.as_str(),
                "labels": { LABEL_SET: self.name.as_str() },
                "ownerReferences": self.object.controller_owner_ref(&()).into_iter().collect::<Vec<_>>(),
            },
            // Without a selector: the slices are ours in every home.
            "spec": {
                "clusterIP": "None",
                "ports": [{ "name": "site", "port": self.object.spec.template.port, "protocol": "TCP" }],
            },
        })
    }

    /// Where the site of a pod answers; an agent may have chosen its port.
    fn answers_at(&self, pod: &Pod) -> Option<(String, u16)> {
        let address = pod.status.as_ref()?.pod_ip.clone()?;
        let chosen = pod.metadata.annotations.as_ref().and_then(|all| all.get(PORT)?.parse::<u16>().ok());
        Some((address, chosen.unwrap_or(self.object.spec.template.port)))
    }

    /// The same as a URL.
    pub(super) fn endpoint(&self, ordinal: u32) -> Option<String> {
        let (address, port) = self.answers_at(self.pods.get(&ordinal)?)?;
        let host = if address.contains(':') { format!("[{address}]") } else { address };
        Some(format!("https://{host}:{port}"))
    }

    fn slice(&self, ordinal: u32, pod: &Pod) -> Option<Value> {
        let (address, port) = self.answers_at(pod)?;
        let seen = translate::pod(pod);
        let family = if address.contains(':') { "IPv6" } else { "IPv4" };
        let name = self.id(ordinal).to_string();
        let epoch = pod.metadata.annotations.as_ref().and_then(|all| all.get(EPOCH));
        let said = [(SITE_ID, self.sites.get(&ordinal)), (EPOCH, epoch)];
        let said: BTreeMap<&str, &String> =
            said.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        Some(json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": name,
                "labels": {
                    "kubernetes.io/service-name": self.name.as_str(),
                    "endpointslice.kubernetes.io/managed-by": "fleet.coffer",
                    LABEL_SET: self.name.as_str(),
                    LABEL_ORDINAL: ordinal.to_string(),
                    LABEL_SITE: name,
                },
                "annotations": said,
                "ownerReferences": self.object.controller_owner_ref(&()).into_iter().collect::<Vec<_>>(),
            },
            "addressType": family,
            "endpoints": [{
                "addresses": [address],
                "conditions": {
                    "ready": seen.ready,
                    "serving": seen.ready,
                    "terminating": seen.phase == translate::Phase::Ending,
                },
                "hostname": name,
                "nodeName": seen.node.map(|node| node.to_string()),
                "targetRef": { "kind": "Pod", "name": name, "namespace": self.namespace, "uid": seen.uid },
            }],
            "ports": [{ "name": "site", "port": port, "protocol": "TCP" }],
        }))
    }
}

/// An annotation of a slice.
fn says<'a>(slice: &'a Value, name: &str) -> Option<&'a Value> {
    slice.pointer("/metadata/annotations")?.get(name)
}

pub(super) fn apply() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}
