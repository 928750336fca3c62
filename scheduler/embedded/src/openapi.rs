//! OpenAPI v3, one document for each group and version: enough of the paths
//! for `kubectl apply` to learn that the server validates fields itself, and
//! schemas, of built-in kinds from the types that Kubernetes publishes, of custom ones from
//! their definitions, for `kubectl explain`.

use std::collections::BTreeMap;

use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{
    Binding, ConfigMap, Event, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret,
    Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event as NewEvent;
use k8s_openapi::api::policy::v1::{Eviction, PodDisruptionBudget};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::schemars::generate::SchemaSettings;
use k8s_openapi::schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::kinds::{Kind, Verb};
use crate::refusal::Refusal;
use crate::registry::Registry;
use crate::reply::Reply;

/// A page of the description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// `GET /openapi/v3`.
    Index,
    /// `GET /openapi/v3/api/v1` or `/openapi/v3/apis/GROUP/VERSION`.
    Group {
        /// Group; empty for the core group.
        group: String,
        /// Version.
        version: String,
    },
}

pub(crate) fn answer(page: &Page, registry: &Registry) -> Reply {
    let served = registry.all();
    let kinds: Vec<&Kind> = served.iter().map(|resource| &resource.kind).collect();
    make(page, &kinds).map_or_else(|| Refusal::NoPath.into(), |body| Reply::json(&body))
}

/// The page's body; None if there is no such group or version.
fn make(page: &Page, kinds: &[&Kind]) -> Option<Value> {
    match page {
        Page::Index => Some(index(kinds)),
        Page::Group { group, version } => {
            let of_group = kinds.iter().filter(|kind| kind.group == *group && kind.version == *version);
            let of_group: Vec<&Kind> = of_group.copied().collect();
            (!of_group.is_empty()).then(|| document(&of_group))
        }
    }
}

/// A client may keep a document as long as its address stays the same, so that
/// the address holds a digest of what the document is made of.
fn index(kinds: &[&Kind]) -> Value {
    let mut groups: BTreeMap<String, blake3::Hasher> = BTreeMap::new();
    for kind in kinds {
        let root = if kind.group.is_empty() { "api" } else { "apis" };
        let hasher = groups.entry(format!("{root}/{}", kind.api_version())).or_default();
        hasher.update(env!("CARGO_PKG_VERSION").as_bytes());
        hasher.update(format!("{kind:?}").as_bytes());
    }
    let paths: Map<String, Value> = groups
        .into_iter()
        .map(|(path, hasher)| {
            let hash = hasher.finalize().to_hex();
            let address = json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")});
            (path, address)
        })
        .collect();
    json!({"paths": paths})
}

