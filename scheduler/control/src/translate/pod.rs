//! A pod of the API: one of a site set, or somebody else's that only takes room.

use std::collections::BTreeMap;

use coffer_scheduler::{Affinity, Effect, NodeName, Pod, PodId, Resources, Space, Toleration};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{AffinityError, QuantityError, affinity, millis, whole};
use crate::names::{DISK_BYTES, IOPS, LABEL_ORDINAL, LABEL_SET, LABEL_SITE, SCHEDULER_NAME, TEMPLATE};

/// Why a pod that asks to be placed here is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PodRefusal {
    /// Its labels do not say which site it is.
    #[error(
        "a pod with the scheduler coffer needs the labels fleet.coffer/site-set and fleet.coffer/ordinal, and the name SET-ORDINAL"
    )]
    Site,
    /// What it needs cannot be read.
    #[error("what the pod needs of {0} cannot be read: {1}")]
    Amount(&'static str, QuantityError),
    /// It asks for a placement that is not supported, which would be silently left aside.
    #[error("the pod has {0}, which the fleet's scheduler does not support; say it in the site set")]
    Unsupported(&'static str),
    /// It asks for a place that cannot be read, or in a way that nobody would keep.
    #[error(transparent)]
    Affinity(#[from] AffinityError),
}

/// Whose a pod is.
#[derive(Clone, Debug, PartialEq)]
pub enum Whose {
    /// Of a site set.
    Ours(PodId),
    /// Not placed here.
    Foreign,
    /// It asks to be placed here, and cannot be.
    Refused(PodRefusal),
}

/// How far a pod has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It exists, and may run.
    Alive,
    /// It is told to end.
    Ending,
    /// It ended: it holds nothing any more.
    Ended,
}

/// A pod, as far as it matters here.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenPod {
    /// Whose it is.
    pub whose: Whose,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid: a pod that comes again under its name is another one.
    pub uid: String,
    /// Its namespace, as affinities know it.
    pub space: Space,
    /// For the scheduler. Of a foreign one only what it needs, and what others have to know of it.
    pub pod: Pod,
    /// The node that it is bound to.
    pub node: Option<NodeName>,
    /// The node where room is kept for it.
    pub nominated: Option<NodeName>,
    /// How far it has come.
    pub phase: Phase,
    /// It asks for the scheduler of site sets: what it is bound to is its disk, whichever fleet's it is.
    pub is_site: bool,
    /// It serves.
    pub ready: bool,
    /// The version of its set's template that it was made from.
    pub version: Option<u64>,
}

/// Reads a pod as the fleet of its own namespace sees it.
pub fn pod(object: &core::Pod) -> SeenPod {
    pod_in(object, object.metadata.namespace.as_deref().unwrap_or_default())
}

