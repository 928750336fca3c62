//! `scale`: the number of replicas of a custom resource, wherever its
//! definition says that the number is.

use serde_json::{Map, Value, json};

use crate::api::Api;
use crate::object::{field, meta, text};
use crate::refusal::{Cause, Fault, Malformed, Refusal};
use crate::registry::{Resource, ScalePaths};
use crate::request::Objects;
use crate::schema::{Schema, schema_of};
use crate::write::{Edited, Patch, Shown, Write, Written};

impl Api {
    /// The `Scale` of an object.
    pub(crate) fn get_scale(&self, objects: &Objects) -> Result<crate::reply::Reply, Refusal> {
        let resource = &objects.resource;
        let name = objects.name.as_deref().unwrap_or_default();
        let object = self
            .get(resource, &objects.namespace, name)
            .ok_or_else(|| Refusal::NotFound(resource.subject(name)))?;
        Ok(crate::reply::Reply::json(&scale(paths(resource)?, &object)))
    }
}

impl Write<'_> {
    /// Sets the wanted replicas from a whole `Scale`.
    pub(crate) async fn update_scale(&self, wanted: Value) -> Result<Written, Refusal> {
        if meta(&wanted, "name") != self.name()? {
            let (body, path) = (meta(&wanted, "name").to_owned(), self.name()?.to_owned());
            return Err(Malformed::Mismatch { field: "name", body, path }.into());
        }
        self.scaled(|_, _| Ok(wanted.clone())).await
    }

    /// Sets the wanted replicas by a patch of the `Scale`.
    pub(crate) async fn patch_scale(&self, patch: &Patch) -> Result<Written, Refusal> {
        self.scaled(|schema, present| patch.edit(schema, present)).await
    }

    async fn scaled(
        &self,
        edit: impl Fn(&Schema, &Value) -> Result<Value, Refusal>,
    ) -> Result<Written, Refusal> {
        let name = self.name()?;
        let paths = paths(self.resource())?;
        let schema = schema_of("autoscaling", "v1", "Scale");
        let edited = |old: &Value| {
            let wanted = edit(&schema, &scale(paths, old))?;
            if !matches!(field(&wanted, "kind"), "" | "Scale") {
                let found = field(&wanted, "kind").to_owned();
                return Err(Malformed::Kind { expected: "Scale".to_owned(), found }.into());
            }
            self.expect_preconditions(name, old, meta(&wanted, "uid"), meta(&wanted, "resourceVersion"))?;
            let replicas = match wanted.pointer("/spec/replicas") {
                None | Some(Value::Null) => 0,
                Some(replicas) => replicas.as_i64().unwrap_or(-1),
            };
            if replicas < 0 || i32::try_from(replicas).is_err() {
                let cause = Cause::new(Fault::Invalid, "spec.replicas", "must be a number of at least 0");
                return Err(self.invalid(name, vec![cause]));
            }
            let mut new = old.clone();
            put(&mut new, &paths.spec, replicas.into());
            Ok(Edited::from(new))
        };
        let written = self.alter(name, edited).await?;
        let Written { status, object, warnings } = written;
        Ok(Written { status, object: Shown::Made(scale(paths, &object.value())), warnings })
    }
}

fn paths(resource: &Resource) -> Result<&ScalePaths, Refusal> {
    resource.definition.as_ref().and_then(|definition| definition.scale.as_ref()).ok_or(Refusal::NoPath)
}

/// `.spec.replicas` as a JSON pointer.
fn pointer(path: &str) -> String {
    path.replace('.', "/")
}

fn scale(paths: &ScalePaths, object: &Value) -> Value {
    let number = |path: &str| object.pointer(&pointer(path)).and_then(Value::as_i64).unwrap_or(0);
    let mut status = json!({"replicas": number(&paths.status)});
    if let Some(selector) = paths.selector.as_deref().map(|path| text(object, &pointer(path))) {
        status["selector"] = json!(selector);
    }
    let kept = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"];
    let metadata: Map<String, Value> = kept
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), object.pointer(&format!("/metadata/{name}"))?.clone())))
        .collect();
    json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata,
        "spec": {"replicas": number(&paths.spec)}, "status": status,
    })
}

fn put(object: &mut Value, path: &str, value: Value) {
    let mut at = object;
    for step in path.split('.').filter(|step| !step.is_empty()) {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(members) = at else { return };
        at = members.entry(step).or_insert(Value::Null);
    }
    *at = value;
}
