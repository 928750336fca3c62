//! Who may do what. Everything is forbidden but what this table allows:
//!
//! | group | may |
//! |---|---|
//! | `system:masters` | everything |
//! | `fleet.coffer:operator` | everything but binding pods |
//! | `fleet.coffer:controller` | what controllers and scheduler write; reads all |
//! | `fleet.coffer:viewer` | reads all but secrets |
//! | `system:nodes`, user `system:node:NAME` | its Node and Lease; pods bound to it, what they refer to; events |
//!
//! Whoever shows a certificate may ask what there is, and what it may do.

use serde_json::Value;

use crate::api::Api;
use crate::identity::{Identity, MASTERS};
use crate::object::{elements, field, meta, text};
use crate::refusal::{Refusal, Subject};
use crate::request::{Objects, Query};
use crate::store::Key;

const OPERATOR: &str = "fleet.coffer:operator";
const CONTROLLER: &str = "fleet.coffer:controller";
const VIEWER: &str = "fleet.coffer:viewer";
/// Where the leases of nodes are.
const NODE_LEASES: &str = "kube-node-lease";

/// What somebody wants to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) verb: String,
    pub(crate) group: String,
    /// Plural.
    pub(crate) resource: String,
    pub(crate) part: Option<String>,
    pub(crate) namespace: String,
    pub(crate) name: Option<String>,
    /// The one name that a field selector leaves.
    pub(crate) selected_name: Option<String>,
    /// The one node that a field selector leaves.
    pub(crate) selected_node: Option<String>,
}

impl Ask {
    pub(crate) fn of(objects: &Objects, query: &Query) -> Self {
        let kind = &objects.resource.kind;
        Self {
            verb: objects.verb.as_str().to_owned(),
            group: kind.group.clone(),
            resource: kind.plural.clone(),
            part: objects.part.map(|part| part.as_str().to_owned()),
            namespace: objects.namespace.clone(),
            name: objects.name.clone(),
            selected_name: query.fields.exactly("metadata.name").map(str::to_owned),
            selected_node: query.fields.exactly("spec.nodeName").map(str::to_owned),
        }
    }

    fn reads(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list" | "watch")
    }

    fn is(&self, group: &str, resource: &str, part: Option<&str>) -> bool {
        self.group == group && self.resource == resource && self.part.as_deref() == part
    }

    fn verb_is(&self, verbs: &[&str]) -> bool {
        verbs.contains(&self.verb.as_str())
    }

    /// The words of a refusal.
    fn refused(&self, identity: &Identity) -> Refusal {
        let part = self.part.as_ref().map(|part| format!("/{part}")).unwrap_or_default();
        let place = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{}\"", self.namespace)
        };
        let why = format!(
            "User \"{}\" cannot {} resource \"{}{part}\" in API group \"{}\" {place}",
            identity.user(),
            self.verb,
            self.resource,
            self.group
        );
        let name = self.name.clone().unwrap_or_default();
        Refusal::Forbidden {
            subject: Subject { group: self.group.clone(), kind: self.resource.clone(), name },
            why,
        }
    }
}

/// Whether the caller may.
pub(crate) fn authorize(api: &Api, identity: &Identity, ask: &Ask) -> Result<(), Refusal> {
    let about_itself =
        ask.is("authorization.k8s.io", "selfsubjectaccessreviews", None) && ask.verb == "create";
    let may = about_itself
        || identity.is_in(MASTERS)
        || (identity.is_in(OPERATOR) && ask.part.as_deref() != Some("binding"))
        || (identity.is_in(CONTROLLER) && controller_may(ask))
        || (identity.is_in(VIEWER) && ask.reads() && !ask.is("", "secrets", None))
        || identity.node().is_some_and(|node| node_may(api, node, ask));
    if may { Ok(()) } else { Err(ask.refused(identity)) }
}

/// What a body may name, where the path does not.
pub(crate) fn authorize_body(identity: &Identity, objects: &Objects, object: &Value) -> Result<(), Refusal> {
    let Some(node) = identity.node() else { return Ok(()) };
    if !is_restricted(identity) {
        return Ok(());
    }
    let is_named = objects.resource.is("", "nodes") || objects.resource.is("coordination.k8s.io", "leases");
    if is_named && meta(object, "name") != node {
        return Err(Ask::of(objects, &Query::default()).refused(identity));
    }
    Ok(())
}