/// Reads a pod as the fleet of a namespace sees it: those elsewhere are another fleet's, and only take room. What a
/// foreign pod needs counts as nothing where it cannot be read.
pub fn pod_in(object: &core::Pod, fleet: &str) -> SeenPod {
    let spec = object.spec.as_ref();
    let status = object.status.as_ref();
    let namespace = object.metadata.namespace.clone().unwrap_or_default();
    let asks = spec.and_then(|spec| spec.scheduler_name.as_deref()) == Some(SCHEDULER_NAME);
    let ours = asks && namespace == fleet;
    let (whose, needs) = match (ours.then(|| id(object)), needs(object)) {
        (None, needs) => (Whose::Foreign, needs.unwrap_or_default()),
        (Some(None), needs) => (Whose::Refused(PodRefusal::Site), needs.unwrap_or_default()),
        (Some(Some(_)), Err(why)) => (Whose::Refused(why), Resources::default()),
        (Some(Some(id)), Ok(needs)) => match spec.and_then(unsupported) {
            Some(what) => (Whose::Refused(PodRefusal::Unsupported(what)), needs),
            None => (Whose::Ours(id), needs),
        },
    };
    let asked = spec.and_then(|spec| spec.affinity.as_ref());
    let (whose, wanted) = match own_affinity(&whose, object, asked, fleet) {
        Ok(wanted) => (whose, wanted),
        Err(why) => (Whose::Refused(why.into()), None),
    };
    let is_ours = matches!(whose, Whose::Ours(_));
    let ordinal = match &whose {
        Whose::Ours(id) => id.ordinal,
        _ => 0,
    };
    let ended = matches!(status.and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"));
    let phase = match (ended, object.metadata.deletion_timestamp.is_some()) {
        (true, _) => Phase::Ended,
        (false, true) => Phase::Ending,
        (false, false) => Phase::Alive,
    };
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
    let node = spec.and_then(|spec| spec.node_name.as_deref()).filter(|name| !name.is_empty());
    let annotations = object.metadata.annotations.as_ref();
    let version = annotations.and_then(|all| u64::from_str_radix(all.get(TEMPLATE)?, 16).ok());
    let tolerations = spec.and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    SeenPod {
        whose,
        space: Space::Named(namespace.clone()).in_fleet(fleet),
        namespace,
        name: object.metadata.name.clone().unwrap_or_default(),
        uid: object.metadata.uid.clone().unwrap_or_default(),
        pod: Pod {
            ordinal,
            needs,
            selector: spec.and_then(|spec| spec.node_selector.clone()).unwrap_or_default(),
            tolerations: tolerations.iter().filter_map(toleration).collect(),
            home: None,
            labels: labels(object, is_ours),
            affinity: wanted,
            priority: spec.and_then(|spec| spec.priority).unwrap_or_default(),
            waits: spec.and_then(|spec| spec.preemption_policy.as_deref()) == Some("Never"),
        },
        node: node.and_then(|name| name.parse().ok()),
        nominated: status.and_then(|status| status.nominated_node_name.as_deref()?.parse().ok()),
        phase,
        is_site: asks,
        ready: ready && phase == Phase::Alive,
        version,
    }
}

/// Where it demands or prefers to be; of a foreign one whom it does not want near.
fn own_affinity(
    whose: &Whose,
    object: &core::Pod,
    asked: Option<&core::Affinity>,
    fleet: &str,
) -> Result<Option<Box<Affinity>>, AffinityError> {
    if asked.is_none() {
        return Ok(None);
    }
    match whose {
        Whose::Ours(id) => affinity::of_set(asked, fleet, id.set.as_str(), &labels(object, true)),
        _ => Ok(affinity::of_other(asked, object.metadata.namespace.as_deref().unwrap_or_default(), fleet)),
    }
}

/// Its labels; of one of ours those beside what every pod of a set has.
fn labels(object: &core::Pod, ours: bool) -> BTreeMap<String, String> {
    let said_otherwise = |key: &str| ours && [LABEL_SET, LABEL_ORDINAL, LABEL_SITE].contains(&key);
    let labels = object.metadata.labels.iter().flatten().filter(|(key, _)| !said_otherwise(key));
    labels.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Which site it is; its name must say the same as its labels.
fn id(object: &core::Pod) -> Option<PodId> {
    let labels = object.metadata.labels.as_ref()?;
    let set = labels.get(LABEL_SET)?.parse().ok()?;
    let ordinal = labels.get(LABEL_ORDINAL)?.parse().ok()?;
    let id = PodId { set, ordinal };
    (object.metadata.name.as_deref() == Some(id.to_string().as_str())).then_some(id)
}

fn needs(object: &core::Pod) -> Result<Resources, PodRefusal> {
    let mut sum = Resources::default();
    for container in object.spec.iter().flat_map(|spec| &spec.containers) {
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let read = |name: &'static str, unit: fn(&Quantity) -> Result<u64, QuantityError>| {
            let amount = requests.and_then(|requests| requests.get(name));
            amount.map_or(Ok(0), |amount| unit(amount).map_err(|why| PodRefusal::Amount(name, why)))
        };
        sum = sum.plus(&Resources {
            cpu_millis: read("cpu", millis)?,
            memory_bytes: read("memory", whole)?,
            disk_bytes: read(DISK_BYTES, whole)?,
            iops: read(IOPS, whole)?,
        });
    }
    Ok(sum)
}

/// What a pod can ask for and a site set cannot.
fn unsupported(spec: &core::PodSpec) -> Option<&'static str> {
    if spec.topology_spread_constraints.as_ref().is_some_and(|some| !some.is_empty()) {
        Some("spec.topologySpreadConstraints")
    } else if spec.init_containers.as_ref().is_some_and(|some| !some.is_empty()) {
        Some("spec.initContainers")
    } else {
        None
    }
}

