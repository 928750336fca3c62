//! in-toto Statements v1 (<https://in-toto.io/Statement/v1>): what a DSSE
//! envelope of ours holds. One subject with one SHA-256, a kind, a predicate.

use serde_json::{Value, json};

/// The payload type of statements in DSSE.
pub const STATEMENT_PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// The `_type` of a statement.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

/// A statement of a kind about one thing; `sha256` is hexadecimal.
pub fn statement(name: &str, sha256: &str, kind: &str, predicate: &Value) -> Value {
    json!({
        "_type": STATEMENT_TYPE,
        "subject": [{ "name": name, "digest": { "sha256": sha256 } }],
        "predicateType": kind,
        "predicate": predicate,
    })
}

/// The kind of a statement; none if the value is no statement.
pub fn statement_kind(value: &Value) -> Option<&str> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    (text("_type") == Some(STATEMENT_TYPE)).then(|| text("predicateType")).flatten()
}

/// Name and SHA-256, hexadecimal, of the one subject of a statement.
pub fn statement_subject(value: &Value) -> Option<(&str, &str)> {
    let [subject] = value.get("subject")?.as_array()?.as_slice() else { return None };
    Some((subject.get("name")?.as_str()?, subject.pointer("/digest/sha256")?.as_str()?))
}
