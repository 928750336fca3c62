//! Server-side apply: a manager says what it wants, whole; what it wanted
//! before and does not want any more goes, unless somebody else wants it; what
//! others own it gets only by force.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::super::update::Edited;
use super::super::{ATTEMPTS, Write, Written};
use crate::fields::{self, Entry, Operation, Path, Step, words};
use crate::moment;
use crate::object::field;
use crate::refusal::{Cause, Fault, Malformed, Refusal};
use crate::request::Part;
use crate::schema::{ListType, Schema, element_key};

impl Write<'_> {
    /// Makes the object have what is wanted; makes the object, if there is none.
    pub(super) async fn apply(&self, name: &str, wanted: &Value) -> Result<Written, Refusal> {
        if self.query.manager.is_none() {
            return Err(Malformed::Unmeaning("fieldManager is required for apply patch").into());
        }
        let mut wanted = wanted.clone();
        for needed in ["apiVersion", "kind"] {
            if field(&wanted, needed).is_empty() {
                let expected = self.resource().kind.kind.clone();
                return Err(Malformed::Kind { expected, found: format!("an object without {needed}") }.into());
            }
        }
        self.expect_kind(&mut wanted)?;
        if wanted.pointer("/metadata/managedFields").is_some_and(|fields| !fields.is_null()) {
            return Err(Malformed::Unmeaning("metadata.managedFields must be nil").into());
        }
        drop_nulls(&mut wanted);
        self.keep_part(&mut wanted);
        for _ in 0..ATTEMPTS {
            let absent = self.api.store.get(&self.key(name)).is_none();
            if absent && self.objects.part.is_none() {
                match self.create_owned(wanted.clone(), Operation::Apply).await {
                    Err(Refusal::AlreadyExists(_)) => {}
                    other => return other,
                }
            } else {
                return self.alter(name, |old| self.applied(old, &wanted)).await;
            }
        }
        Err(self.contended(name))
    }

    /// Fields that this part of the object does not take are nobody's.
    fn keep_part(&self, wanted: &mut Value) {
        let Value::Object(members) = wanted else { return };
        match self.objects.part {
            Some(Part::Status) => members
                .retain(|name, _| matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status")),
            _ if self.resource().has_status() => drop(members.remove("status")),
            _ => {}
        }
    }

    fn applied(&self, old: &Value, wanted: &Value) -> Result<Edited, Refusal> {
        let schema = &self.resource().schema;
        let mut new = old.clone();
        merge(Some(schema), &mut new, wanted);
        let mut wants: BTreeSet<Path> = fields::owned(self, wanted).into_keys().collect();
        if self.objects.part == Some(Part::Status) {
            wants.retain(|path| path.first() == Some(&Step::Field("status".to_owned())));
        }
        let (before, after) = (fields::owned(self, old), fields::owned(self, &new));
        let mut own = fields::own(self, Operation::Apply);
        let mut entries = fields::load(old);
        let conflicts =
            take(&mut entries, &own, |path| wants.contains(path) && before.get(path) != after.get(path));
        if !conflicts.is_empty() && !self.query.force {
            return Err(Refusal::FieldConflict { causes: conflicts });
        }
        let past = entries.iter().find(|entry| entry.is_of(&own)).cloned();
        entries.retain(|entry| !entry.is_of(&own));
        if let Some(past) = &past {
            let others: BTreeSet<&Path> = entries.iter().flat_map(|entry| &entry.fields).collect();
            for path in past.fields.iter().rev().filter(|path| !wants.contains(*path)) {
                let is_kept = others.contains(path)
                    || wants.iter().any(|other| other.starts_with(path))
                    || others.iter().any(|other| other.starts_with(path));
                if !is_kept {
                    remove(Some(schema), &mut new, path);
                }
            }
        }
        let is_same = past.as_ref().is_some_and(|past| past.fields == wants);
        own.time = past.filter(|_| is_same).map_or_else(|| moment::text(self.now), |past| past.time);
        own.fields = wants;
        entries.push(own);
        entries.sort_by_key(|entry| entry.operation);
        fields::save(&mut new, &entries);
        Ok(Edited { object: new, ownership: Operation::Apply, warnings: Vec::new() })
    }
}

