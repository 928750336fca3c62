//! The pods of a set: made where one is missing, taken away where one has ended.

use coffer_scheduler::PodId;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, EvictParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::{Value, json};

use super::certificates::CERTIFICATE;
use super::{Look, SetError};
use crate::names::{EPOCH, LABEL_ORDINAL, LABEL_SET, LABEL_SITE, SCHEDULER_NAME, TEMPLATE};
use crate::resources::{Member, SiteSet};
use crate::translate::{self, Phase};

/// Where the bytes of a site are, in its pod.
const DATA_DIR: &str = "/var/lib/coffer/site";
/// Where its certificate is, in its pod.
const CERTIFICATE_DIR: &str = "/etc/coffer/site";

impl Look<'_> {
    pub(super) fn pod_api(&self) -> Api<Pod> {
        Api::namespaced(self.sets.control.client.clone(), &self.namespace)
    }

    /// Makes the pods of members that have none; whether it made or took away any.
    pub(super) async fn make_pods(&mut self) -> Result<bool, SetError> {
        let mut changed = false;
        for (ordinal, pod) in &self.pods {
            let seen = translate::pod(pod);
            if seen.phase == Phase::Ended {
                self.delete(&self.id(*ordinal)).await?;
                changed = true;
            }
        }
        let missing: Vec<u32> = self.status.members.iter().map(|member| member.ordinal).collect();
        let missing = missing.into_iter().filter(|ordinal| !self.pods.contains_key(ordinal));
        let missing: Vec<u32> = missing.filter(|ordinal| self.can_come_back(*ordinal)).collect();
        if missing.is_empty() {
            return Ok(changed);
        }
        for ordinal in &missing {
            let unborne = self.sets.unborne.of(&self.id(*ordinal));
            let member = self.status.members.iter_mut().find(|member| member.ordinal == *ordinal);
            if let Some(member) = member.filter(|member| unborne != Some(member.epoch)) {
                member.epoch = member.epoch.saturating_add(1);
            }
        }
        // Before any pod bears them: no epoch is given twice.
        self.write_status().await?;
        let mut missing = missing.into_iter();
        while let Some(ordinal) = missing.next() {
            if let Err(error) = self.make_pod(ordinal).await {
                // What was refused was never borne; of what broke off otherwise nobody knows.
                let refused = error.is_refusal().then_some(ordinal);
                let left = refused.into_iter().chain(missing);
                let left = left.map(|ordinal| (self.id(ordinal), self.epoch(ordinal)));
                self.sets.unborne.keep(left);
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Pods of before the set's pods stayed under every taint learn to.
    pub(super) async fn let_stay(&self) -> Result<(), SetError> {
        for pod in self.pods.values().filter(|pod| can_be_driven_out(pod)) {
            let mut all = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
            let all = all.try_fold(Vec::new(), |mut list, one| {
                list.push(serde_json::to_value(one)?);
                Ok::<_, serde_json::Error>(list)
            })?;
            let all: Vec<Value> = all.into_iter().chain([stays()]).collect();
            let metadata =
                json!({ "uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version });
            let patch = json!({ "metadata": metadata, "spec": { "tolerations": all } });
            let (api, name, how) = (self.pod_api(), pod.name_any(), PatchParams::default());
            match api.patch(&name, &how, &Patch::Merge(&patch)).await {
                Ok(_) => {}
                // It changed or went meanwhile: with the next look.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn epoch(&self, ordinal: u32) -> u64 {
        let member = self.status.members.iter().find(|member| member.ordinal == ordinal);
        member.map_or(0, |member| member.epoch)
    }

    async fn make_pod(&mut self, ordinal: u32) -> Result<(), SetError> {
        let id = self.id(ordinal);
        let member = self.status.members.iter().find(|member| member.ordinal == ordinal);
        let Some(member) = member else { return Ok(()) };
        let object: Pod = serde_json::from_value(object(&self.object, &id, member))?;
        match self.pod_api().create(&PostParams::default(), &object).await {
            Ok(pod) => {
                self.pods.insert(ordinal, pod);
                self.touched.insert(ordinal);
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error.into()),
        }
        self.sets.unborne.forget(&id);
        Ok(())
    }

    /// A site whose disk is on a node that takes nothing now is not started anew.
    fn can_come_back(&self, ordinal: u32) -> bool {
        let id = self.id(ordinal);
        self.sets.locked(|book| {
            let home = book.ledger().cluster().node_of(&id);
            home.is_none_or(|node| node.ready && !node.cordoned && node.attested.is_some())
        })
    }

    /// Only the pod that this look has seen: who leads in our place by now may have made another.
    fn seen_only(&self, id: &PodId) -> Option<DeleteParams> {
        let uid = self.pods.get(&id.ordinal)?.metadata.uid.clone()?;
        Some(DeleteParams::default().preconditions(Preconditions { uid: Some(uid), resource_version: None }))
    }

    /// Tells a pod to end that was seen; whether none such is left. One that is not there is fine.
    pub(super) async fn delete(&self, id: &PodId) -> Result<bool, SetError> {
        let Some(how) = self.seen_only(id) else { return Ok(true) };
        match self.pod_api().delete(&id.to_string(), &how).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
            // Another pod of this name has come.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a pod down that is missed: by an eviction, so that the budget of the set counts it at once and
    /// nobody else takes another one by a count that is old. Where the budget has nothing to give to anybody the
    /// ledger of shards has the word alone. Whether the pod goes.
    pub(super) async fn take_one(&self, id: &PodId) -> Result<bool, SetError> {
        if self.status.may_lose == 0 {
            return Ok(self.is_shut().await? && self.delete(id).await?);
        }
        let Some(how) = self.seen_only(id) else { return Ok(true) };
        let eviction = EvictParams { delete_options: Some(how), post_options: PostParams::default() };
        match self.pod_api().evict(&id.to_string(), &eviction).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
            // The budget is given to another pod, or is being counted; or this is another pod.
            Err(kube::Error::Api(status)) if matches!(status.code, 409 | 429) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// No taint takes a pod away behind the plan's back, neither one of silence nor an operator's: the plan knows
/// what a pod holds, and for how long a silent node is waited for. It takes every other such taint for a drain.
fn stays() -> Value {
    json!({ "operator": "Exists", "effect": "NoExecute" })
}

/// Whether a taint could take the pod away.
fn can_be_driven_out(pod: &Pod) -> bool {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    !tolerations.iter().any(|one| serde_json::to_value(one).ok() == Some(stays()))
}

/// Where the bytes of a site are below the data of its node, if it has no claim.
pub(super) fn data_path(id: &PodId) -> String {
    format!("site-data/{id}")
}

/// The pod of one site.
fn object(set: &SiteSet, id: &PodId, member: &Member) -> Value {
    let template = &set.spec.template;
    let name = id.to_string();
    let mut tolerations: Vec<Value> = template
        .tolerations
        .iter()
        .map(|one| {
            let operator = if one.value.is_some() { "Equal" } else { "Exists" };
            json!({ "key": one.key, "operator": operator, "value": one.value, "effect": one.effect })
        })
        .collect();
    tolerations.push(stays());
    let data = match &template.storage_class {
        None => json!({ "name": "data", "hostPath": { "path": data_path(id) } }),
        Some(_) => {
            json!({ "name": "data", "persistentVolumeClaim": { "claimName": format!("data-{name}") } })
        }
    };
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": set.metadata.namespace,
            "labels": { LABEL_SET: id.set.as_str(), LABEL_ORDINAL: id.ordinal.to_string(), LABEL_SITE: name },
            "annotations": {
                TEMPLATE: format!("{:016x}", translate::version(template)),
                EPOCH: member.epoch.to_string(),
                CERTIFICATE: member.certificate.to_string(),
            },
            "ownerReferences": set.controller_owner_ref(&()).into_iter().collect::<Vec<_>>(),
        },
        "spec": {
            "schedulerName": SCHEDULER_NAME,
            "restartPolicy": "Always",
            "automountServiceAccountToken": false,
            "enableServiceLinks": false,
            "terminationGracePeriodSeconds": template.termination_grace_seconds,
            "nodeSelector": template.node_selector,
            "tolerations": tolerations,
            "affinity": template.affinity,
            "priorityClassName": template.priority_class_name,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [container(set, &name)],
            "volumes": [
                data,
                { "name": "certificate", "secret": { "secretName": format!("{name}-certificate") } },
            ],
        },
    })
}

/// The site daemon in it.
fn container(set: &SiteSet, name: &str) -> Value {
    let template = &set.spec.template;
    let amounts = json!({
        "cpu": template.resources.cpu,
        "memory": template.resources.memory,
        "fleet.coffer/disk-bytes": template.resources.disk_bytes.to_string(),
        "fleet.coffer/iops": template.resources.iops.to_string(),
    });
    let field = |path: &str| json!({ "fieldRef": { "fieldPath": path } });
    json!({
        "name": "site",
        "image": template.image,
        "args": template.args,
        "env": [
            { "name": "COFFER_SITE", "value": name },
            { "name": "COFFER_DATA_DIR", "value": DATA_DIR },
            { "name": "COFFER_CERTIFICATE_DIR", "value": CERTIFICATE_DIR },
            { "name": "COFFER_PORT", "value": template.port.to_string() },
            { "name": "COFFER_POD_IP", "valueFrom": field("status.podIP") },
        ],
        "ports": [{ "name": "site", "containerPort": template.port, "protocol": "TCP" }],
        "resources": { "requests": amounts, "limits": amounts },
        "readinessProbe": { "tcpSocket": { "port": template.port }, "periodSeconds": 1 },
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "readOnlyRootFilesystem": true,
            "capabilities": { "drop": ["ALL"] },
        },
        "volumeMounts": [
            { "name": "data", "mountPath": DATA_DIR },
            { "name": "certificate", "mountPath": CERTIFICATE_DIR, "readOnly": true },
        ],
    })
}
