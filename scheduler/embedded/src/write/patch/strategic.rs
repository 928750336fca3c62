//! Strategic merge patch: a merge that knows which lists are told apart by a
//! key, with directives for deleting, replacing and ordering.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::refusal::{Malformed, Refusal};
use crate::schema::Schema;

const DIRECTIVE: &str = "$patch";
const RETAIN: &str = "$retainKeys";
const DELETE_PRIMITIVES: &str = "$deleteFromPrimitiveList/";
const ORDER: &str = "$setElementOrder/";

pub(super) fn patch(schema: &Schema, object: &mut Value, patch: &Value) -> Result<(), Refusal> {
    merge(Some(schema), object, patch)
}

fn odd(what: &str) -> Refusal {
    Malformed::Patch(what.to_owned()).into()
}

fn merge(schema: Option<&Schema>, target: &mut Value, patch: &Value) -> Result<(), Refusal> {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    match changes.get(DIRECTIVE).map(|directive| directive.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => *target = Value::Object(Map::new()),
        Some("delete") => {
            *target = Value::Object(Map::new());
            return Ok(());
        }
        Some(_) => return Err(odd("$patch must be delete, merge or replace")),
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return Ok(()) };
    for (name, change) in changes {
        if let Some(list) = name.strip_prefix(DELETE_PRIMITIVES) {
            let gone = change.as_array().ok_or_else(|| odd("$deleteFromPrimitiveList must be a list"))?;
            if let Some(Value::Array(elements)) = members.get_mut(list) {
                elements.retain(|element| !gone.contains(element));
            }
        } else if change.is_null() && !name.starts_with('$') {
            members.remove(name);
        } else if !name.starts_with('$') {
            let known = schema.and_then(|schema| schema.member(name));
            let target = members.entry(name.clone()).or_insert(Value::Null);
            match change {
                Value::Array(changes) => merge_list(known, target, changes)?,
                change => merge(known.map(AsRef::as_ref), target, change)?,
            }
        }
    }
    for (name, order) in changes {
        if let (Some(list), Some(order)) = (name.strip_prefix(ORDER), order.as_array()) {
            let key =
                schema.and_then(|schema| schema.member(list)).and_then(|known| known.merge_key.as_deref());
            if let Some(Value::Array(elements)) = members.get_mut(list) {
                sort(elements, order, key.unwrap_or_default());
            }
        }
    }
    if let Some(retained) = changes.get(RETAIN) {
        let retained = retained.as_array().ok_or_else(|| odd("$retainKeys must be a list"))?;
        members.retain(|name, _| retained.iter().any(|one| one == name));
    }
    Ok(())
}

fn merge_list(schema: Option<&Arc<Schema>>, target: &mut Value, changes: &[Value]) -> Result<(), Refusal> {
    let directive = |change: &Value| change.get(DIRECTIVE).and_then(Value::as_str).map(str::to_owned);
    let is_replaced = changes.iter().any(|change| directive(change).as_deref() == Some("replace"));
    let key = schema.and_then(|schema| schema.merge_key.as_deref());
    let (Some(key), false) = (key, is_replaced) else {
        let plain = changes.iter().filter(|change| directive(change).is_none());
        *target = Value::Array(plain.cloned().collect());
        return Ok(());
    };
    if !target.is_array() {
        *target = Value::Array(Vec::new());
    }
    let Value::Array(elements) = target else { return Ok(()) };
    let items = schema.and_then(|schema| schema.items.as_deref());
    for change in changes {
        if key.is_empty() {
            if !elements.contains(change) {
                elements.push(change.clone());
            }
            continue;
        }
        let wanted = change.get(key).ok_or_else(|| odd(&format!("an element has no {key}")))?;
        if directive(change).as_deref() == Some("delete") {
            elements.retain(|element| element.get(key) != Some(wanted));
            continue;
        }
        match elements.iter_mut().find(|element| element.get(key) == Some(wanted)) {
            Some(element) => merge(items, element, change)?,
            None => {
                let mut element = Value::Null;
                merge(items, &mut element, change)?;
                elements.push(element);
            }
        }
    }
    Ok(())
}

/// Brings elements into the order of the patch; those that it does not name come last, as they were.
fn sort(elements: &mut [Value], order: &[Value], key: &str) {
    let of = |element: &Value| if key.is_empty() { Some(element.clone()) } else { element.get(key).cloned() };
    let order: Vec<Option<Value>> = order.iter().map(of).collect();
    elements.sort_by_key(|element| {
        let own = of(element);
        order.iter().position(|one| *one == own).unwrap_or(order.len())
    });
}
