//! Label and field selectors: the whole grammar of both.

use serde_json::Value;

use crate::refusal::Malformed;
use crate::store::Stored;

/// Requirements of one selector, at most.
const REQUIREMENTS_MAX: usize = 256;

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
    Greater(i64),
    Less(i64),
}

/// `a=b,c!=d,e in (f,g),h notin (i),j,!k,l>1,m<2`: all of them must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelSelector {
    requirements: Vec<(String, Requirement)>,
}

impl LabelSelector {
    /// Whether it takes everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether the labels, looked up by name, fit.
    pub(crate) fn fits<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|(name, requirement)| {
            let value = label(name);
            match requirement {
                Requirement::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
                Requirement::NotIn(values) => value.is_none_or(|value| values.iter().all(|one| one != value)),
                Requirement::Exists => value.is_some(),
                Requirement::Missing => value.is_none(),
                Requirement::Greater(bound) => integer(value).is_some_and(|value| value > *bound),
                Requirement::Less(bound) => integer(value).is_some_and(|value| value < *bound),
            }
        })
    }

    /// Parses a selector.
    ///
    /// # Errors
    /// [`Malformed::LabelSelector`].
    pub(crate) fn parse(text: &str) -> Result<Self, Malformed> {
        let mut rest = text.trim();
        let mut requirements = Vec::new();
        while !rest.is_empty() {
            let fault = || Malformed::LabelSelector { at: rest.chars().take(64).collect() };
            let (requirement, behind) = requirement(rest).ok_or_else(fault)?;
            requirements.push(requirement);
            let behind = behind.trim_start();
            rest = match behind.strip_prefix(',') {
                Some(next) if !next.trim().is_empty() => next.trim_start(),
                None if behind.is_empty() => behind,
                _ => return Err(fault()),
            };
            if requirements.len() > REQUIREMENTS_MAX {
                return Err(fault());
            }
        }
        Ok(Self { requirements })
    }
}

fn integer(value: Option<&str>) -> Option<i64> {
    value?.parse().ok()
}

fn requirement(text: &str) -> Option<((String, Requirement), &str)> {
    if let Some(behind) = text.strip_prefix('!') {
        let (name, rest) = word(behind.trim_start());
        return is_label_name(name).then(|| ((name.to_owned(), Requirement::Missing), rest));
    }
    let (name, rest) = word(text);
    if !is_label_name(name) {
        return None;
    }
    let rest = rest.trim_start();
    let (requirement, rest) = if let Some(rest) = rest.strip_prefix("!=") {
        let (value, rest) = one_value(rest)?;
        (Requirement::NotIn(vec![value]), rest)
    } else if let Some(rest) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
        let (value, rest) = one_value(rest)?;
        (Requirement::In(vec![value]), rest)
    } else if let Some(rest) = rest.strip_prefix('>') {
        let (value, rest) = one_value(rest)?;
        (Requirement::Greater(value.parse().ok()?), rest)
    } else if let Some(rest) = rest.strip_prefix('<') {
        let (value, rest) = one_value(rest)?;
        (Requirement::Less(value.parse().ok()?), rest)
    } else if let Some(rest) = rest.strip_prefix("in").filter(|rest| rest.trim_start().starts_with('(')) {
        let (values, rest) = set(rest)?;
        (Requirement::In(values), rest)
    } else if let Some(rest) = rest.strip_prefix("notin").filter(|rest| rest.trim_start().starts_with('(')) {
        let (values, rest) = set(rest)?;
        (Requirement::NotIn(values), rest)
    } else {
        (Requirement::Exists, rest)
    };
    Some(((name.to_owned(), requirement), rest))
}

/// The longest prefix of characters that names and values are made of.
fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "-_./".contains(c))).unwrap_or(text.len());
    text.split_at(end)
}

fn one_value(text: &str) -> Option<(String, &str)> {
    let (value, rest) = word(text.trim_start());
    is_label_value(value).then(|| (value.to_owned(), rest))
}

fn set(text: &str) -> Option<(Vec<String>, &str)> {
    let (inside, rest) = text.trim_start().strip_prefix('(')?.split_once(')')?;
    let values: Vec<String> = inside.split(',').map(|value| value.trim().to_owned()).collect();
    (values.len() <= REQUIREMENTS_MAX && values.iter().all(|value| is_label_value(value)))
        .then_some((values, rest))
}

