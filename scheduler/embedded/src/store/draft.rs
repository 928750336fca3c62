//! An object as it will be stored but for its revision, which only the writer
//! knows. Whoever commits makes it: the one thread that writes has nothing to
//! serialise.

use std::ops::Range;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::index::{Selected, Stored};
use super::{CommitError, DEPTH_MAX, Key, OBJECT_BYTES_MAX};

const REVISION: &str = "resourceVersion";

/// The bytes before and after the revision, and what selectors look at.
#[derive(Debug)]
pub(super) struct Draft {
    bytes: Vec<u8>,
    /// Where in the bytes the digits of the revision belong.
    revision_at: usize,
    /// Where the metadata is, before the digits are there.
    metadata: Range<usize>,
    selected: Selected,
}

impl Draft {
    pub(super) fn new(mut object: Value) -> Result<Self, CommitError> {
        let metadata =
            object.get_mut("metadata").and_then(Value::as_object_mut).ok_or(CommitError::Shapeless)?;
        metadata.insert(REVISION.to_owned(), Value::String(String::new()));
        if !is_within(DEPTH_MAX, &object) {
            return Err(CommitError::Deep);
        }
        let selected = Selected::of(&object);
        let members = object.as_object().ok_or(CommitError::Shapeless)?;
        let mut bytes = Vec::with_capacity(4096);
        let (mut revision_at, mut range) = (0, 0..0);
        write_members(members, &mut bytes, |name, member, bytes| match member {
            Value::Object(metadata) if name == "metadata" => {
                let start = bytes.len();
                write_members(metadata, bytes, |name, member, bytes| {
                    write(member, bytes)?;
                    if name == REVISION {
                        // Between the quotation marks of the empty text.
                        revision_at = bytes.len().saturating_sub(1);
                    }
                    Ok(())
                })?;
                range = start..bytes.len();
                Ok(())
            }
            member => write(member, bytes),
        })
        .map_err(|_| CommitError::Shapeless)?;
        Ok(Self { bytes, revision_at, metadata: range, selected })
    }

    pub(super) fn stored(self, key: Key, revision: u64) -> Result<Stored, CommitError> {
        let digits = revision.to_string();
        let (before, after) = self.bytes.split_at_checked(self.revision_at).ok_or(CommitError::Shapeless)?;
        let whole = [before, digits.as_bytes(), after].concat();
        if whole.len() > OBJECT_BYTES_MAX {
            return Err(CommitError::Large);
        }
        let metadata = self.metadata.start..self.metadata.end + digits.len();
        Ok(Stored::new(key, revision, Bytes::from(whole), self.selected).with_metadata(metadata))
    }
}

fn write(value: &Value, bytes: &mut Vec<u8>) -> serde_json::Result<()> {
    serde_json::to_writer(bytes, value)
}

fn write_members(
    members: &Map<String, Value>,
    bytes: &mut Vec<u8>,
    mut write_member: impl FnMut(&str, &Value, &mut Vec<u8>) -> serde_json::Result<()>,
) -> serde_json::Result<()> {
    bytes.push(b'{');
    for (at, (name, member)) in members.iter().enumerate() {
        if at > 0 {
            bytes.push(b',');
        }
        serde_json::to_writer(&mut *bytes, name)?;
        bytes.push(b':');
        write_member(name, member, bytes)?;
    }
    bytes.push(b'}');
    Ok(())
}

/// Whether a value is nested at most so deep.
fn is_within(depth: usize, value: &Value) -> bool {
    match value {
        Value::Object(members) => depth > 0 && members.values().all(|member| is_within(depth - 1, member)),
        Value::Array(elements) => depth > 0 && elements.iter().all(|element| is_within(depth - 1, element)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key() -> Key {
        Key::new(&"pods".into(), "default", "a")
    }

    #[test]
    fn the_bytes_are_those_of_the_object_with_its_revision() {
        for mut object in [
            json!({"metadata": {}}),
            json!({"metadata": {"resourceVersion": "7", "name": "\"a\\", "z": 1}, "a": {"metadata": {"resourceVersion": "x"}}}),
            json!({"kind": "Pod", "metadata": {"annotations": {"resourceVersion": "no"}, "uid": "u"}, "z": [null, 1.5]}),
        ] {
            let stored = Draft::new(object.clone()).unwrap().stored(key(), 1234).unwrap();
            object["metadata"]["resourceVersion"] = json!("1234");
            assert_eq!(stored.json, object.to_string().as_bytes());
            assert_eq!(stored.metadata(), Some(object["metadata"].to_string().as_bytes()));
        }
    }

    #[test]
    fn what_could_not_be_read_again_is_refused() {
        let deep = (0..120).fold(json!(1), |inner, _| json!([inner]));
        assert!(matches!(Draft::new(json!({"metadata": {}, "deep": deep})), Err(CommitError::Deep)));
        for shapeless in [json!({}), json!({"metadata": 1}), json!([])] {
            assert!(matches!(Draft::new(shapeless), Err(CommitError::Shapeless)));
        }
        let large = json!({"metadata": {}, "data": "x".repeat(OBJECT_BYTES_MAX)});
        assert!(matches!(Draft::new(large).unwrap().stored(key(), 1), Err(CommitError::Large)));
    }
}
