//! The columns of events, in either of their two views.

use coffer_model::Timestamp;
use serde_json::{Value, json};

use super::{Column, Type, age, name, text, text_or};

pub(super) const COLUMNS: &[Column] = &[
    Column { name: "Last Seen", of: Type::Text, wide: 0, help: "When it last happened.", cell: last_seen },
    Column {
        name: "Type",
        of: Type::Text,
        wide: 0,
        help: "Normal or Warning.",
        cell: |event, _| text_or(event, "/type", ""),
    },
    Column {
        name: "Reason",
        of: Type::Text,
        wide: 0,
        help: "Why, in one word.",
        cell: |event, _| text_or(event, "/reason", ""),
    },
    Column {
        name: "Object",
        of: Type::Text,
        wide: 0,
        help: "What it happened to.",
        cell: |event, _| object(event),
    },
    Column {
        name: "Subobject",
        of: Type::Text,
        wide: 1,
        help: "Which part of it.",
        cell: |event, _| json!(either(event, "/involvedObject/fieldPath", "/regarding/fieldPath")),
    },
    Column { name: "Source", of: Type::Text, wide: 1, help: "Who says so.", cell: |event, _| source(event) },
    Column {
        name: "Message",
        of: Type::Text,
        wide: 0,
        help: "For people.",
        cell: |event, _| json!(either(event, "/message", "/note").trim()),
    },
    Column { name: "First Seen", of: Type::Text, wide: 1, help: "When it first happened.", cell: first_seen },
    Column {
        name: "Count",
        of: Type::Number,
        wide: 1,
        help: "How often it happened.",
        cell: |event, _| json!(count(event)),
    },
    Column { name: "Name", of: Type::Name, wide: 1, help: "Of the event itself.", cell: name },
];

fn either<'a>(event: &'a Value, core: &str, new: &str) -> &'a str {
    text(event, core).or_else(|| text(event, new)).unwrap_or_default()
}

fn object(event: &Value) -> Value {
    let kind = either(event, "/involvedObject/kind", "/regarding/kind").to_lowercase();
    let name = either(event, "/involvedObject/name", "/regarding/name");
    json!(if name.is_empty() { kind } else { format!("{kind}/{name}") })
}

fn source(event: &Value) -> Value {
    let component = text(event, "/source/component")
        .or_else(|| text(event, "/deprecatedSource/component"))
        .or_else(|| text(event, "/reportingComponent"))
        .or_else(|| text(event, "/reportingController"));
    let host = text(event, "/source/host")
        .or_else(|| text(event, "/deprecatedSource/host"))
        .or_else(|| text(event, "/reportingInstance"));
    let parts: Vec<&str> = component.into_iter().chain(host).collect();
    json!(parts.join(", "))
}

fn first<'a>(event: &'a Value, places: &[&str]) -> Option<&'a str> {
    places.iter().find_map(|place| text(event, place))
}

fn last_seen(event: &Value, now: Timestamp) -> Value {
    let places = ["/series/lastObservedTime", "/lastTimestamp", "/deprecatedLastTimestamp"];
    let last = first(event, &places).or_else(|| first(event, &["/firstTimestamp", "/eventTime"]));
    json!(age::since(last, now))
}

fn first_seen(event: &Value, now: Timestamp) -> Value {
    json!(age::since(first(event, &["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"]), now))
}

fn count(event: &Value) -> i64 {
    let places = ["/series/count", "/count", "/deprecatedCount"];
    places
        .iter()
        .find_map(|place| event.pointer(place).and_then(Value::as_i64))
        .filter(|n| *n > 0)
        .unwrap_or(1)
}
