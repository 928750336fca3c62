//! Events have two views, `v1` and `events.k8s.io/v1`, of one stored object.
//! Recorders write the new one, `kubectl describe` reads the old one; the same
//! facts stand in fields of other names. Stored is the old one.

use serde_json::{Map, Value};

/// Name in `v1`, name in `events.k8s.io/v1`.
const FIELDS: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// Makes an `events.k8s.io/v1` Event a `v1` Event. Fields that both views share
/// stay; a field of the other view that is there already wins.
pub(crate) fn to_stored(event: &mut Value) {
    rename(event, "v1", FIELDS.iter().map(|(old, new)| (*new, *old)));
}

/// Makes a `v1` Event an `events.k8s.io/v1` Event.
pub(crate) fn from_stored(event: &mut Value) {
    rename(event, "events.k8s.io/v1", FIELDS.iter().copied());
}

fn rename<'a>(event: &mut Value, version: &str, fields: impl Iterator<Item = (&'a str, &'a str)>) {
    let Some(event) = event.as_object_mut() else { return };
    for (from, to) in fields {
        move_field(event, from, to);
    }
    if event.contains_key("apiVersion") {
        event.insert("apiVersion".to_owned(), Value::from(version));
    }
}

fn move_field(event: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = event.remove(from) {
        event.entry(to).or_insert(value);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn recorded() -> Value {
        json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "n"},
            "regarding": {"kind": "Pod", "name": "p"}, "note": "no node fits", "reason": "Unplaceable",
            "reportingController": "coffer", "reportingInstance": "one", "type": "Warning",
            "eventTime": "2023-11-14T22:13:10.000000Z", "action": "Scheduling",
            "series": {"count": 2, "lastObservedTime": "2023-11-14T22:13:20.000000Z"},
        })
    }

    #[test]
    fn describe_finds_the_message_that_a_recorder_wrote_as_a_note() {
        let mut event = recorded();
        to_stored(&mut event);
        assert_eq!(event["apiVersion"], "v1");
        assert_eq!(event["message"], "no node fits");
        assert_eq!(event["involvedObject"]["name"], "p");
        assert_eq!(event["reportingComponent"], "coffer");
        assert_eq!(event.get("note"), None);
        assert_eq!(event["series"]["count"], 2);
    }

    #[test]
    fn there_and_back_nothing_is_lost() {
        let mut event = recorded();
        to_stored(&mut event);
        from_stored(&mut event);
        assert_eq!(event, recorded());
    }

    #[test]
    fn what_is_no_object_stays_what_it_is() {
        let mut event = json!([1]);
        to_stored(&mut event);
        assert_eq!(event, json!([1]));
    }
}
