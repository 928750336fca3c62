//! Which pods stand behind a service: the EndpointSlices that it should have.

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

/// The label by which a slice names its service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The label by which a slice names who made it, and its value here.
pub const MANAGED_BY: (&str, &str) = ("endpointslice.kubernetes.io/managed-by", "platform.fleet.coffer");
/// How many endpoints go into one slice.
const PER_SLICE: usize = 1000;

/// The slices of the service, given all pods. None for a service that selects
/// nothing, whose slices are somebody else's. At least one otherwise, so that
/// whoever looks finds that there is no endpoint.
#[must_use]
pub fn slices(service: &Service, pods: &[&Pod]) -> Option<Vec<EndpointSlice>> {
    let spec = service.spec.as_ref()?;
    let selector = spec.selector.as_ref().filter(|selector| !selector.is_empty())?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    let namespace = service.namespace();
    let mut behind: Vec<&Pod> = pods
        .iter()
        .filter(|pod| pod.namespace() == namespace)
        .filter(|pod| selector.iter().all(|(name, value)| pod.labels().get(name) == Some(value)))
        .copied()
        .collect();
    behind.sort_by_key(|pod| pod.name_any());
    let ports = spec.ports.as_deref().unwrap_or_default();
    let anyway = spec.publish_not_ready_addresses.unwrap_or(false);
    let mut made = Vec::new();
    for family in ["IPv4", "IPv6"] {
        // Pods that number a named port differently go into slices of their own.
        let mut groups: Vec<(Vec<EndpointPort>, Vec<Endpoint>)> = Vec::new();
        for pod in &behind {
            let Some(endpoint) = endpoint(pod, family, anyway) else { continue };
            let ports: Vec<EndpointPort> = ports.iter().filter_map(|port| resolved(port, pod)).collect();
            match groups.iter_mut().find(|(known, _)| *known == ports) {
                Some((_, endpoints)) => endpoints.push(endpoint),
                None => groups.push((ports, vec![endpoint])),
            }
        }
        for (ports, endpoints) in groups {
            for some in endpoints.chunks(PER_SLICE) {
                made.push(slice(service, made.len(), family, ports.clone(), some.to_vec()));
            }
        }
    }
    if made.is_empty() {
        made.push(slice(service, 0, "IPv4", Vec::new(), Vec::new()));
    }
    Some(made)
}

fn slice(
    service: &Service,
    number: usize,
    family: &str,
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
) -> EndpointSlice {
    let name = service.name_any();
    let labels = [(SERVICE_NAME, name.as_str()), MANAGED_BY];
    EndpointSlice {
        address_type: family.to_owned(),
        metadata: ObjectMeta {
            name: Some(if number == 0 {
                format!("{name}-endpoints")
            } else {
                format!("{name}-endpoints-{number}")
            }),
            namespace: service.namespace(),
            labels: Some(
                labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            ),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Service".to_owned(),
                name,
                uid: service.uid().unwrap_or_default(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        ports: Some(ports),
        endpoints,
    }
}

/// A pod as an endpoint; None if it has no address of that family or has ended.
fn endpoint(pod: &Pod, family: &str, anyway: bool) -> Option<Endpoint> {
    let status = pod.status.as_ref()?;
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    let address = status.pod_ip.as_deref().filter(|address| !address.is_empty())?;
    if address.contains(':') != (family == "IPv6") {
        return None;
    }
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let terminating = pod.metadata.deletion_timestamp.is_some();
    Some(Endpoint {
        addresses: vec![address.to_owned()],
        conditions: Some(EndpointConditions {
            ready: Some(anyway || (ready && !terminating)),
            serving: Some(ready),
            terminating: Some(terminating),
        }),
        node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        target_ref: Some(k8s_openapi::api::core::v1::ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.namespace(),
            name: Some(pod.name_any()),
            uid: pod.uid(),
            ..Default::default()
        }),
        ..Endpoint::default()
    })
}

/// The port of the pod that a port of the service leads to; None if it is
/// named and the pod has none of that name.
fn resolved(port: &ServicePort, pod: &Pod) -> Option<EndpointPort> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => pod
            .spec
            .iter()
            .flat_map(|spec| &spec.containers)
            .flat_map(|container| container.ports.iter().flatten())
            .find(|known| {
                known.name.as_ref() == Some(name) && known.protocol.as_deref().unwrap_or("TCP") == protocol
            })
            .map(|known| known.container_port)?,
    };
    Some(EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(number),
        protocol: Some(protocol.to_owned()),
        app_protocol: port.app_protocol.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn made<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    fn service(spec: Value) -> Service {
        made(json!({"metadata": {"name": "sites", "namespace": "coffer", "uid": "s"}, "spec": spec}))
    }

    fn pod(name: &str, ready: bool, more: Value) -> Pod {
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "coffer", "labels": {"app": "site"}},
            "spec": {"containers": [{"name": "site", "ports": [{"name": "grpc", "containerPort": 7443}]}]},
            "status": {"podIP": "10.0.0.1", "phase": "Running",
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]},
        });
        for (at, value) in more.as_object().unwrap() {
            *pod.pointer_mut(at).unwrap() = value.clone();
        }
        made(pod)
    }

    fn spec() -> Value {
        json!({"selector": {"app": "site"}, "ports": [{"name": "grpc", "port": 443, "targetPort": "grpc"}]})
    }

    #[test]
    fn pods_of_other_labels_other_namespaces_without_address_or_ended_are_no_endpoints() {
        let pods = [
            pod("label", true, json!({"/metadata/labels/app": "other"})),
            pod("namespace", true, json!({"/metadata/namespace": "other"})),
            pod("address", true, json!({"/status/podIP": ""})),
            pod("ended", true, json!({"/status/phase": "Failed"})),
        ];
        let made = slices(&service(spec()), &pods.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(made.len(), 1);
        assert_eq!(made[0].endpoints, []);
    }

    #[test]
    fn a_pod_that_is_not_ready_is_listed_and_not_ready() {
        let pods = [pod("a", true, json!({})), pod("b", false, json!({}))];
        let made = slices(&service(spec()), &pods.iter().collect::<Vec<_>>()).unwrap();
        let ready: Vec<_> =
            made[0].endpoints.iter().map(|e| e.conditions.as_ref().unwrap().ready.unwrap()).collect();
        assert_eq!(ready, [true, false]);
        assert_eq!(made[0].ports.as_ref().unwrap()[0].port, Some(7443));
        assert_eq!(made[0].metadata.labels.as_ref().unwrap()[SERVICE_NAME], "sites");
    }

    #[test]
    fn a_service_without_selector_has_no_slices_of_ours() {
        assert_eq!(slices(&service(json!({"ports": [{"port": 1}]})), &[]), None);
        assert_eq!(slices(&service(json!({"type": "ExternalName", "selector": {"a": "b"}})), &[]), None);
    }

    #[test]
    fn pods_that_number_a_port_differently_are_told_apart() {
        let pods = [
            pod("a", true, json!({})),
            pod("b", true, json!({"/spec/containers/0/ports/0/containerPort": 9})),
        ];
        let made = slices(&service(spec()), &pods.iter().collect::<Vec<_>>()).unwrap();
        assert_eq!(made.len(), 2);
        assert_ne!(made[0].metadata.name, made[1].metadata.name);
    }
}
