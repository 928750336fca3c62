//! What kinds demand beyond their schema, and what the server itself writes
//! into their objects. One table: which kind has which rules.

mod definitions;
mod pods;
mod small;

use serde_json::{Value, json};

use crate::api::Api;
use crate::object::{set, set_meta, text, texts};
use crate::refusal::{Cause, Refusal};
use crate::registry::Resource;
use crate::request::Part;
use crate::store::{EVENT_FIELDS, NAMESPACE_FIELDS, NODE_FIELDS, POD_FIELDS, SECRET_FIELDS};

/// The kinds that have rules of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    Pod,
    Node,
    Namespace,
    Service,
    Lease,
    Budget,
    Definition,
    Priority,
    Slice,
    Event,
    Plain,
    Custom,
}

fn rules(resource: &Resource) -> Rules {
    if resource.definition.is_some() {
        return Rules::Custom;
    }
    match (resource.kind.group.as_str(), resource.kind.plural.as_str()) {
        ("", "pods") => Rules::Pod,
        ("", "nodes") => Rules::Node,
        ("", "namespaces") => Rules::Namespace,
        ("", "services") => Rules::Service,
        ("coordination.k8s.io", "leases") => Rules::Lease,
        ("policy", "poddisruptionbudgets") => Rules::Budget,
        ("apiextensions.k8s.io", "customresourcedefinitions") => Rules::Definition,
        ("scheduling.k8s.io", "priorityclasses") => Rules::Priority,
        ("discovery.k8s.io", "endpointslices") => Rules::Slice,
        ("" | "events.k8s.io", "events") => Rules::Event,
        _ => Rules::Plain,
    }
}

/// Whether a new object keeps the status that it is created with: a node registers itself whole.
pub(crate) fn keeps_status(resource: &Resource) -> bool {
    rules(resource) == Rules::Node
}

/// Whether `metadata.generation` counts the changes of the specification.
pub(crate) fn has_generation(resource: &Resource) -> bool {
    matches!(
        rules(resource),
        Rules::Pod | Rules::Budget | Rules::Definition | Rules::Slice | Rules::Priority | Rules::Custom
    )
}

/// Whether an update must say which revision it replaces.
pub(crate) fn needs_revision(resource: &Resource) -> bool {
    matches!(rules(resource), Rules::Lease | Rules::Budget | Rules::Definition | Rules::Custom)
}

/// Whether a deletion that is done answers with the object, not with a `Status`.
pub(crate) fn shows_deleted(resource: &Resource) -> bool {
    rules(resource) == Rules::Pod
}

/// The longest name of an object of this kind.
pub(crate) fn longest_name(resource: &Resource) -> usize {
    if matches!(rules(resource), Rules::Namespace | Rules::Service) { 63 } else { 253 }
}

/// Seconds that a deletion leaves the object: only pods have to stop.
pub(crate) fn grace_seconds(resource: &Resource, object: &Value, asked: Option<u32>) -> u32 {
    if rules(resource) == Rules::Pod { pods::grace_seconds(object, asked) } else { 0 }
}

/// What the server writes into a new object.
pub(crate) fn on_create(api: &Api, resource: &Resource, object: &mut Value) -> Result<(), Refusal> {
    match rules(resource) {
        Rules::Pod => pods::on_create(api, resource, object)?,
        Rules::Namespace => {
            set(object, "spec", Some(json!({"finalizers": ["kubernetes"]})));
            set(object, "status", Some(json!({"phase": "Active"})));
            let name = crate::object::meta(object, "name").to_owned();
            label(object, "kubernetes.io/metadata.name", &name);
        }
        Rules::Service => small::on_service(object),
        Rules::Definition => definitions::on_write(api, object, None),
        Rules::Node
        | Rules::Lease
        | Rules::Budget
        | Rules::Priority
        | Rules::Slice
        | Rules::Event
        | Rules::Plain
        | Rules::Custom => {}
    }
    Ok(())
}

