//! Answers as tables (`meta.k8s.io` Table): what `kubectl get` prints. Columns
//! of built-in kinds follow those of Kubernetes, so that scripts find what they know;
//! those of custom kinds come from their definitions.

mod age;
mod custom;
mod events;
mod nodes;
mod objects;
mod path;
mod pods;
mod services;

use coffer_model::Timestamp;
use serde_json::{Value, json};

use crate::kinds::Kind;
use crate::object::elements as items;
use crate::registry::Resource;

/// How a table is to be made.
#[derive(Clone, Debug, Default)]
pub(crate) struct TableOptions {
    /// Version of meta.k8s.io, `v1` or `v1beta1`.
    pub(crate) version: &'static str,
    /// `Object`, `Metadata` (the default) or `None`: what each row carries.
    pub(crate) include_object: Option<String>,
    /// Without column definitions: the later events of a watch.
    pub(crate) no_headers: bool,
}

/// A column of a built-in kind.
struct Column {
    name: &'static str,
    of: Type,
    /// 0 is shown always, 1 only with `-o wide`.
    wide: u8,
    help: &'static str,
    cell: fn(&Value, Timestamp) -> Value,
}

#[derive(Clone, Copy)]
enum Type {
    /// Text that names the object.
    Name,
    Text,
    Number,
    Truth,
}

const NAME: Column = Column {
    name: "Name",
    of: Type::Name,
    wide: 0,
    help: "Unique among its kind in its namespace.",
    cell: name,
};
const AGE: Column =
    Column { name: "Age", of: Type::Text, wide: 0, help: "How long ago it was created.", cell: age_of };

/// The table of some objects of one resource. `list_metadata` is that of the list, or of
/// the object where there is but one; `now` is for ages.
pub(crate) fn render(
    resource: &Resource,
    objects: &[Value],
    list_metadata: Value,
    options: &TableOptions,
    now: Timestamp,
) -> Value {
    of_kind(&resource.kind, objects, list_metadata, options, now)
}

fn of_kind(
    kind: &Kind,
    objects: &[Value],
    list_metadata: Value,
    options: &TableOptions,
    now: Timestamp,
) -> Value {
    let built_in = columns_of(kind);
    let definitions: Vec<Value> = match &kind.columns {
        _ if options.no_headers => Vec::new(),
        Some(columns) => custom::definitions(columns),
        None => built_in.iter().map(Column::definition).collect(),
    };
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let cells: Vec<Value> = match &kind.columns {
                Some(columns) => custom::cells(columns, object, now),
                None => built_in.iter().map(|column| (column.cell)(object, now)).collect(),
            };
            row(cells, object, options)
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": format!("meta.k8s.io/{}", options.version),
        "metadata": list_metadata, "columnDefinitions": definitions, "rows": rows,
    })
}

fn row(cells: Vec<Value>, object: &Value, options: &TableOptions) -> Value {
    let mut row = json!({"cells": cells});
    match options.include_object.as_deref() {
        Some("None") => {}
        Some("Object") => row["object"] = object.clone(),
        _ => {
            row["object"] = json!({
                "kind": "PartialObjectMetadata", "apiVersion": format!("meta.k8s.io/{}", options.version),
                "metadata": object.get("metadata"),
            });
        }
    }
    row
}

fn columns_of(kind: &Kind) -> &'static [Column] {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Pod") => pods::COLUMNS,
        ("", "Node") => nodes::COLUMNS,
        ("" | "events.k8s.io", "Event") => events::COLUMNS,
        ("", "Service") => services::SERVICE,
        ("discovery.k8s.io", "EndpointSlice") => services::SLICE,
        ("", "Namespace") => objects::NAMESPACE,
        ("", "ConfigMap") => objects::CONFIG_MAP,
        ("", "Secret") => objects::SECRET,
        ("", "PersistentVolume") => objects::VOLUME,
        ("", "PersistentVolumeClaim") => objects::CLAIM,
        ("policy", "PodDisruptionBudget") => objects::BUDGET,
        ("coordination.k8s.io", "Lease") => objects::LEASE,
        ("scheduling.k8s.io", "PriorityClass") => objects::PRIORITY,
        ("storage.k8s.io", "StorageClass") => objects::STORAGE,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => objects::DEFINITION,
        _ => &[NAME, AGE],
    }
}

impl Column {
    fn definition(&self) -> Value {
        let (of, format) = match self.of {
            Type::Name => ("string", "name"),
            Type::Text => ("string", ""),
            Type::Number => ("integer", ""),
            Type::Truth => ("boolean", ""),
        };
        json!({"name": self.name, "type": of, "format": format, "description": self.help, "priority": self.wide})
    }
}

/// The text at a JSON pointer, if there is a text that is not empty.
fn text<'a>(object: &'a Value, at: &str) -> Option<&'a str> {
    object.pointer(at).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// The same as a cell, with what is printed for nothing.
fn text_or(object: &Value, at: &str, nothing: &str) -> Value {
    json!(text(object, at).unwrap_or(nothing))
}

/// The status of the condition of that type.
fn condition<'a>(object: &'a Value, of: &str) -> Option<&'a str> {
    let found = items(object, "/status/conditions").iter().find(|condition| condition["type"] == of)?;
    found.get("status").and_then(Value::as_str)
}

/// A number, or a text such as `50%`, as text.
fn int_or_text(value: Option<&Value>, nothing: &str) -> Value {
    match value {
        Some(Value::String(text)) => json!(text),
        Some(Value::Number(number)) => json!(number.to_string()),
        _ => json!(nothing),
    }
}

fn name(object: &Value, _: Timestamp) -> Value {
    text_or(object, "/metadata/name", "")
}

fn age_of(object: &Value, now: Timestamp) -> Value {
    json!(age::since(text(object, "/metadata/creationTimestamp"), now))
}

#[cfg(test)]
mod tests;