/// Takes the disputed fields from everybody else; says from whom.
fn take(entries: &mut [Entry], own: &Entry, is_disputed: impl Fn(&Path) -> bool) -> Vec<Cause> {
    let mut conflicts = Vec::new();
    for entry in entries.iter_mut().filter(|entry| !entry.is_of(own)) {
        for path in entry.fields.iter().filter(|path| is_disputed(path)) {
            let message = format!("conflict with {:?} using {}", entry.manager, entry.version);
            conflicts.push(Cause::new(Fault::Owned, words(path), message));
        }
        entry.fields.retain(|path| !is_disputed(path));
    }
    conflicts
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.values_mut().for_each(drop_nulls);
        }
        Value::Array(elements) => elements.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn merge(schema: Option<&Schema>, target: &mut Value, wanted: &Value) {
    match (target, wanted) {
        (Value::Object(members), Value::Object(wanted)) if !schema.is_some_and(|schema| schema.atomic) => {
            for (name, wanted) in wanted {
                let known = schema.and_then(|schema| schema.member(name)).map(AsRef::as_ref);
                match members.get_mut(name) {
                    Some(member) => merge(known, member, wanted),
                    None => drop(members.insert(name.clone(), wanted.clone())),
                }
            }
        }
        (Value::Array(elements), Value::Array(wanted)) => {
            match schema.map_or(&ListType::Atomic, |schema| &schema.list) {
                ListType::Atomic => wanted.clone_into(elements),
                ListType::Set => {
                    for one in wanted {
                        if !elements.contains(one) {
                            elements.push(one.clone());
                        }
                    }
                }
                ListType::Map(keys) => {
                    let items = schema.and_then(|schema| schema.items.as_ref());
                    merge_elements(keys, items, elements, wanted);
                }
            }
        }
        (target, wanted) => *target = wanted.clone(),
    }
}

fn merge_elements(keys: &[String], items: Option<&Arc<Schema>>, elements: &mut Vec<Value>, wanted: &[Value]) {
    for one in wanted {
        let key = element_key(keys, items, one);
        match elements.iter_mut().find(|element| element_key(keys, items, element) == key) {
            Some(element) => merge(items.map(AsRef::as_ref), element, one),
            None => elements.push(one.clone()),
        }
    }
}

/// Takes a field out, and what is empty without it.
fn remove(schema: Option<&Schema>, value: &mut Value, path: &[Step]) {
    let Some((step, rest)) = path.split_first() else { return };
    match (value, step) {
        (Value::Object(members), Step::Field(name)) => {
            let known = schema.and_then(|schema| schema.member(name)).map(AsRef::as_ref);
            if let (false, Some(member)) = (rest.is_empty(), members.get_mut(name)) {
                remove(known, member, rest);
            }
            let is_empty = |member: &Value| {
                member.as_object().is_some_and(Map::is_empty) || member.as_array().is_some_and(Vec::is_empty)
            };
            let is_root = matches!(name.as_str(), "metadata" | "spec");
            if rest.is_empty() || (!is_root && members.get(name).is_some_and(is_empty)) {
                members.remove(name);
            }
        }
        (Value::Array(elements), Step::Value(text)) if rest.is_empty() => {
            let gone: Value = serde_json::from_str(text).unwrap_or_default();
            elements.retain(|element| *element != gone);
        }
        (Value::Array(elements), Step::Key(text)) => {
            let key: BTreeMap<String, Value> = serde_json::from_str(text).unwrap_or_default();
            let keys: Vec<String> = key.keys().cloned().collect();
            let items = schema.and_then(|schema| schema.items.as_ref());
            if rest.is_empty() {
                elements.retain(|element| element_key(&keys, items, element) != key);
            } else if let Some(element) =
                elements.iter_mut().find(|element| element_key(&keys, items, element) == key)
            {
                remove(items.map(AsRef::as_ref), element, rest);
            }
        }
        _ => {}
    }
}
