//! Sets of fields in the form that `FieldsV1` writes them, changed in place: an
//! object that a hundred managers share is not taken apart because one of them
//! changed one field.

use serde_json::{Map, Value};

use super::paths::{Step, key_text};
use crate::schema::{ListType, Schema};

/// Members of an object that nobody owns.
pub(super) fn is_unowned(name: &str) -> bool {
    name == "apiVersion" || name == "kind"
}

/// Every field of an object that can be owned, the same as [`super::leaves`].
pub(super) fn tree_of(schema: &Schema, object: &Value) -> Map<String, Value> {
    let mut root = Map::new();
    for (name, member) in object.as_object().into_iter().flatten().filter(|(name, _)| !is_unowned(name)) {
        let known = schema.member(name).map(AsRef::as_ref);
        if name == "metadata" {
            let mut below = Map::new();
            for (name, member) in member.as_object().into_iter().flatten() {
                if !super::paths::UNOWNED.contains(&name.as_str()) {
                    let known = known.and_then(|known| known.member(name)).map(AsRef::as_ref);
                    below.insert(format!("f:{name}"), Value::Object(below_of(known, member)));
                }
            }
            if !below.is_empty() {
                root.insert("f:metadata".to_owned(), Value::Object(below));
            }
        } else {
            root.insert(format!("f:{name}"), Value::Object(below_of(known, member)));
        }
    }
    root
}

/// The fields below a value; none where it is owned as a whole.
fn below_of(schema: Option<&Schema>, value: &Value) -> Map<String, Value> {
    let mut below = Map::new();
    match value {
        Value::Object(members) if !schema.is_some_and(|schema| schema.atomic) => {
            for (name, member) in members {
                let known = schema.and_then(|schema| schema.member(name)).map(AsRef::as_ref);
                below.insert(format!("f:{name}"), Value::Object(below_of(known, member)));
            }
        }
        Value::Array(elements) => match schema.map_or(&ListType::Atomic, |schema| &schema.list) {
            ListType::Atomic => {}
            ListType::Set => {
                for element in elements {
                    below.insert(format!("v:{element}"), Value::Object(Map::new()));
                }
            }
            ListType::Map(keys) => {
                let items = schema.and_then(|schema| schema.items.as_ref());
                for element in elements {
                    let mut of_element = below_of(items.map(AsRef::as_ref), element);
                    of_element.insert(".".to_owned(), Value::Object(Map::new()));
                    let name = format!("k:{}", key_text(keys, items, element));
                    below.insert(name, Value::Object(of_element));
                }
            }
        },
        _ => {}
    }
    below
}

fn name_of(step: &Step) -> String {
    match step {
        Step::Field(name) => format!("f:{name}"),
        Step::Key(key) => format!("k:{key}"),
        Step::Value(value) => format!("v:{value}"),
    }
}

/// Adds a path.
pub(super) fn add(at: &mut Map<String, Value>, path: &[Step]) {
    let Some((step, rest)) = path.split_first() else { return };
    let next = at.entry(name_of(step)).or_insert_with(|| Value::Object(Map::new()));
    let Value::Object(next) = next else { return };
    if let ([], Step::Key(_)) = (rest, step) {
        // A path that others go on from says by a dot that it is meant itself.
        next.insert(".".to_owned(), Value::Object(Map::new()));
    }
    add(next, rest);
}

/// Takes a path out, and what led to nothing else.
pub(super) fn take(at: &mut Map<String, Value>, path: &[Step]) {
    let Some((step, rest)) = path.split_first() else { return };
    let name = name_of(step);
    let Some(Value::Object(next)) = at.get_mut(&name) else { return };
    if rest.is_empty() {
        // With others below and without a dot it is not in the set itself.
        next.remove(".");
    } else {
        if next.is_empty() {
            return;
        }
        take(next, rest);
    }
    if next.is_empty() {
        at.remove(&name);
    }
}
