//! The part of JSONPath that printer columns use: fields, quoted fields, indices,
//! `[*]`, and filters that compare one field with a text, number or truth.

use serde_json::Value;

#[derive(Debug, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// Those for which the path leads to the value.
    Where(Path, Value),
}

/// A parsed path.
#[derive(Debug, PartialEq)]
pub(super) struct Path(Vec<Step>);

impl Path {
    /// None if it uses what is not understood.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')).unwrap_or(text);
        let mut rest = text.strip_prefix('$').unwrap_or(text);
        let mut steps = Vec::new();
        while !rest.is_empty() {
            let (step, behind) = match rest.strip_prefix('[') {
                Some(inside) => bracket(inside)?,
                None => field(rest.strip_prefix('.')?)?,
            };
            steps.extend(step);
            rest = behind;
        }
        Some(Self(steps))
    }

    /// All values that the path leads to.
    pub(super) fn find<'a>(&self, object: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![object];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.take(value)).collect();
        }
        found
    }
}

impl Step {
    fn take<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Self::Field(name), _) => value.get(name).into_iter().collect(),
            (Self::Index(at), Value::Array(items)) => {
                let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
                let at = if *at < 0 { length.saturating_add(*at) } else { *at };
                usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect()
            }
            (Self::All, Value::Array(items)) => items.iter().collect(),
            (Self::All, Value::Object(map)) => map.values().collect(),
            (Self::Where(path, wanted), Value::Array(items)) => {
                items.iter().filter(|item| path.find(item).contains(&wanted)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// A field's name up to the next unescaped `.` or `[`. An empty one, as in `.`,
/// is no step.
fn field(text: &str) -> Option<(Option<Step>, &str)> {
    let mut name = String::new();
    let mut chars = text.char_indices();
    let mut end = text.len();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => name.push(chars.next()?.1),
            '.' | '[' => {
                end = at;
                break;
            }
            '*' if name.is_empty() => return Some((Some(Step::All), text.get(1..)?)),
            c => name.push(c),
        }
    }
    let rest = text.get(end..)?;
    if name.is_empty() {
        return rest.is_empty().then_some((None, rest));
    }
    Some((Some(Step::Field(name)), rest))
}

/// What stands between brackets, and what follows them.
fn bracket(text: &str) -> Option<(Option<Step>, &str)> {
    let end = closing(text)?;
    let (inside, rest) = (text.get(..end)?.trim(), text.get(end + 1..)?);
    let step = if inside == "*" {
        Step::All
    } else if let Some(name) = quoted(inside) {
        Step::Field(name.to_owned())
    } else if let Some(filter) = inside.strip_prefix("?(").and_then(|filter| filter.strip_suffix(')')) {
        let (path, wanted) = filter.split_once("==")?;
        let path = Path::parse(path.trim().strip_prefix('@')?)?;
        let wanted = wanted.trim();
        let wanted = match quoted(wanted) {
            Some(text) => Value::from(text),
            None => serde_json::from_str(wanted).ok()?,
        };
        Step::Where(path, wanted)
    } else {
        Step::Index(inside.parse().ok()?)
    };
    Some((Some(step), rest))
}

/// Where the bracket closes, quotes skipped.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut depth = 0_u32;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if open == c => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn quoted(text: &str) -> Option<&str> {
    ['\'', '"'].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(path: &str, object: &Value) -> Option<Vec<Value>> {
        Some(Path::parse(path)?.find(object).into_iter().cloned().collect())
    }

    #[test]
    fn paths_of_printer_columns_lead_to_their_values() {
        let object = json!({
            "metadata": {"labels": {"a.b/c": "x"}},
            "spec": {"list": [1, 2, 3]},
            "status": {"conditions": [
                {"type": "Other", "status": "False"}, {"type": "Ready", "status": "True", "n": 3},
            ]},
        });
        for (path, values) in [
            (".spec.list[0]", vec![json!(1)]),
            (".spec.list[-1]", vec![json!(3)]),
            (".spec.list[7]", vec![]),
            ("{.spec.list[*]}", vec![json!(1), json!(2), json!(3)]),
            (r".metadata.labels.a\.b/c", vec![json!("x")]),
            (".metadata.labels['a.b/c']", vec![json!("x")]),
            (r#".status.conditions[?(@.type=="Ready")].status"#, vec![json!("True")]),
            (".status.conditions[?(@.type=='None')].status", vec![]),
            (".status.conditions[?(@.n==3)].type", vec![json!("Ready")]),
            (".spec.nothing.deeper", vec![]),
        ] {
            assert_eq!(found(path, &object), Some(values), "{path}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_and_not_guessed() {
        for path in ["spec", ".a[", ".a[?(@.x>3)]", ".a..b", ".a[x]", ".a[?(.x==1)]", "{.a", r".a\"] {
            assert_eq!(Path::parse(path), None, "{path}");
        }
    }
}