/// What the server writes into a changed object.
pub(crate) fn on_update(
    api: &Api,
    resource: &Resource,
    part: Option<Part>,
    old: &Value,
    new: &mut Value,
) -> Result<(), Refusal> {
    match (rules(resource), part) {
        (Rules::Pod, None) => pods::on_update(old, new),
        (Rules::Namespace, Some(Part::Finalize)) => {}
        (Rules::Namespace, _) => {
            // What holds a namespace back changes by its own part only.
            set(new, "spec", old.get("spec").cloned());
            let name = crate::object::meta(old, "name").to_owned();
            label(new, "kubernetes.io/metadata.name", &name);
        }
        (Rules::Definition, None) => definitions::on_write(api, new, Some(old)),
        _ => {}
    }
    Ok(())
}

/// What the server writes into an object that begins to go.
pub(crate) fn on_mark(resource: &Resource, object: &mut Value) {
    if rules(resource) == Rules::Namespace
        && let Some(status) = object.get_mut("status")
    {
        set(status, "phase", Some("Terminating".into()));
    }
}

/// Namespaces without which the server does not work are not deleted, and neither is the definition
/// of objects that are there: with it they would be out of reach.
pub(crate) fn on_delete(api: &Api, resource: &Resource, name: &str) -> Result<(), Refusal> {
    let subject = || resource.subject(name);
    match rules(resource) {
        Rules::Namespace if crate::FIRST_NAMESPACES.contains(&name) => Err(Refusal::Forbidden {
            subject: subject(),
            why: "this namespace may not be deleted".to_owned(),
        }),
        Rules::Definition if api.store.any(name) => {
            let why = "there are objects that it defines; delete them first".to_owned();
            Err(Refusal::Conflict { subject: subject(), why, causes: Vec::new() })
        }
        _ => Ok(()),
    }
}

/// What the kind demands beyond its schema.
pub(crate) fn check(resource: &Resource, object: &Value, old: Option<&Value>) -> Vec<Cause> {
    match rules(resource) {
        Rules::Pod => pods::check(object, old),
        Rules::Node => small::check_node(object),
        Rules::Service => small::check_service(object),
        Rules::Lease => small::check_lease(object),
        Rules::Budget => small::check_budget(object),
        Rules::Definition => definitions::check(object, old),
        Rules::Priority => small::check_priority(object, old),
        Rules::Slice => small::check_slice(object, old),
        Rules::Event => small::check_event(object),
        Rules::Namespace | Rules::Plain | Rules::Custom => Vec::new(),
    }
}

/// Fields beside name and namespace that a selector may name.
pub(crate) fn selectable(resource: &Resource) -> &'static [&'static str] {
    match rules(resource) {
        Rules::Pod => POD_FIELDS,
        Rules::Node => NODE_FIELDS,
        Rules::Namespace => NAMESPACE_FIELDS,
        Rules::Event => EVENT_FIELDS,
        Rules::Plain if resource.kind.plural == "secrets" => SECRET_FIELDS,
        _ => &[],
    }
}

fn label(object: &mut Value, name: &str, value: &str) {
    let mut labels =
        object.pointer("/metadata/labels").cloned().filter(Value::is_object).unwrap_or_else(|| json!({}));
    set(&mut labels, name, Some(value.into()));
    set_meta(object, "labels", Some(labels));
}

/// Whether a text of two states differs.
fn differs(old: &Value, new: &Value, pointer: &str) -> bool {
    old.pointer(pointer) != new.pointer(pointer)
}

/// A text, or the list that it is in, must be given.
fn required(object: &Value, pointer: &str, causes: &mut Vec<Cause>) {
    if text(object, pointer).is_empty() && texts(object, pointer).is_empty() {
        let field = pointer.trim_start_matches('/').replace('/', ".");
        causes.push(Cause::new(crate::refusal::Fault::Required, field, "must be given"));
    }
}
