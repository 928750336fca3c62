//! Whether an object is what its schema asks for; if not, every field at fault.

use serde_json::Value;

use super::place::Place;
use super::{Checks, ListType, Schema, Type, element_key};
use crate::refusal::{Cause, Fault};

/// Faults that are named at most.
const CAUSES_MAX: usize = 32;

/// Names every field at fault.
pub(crate) fn check(schema: &Schema, value: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    check_at(schema, value, &Place::Root, &mut causes);
    causes
}

fn holds(schema: &Schema, value: &Value) -> bool {
    check(schema, value).is_empty()
}

fn check_at(schema: &Schema, value: &Value, path: &Place<'_>, causes: &mut Vec<Cause>) {
    if causes.len() >= CAUSES_MAX || (value.is_null() && schema.nullable) {
        return;
    }
    let is_text_or_number = value.is_string() || value.is_i64() || value.is_u64();
    let fits = match schema.kind {
        _ if schema.int_or_string => is_text_or_number || (schema.quantity && value.is_number()),
        None => true,
        Some(Type::Object) => value.is_object(),
        Some(Type::Array) => value.is_array(),
        Some(Type::String) => value.is_string(),
        Some(Type::Integer) => is_integer(value, schema.checks.format.as_deref()),
        Some(Type::Number) => value.is_number(),
        Some(Type::Boolean) => value.is_boolean(),
    };
    if !fits {
        let wanted = schema.kind.map_or("an integer or a string", words);
        causes.push(Cause::new(Fault::Type, place(path), format!("must be {wanted}")));
        return;
    }
    check_value(&schema.checks, value, path, causes);
    match value {
        Value::Object(members) => {
            for name in &schema.checks.required {
                if !members.contains_key(name) {
                    causes.push(Cause::new(Fault::Required, path.member(name).to_string(), "must be given"));
                }
            }
            for (name, member) in members {
                if let Some(known) = schema.member(name) {
                    check_at(known, member, &path.member(name), causes);
                }
            }
        }
        Value::Array(elements) => check_elements(schema, elements, path, causes),
        _ => {}
    }
}

fn is_integer(value: &Value, format: Option<&str>) -> bool {
    match format {
        Some("int32") => value.as_i64().is_some_and(|number| i32::try_from(number).is_ok()),
        _ => value.is_i64() || value.as_f64().is_some_and(|number| value.is_f64() && number.fract() == 0.0),
    }
}

fn words(kind: Type) -> &'static str {
    match kind {
        Type::Object => "an object",
        Type::Array => "a list",
        Type::String => "a string",
        Type::Integer => "an integer",
        Type::Number => "a number",
        Type::Boolean => "a boolean",
    }
}

fn check_elements(schema: &Schema, elements: &[Value], path: &Place<'_>, causes: &mut Vec<Cause>) {
    let items = schema.items.as_ref();
    for (at, element) in elements.iter().enumerate() {
        if let Some(items) = items {
            check_at(items, element, &path.element(at), causes);
        }
    }
    // One element is like no other.
    if elements.len() < 2 {
        return;
    }
    let keys: Vec<String> = match &schema.list {
        ListType::Map(keys) => {
            let key = |element: &Value| element_key(keys, items, element);
            elements.iter().map(|element| serde_json::to_string(&key(element)).unwrap_or_default()).collect()
        }
        ListType::Set => elements.iter().map(Value::to_string).collect(),
        ListType::Atomic if schema.checks.unique => elements.iter().map(Value::to_string).collect(),
        ListType::Atomic => return,
    };
    let mut seen = std::collections::BTreeSet::new();
    for (at, key) in keys.iter().enumerate() {
        if !seen.insert(key) {
            causes.push(Cause::new(Fault::Duplicate, path.element(at).to_string(), key.clone()));
        }
    }
}

fn check_value(checks: &Checks, value: &Value, path: &Place<'_>, causes: &mut Vec<Cause>) {
    let mut fault = |fault: Fault, message: String| causes.push(Cause::new(fault, place(path), message));
    if !checks.values.is_empty() && !checks.values.contains(value) {
        let known: Vec<String> = checks.values.iter().map(Value::to_string).collect();
        fault(Fault::Unsupported, format!("{value}: supported values: {}", known.join(", ")));
    }
    if let Some(number) = value.as_f64() {
        if let Some((bound, excluded)) = checks.minimum
            && (number < bound || (excluded && number <= bound))
        {
            fault(Fault::Invalid, format!("must be greater than{} {bound}", or_equal(excluded)));
        }
        if let Some((bound, excluded)) = checks.maximum
            && (number > bound || (excluded && number >= bound))
        {
            fault(Fault::Invalid, format!("must be less than{} {bound}", or_equal(excluded)));
        }
        if checks.multiple_of.is_some_and(|of| of != 0.0 && (number / of).fract() != 0.0) {
            fault(Fault::Invalid, "must be a multiple of the stated number".to_owned());
        }
    }
    let is_bounded = checks.shortest.is_some() || checks.longest.is_some();
    if is_bounded && let Some((size, what)) = size(value) {
        if let Some(least) = checks.shortest.filter(|least| size < *least) {
            fault(Fault::Invalid, format!("must have at least {least} {what}"));
        }
        if let Some(most) = checks.longest.filter(|most| size > *most) {
            fault(Fault::Invalid, format!("must have at most {most} {what}"));
        }
    }
    if let Some(text) = value.as_str() {
        if let Some(pattern) = checks.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
            fault(Fault::Invalid, format!("must match {}", pattern.as_str()));
        }
        if checks.format.as_deref().is_some_and(|format| !has_format(format, text)) {
            fault(Fault::Invalid, format!("must be a {}", checks.format.as_deref().unwrap_or_default()));
        }
    }
    let joined = checks.all_of.iter().all(|schema| holds(schema, value))
        && (checks.any_of.is_empty() || checks.any_of.iter().any(|schema| holds(schema, value)))
        && (checks.one_of.is_empty()
            || checks.one_of.iter().filter(|schema| holds(schema, value)).count() == 1)
        && checks.not.as_ref().is_none_or(|schema| !holds(schema, value));
    if !joined {
        fault(Fault::Invalid, "must fulfil allOf, anyOf, oneOf and not of its schema".to_owned());
    }
}

fn or_equal(excluded: bool) -> &'static str {
    if excluded { "" } else { " or equal to" }
}

fn size(value: &Value) -> Option<(u64, &'static str)> {
    let (size, what) = match value {
        Value::String(text) => (text.chars().count(), "characters"),
        Value::Array(elements) => (elements.len(), "items"),
        Value::Object(members) => (members.len(), "properties"),
        _ => return None,
    };
    Some((u64::try_from(size).unwrap_or(u64::MAX), what))
}

/// The formats that are checked; others say nothing here, as in Kubernetes.
fn has_format(format: &str, text: &str) -> bool {
    match format {
        "date-time" => crate::moment::parse(text).is_some(),
        "uuid" => {
            let parts: Vec<&str> = text.split('-').collect();
            parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
                && parts.iter().all(|part| part.chars().all(|c| c.is_ascii_hexdigit()))
        }
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        _ => true,
    }
}

fn place(path: &Place<'_>) -> String {
    if matches!(path, Place::Root) { "<root>".to_owned() } else { path.to_string() }
}
