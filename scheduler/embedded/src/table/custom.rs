//! Columns of custom kinds, as their definitions describe them.

use coffer_model::Timestamp;
use serde_json::{Value, json};

use super::path::Path;
use super::{AGE, NAME, age, age_of, name};
use crate::kinds::PrinterColumn;

/// The name, then what the definition lists; the age if it lists nothing.
pub(super) fn definitions(columns: &[PrinterColumn]) -> Vec<Value> {
    let mut made = vec![NAME.definition()];
    if columns.is_empty() {
        made.push(AGE.definition());
    }
    made.extend(columns.iter().map(|column| {
        json!({
            "name": column.name, "type": column.column_type, "format": column.format,
            "description": column.description, "priority": column.priority,
        })
    }));
    made
}

pub(super) fn cells(columns: &[PrinterColumn], object: &Value, now: Timestamp) -> Vec<Value> {
    let mut made = vec![name(object, now)];
    if columns.is_empty() {
        made.push(age_of(object, now));
    }
    made.extend(columns.iter().map(|column| cell(column, object, now)));
    made
}

/// The first value that the path leads to, as the column's type; nothing
/// where it leads nowhere or to another type. A text column takes any value.
fn cell(column: &PrinterColumn, object: &Value, now: Timestamp) -> Value {
    let Some(path) = Path::parse(&column.path) else { return Value::Null };
    let found = path.find(object);
    let Some(first) = found.first() else { return Value::Null };
    match column.column_type.as_str() {
        "integer" if first.is_i64() || first.is_u64() => (*first).clone(),
        "number" if first.is_number() => (*first).clone(),
        "boolean" if first.is_boolean() => (*first).clone(),
        "date" => first.as_str().map_or(Value::Null, |moment| json!(age::since(Some(moment), now))),
        "string" if found.iter().all(|value| value.is_null()) => Value::Null,
        "string" => json!(found.iter().map(|value| printed(value)).collect::<Vec<_>>().join(" ")),
        _ => Value::Null,
    }
}

fn printed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
