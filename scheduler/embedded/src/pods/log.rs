//! The log of a container, from the node that runs it.

use futures::StreamExt as _;
use http::Response;
use serde_json::Value;

use crate::api::Api;
use crate::node_access::{LogRequest, NodeAccessError};
use crate::object::{elements, field, text};
use crate::refusal::{Cause, Fault, Refusal};
use crate::reply::{Body, Endless, stream};
use crate::request::{Objects, Query};

impl Api {
    /// Streams the log that the request names.
    pub(crate) async fn logs(&self, objects: &Objects, query: &Query) -> Result<Response<Body>, Refusal> {
        let resource = &objects.resource;
        let name = objects.name.clone().unwrap_or_default();
        let pod = self
            .get(resource, &objects.namespace, &name)
            .ok_or_else(|| Refusal::NotFound(resource.subject(&name)))?;
        let invalid = |field: &str, message: String| Refusal::Invalid {
            subject: resource.subject_by_kind(&name),
            causes: vec![Cause::new(Fault::Invalid, field, message)],
        };
        let container =
            container(&pod, query.container.as_deref()).map_err(|message| invalid("container", message))?;
        let node_name = text(&pod, "/spec/nodeName");
        if node_name.is_empty() {
            return Err(invalid("spec.nodeName", format!("pod {name} does not have a host assigned")));
        }
        let nodes = self.registry.find("", "v1", "nodes");
        let node = nodes.and_then(|nodes| self.get(&nodes, "", node_name));
        let node =
            node.ok_or_else(|| Refusal::Unavailable { why: format!("node {node_name} is not registered") })?;
        let request = LogRequest {
            namespace: objects.namespace.clone(),
            pod: name.clone(),
            container,
            follow: query.follow,
            previous: query.previous,
            timestamps: query.timestamps,
            tail_lines: query.tail,
            since_seconds: query.since_seconds,
            since_time: query.since_time.clone(),
            limit_bytes: query.limit_bytes,
        };
        let log = self.nodes.logs(&node, request).await.map_err(|error| match error {
            NodeAccessError::NoLog { .. } => Refusal::NotFound(resource.subject(&name)),
            NodeAccessError::Unreachable { .. } | NodeAccessError::NoWay => {
                Refusal::Unavailable { why: error.to_string() }
            }
        })?;
        let mut response = stream("text/plain", log.boxed());
        if query.follow {
            response.extensions_mut().insert(Endless);
        }
        Ok(response)
    }
}

/// The container that is meant: the one that is named, or the only one.
fn container(pod: &Value, named: Option<&str>) -> Result<String, String> {
    let lists = ["/spec/containers", "/spec/initContainers"];
    let names: Vec<&str> =
        lists.iter().flat_map(|list| elements(pod, list)).map(|container| field(container, "name")).collect();
    match named {
        Some(named) if names.contains(&named) => Ok(named.to_owned()),
        Some(named) => Err(format!("container {named} is not one of {names:?}")),
        None => match (names.as_slice(), elements(pod, "/spec/containers")) {
            ([only], _) => Ok((*only).to_owned()),
            (_, [only]) => Ok(field(only, "name").to_owned()),
            _ => Err(format!("a container name must be specified, choose one of: {names:?}")),
        },
    }
}
