//! What objects of a resource look like. Built-in types and custom resource
//! definitions give the same [`Schema`]; pruning, defaulting, validation, the
//! patches and field ownership all go by it.

mod built_in;
mod check;
mod fit;
mod parse;
mod place;

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;
use serde_json::Value;

pub(crate) use built_in::schema_of;
pub(crate) use check::check;
pub(crate) use fit::fit;
pub(crate) use parse::custom;

/// A type of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// An object.
    Object,
    /// An array.
    Array,
    /// A string.
    String,
    /// A number without a fraction.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
}

/// What the elements of a list are to each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum ListType {
    /// The list is one value.
    #[default]
    Atomic,
    /// Each element is there once.
    Set,
    /// Each element is known by these fields.
    Map(Vec<String>),
}

/// What else an object may hold.
#[derive(Clone, Debug, Default)]
pub(crate) enum Additional {
    /// Nothing.
    #[default]
    Nothing,
    /// Anything.
    Any,
    /// Values of this shape under whatever names.
    Of(Arc<Schema>),
}

/// The shape of a value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schema {
    /// Its type; none if it may be anything, or if it is a number or a string.
    pub(crate) kind: Option<Type>,
    /// Named members.
    pub(crate) properties: BTreeMap<String, Arc<Schema>>,
    /// Other members.
    pub(crate) additional: Additional,
    /// Elements.
    pub(crate) items: Option<Arc<Schema>>,
    /// What elements are to each other.
    pub(crate) list: ListType,
    /// In a strategic merge, elements are known by this field; empty for elements that are their own key.
    pub(crate) merge_key: Option<String>,
    /// An object that is one value.
    pub(crate) atomic: bool,
    /// Members that are not named stay.
    pub(crate) preserve: bool,
    /// A number or a string.
    pub(crate) int_or_string: bool,
    /// A quantity; a number becomes a string.
    pub(crate) quantity: bool,
    /// May be null.
    pub(crate) nullable: bool,
    /// What a missing value becomes.
    pub(crate) default: Option<Value>,
    /// What it must fulfil beyond its type.
    pub(crate) checks: Checks,
}

/// What a value must fulfil beyond its type.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checks {
    /// Members that must be there.
    pub(crate) required: Vec<String>,
    /// The only values that there are; empty for no such list.
    pub(crate) values: Vec<Value>,
    /// Least value, and whether it is excluded.
    pub(crate) minimum: Option<(f64, bool)>,
    /// Greatest value, and whether it is excluded.
    pub(crate) maximum: Option<(f64, bool)>,
    /// The value is a multiple of this.
    pub(crate) multiple_of: Option<f64>,
    /// Least number of characters, elements or members.
    pub(crate) shortest: Option<u64>,
    /// Greatest number of characters, elements or members.
    pub(crate) longest: Option<u64>,
    /// The text contains a match.
    pub(crate) pattern: Option<Regex>,
    /// A named form, as `date-time`.
    pub(crate) format: Option<String>,
    /// Elements differ.
    pub(crate) unique: bool,
    /// All of these hold.
    pub(crate) all_of: Vec<Schema>,
    /// At least one of these holds.
    pub(crate) any_of: Vec<Schema>,
    /// Precisely one of these holds.
    pub(crate) one_of: Vec<Schema>,
    /// This does not hold.
    pub(crate) not: Option<Arc<Schema>>,
}

impl Schema {
    /// Anything, kept as it is and owned as a whole.
    pub(crate) fn anything() -> Self {
        Self { preserve: true, ..Self::default() }
    }

    /// The shape of a member.
    pub(crate) fn member(&self, name: &str) -> Option<&Arc<Schema>> {
        self.properties.get(name).or(match &self.additional {
            Additional::Of(schema) => Some(schema),
            Additional::Nothing | Additional::Any => None,
        })
    }
}

/// The key of an element of a list map, in the order of the list's keys; a key that is missing
/// takes its default.
pub(crate) fn element_key(
    keys: &[String],
    items: Option<&Arc<Schema>>,
    element: &Value,
) -> BTreeMap<String, Value> {
    let default = |key: &String| items.and_then(|items| items.properties.get(key)?.default.clone());
    keys.iter()
        .map(|key| (key.clone(), element.get(key).cloned().or_else(|| default(key)).unwrap_or(Value::Null)))
        .collect()
}
