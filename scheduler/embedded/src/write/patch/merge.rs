//! JSON Merge Patch, RFC 7396.

use serde_json::{Map, Value};

pub(super) fn patch(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, change) in changes {
        if change.is_null() {
            members.remove(name);
        } else {
            self::patch(members.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}