/// Those without a key tolerate everything, which no site set says, and are left aside.
fn toleration(toleration: &core::Toleration) -> Option<Toleration> {
    let effect = match toleration.effect.as_deref() {
        None | Some("") => None,
        Some("NoSchedule") => Some(Effect::NoSchedule),
        Some("NoExecute") => Some(Effect::NoExecute),
        Some(_) => return None,
    };
    let exists = toleration.operator.as_deref() == Some("Exists");
    let value = (!exists).then(|| toleration.value.clone().unwrap_or_default());
    toleration.key.clone().filter(|key| !key.is_empty()).map(|key| Toleration { key, value, effect })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(change: impl FnOnce(&mut Value)) -> SeenPod {
        let mut value = json!({
            "metadata": { "name": "gold-3", "namespace": "coffer", "uid": "u",
                "labels": { LABEL_SET: "gold", LABEL_ORDINAL: "3" }, "annotations": { TEMPLATE: "ff" } },
            "spec": { "schedulerName": "coffer", "containers": [{ "name": "site", "resources": {
                "requests": { "cpu": "250m", "memory": "64Mi", "fleet.coffer/disk-bytes": "5", "fleet.coffer/iops": "1" } } }] },
            "status": { "phase": "Running", "conditions": [{ "type": "Ready", "status": "True" }] },
        });
        change(&mut value);
        pod(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn a_pod_of_a_set_is_read_whole() {
        let seen = of(|_| ());
        assert_eq!(seen.whose, Whose::Ours(PodId { set: "gold".parse().unwrap(), ordinal: 3 }));
        let needs = Resources { cpu_millis: 250, memory_bytes: 64 << 20, disk_bytes: 5, iops: 1 };
        assert_eq!(
            (seen.pod.needs, seen.phase, seen.ready, seen.version),
            (needs, Phase::Alive, true, Some(255))
        );
    }

    #[test]
    fn a_pod_that_claims_anothers_number_is_no_site() {
        let seen = of(|value| value["metadata"]["labels"][LABEL_ORDINAL] = json!("2"));
        assert_eq!(seen.whose, Whose::Refused(PodRefusal::Site));
        assert_eq!(
            of(|value| value["metadata"]["labels"] = json!({})).whose,
            Whose::Refused(PodRefusal::Site)
        );
    }

    #[test]
    fn a_wish_that_nobody_would_keep_is_refused_by_name() {
        let spread = json!([{ "topologyKey": "rack", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule" }]);
        let seen = of(|value| value["spec"]["topologySpreadConstraints"] = spread);
        assert_eq!(seen.whose, Whose::Refused(PodRefusal::Unsupported("spec.topologySpreadConstraints")));
        let keyed = json!([{ "topologyKey": "rack", "matchLabelKeys": ["x"], "labelSelector": {} }]);
        let apart = json!({ "requiredDuringSchedulingIgnoredDuringExecution": keyed });
        let seen = of(|value| value["spec"]["affinity"] = json!({ "podAntiAffinity": apart }));
        assert!(matches!(seen.whose, Whose::Refused(PodRefusal::Affinity(AffinityError::Unsupported(_)))));
        let seen = of(|value| value["spec"]["containers"][0]["resources"]["requests"]["cpu"] = json!("much"));
        assert!(matches!(seen.whose, Whose::Refused(PodRefusal::Amount("cpu", _))));
    }

    #[test]
    fn a_pod_of_another_scheduler_is_foreign_and_takes_its_room() {
        let seen = of(|value| value["spec"]["schedulerName"] = json!("default-scheduler"));
        assert_eq!((seen.whose, seen.pod.needs.cpu_millis), (Whose::Foreign, 250));
    }

    #[test]
    fn what_a_pod_wishes_and_may_take_is_read_with_it() {
        let term = json!({ "topologyKey": "kubernetes.io/hostname",
            "labelSelector": { "matchLabels": { "fleet.coffer/site-set": "silver" } } });
        let seen = of(|value| {
            let apart = json!({ "requiredDuringSchedulingIgnoredDuringExecution": [term] });
            value["spec"]["affinity"] = json!({ "podAntiAffinity": apart });
            value["spec"]["priority"] = json!(7);
            value["spec"]["preemptionPolicy"] = json!("Never");
            value["metadata"]["labels"]["color"] = json!("red");
        });
        assert_eq!((seen.pod.priority, seen.pod.waits, seen.space), (7, true, Space::Fleet));
        assert_eq!(seen.pod.affinity.unwrap().apart[0].spaces, [Space::Fleet].into());
        assert_eq!(seen.pod.labels, [("color".to_owned(), "red".to_owned())].into());
    }

    #[test]
    fn a_pod_that_is_told_to_end_serves_no_more_and_one_that_ended_holds_nothing() {
        let seen = of(|value| value["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
        assert_eq!((seen.phase, seen.ready), (Phase::Ending, false));
        let seen = of(|value| value["status"]["phase"] = json!("Failed"));
        assert_eq!((seen.phase, seen.ready), (Phase::Ended, false));
    }
}