/// `prefix/name`: a DNS subdomain of at most 253 characters, and a name of at most 63.
pub(crate) fn is_label_name(text: &str) -> bool {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    !name.is_empty() && is_label_value(name) && prefix.is_none_or(|prefix| is_subdomain(prefix, 253))
}

/// Empty, or at most 63 of letters, digits, `-`, `_`, `.` that begin and end with a letter or digit.
pub(crate) fn is_label_value(text: &str) -> bool {
    let ends = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && ends(text.chars().next())
        && ends(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// An RFC 1123 subdomain.
pub(crate) fn is_subdomain(text: &str, longest: usize) -> bool {
    let is_part = |part: &str| {
        let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        ends(part.chars().next())
            && ends(part.chars().next_back())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    text.len() <= longest && text.split('.').all(is_part)
}

/// `a=b,c!=d`: all of them must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSelector {
    /// Path, value, and whether the field must have it.
    requirements: Vec<(String, String, bool)>,
}

impl FieldSelector {
    /// Whether it takes everything.
    pub(crate) fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The fields that are named.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        self.requirements.iter().map(|(field, _, _)| field.as_str())
    }

    /// The value that this field must have, where the selector leaves no other.
    pub(crate) fn exactly(&self, field: &str) -> Option<&str> {
        self.requirements
            .iter()
            .find(|(path, _, equal)| *equal && path == field)
            .map(|(_, value, _)| value.as_str())
    }

    /// Whether the object fits.
    pub(crate) fn fits(&self, object: &Stored) -> bool {
        self.requirements.iter().all(|(path, value, equal)| (object.field(path) == value) == *equal)
    }

    /// Parses a selector.
    ///
    /// # Errors
    /// [`Malformed::FieldSelector`].
    pub(crate) fn parse(text: &str) -> Result<Self, Malformed> {
        let mut requirements = Vec::new();
        for term in terms(text) {
            let fault = || Malformed::FieldSelector { at: term.chars().take(64).collect() };
            if term.is_empty() {
                continue;
            }
            let (path, rest) = term.split_at(term.find(['=', '!']).ok_or_else(fault)?);
            let (value, equal) = if let Some(value) = rest.strip_prefix("!=") {
                (value, false)
            } else if let Some(value) = rest.strip_prefix("==").or_else(|| rest.strip_prefix('=')) {
                (value, true)
            } else {
                return Err(fault());
            };
            let value = unescaped(value).ok_or_else(fault)?;
            if path.is_empty() || requirements.len() == REQUIREMENTS_MAX {
                return Err(fault());
            }
            requirements.push((path.to_owned(), value, equal));
        }
        Ok(Self { requirements })
    }
}

/// Splits at commas that no backslash precedes.
fn terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.extend(text.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.extend(text.get(start..));
    terms
}

/// Undoes `\\`, `\,` and `\=`; nothing else may be escaped, and those must be.
fn unescaped(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => plain.push(characters.next().filter(|c| "\\,=".contains(*c))?),
            '=' => return None,
            c => plain.push(c),
        }
    }
    Some(plain)
}

/// A `LabelSelector` object, as disruption budgets carry it.
pub(crate) struct Labels<'a>(pub(crate) &'a Value);

impl Labels<'_> {
    /// Whether these labels fit; what cannot be understood fits nothing.
    pub(crate) fn fit(&self, labels: Option<&Value>) -> bool {
        let label = |name: &str| labels.and_then(|labels| labels.get(name)).and_then(Value::as_str);
        let equal = self.0.get("matchLabels").and_then(Value::as_object);
        let equal = equal.into_iter().flatten().all(|(name, value)| label(name) == value.as_str());
        let expressions = self.0.get("matchExpressions").and_then(Value::as_array);
        equal
            && expressions.into_iter().flatten().all(|expression| {
                let text = |field: &str| expression.get(field).and_then(Value::as_str).unwrap_or_default();
                let value = label(text("key"));
                let values = expression.get("values").and_then(Value::as_array);
                let is_among =
                    value.is_some_and(|value| values.into_iter().flatten().any(|one| one == value));
                match text("operator") {
                    "In" => is_among,
                    "NotIn" => !is_among,
                    "Exists" => value.is_some(),
                    "DoesNotExist" => value.is_none(),
                    _ => false,
                }
            })
    }
}
