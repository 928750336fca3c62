//! Who owns which fields: `metadata.managedFields`. Every change is attributed
//! to a manager; server-side apply asks here whose fields it would take.

mod entries;
mod paths;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

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
    let there = owned(write, object);
    let fields: BTreeSet<Path> =
        owned(write, given).into_keys().filter(|path| there.contains_key(path)).collect();
    let entry = Entry { fields, ..own(write, operation) };
    save(object, &[entry]);
}

/// Attributes the difference between two states. After an apply the entries are those that it
/// worked out, which the new state carries already.
pub(crate) fn on_update(write: &Write<'_>, old: &Value, new: &mut Value, operation: Operation) {
    let before = old.pointer("/metadata/managedFields").cloned();
    let after = owned(write, new);
    let entries = match operation {
        Operation::Apply => {
            let mut entries = load(new);
            for entry in &mut entries {
                entry.fields.retain(|path| after.contains_key(path));
            }
            entries.retain(|entry| !entry.fields.is_empty());
            let same = |one: &Entry, other: &Entry| one.is_of(other) && one.fields == other.fields;
            let past = load(old);
            if past.len() == entries.len() && past.iter().zip(&entries).all(|(one, other)| same(one, other)) {
                set_meta(new, "managedFields", before);
                return;
            }
            entries
        }
        Operation::Update => {
            let past = owned(write, old);
            let changed: BTreeSet<Path> = after
                .iter()
                .filter(|(path, value)| past.get(*path) != Some(value))
                .map(|(path, _)| path.clone())
                .collect();
            let removed: BTreeSet<&Path> = past.keys().filter(|path| !after.contains_key(*path)).collect();
            if changed.is_empty() && removed.is_empty() {
                set_meta(new, "managedFields", before);
                return;
            }
            let mut entries = load(old);
            let own = own(write, operation);
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
    };
    save(new, &entries);
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
