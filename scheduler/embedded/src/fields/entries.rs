//! The entries of `metadata.managedFields`.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Operation;
use super::paths::{Path, from_fields, to_fields};
use crate::object::{elements, field, set, set_meta};

/// Entries that an object keeps at most; the oldest `Update` entries are joined into one beyond that.
const ENTRIES_MAX: usize = 24;

/// One manager, one operation, one part of the object, one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) manager: String,
    pub(crate) operation: Operation,
    /// The subresource by which it wrote; empty for the object itself.
    pub(crate) part: String,
    pub(crate) version: String,
    /// When its set last changed.
    pub(crate) time: String,
    pub(crate) fields: BTreeSet<Path>,
}

impl Entry {
    /// Whether both are of the same manager, operation, part and version.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        (&self.manager, self.operation, &self.part, &self.version)
            == (&other.manager, other.operation, &other.part, &other.version)
    }
}

/// The entries of an object.
pub(crate) fn load(object: &Value) -> Vec<Entry> {
    elements(object, "/metadata/managedFields")
        .iter()
        .map(|entry| Entry {
            manager: field(entry, "manager").to_owned(),
            operation: if field(entry, "operation") == "Apply" {
                Operation::Apply
            } else {
                Operation::Update
            },
            part: field(entry, "subresource").to_owned(),
            version: field(entry, "apiVersion").to_owned(),
            time: field(entry, "time").to_owned(),
            fields: entry.get("fieldsV1").map(from_fields).unwrap_or_default(),
        })
        .collect()
}

/// Writes the entries into an object.
pub(crate) fn save(object: &mut Value, entries: &[Entry]) {
    let mut entries = entries.to_vec();
    while entries.len() > ENTRIES_MAX {
        let mut updates =
            entries.iter().enumerate().filter(|(_, entry)| entry.operation == Operation::Update);
        let (Some((first, _)), Some((second, _))) = (updates.next(), updates.next()) else { break };
        let joined = entries.remove(second);
        if let Some(entry) = entries.get_mut(first) {
            "ancient-changes".clone_into(&mut entry.manager);
            entry.fields.extend(joined.fields);
        }
    }
    let entries: Vec<Value> = entries
        .iter()
        .map(|entry| {
            let operation = match entry.operation {
                Operation::Apply => "Apply",
                Operation::Update => "Update",
            };
            let mut json = json!({
                "manager": entry.manager, "operation": operation, "apiVersion": entry.version,
                "time": entry.time, "fieldsType": "FieldsV1", "fieldsV1": to_fields(&entry.fields),
            });
            if !entry.part.is_empty() {
                set(&mut json, "subresource", Some(entry.part.clone().into()));
            }
            json
        })
        .collect();
    set_meta(object, "managedFields", (!entries.is_empty()).then(|| entries.into()));
}
