//! The quick ways against the slow and obvious ones, on random objects.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::difference::{Difference, difference};
use super::entries::{load, reassigned, reassigned_slowly, save};
use super::paths::to_fields;
use super::tree::tree_of;
use super::{Entry, Operation, Path, leaves};
use crate::schema::{Schema, custom};

/// Every form of list and object that fields are told apart in.
fn schema() -> Schema {
    let text = json!({"type": "string"});
    let element = json!({"type": "object", "properties": {"name": text, "image": text, "args": {"type": "array", "items": text}}});
    custom(&json!({
        "type": "object",
        "properties": {
            "metadata": {"type": "object"},
            "spec": {"type": "object", "properties": {
                "keyed": {"type": "array", "items": element, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
                "each": {"type": "array", "items": text, "x-kubernetes-list-type": "set"},
                "whole": {"type": "array", "items": text},
                "tight": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": text},
                "free": {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": text}},
            }},
        },
    }))
    .unwrap()
}

fn text() -> impl Strategy<Value = String> {
    "[a-c]"
}

fn object() -> impl Strategy<Value = Value> {
    let element = (option::of(text()), option::of(vec(text(), 0..3)));
    let spec = (
        option::of(btree_map(text(), element, 0..3)),
        option::of(btree_set(text(), 0..3)),
        option::of(vec(text(), 0..3)),
        option::of(btree_map(text(), text(), 0..3)),
        option::of(btree_map(text(), btree_map(text(), text(), 0..3), 0..3)),
    );
    (option::of(btree_map(text(), text(), 0..3)), option::of(spec), text()).prop_map(|(labels, spec, uid)| {
        let mut object = json!({"apiVersion": "v1", "kind": uid, "metadata": {"name": "a", "uid": uid}});
        if let Some(labels) = labels {
            object["metadata"]["labels"] = json!(labels);
        }
        if let Some((keyed, each, whole, tight, free)) = spec {
            object["spec"] = json!({});
            let keyed = keyed.map(|elements| {
                let element = |(name, (image, args))| {
                    let mut element = json!({"name": name});
                    [("image", json!(image)), ("args", json!(args))]
                        .into_iter()
                        .filter(|(_, value)| !value.is_null())
                        .for_each(|(name, value)| element[name] = value);
                    element
                };
                json!(elements.into_iter().map(element).collect::<Vec<Value>>())
            });
            let members = [
                ("keyed", keyed),
                ("each", each.map(|each| json!(each))),
                ("whole", whole.map(|whole| json!(whole))),
                ("tight", tight.map(|tight| json!(tight))),
                ("free", free.map(|free| json!(free))),
            ];
            for (name, member) in members {
                member.into_iter().for_each(|member| object["spec"][name] = member);
            }
        }
        object
    })
}

fn slow_difference(schema: &Schema, old: &Value, new: &Value) -> Difference {
    let (before, after): (BTreeMap<Path, Value>, _) = (leaves(schema, old), leaves(schema, new));
    Difference {
        changed: after
            .iter()
            .filter(|(path, value)| before.get(*path) != Some(value))
            .map(|(path, _)| path.clone())
            .collect(),
        removed: before.keys().filter(|path| !after.contains_key(*path)).cloned().collect(),
    }
}

fn own(manager: &str) -> Entry {
    Entry {
        manager: manager.to_owned(),
        operation: Operation::Update,
        part: String::new(),
        version: "v1".to_owned(),
        time: "2026-01-01T00:00:00Z".to_owned(),
        fields: BTreeSet::new(),
    }
}

proptest! {
    #[test]
    fn a_difference_is_that_of_all_fields(old in object(), new in object()) {
        let schema = schema();
        prop_assert_eq!(difference(&schema, &old, &new), slow_difference(&schema, &old, &new));
    }

    #[test]
    fn a_tree_holds_all_fields_and_no_others(object in object()) {
        let schema = schema();
        let paths: BTreeSet<Path> = leaves(&schema, &object).into_keys().collect();
        prop_assert_eq!(Value::Object(tree_of(&schema, &object)), to_fields(&paths));
    }

    #[test]
    fn whoever_changes_a_field_owns_it_and_nobody_else(states in vec((object(), "[a-c]"), 2..6)) {
        let schema = schema();
        let mut states = states.into_iter();
        let (mut before, _) = states.next().unwrap();
        let mut entries: Vec<Value> = Vec::new();
        for (after, manager) in states {
            let difference = difference(&schema, &before, &after);
            let mut stored = json!({"metadata": {"managedFields": entries}});
            let quick = reassigned(&entries, &own(&manager), &difference).unwrap();
            let slow = reassigned_slowly(load(&stored), own(&manager), difference);
            save(&mut stored, &slow);
            let slow = stored["metadata"].get("managedFields").cloned().unwrap_or_else(|| json!([]));
            prop_assert_eq!(json!(quick), slow);
            (before, entries) = (after, quick);
        }
    }
}
