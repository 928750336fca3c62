//! From an OpenAPI v3 schema, as definitions of custom resources carry it, to
//! a [`Schema`]. What this server could not hold objects to is refused here,
//! rather than passed over later.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::RegexBuilder;
use serde_json::{Map, Value};

use super::{Additional, Checks, ListType, Schema, Type, schema_of};

/// The deepest schema that is taken.
const DEPTH_MAX: usize = 64;
/// The largest compiled pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Why a schema is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SchemaError {
    /// It has no type that a structural schema must have.
    #[error("{at}: type must be given; a schema must be structural")]
    NoType {
        /// Where in the schema.
        at: String,
    },
    /// The type is none of JSON's.
    #[error("{at}: unknown type {found:?}")]
    UnknownType {
        /// Where in the schema.
        at: String,
        /// What it is.
        found: String,
    },
    /// The pattern is no regular expression, or too large a one.
    #[error("{at}: the pattern cannot be used")]
    Pattern {
        /// Where in the schema.
        at: String,
    },
    /// It asks for something that this server does not do.
    #[error("{at}: {keyword} is not supported here")]
    Unsupported {
        /// Where in the schema.
        at: String,
        /// What it asks for.
        keyword: &'static str,
    },
    /// A list by keys does not say by which.
    #[error("{at}: a list of type map needs x-kubernetes-list-map-keys and items that are objects")]
    NoKeys {
        /// Where in the schema.
        at: String,
    },
    /// It is nested too deep.
    #[error("the schema is nested too deep")]
    Deep,
}

/// The schema of a custom resource, with what every object has.
pub(crate) fn custom(openapi: &Value) -> Result<Schema, SchemaError> {
    let mut schema = parse(openapi, "openAPIV3Schema", 0, false)?;
    if schema.kind != Some(Type::Object) {
        return Err(SchemaError::NoType { at: "openAPIV3Schema".to_owned() });
    }
    let text = Arc::new(Schema { kind: Some(Type::String), ..Schema::default() });
    schema.properties.insert("apiVersion".to_owned(), Arc::clone(&text));
    schema.properties.insert("kind".to_owned(), text);
    schema.properties.insert("metadata".to_owned(), metadata());
    Ok(schema)
}

/// The shape of `metadata`.
pub(super) fn metadata() -> Arc<Schema> {
    let of_pod = schema_of("", "v1", "Pod");
    of_pod.properties.get("metadata").map_or_else(|| Arc::new(Schema::anything()), Arc::clone)
}

fn parse(json: &Value, at: &str, depth: usize, is_junctor: bool) -> Result<Schema, SchemaError> {
    if depth > DEPTH_MAX {
        return Err(SchemaError::Deep);
    }
    let none = Map::new();
    let json = json.as_object().unwrap_or(&none);
    for keyword in ["$ref", "x-kubernetes-validations", "patternProperties", "dependencies", "definitions"] {
        if json.get(keyword).is_some_and(|value| !value.is_null()) {
            return Err(SchemaError::Unsupported { at: at.to_owned(), keyword });
        }
    }
    let flag = |name: &str| json.get(name).and_then(Value::as_bool).unwrap_or(false);
    let kind = json.get("type").and_then(Value::as_str).filter(|text| !text.is_empty());
    let kind = kind.map(|text| type_of(text, at)).transpose()?;
    let (preserve, int_or_string) =
        (flag("x-kubernetes-preserve-unknown-fields"), flag("x-kubernetes-int-or-string"));
    if kind.is_none() && !preserve && !int_or_string && !is_junctor {
        return Err(SchemaError::NoType { at: at.to_owned() });
    }
    let mut properties = BTreeMap::new();
    for (name, member) in json.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let schema = parse(member, &format!("{at}.properties[{name}]"), depth + 1, is_junctor)?;
        properties.insert(name.clone(), Arc::new(schema));
    }
    let items = json.get("items").filter(|items| !items.is_null());
    let items = items.map(|items| parse(items, &format!("{at}.items"), depth + 1, is_junctor)).transpose()?;
    let mut schema = Schema {
        kind,
        properties,
        additional: additional(json, at, depth, is_junctor)?,
        items: items.map(Arc::new),
        atomic: json.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic"),
        preserve,
        int_or_string,
        nullable: flag("nullable"),
        default: json.get("default").filter(|default| !default.is_null()).cloned(),
        checks: checks(json, at, depth)?,
        ..Schema::default()
    };
    schema.list = list_type(json, &schema, at)?;
    if flag("x-kubernetes-embedded-resource") {
        let text = Arc::new(Schema { kind: Some(Type::String), ..Schema::default() });
        schema.properties.entry("apiVersion".to_owned()).or_insert_with(|| Arc::clone(&text));
        schema.properties.entry("kind".to_owned()).or_insert(text);
        schema.properties.insert("metadata".to_owned(), metadata());
    }
    Ok(schema)
}

