//! Which fields differ between two states of an object. What is the same in
//! both is compared and not taken apart.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::paths::{Path, Step, UNOWNED, walk};
use super::tree::is_unowned;
use crate::schema::Schema;

/// Paths of fields that differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference {
    /// Those that are new or have another value.
    pub(super) changed: BTreeSet<Path>,
    /// Those that are there no more.
    pub(super) removed: BTreeSet<Path>,
}

/// The difference between two states.
pub(super) fn difference(schema: &Schema, old: &Value, new: &Value) -> Difference {
    let mut found = Difference::default();
    for name in names(old.as_object(), new.as_object()).filter(|name| !is_unowned(name)) {
        let known = schema.member(name).map(AsRef::as_ref);
        let (was, is) = (old.get(name), new.get(name));
        let mut path = vec![Step::Field(name.clone())];
        if name == "metadata" {
            let (was, is) = (was.unwrap_or(&Value::Null), is.unwrap_or(&Value::Null));
            let owned = |name: &&String| !UNOWNED.contains(&name.as_str());
            for name in names(was.as_object(), is.as_object()).filter(owned) {
                let known = known.and_then(|known| known.member(name)).map(AsRef::as_ref);
                path.push(Step::Field(name.clone()));
                compare(known, was.get(name), is.get(name), &mut path, &mut found);
                path.pop();
            }
        } else {
            compare(known, was, is, &mut path, &mut found);
        }
    }
    found
}

/// The names of members of both, each once.
fn names<'a>(
    old: Option<&'a Map<String, Value>>,
    new: Option<&'a Map<String, Value>>,
) -> impl Iterator<Item = &'a String> {
    let added = move |name: &&String| old.is_none_or(|old| !old.contains_key(*name));
    old.into_iter().flat_map(Map::keys).chain(new.into_iter().flat_map(Map::keys).filter(added))
}

fn compare(
    schema: Option<&Schema>,
    old: Option<&Value>,
    new: Option<&Value>,
    path: &mut Path,
    found: &mut Difference,
) {
    if old == new {
        return;
    }
    let is_atomic = schema.is_some_and(|schema| schema.atomic);
    if let (Some(Value::Object(was)), Some(Value::Object(is))) = (old, new)
        && !is_atomic
        && !was.is_empty()
        && !is.is_empty()
    {
        for name in names(Some(was), Some(is)) {
            let known = schema.and_then(|schema| schema.member(name)).map(AsRef::as_ref);
            path.push(Step::Field(name.clone()));
            compare(known, was.get(name), is.get(name), path, found);
            path.pop();
        }
        return;
    }
    let mut leaves = |value: Option<&Value>| {
        let mut leaves = BTreeMap::new();
        if let Some(value) = value {
            walk(schema, value, path, &mut leaves);
        }
        leaves
    };
    let (before, after) = (leaves(old), leaves(new));
    found.removed.extend(before.keys().filter(|path| !after.contains_key(*path)).cloned());
    let changed = after.into_iter().filter(|(path, value)| before.get(path) != Some(value));
    found.changed.extend(changed.map(|(path, _)| path));
}
