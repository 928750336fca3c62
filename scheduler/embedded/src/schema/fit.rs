//! Makes an object fit its schema: fields that nobody knows go, defaults come,
//! nulls vanish, quantities become text.

use serde_json::{Map, Value};

use super::place::Place;
use super::{Additional, Schema};

/// Unknown fields that are reported at most.
const UNKNOWN_MAX: usize = 32;

/// Fits `value`, and names the fields that it dropped.
pub(crate) fn fit(schema: &Schema, value: &mut Value) -> Vec<String> {
    let mut unknown = Vec::new();
    fit_at(schema, value, &Place::Root, &mut unknown);
    unknown
}

fn fit_at(schema: &Schema, value: &mut Value, path: &Place<'_>, unknown: &mut Vec<String>) {
    match value {
        Value::Object(members) => fit_members(schema, members, path, unknown),
        Value::Array(elements) => {
            if let Some(items) = &schema.items {
                for (at, element) in elements.iter_mut().enumerate() {
                    fit_at(items, element, &path.element(at), unknown);
                }
            }
        }
        Value::Number(number) if schema.quantity => *value = Value::String(number.to_string()),
        _ => {}
    }
}

fn fit_members(
    schema: &Schema,
    members: &mut Map<String, Value>,
    path: &Place<'_>,
    unknown: &mut Vec<String>,
) {
    members.retain(|name, member| {
        let known = schema.member(name);
        if member.is_null() {
            return known.map_or(schema.preserve, |known| known.nullable);
        }
        let kept = known.is_some() || schema.preserve || matches!(schema.additional, Additional::Any);
        if !kept && unknown.len() < UNKNOWN_MAX {
            unknown.push(path.member(name).to_string());
        }
        kept
    });
    for (name, known) in &schema.properties {
        if let Some(default) = &known.default
            && !members.contains_key(name)
        {
            members.insert(name.clone(), default.clone());
        }
    }
    for (name, member) in members.iter_mut() {
        if let Some(known) = schema.member(name) {
            fit_at(known, member, &path.member(name), unknown);
        }
    }
}