fn type_of(text: &str, at: &str) -> Result<Type, SchemaError> {
    match text {
        "object" => Ok(Type::Object),
        "array" => Ok(Type::Array),
        "string" => Ok(Type::String),
        "integer" => Ok(Type::Integer),
        "number" => Ok(Type::Number),
        "boolean" => Ok(Type::Boolean),
        _ => Err(SchemaError::UnknownType { at: at.to_owned(), found: text.to_owned() }),
    }
}

fn additional(
    json: &Map<String, Value>,
    at: &str,
    depth: usize,
    is_junctor: bool,
) -> Result<Additional, SchemaError> {
    match json.get("additionalProperties") {
        None | Some(Value::Null | Value::Bool(false)) => Ok(Additional::Nothing),
        Some(Value::Bool(true)) => Ok(Additional::Any),
        Some(schema) => {
            let schema = parse(schema, &format!("{at}.additionalProperties"), depth + 1, is_junctor)?;
            Ok(Additional::Of(Arc::new(schema)))
        }
    }
}

fn list_type(json: &Map<String, Value>, schema: &Schema, at: &str) -> Result<ListType, SchemaError> {
    match json.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => Ok(ListType::Set),
        Some("map") => {
            let keys = json.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            let keys: Vec<String> =
                keys.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
            let of_objects = schema.items.as_ref().is_some_and(|items| items.kind == Some(Type::Object));
            if keys.is_empty() || !of_objects {
                return Err(SchemaError::NoKeys { at: at.to_owned() });
            }
            Ok(ListType::Map(keys))
        }
        _ => Ok(ListType::Atomic),
    }
}

fn checks(json: &Map<String, Value>, at: &str, depth: usize) -> Result<Checks, SchemaError> {
    let number = |name: &str| json.get(name).and_then(Value::as_f64);
    let flag = |name: &str| json.get(name).and_then(Value::as_bool).unwrap_or(false);
    let count = |names: [&str; 3]| names.iter().find_map(|name| json.get(*name).and_then(Value::as_u64));
    let junctors = |name: &str| -> Result<Vec<Schema>, SchemaError> {
        let schemas = json.get(name).and_then(Value::as_array);
        schemas
            .into_iter()
            .flatten()
            .map(|schema| parse(schema, &format!("{at}.{name}"), depth + 1, true))
            .collect()
    };
    let pattern = json.get("pattern").and_then(Value::as_str).filter(|pattern| !pattern.is_empty());
    let pattern =
        pattern.map(|text| RegexBuilder::new(text).size_limit(PATTERN_BYTES_MAX).build()).transpose();
    let not = json.get("not").filter(|not| !not.is_null());
    Ok(Checks {
        required: texts(json.get("required")),
        values: json.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
        minimum: number("minimum").map(|bound| (bound, flag("exclusiveMinimum"))),
        maximum: number("maximum").map(|bound| (bound, flag("exclusiveMaximum"))),
        multiple_of: number("multipleOf"),
        shortest: count(["minLength", "minItems", "minProperties"]),
        longest: count(["maxLength", "maxItems", "maxProperties"]),
        pattern: pattern.map_err(|_| SchemaError::Pattern { at: at.to_owned() })?,
        format: json.get("format").and_then(Value::as_str).map(str::to_owned),
        unique: flag("uniqueItems"),
        all_of: junctors("allOf")?,
        any_of: junctors("anyOf")?,
        one_of: junctors("oneOf")?,
        not: not.map(|not| parse(not, &format!("{at}.not"), depth + 1, true)).transpose()?.map(Arc::new),
    })
}

fn texts(array: Option<&Value>) -> Vec<String> {
    let items = array.and_then(Value::as_array);
    items.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}
