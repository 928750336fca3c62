//! Paths of fields, and the form in which `FieldsV1` writes sets of them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::schema::{ListType, Schema, element_key};

/// One step into an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Into a member.
    Field(String),
    /// Into the element of a list that has these keys, as JSON.
    Key(String),
    /// Into the element of a list that is this value, as JSON.
    Value(String),
}

/// The steps from the object to a field.
pub(crate) type Path = Vec<Step>;

/// The deepest path that is read.
const DEPTH_MAX: usize = 64;

/// Set by the server, and owned by nobody.
pub(super) const UNOWNED: &[&str] = &[
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generateName",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Every field that can be owned, with its value. An element of a list that is told
/// apart by keys is a field of its own, whose value does not count.
pub(crate) fn leaves(schema: &Schema, object: &Value) -> BTreeMap<Path, Value> {
    let mut found = BTreeMap::new();
    for (name, member) in object.as_object().into_iter().flatten() {
        if super::tree::is_unowned(name) {
            continue;
        }
        let known = schema.member(name).map(AsRef::as_ref);
        let mut path = vec![Step::Field(name.clone())];
        if name == "metadata" {
            for (name, member) in member.as_object().into_iter().flatten() {
                if !UNOWNED.contains(&name.as_str()) {
                    path.push(Step::Field(name.clone()));
                    let known = known.and_then(|known| known.member(name)).map(AsRef::as_ref);
                    walk(known, member, &mut path, &mut found);
                    path.pop();
                }
            }
        } else {
            walk(known, member, &mut path, &mut found);
        }
    }
    found
}

pub(super) fn walk(
    schema: Option<&Schema>,
    value: &Value,
    path: &mut Path,
    found: &mut BTreeMap<Path, Value>,
) {
    let is_atomic = schema.is_some_and(|schema| schema.atomic);
    match value {
        Value::Object(members) if !members.is_empty() && !is_atomic => {
            for (name, member) in members {
                path.push(Step::Field(name.clone()));
                let known = schema.and_then(|schema| schema.member(name)).map(AsRef::as_ref);
                walk(known, member, path, found);
                path.pop();
            }
        }
        Value::Array(elements) if !elements.is_empty() => {
            match schema.map_or(&ListType::Atomic, |schema| &schema.list) {
                ListType::Atomic => drop(found.insert(path.clone(), value.clone())),
                ListType::Set => {
                    for element in elements {
                        path.push(Step::Value(element.to_string()));
                        found.insert(path.clone(), element.clone());
                        path.pop();
                    }
                }
                ListType::Map(keys) => {
                    let items = schema.and_then(|schema| schema.items.as_ref());
                    for element in elements {
                        path.push(Step::Key(key_text(keys, items, element)));
                        found.insert(path.clone(), Value::Null);
                        walk(items.map(AsRef::as_ref), element, path, found);
                        path.pop();
                    }
                }
            }
        }
        value => drop(found.insert(path.clone(), value.clone())),
    }
}

/// The keys of an element, as `FieldsV1` writes them.
pub(crate) fn key_text(keys: &[String], items: Option<&std::sync::Arc<Schema>>, element: &Value) -> String {
    serde_json::to_string(&element_key(keys, items, element)).unwrap_or_default()
}

/// The path for people: `.spec.containers[name="a"].image`.
pub(crate) fn words(path: &[Step]) -> String {
    path.iter()
        .map(|step| match step {
            Step::Field(name) => format!(".{name}"),
            Step::Value(value) => format!("[={value}]"),
            Step::Key(key) => {
                let keys: BTreeMap<String, Value> = serde_json::from_str(key).unwrap_or_default();
                let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("[{}]", keys.join(","))
            }
        })
        .collect()
}

/// The set as `FieldsV1`.
pub(super) fn to_fields(paths: &BTreeSet<Path>) -> Value {
    let mut root = Map::new();
    for path in paths {
        super::tree::add(&mut root, path);
    }
    Value::Object(root)
}

/// The set that `FieldsV1` stands for; what is no path is passed over.
pub(super) fn from_fields(fields: &Value) -> BTreeSet<Path> {
    let mut paths = BTreeSet::new();
    read(fields, &mut Vec::new(), &mut paths);
    paths
}

fn read(fields: &Value, path: &mut Path, paths: &mut BTreeSet<Path>) {
    let Some(members) = fields.as_object() else { return };
    if path.len() > DEPTH_MAX {
        return;
    }
    if members.is_empty() && !path.is_empty() {
        paths.insert(path.clone());
    }
    for (name, member) in members {
        let step = match name.split_once(':') {
            Some(("f", name)) => Step::Field(name.to_owned()),
            Some(("k", key)) => Step::Key(key.to_owned()),
            Some(("v", value)) => Step::Value(value.to_owned()),
            _ => {
                if name == "." && !path.is_empty() {
                    paths.insert(path.clone());
                }
                continue;
            }
        };
        path.push(step);
        read(member, path, paths);
        path.pop();
    }
}
