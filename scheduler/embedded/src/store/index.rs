//! A stored object: its bytes, and what selectors look at, taken out once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::Value;

use super::Key;

/// The fields that a field selector may name beside name and namespace.
pub(crate) const POD_FIELDS: &[&str] =
    &["spec.nodeName", "spec.schedulerName", "status.phase", "status.podIP"];
pub(crate) const NODE_FIELDS: &[&str] = &["spec.unschedulable"];
pub(crate) const NAMESPACE_FIELDS: &[&str] = &["status.phase"];
pub(crate) const EVENT_FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];
pub(crate) const SECRET_FIELDS: &[&str] = &["type"];

/// All of them: taken out of whatever object has them. Which resource allows
/// which is the API's to say.
static FIELDS: LazyLock<BTreeSet<&str>> = LazyLock::new(|| {
    let all = [POD_FIELDS, NODE_FIELDS, NAMESPACE_FIELDS, EVENT_FIELDS, SECRET_FIELDS];
    all.into_iter().flatten().copied().collect()
});

/// One object as it was written at one revision.
#[derive(Debug)]
pub struct Stored {
    /// Where it is.
    pub key: Key,
    /// The revision of the change that made it so.
    pub revision: u64,
    /// The object as JSON, its `metadata.resourceVersion` included.
    pub json: Bytes,
    selected: Selected,
    /// Where in the JSON the metadata is; none of what was read from the file.
    metadata: Option<Range<usize>>,
}

/// What selectors look at.
#[derive(Debug)]
pub(super) struct Selected {
    labels: BTreeMap<Box<str>, Box<str>>,
    fields: Vec<(&'static str, Box<str>)>,
}

impl Selected {
    pub(super) fn of(object: &Value) -> Self {
        let labels = object
            .pointer("/metadata/labels")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some((name.as_str().into(), value.as_str()?.into())))
            .collect();
        let fields = FIELDS.iter().filter_map(|path| Some((*path, text(object, path)?))).collect();
        Self { labels, fields }
    }
}

impl Stored {
    pub(super) fn new(key: Key, revision: u64, json: Bytes, selected: Selected) -> Self {
        Self { key, revision, json, selected, metadata: None }
    }

    pub(super) fn with_metadata(self, metadata: Range<usize>) -> Self {
        Self { metadata: Some(metadata), ..self }
    }

    /// The bytes of its metadata, where it is known at which place they are.
    pub(crate) fn metadata(&self) -> Option<&[u8]> {
        self.json.get(self.metadata.clone()?)
    }

    /// Its labels.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.selected.labels.get(name).map(AsRef::as_ref)
    }

    /// A field by its path; empty where the object does not have it.
    pub fn field(&self, path: &str) -> &str {
        match path {
            "metadata.name" => &self.key.name,
            "metadata.namespace" => &self.key.namespace,
            _ => self.selected.fields.iter().find(|(known, _)| *known == path).map_or("", |(_, value)| value),
        }
    }

    /// The object; `null` only if the store were to hold what is no JSON, which opening refuses.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or_default()
    }
}

fn text(object: &Value, path: &str) -> Option<Box<str>> {
    // An event is selected by the component that it comes from.
    let path = if path == "source" { "source.component" } else { path };
    let found = path.split('.').try_fold(object, |value, step| value.get(step))?;
    match found {
        Value::String(text) => Some(text.as_str().into()),
        Value::Bool(flag) => Some(flag.to_string().into()),
        Value::Number(number) => Some(number.to_string().into()),
        _ => None,
    }
}
