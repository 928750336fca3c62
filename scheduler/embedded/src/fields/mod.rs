//! Who owns which fields: `metadata.managedFields`. Every change is attributed
//! to a manager; server-side apply asks here whose fields it would take.

mod difference;
mod entries;
mod paths;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use difference::{Difference, difference};
pub(crate) use entries::{Entry, load, save};
pub(crate) use paths::{Path, Step, leaves, words};

use crate::moment;
use crate::object::set_meta;
use crate::write::Write;

/// By which kind of request a manager came to own its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// Server-side apply: the manager owns what it last applied.
    Apply,
    /// Any other change: the manager owns what it changed last.
    Update,
}

/// The fields of an object that somebody can own.
pub(crate) fn owned(write: &Write<'_>, object: &Value) -> BTreeMap<Path, Value> {
    leaves(&write.resource().schema, object)
}

/// Attributes a new object to its creator; `given` is what the creator sent.
pub(crate) fn on_create(write: &Write<'_>, given: &Value, object: &mut Value, operation: Operation) {
    let schema = &write.resource().schema;
    let mut fields = tree::tree_of(schema, given);
    // What the server did not take over is nobody's.
    difference(schema, given, object).removed.iter().for_each(|path| tree::take(&mut fields, path));
    entries::begin(object, &own(write, operation), fields);
}

/// Attributes the difference between two states. After an apply the entries are those that it
/// worked out, which the new state carries already.
pub(crate) fn on_update(write: &Write<'_>, old: &Value, new: &mut Value, operation: Operation) {
    match operation {
        Operation::Apply => on_apply(write, old, new),
        Operation::Update => {
            let difference = difference(&write.resource().schema, old, new);
            if difference == Difference::default() {
                set_meta(new, "managedFields", old.pointer("/metadata/managedFields").cloned());
            } else {
                entries::reassign(new, old, own(write, operation), difference);
            }
        }
    }
}

fn on_apply(write: &Write<'_>, old: &Value, new: &mut Value) {
    let after = owned(write, new);
    let mut entries = load(new);
    for entry in &mut entries {
        entry.fields.retain(|path| after.contains_key(path));
    }
    entries.retain(|entry| !entry.fields.is_empty());
    let same = |one: &Entry, other: &Entry| one.is_of(other) && one.fields == other.fields;
    let past = load(old);
    if past.len() == entries.len() && past.iter().zip(&entries).all(|(one, other)| same(one, other)) {
        set_meta(new, "managedFields", old.pointer("/metadata/managedFields").cloned());
    } else {
        save(new, &entries);
    }
}

/// The writer's entry, still without fields.
pub(crate) fn own(write: &Write<'_>, operation: Operation) -> Entry {
    Entry {
        manager: write.manager.clone(),
        operation,
        part: write.objects.part.map(|part| part.as_str().to_owned()).unwrap_or_default(),
        version: write.resource().kind.api_version(),
        time: moment::text(write.now),
        fields: BTreeSet::new(),
    }
}

#[cfg(test)]
mod tests;