/// Whether being a node is all that the caller is.
pub(crate) fn is_restricted(identity: &Identity) -> bool {
    ![MASTERS, OPERATOR, CONTROLLER].iter().any(|group| identity.is_in(group))
}

fn controller_may(ask: &Ask) -> bool {
    if ask.reads() {
        return true;
    }
    match (ask.group.as_str(), ask.resource.as_str()) {
        ("", "pods" | "events" | "services" | "configmaps" | "secrets") => true,
        ("", "nodes") => ask.verb_is(&["update", "patch", "delete"]),
        ("", "namespaces") => ask.verb_is(&["create", "patch"]) && ask.part.is_none(),
        ("policy", "poddisruptionbudgets") | ("coordination.k8s.io", "leases") => true,
        ("discovery.k8s.io", "endpointslices") | ("events.k8s.io", "events") => true,
        ("scheduling.k8s.io", "priorityclasses") => true,
        ("apiextensions.k8s.io", "customresourcedefinitions") => ask.verb_is(&["create", "update", "patch"]),
        // Custom resources are the controllers' own.
        (group, _) => !group.is_empty() && !group.ends_with(".k8s.io") && group.contains('.'),
    }
}

/// A node may touch what is its own, and read what its pods need.
fn node_may(api: &Api, node: &str, ask: &Ask) -> bool {
    let own_name = ask.name.as_deref() == Some(node);
    let own_selection = ask.selected_name.as_deref() == Some(node);
    match (ask.group.as_str(), ask.resource.as_str(), ask.part.as_deref()) {
        ("", "nodes", None) => match ask.verb.as_str() {
            // The name is in the body.
            "create" => ask.name.is_none() || own_name,
            "get" | "update" | "patch" => own_name,
            "list" | "watch" => own_selection,
            _ => false,
        },
        ("", "nodes", Some("status")) => own_name && ask.verb_is(&["get", "update", "patch"]),
        ("coordination.k8s.io", "leases", None) => {
            ask.namespace == NODE_LEASES
                && match ask.verb.as_str() {
                    "create" => ask.name.is_none() || own_name,
                    "get" | "update" | "patch" => own_name,
                    _ => false,
                }
        }
        ("", "pods", None) => match ask.verb.as_str() {
            "list" | "watch" => ask.selected_node.as_deref() == Some(node),
            "get" | "delete" => is_bound(api, node, ask),
            _ => false,
        },
        ("", "pods", Some("status")) => ask.verb_is(&["get", "update", "patch"]) && is_bound(api, node, ask),
        ("" | "events.k8s.io", "events", None) => ask.verb_is(&["create", "patch", "update"]),
        ("", kind @ ("secrets" | "configmaps"), None) => {
            ask.verb == "get" && is_referred(api, node, kind, ask)
        }
        _ => false,
    }
}

fn is_bound(api: &Api, node: &str, ask: &Ask) -> bool {
    let Some(name) = &ask.name else { return false };
    let pod = api.store.get(&Key::new(&"pods".into(), &ask.namespace, name));
    pod.is_some_and(|pod| pod.field("spec.nodeName") == node)
}

/// Whether a pod on the node refers to the secret or configuration.
fn is_referred(api: &Api, node: &str, kind: &str, ask: &Ask) -> bool {
    let Some(name) = ask.name.as_deref() else { return false };
    let pods = api.store.list("pods", Some(&ask.namespace));
    pods.iter().filter(|pod| pod.field("spec.nodeName") == node).any(|pod| {
        let pod = pod.value();
        let in_volume = |volume: &Value| match kind {
            "secrets" => text(volume, "/secret/secretName") == name,
            _ => text(volume, "/configMap/name") == name,
        };
        let reference = if kind == "secrets" { "secret" } else { "configMap" };
        let in_container = |container: &Value| {
            let from = |source: &Value| text(source, &format!("/{reference}Ref/name")) == name;
            let key =
                |variable: &Value| text(variable, &format!("/valueFrom/{reference}KeyRef/name")) == name;
            elements(container, "/envFrom").iter().any(from) || elements(container, "/env").iter().any(key)
        };
        let pulls = |secret: &Value| kind == "secrets" && field(secret, "name") == name;
        elements(&pod, "/spec/volumes").iter().any(in_volume)
            || elements(&pod, "/spec/containers").iter().any(in_container)
            || elements(&pod, "/spec/initContainers").iter().any(in_container)
            || elements(&pod, "/spec/imagePullSecrets").iter().any(pulls)
    })
}
