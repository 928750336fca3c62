//! The entries of `metadata.managedFields`.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::difference::Difference;
use super::paths::{Path, from_fields, to_fields};
use super::{Operation, tree};
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
    let entries: Vec<Value> = entries.iter().map(|entry| written(entry, to_fields(&entry.fields))).collect();
    write(object, entries);
}

/// Writes entries that are JSON already.
fn write(object: &mut Value, entries: Vec<Value>) {
    set_meta(object, "managedFields", (!entries.is_empty()).then(|| entries.into()));
}

/// An entry as JSON, with these fields in place of its own.
fn written(entry: &Entry, fields: Value) -> Value {
    let mut json = json!({
        "manager": entry.manager, "operation": name_of(entry.operation), "apiVersion": entry.version,
        "time": entry.time, "fieldsType": "FieldsV1",
    });
    // Moved in: the macro would copy the tree.
    set(&mut json, "fieldsV1", Some(fields));
    if !entry.part.is_empty() {
        set(&mut json, "subresource", Some(entry.part.clone().into()));
    }
    json
}

fn name_of(operation: Operation) -> &'static str {
    match operation {
        Operation::Apply => "Apply",
        Operation::Update => "Update",
    }
}

/// Gives a new object one entry with these fields.
pub(super) fn begin(object: &mut Value, own: &Entry, fields: Map<String, Value>) {
    let entries = if fields.is_empty() { Vec::new() } else { vec![written(own, fields.into())] };
    write(object, entries);
}

/// Gives `changed` to the writer's entry and takes it, and what was removed, from all others, in the
/// entries as they are stored. `None`: there are so many that some have to be joined, see [`save`].
pub(super) fn reassigned(entries: &[Value], own: &Entry, difference: &Difference) -> Option<Vec<Value>> {
    if entries.len() >= ENTRIES_MAX {
        return None;
    }
    let mut entries = entries.to_vec();
    for entry in &mut entries {
        if let Some(Value::Object(fields)) = entry.get_mut("fieldsV1") {
            difference.changed.iter().chain(&difference.removed).for_each(|path| tree::take(fields, path));
        }
    }
    if !difference.changed.is_empty() {
        match entries.iter_mut().find(|entry| is_stored_of(entry, own)) {
            Some(entry) => {
                if let Some(Value::Object(fields)) = entry.get_mut("fieldsV1") {
                    difference.changed.iter().for_each(|path| tree::add(fields, path));
                }
                set(entry, "time", Some(own.time.clone().into()));
            }
            None => {
                let mut fields = Map::new();
                difference.changed.iter().for_each(|path| tree::add(&mut fields, path));
                entries.push(written(own, fields.into()));
            }
        }
    }
    entries
        .retain(|entry| entry.get("fieldsV1").and_then(Value::as_object).is_some_and(|one| !one.is_empty()));
    Some(entries)
}

fn is_stored_of(entry: &Value, own: &Entry) -> bool {
    field(entry, "manager") == own.manager
        && field(entry, "operation") == name_of(own.operation)
        && field(entry, "subresource") == own.part
        && field(entry, "apiVersion") == own.version
}

/// [`reassigned`], written into an object.
pub(super) fn reassign(object: &mut Value, old: &Value, own: Entry, difference: Difference) {
    match reassigned(elements(old, "/metadata/managedFields"), &own, &difference) {
        Some(entries) => write(object, entries),
        None => save(object, &reassigned_slowly(load(old), own, difference)),
    }
}

/// The same as [`reassigned`], field by field: slow, obvious, and the oracle of its test.
pub(super) fn reassigned_slowly(mut entries: Vec<Entry>, own: Entry, difference: Difference) -> Vec<Entry> {
    let Difference { changed, removed } = difference;
    for entry in &mut entries {
        entry.fields.retain(|path| !changed.contains(path) && !removed.contains(path));
    }
    if !changed.is_empty() {
        match entries.iter_mut().find(|entry| entry.is_of(&own)) {
            Some(entry) => {
                entry.fields.extend(changed);
                entry.time = own.time;
            }
            None => entries.push(Entry { fields: changed, ..own }),
        }
    }
    entries.retain(|entry| !entry.fields.is_empty());
    entries
}
