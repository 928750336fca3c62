//! The resources that are served now: the built-in ones, and those that
//! custom resource definitions in the store describe.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

use crate::kinds::{Kind, built_in};
use crate::refusal::Subject;
use crate::schema::{self, Schema};

/// Group, version and plural.
type Path = (String, String, String);

/// One resource in one version, with what is needed to serve it.
#[derive(Debug)]
pub(crate) struct Resource {
    /// What it is called, and what may be done with it.
    pub(crate) kind: Kind,
    /// Under which name its objects are stored.
    pub(crate) store: Arc<str>,
    /// What its objects look like.
    pub(crate) schema: Arc<Schema>,
    /// The definition that it comes from, if it is a custom one.
    pub(crate) definition: Option<Arc<Definition>>,
}

/// What a custom resource definition says beside the names.
#[derive(Debug)]
pub(crate) struct Definition {
    /// The version's OpenAPI v3 schema, as it was given.
    pub(crate) openapi: Value,
    /// Where a `Scale` finds its numbers.
    pub(crate) scale: Option<ScalePaths>,
}

/// Where in an object the numbers of its `Scale` are: simple paths as `.spec.replicas`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ScalePaths {
    /// Wanted replicas.
    pub(crate) spec: String,
    /// Replicas that there are.
    pub(crate) status: String,
    /// The label selector of the pods, as text.
    pub(crate) selector: Option<String>,
}

impl Resource {
    fn new(kind: Kind, definition: Option<Definition>) -> Self {
        let store = match &kind.stored_as {
            Some((group, plural)) if group.is_empty() => plural.as_str().into(),
            Some((group, plural)) => format!("{plural}.{group}").into(),
            None => kind.qualified().into(),
        };
        let schema = match &definition {
            None => schema::schema_of(&kind.group, &kind.version, &kind.kind),
            // A definition whose schema is not taken is never stored.
            Some(definition) => {
                Arc::new(schema::custom(&definition.openapi).unwrap_or_else(|_| Schema::anything()))
            }
        };
        Self { kind, store, schema, definition: definition.map(Arc::new) }
    }

    /// An object of it, for a refusal.
    pub(crate) fn subject(&self, name: &str) -> Subject {
        Subject { group: self.kind.group.clone(), kind: self.kind.plural.clone(), name: name.to_owned() }
    }

    /// An object of it, for a refusal of what the object says.
    pub(crate) fn subject_by_kind(&self, name: &str) -> Subject {
        Subject { group: self.kind.group.clone(), kind: self.kind.kind.clone(), name: name.to_owned() }
    }

    /// Whether it is this built-in resource.
    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.definition.is_none() && self.kind.group == group && self.kind.plural == plural
    }

    /// Whether changes of `status` are kept apart from all others.
    pub(crate) fn has_status(&self) -> bool {
        self.kind.subresource("status").is_some()
    }
}

/// All resources that are served.
pub(crate) struct Registry {
    resources: RwLock<Arc<BTreeMap<Path, Arc<Resource>>>>,
}

impl Registry {
    /// The built-in resources.
    pub(crate) fn new() -> Self {
        Self { resources: RwLock::new(Arc::new(resources(&[]))) }
    }

    /// Takes over what these definitions describe, in place of all earlier ones.
    pub(crate) fn define(&self, definitions: &[Value]) {
        let next = Arc::new(resources(definitions));
        *self.resources.write().unwrap_or_else(PoisonError::into_inner) = next;
    }

    fn now(&self) -> Arc<BTreeMap<Path, Arc<Resource>>> {
        Arc::clone(&self.resources.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// All of them, in order of group, version and plural.
    pub(crate) fn all(&self) -> Vec<Arc<Resource>> {
        self.now().values().cloned().collect()
    }

    /// The resource at this path.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        self.now().get(&(group.to_owned(), version.to_owned(), plural.to_owned())).cloned()
    }

    /// The resource of this kind.
    pub(crate) fn of_kind(&self, api_version: &str, kind: &str) -> Option<Arc<Resource>> {
        self.now()
            .values()
            .find(|one| one.kind.kind == kind && one.kind.api_version() == api_version)
            .cloned()
    }
}

fn resources(definitions: &[Value]) -> BTreeMap<Path, Arc<Resource>> {
    let path = |kind: &Kind| (kind.group.clone(), kind.version.clone(), kind.plural.clone());
    let custom = definitions.iter().flat_map(|crd| {
        Kind::of_crd(crd).into_iter().map(|kind| {
            let definition = definition(crd, &kind.version);
            (path(&kind), Arc::new(Resource::new(kind, Some(definition))))
        })
    });
    // What is built in cannot be replaced by a definition.
    let built_in = built_in().iter().map(|kind| (path(kind), Arc::new(Resource::new(kind.clone(), None))));
    custom.chain(built_in).collect()
}

fn definition(crd: &Value, version: &str) -> Definition {
    let version = crd
        .pointer("/spec/versions")
        .and_then(Value::as_array)
        .and_then(|versions| {
            versions.iter().find(|one| one.get("name").and_then(Value::as_str) == Some(version))
        })
        .unwrap_or(&Value::Null);
    let text = |at: &str| version.pointer(at).and_then(Value::as_str).map(str::to_owned);
    let scale =
        text("/subresources/scale/specReplicasPath").zip(text("/subresources/scale/statusReplicasPath"));
    Definition {
        openapi: version.pointer("/schema/openAPIV3Schema").cloned().unwrap_or_default(),
        scale: scale.map(|(spec, status)| ScalePaths {
            spec,
            status,
            selector: text("/subresources/scale/labelSelectorPath"),
        }),
    }
}
