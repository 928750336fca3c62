//! Ways into an object that is still JSON: every object has `metadata`, and
//! most of what the API does looks at that only.

use serde_json::{Map, Value};

/// A text of `metadata`; empty if it is not there.
pub(crate) fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object
        .get("metadata")
        .and_then(|metadata| metadata.get(field))
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// A text by its JSON pointer; empty if it is not there.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A member of the object itself; empty if it is not there.
pub(crate) fn field<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Sets or removes a member of `metadata`.
pub(crate) fn set_meta(object: &mut Value, field: &str, value: Option<Value>) {
    let Value::Object(members) = object else { return };
    let metadata = members.entry("metadata").or_insert(Value::Null);
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    set(metadata, field, value);
}

/// Sets or removes a member of the object itself.
pub(crate) fn set(object: &mut Value, field: &str, value: Option<Value>) {
    if let Value::Object(members) = object {
        match value {
            Some(value) => members.insert(field.to_owned(), value),
            None => members.remove(field),
        };
    }
}

/// The texts of a list by its JSON pointer.
pub(crate) fn texts<'a>(object: &'a Value, pointer: &str) -> Vec<&'a str> {
    let list = object.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Elements of a list by its JSON pointer.
pub(crate) fn elements<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether the object is being deleted.
pub(crate) fn is_deleting(object: &Value) -> bool {
    !meta(object, "deletionTimestamp").is_empty()
}

/// The revision that the object says it has.
pub(crate) fn revision(object: &Value) -> &str {
    meta(object, "resourceVersion")
}
