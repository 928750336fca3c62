//! Which fields differ between two states of an object. What is the same in
//! both is compared and not taken apart.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::paths::{Path, Step, UNOWNED, key_text, walk};
use super::tree::is_unowned;
use crate::schema::{ListType, Schema};

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
    if let Some(pairs) = pairs(schema, old, new) {
        let items = schema.and_then(|schema| schema.items.as_ref()).map(AsRef::as_ref);
        for (key, was, is) in pairs {
            path.push(Step::Key(key));
            compare(items, Some(was), Some(is), path, found);
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

/// The elements of two lists side by side under their keys, if both have elements with the same keys, and each is an
/// object with fields of its own. Whatever else there is takes the long way.
fn pairs<'a>(
    schema: Option<&Schema>,
    old: Option<&'a Value>,
    new: Option<&'a Value>,
) -> Option<Vec<(String, &'a Value, &'a Value)>> {
    let schema = schema?;
    let (Value::Array(was), Value::Array(is), ListType::Map(keys)) = (old?, new?, &schema.list) else {
        return None;
    };
    let items = schema.items.as_ref();
    let has_fields = |element: &Value| element.as_object().is_some_and(|members| !members.is_empty());
    let whole = was.iter().chain(is).all(has_fields) && !items.is_some_and(|items| items.atomic);
    if !whole || was.is_empty() {
        return None;
    }
    let by_key = |list: &'a [Value]| -> Option<BTreeMap<String, &'a Value>> {
        let keyed = list.iter().map(|element| (key_text(keys, items, element), element));
        Some(keyed.collect()).filter(|keyed: &BTreeMap<String, &Value>| keyed.len() == list.len())
    };
    let (was, is) = (by_key(was)?, by_key(is)?);
    if !was.keys().eq(is.keys()) {
        return None;
    }
    Some(was.into_iter().zip(is.into_values()).map(|((key, was), is)| (key, was, is)).collect())
}