fn document(kinds: &[&Kind]) -> Value {
    let mut generator = SchemaSettings::openapi3().into_generator();
    let mut paths = Map::new();
    let mut named: Vec<(String, Vec<Value>)> = Vec::new();
    let mut custom = Map::new();
    for kind in kinds {
        let name = match define(&mut generator, &kind.group, &kind.version, &kind.kind) {
            Some(name) => name,
            None => {
                let name = component_name(kind);
                custom.insert(name.clone(), custom_schema(&mut generator, kind));
                name
            }
        };
        paths_of(kind, &name, &mut paths);
        named.push((name, vec![gvk(&kind.group, &kind.version, &kind.kind)]));
        for sub in &kind.subresources {
            if let Some(name) = define(&mut generator, &sub.group, &sub.version, &sub.kind) {
                named.push((name, vec![gvk(&sub.group, &sub.version, &sub.kind)]));
            }
        }
    }
    let mut schemas = generator.take_definitions(true);
    schemas.extend(custom);
    for (name, kinds) in named {
        if let Some(schema) = schemas.get_mut(&name).and_then(Value::as_object_mut) {
            schema.insert("x-kubernetes-group-version-kind".to_owned(), Value::Array(kinds));
        }
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Coffer, embedded Kubernetes API", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

/// Has the generator define a built-in kind; the name of its component.
fn define(generator: &mut SchemaGenerator, group: &str, version: &str, kind: &str) -> Option<String> {
    match (group, version, kind) {
        ("", "v1", "Namespace") => component::<Namespace>(generator),
        ("", "v1", "Node") => component::<Node>(generator),
        ("", "v1", "Pod") => component::<Pod>(generator),
        ("", "v1", "Binding") => component::<Binding>(generator),
        ("", "v1", "Service") => component::<Service>(generator),
        ("", "v1", "Event") => component::<Event>(generator),
        ("", "v1", "ConfigMap") => component::<ConfigMap>(generator),
        ("", "v1", "Secret") => component::<Secret>(generator),
        ("", "v1", "ServiceAccount") => component::<ServiceAccount>(generator),
        ("", "v1", "PersistentVolume") => component::<PersistentVolume>(generator),
        ("", "v1", "PersistentVolumeClaim") => component::<PersistentVolumeClaim>(generator),
        ("policy", "v1", "PodDisruptionBudget") => component::<PodDisruptionBudget>(generator),
        ("policy", "v1", "Eviction") => component::<Eviction>(generator),
        ("coordination.k8s.io", "v1", "Lease") => component::<Lease>(generator),
        ("discovery.k8s.io", "v1", "EndpointSlice") => component::<EndpointSlice>(generator),
        ("events.k8s.io", "v1", "Event") => component::<NewEvent>(generator),
        ("scheduling.k8s.io", "v1", "PriorityClass") => component::<PriorityClass>(generator),
        ("storage.k8s.io", "v1", "StorageClass") => component::<StorageClass>(generator),
        ("autoscaling", "v1", "Scale") => component::<Scale>(generator),
        ("apiextensions.k8s.io", "v1", "CustomResourceDefinition") => {
            component::<CustomResourceDefinition>(generator)
        }
        ("authorization.k8s.io", "v1", "SelfSubjectAccessReview") => {
            component::<SelfSubjectAccessReview>(generator)
        }
        _ => return None,
    }
    .into()
}

fn component<T: JsonSchema>(generator: &mut SchemaGenerator) -> String {
    generator.subschema_for::<T>();
    T::schema_name().into_owned()
}

/// As Kubernetes names the components of custom kinds: the group's labels in
/// reverse, version, kind.
fn component_name(kind: &Kind) -> String {
    let mut labels: Vec<&str> = kind.group.split('.').rev().collect();
    labels.extend([kind.version.as_str(), kind.kind.as_str()]);
    labels.join(".")
}

/// A custom kind's schema with the fields that every object has.
fn custom_schema(generator: &mut SchemaGenerator, kind: &Kind) -> Value {
    let metadata = component::<ObjectMeta>(generator);
    let mut schema = match &kind.schema {
        Some(Value::Object(schema)) => schema.clone(),
        _ => Map::new(),
    };
    schema.insert("type".to_owned(), json!("object"));
    let properties = schema.entry("properties").or_insert_with(|| json!({}));
    if let Some(properties) = properties.as_object_mut() {
        properties.insert(
            "apiVersion".to_owned(),
            json!({"type": "string", "description": "The version of the schema of this object."}),
        );
        properties.insert(
            "kind".to_owned(),
            json!({"type": "string", "description": "The kind of resource that this object is."}),
        );
        properties.insert(
            "metadata".to_owned(),
            json!({
                "description": "What every object has: its name, labels, owners.",
                "allOf": [{"$ref": format!("#/components/schemas/{metadata}")}],
            }),
        );
    }
    Value::Object(schema)
}

fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn paths_of(kind: &Kind, component: &str, paths: &mut Map<String, Value>) {
    let root = if kind.group.is_empty() { "/api" } else { "/apis" };
    let scope = if kind.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{root}/{}{scope}/{}", kind.api_version(), kind.plural);
    let kind_of = gvk(&kind.group, &kind.version, &kind.kind);
    let mut on_collection = Map::new();
    let mut on_item = Map::new();
    for verb in &kind.verbs {
        let (operations, method, query): (_, _, &[&str]) = match verb {
            Verb::List => {
                (&mut on_collection, "get", &["labelSelector", "fieldSelector", "limit", "continue"])
            }
            Verb::Create => (&mut on_collection, "post", &["dryRun", "fieldManager", "fieldValidation"]),
            Verb::DeleteCollection => {
                (&mut on_collection, "delete", &["dryRun", "labelSelector", "fieldSelector"])
            }
            Verb::Get => (&mut on_item, "get", &[]),
            Verb::Update => (&mut on_item, "put", &["dryRun", "fieldManager", "fieldValidation"]),
            Verb::Patch => (&mut on_item, "patch", &["dryRun", "fieldManager", "fieldValidation", "force"]),
            Verb::Delete => (&mut on_item, "delete", &["dryRun", "gracePeriodSeconds", "propagationPolicy"]),
            Verb::Watch => continue,
        };
        operations.insert(method.to_owned(), operation(*verb, query, &kind_of, component));
    }
    if !on_item.is_empty() {
        paths.insert(format!("{collection}/{{name}}"), Value::Object(on_item));
    }
    for sub in &kind.subresources {
        let of_sub = gvk(&sub.group, &sub.version, &sub.kind);
        let mut on_sub = Map::new();
        for verb in &sub.verbs {
            let (method, query): (_, &[&str]) = match verb {
                Verb::Get => ("get", &[]),
                Verb::Create => ("post", &["dryRun", "fieldManager", "fieldValidation"]),
                Verb::Update => ("put", &["dryRun", "fieldManager", "fieldValidation"]),
                Verb::Patch => ("patch", &["dryRun", "fieldManager", "fieldValidation", "force"]),
                _ => continue,
            };
            on_sub.insert(method.to_owned(), operation(*verb, query, &of_sub, component));
        }
        paths.insert(format!("{collection}/{{name}}/{}", sub.name), Value::Object(on_sub));
    }
    paths.insert(collection, Value::Object(on_collection));
}

/// One operation. It names no content types of patches: `kubectl` would then
/// compute its patches from merge keys in our schemas, which have none, instead of
/// from the types that it was built with.
fn operation(verb: Verb, query: &[&str], kind: &Value, component: &str) -> Value {
    let parameters: Vec<Value> = query
        .iter()
        .map(|name| {
            let of = match *name {
                "force" => "boolean",
                "limit" | "gracePeriodSeconds" => "integer",
                _ => "string",
            };
            json!({"name": name, "in": "query", "schema": {"type": of, "uniqueItems": true}})
        })
        .collect();
    let action = match verb {
        Verb::Create => "post",
        Verb::Update => "put",
        other => other.as_str(),
    };
    json!({
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": kind,
        "parameters": parameters,
        "responses": {"200": {"description": "OK", "content": {"application/json": {
            "schema": {"$ref": format!("#/components/schemas/{component}")},
        }}}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::built_in;

    fn kinds() -> Vec<&'static Kind> {
        built_in().iter().collect()
    }

    fn group(group: &str, version: &str) -> Page {
        Page::Group { group: group.into(), version: version.into() }
    }

    #[test]
    fn every_path_of_the_index_leads_to_a_document() {
        let index = make(&Page::Index, &kinds()).unwrap();
        for (path, address) in index["paths"].as_object().unwrap() {
            let url = address["serverRelativeURL"].as_str().unwrap();
            assert!(url.starts_with(&format!("/openapi/v3/{path}?hash=")), "{url}");
            let parts: Vec<&str> = path.split('/').collect();
            let page = match parts[..] {
                ["api", version] => group("", version),
                [_, name, version] => group(name, version),
                _ => panic!("{path}"),
            };
            assert!(make(&page, &kinds()).is_some(), "{path}");
        }
    }

    #[test]
    fn no_reference_of_a_document_leads_nowhere() {
        for name in ["", "policy", "apiextensions.k8s.io"] {
            let document = make(&group(name, "v1"), &kinds()).unwrap();
            let schemas = document["components"]["schemas"].as_object().unwrap();
            let mut stack = vec![&document];
            while let Some(value) = stack.pop() {
                if let Some(target) = value.get("$ref").and_then(Value::as_str) {
                    let name = target.strip_prefix("#/components/schemas/").unwrap();
                    assert!(schemas.contains_key(name), "{target}");
                }
                match value {
                    Value::Object(map) => stack.extend(map.values()),
                    Value::Array(items) => stack.extend(items),
                    _ => {}
                }
            }
        }
    }

    #[test]
    fn kubectl_learns_that_a_patch_may_be_dry_and_is_validated() {
        let document = make(&group("", "v1"), &kinds()).unwrap();
        let patch = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
        assert_eq!(patch["x-kubernetes-group-version-kind"], gvk("", "v1", "Pod"));
        for name in ["dryRun", "fieldManager", "fieldValidation", "force"] {
            assert!(patch["parameters"].as_array().unwrap().iter().any(|p| p["name"] == name), "{name}");
        }
        let pod = &document["components"]["schemas"]["io.k8s.api.core.v1.Pod"];
        assert_eq!(pod["x-kubernetes-group-version-kind"][0]["kind"], "Pod");
    }

    #[test]
    fn a_custom_kind_is_explained_by_its_definition() {
        let crd = json!({"spec": {
            "group": "fleet.coffer", "scope": "Namespaced",
            "names": {"kind": "SiteSet", "plural": "sitesets"},
            "versions": [{"name": "v1", "served": true, "schema": {"openAPIV3Schema": {
                "type": "object",
                "properties": {"spec": {"type": "object", "description": "What is wanted."}},
            }}}],
        }});
        let kinds = Kind::of_crd(&crd);
        let document = make(&group("fleet.coffer", "v1"), &kinds.iter().collect::<Vec<_>>()).unwrap();
        let schema = &document["components"]["schemas"]["coffer.fleet.v1.SiteSet"];
        assert_eq!(schema["properties"]["spec"]["description"], "What is wanted.");
        assert_eq!(schema["properties"]["kind"]["type"], "string");
    }

    #[test]
    fn another_definition_has_another_address() {
        let mut kinds = built_in().to_vec();
        let page = |kinds: &[Kind]| make(&Page::Index, &kinds.iter().collect::<Vec<_>>());
        let before = page(&kinds);
        kinds[0].short_names.push("x".into());
        assert_ne!(before, page(&kinds));
    }
}
