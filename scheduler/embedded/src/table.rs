//! Objects as rows of a table, for people.

use coffer_model::Timestamp;
use serde_json::{Value, json};

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

pub(crate) fn render(
    _resource: &Resource,
    objects: &[Value],
    list_metadata: Value,
    options: &TableOptions,
    _now: Timestamp,
) -> Value {
    let row = |object: &Value| json!({"cells": [object["metadata"]["name"]], "object": object});
    json!({
        "kind": "Table", "apiVersion": format!("meta.k8s.io/{}", options.version), "metadata": list_metadata,
        "columnDefinitions": [{"name": "Name", "type": "string", "format": "name", "description": "", "priority": 0}],
        "rows": objects.iter().map(row).collect::<Vec<_>>(),
    })
}
