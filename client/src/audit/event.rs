//! What a leaf says: the members that people search for, and the whole as an
//! OCSF event, whichever format it was written in.

use coffer_keys::{CanonicalError, leaf_hash, parse_canonical};
use serde_json::{Map, Value, json};

use crate::leaf::LeafView;

/// Why a leaf says nothing.
#[derive(Debug, thiserror::Error)]
pub enum LogEventError {
    /// Not canonical JSON.
    #[error("leaf {index}: {reason}")]
    Canonical {
        /// Which leaf.
        index: u64,
        /// What is wrong.
        reason: CanonicalError,
    },
    /// A member is missing or of another form.
    #[error("leaf {index} has no usable {member}")]
    Member {
        /// Which leaf.
        index: u64,
        /// Which member.
        member: &'static str,
    },
}

/// One event of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEvent {
    /// Its place in the log.
    pub index: u64,
    /// Milliseconds since 1970.
    pub time_ms: u64,
    /// For example `object_put`.
    pub operation: String,
    /// The principal's id, `service` or `anonymous`.
    pub actor: String,
    /// On what: an id or a digest; empty where there is none.
    pub subject: String,
    /// `intent`, `done`, `denied`, `failed` or `interrupted`.
    pub outcome: String,
    /// RFC 6962 hash of the leaf, hexadecimal.
    pub leaf_hash: String,
    value: Value,
}

impl LogEvent {
    /// Reads a leaf.
    ///
    /// # Errors
    /// [`LogEventError`].
    pub fn read(index: u64, leaf: &[u8]) -> Result<Self, LogEventError> {
        let value = parse_canonical(leaf).map_err(|reason| LogEventError::Canonical { index, reason })?;
        let missing = |member: &'static str| LogEventError::Member { index, member };
        let view = LeafView(&value);
        let text = |place: &'static str| view.text(place).map(str::to_owned).ok_or_else(|| missing(place));
        Ok(Self {
            index,
            time_ms: view.time_ms().ok_or_else(|| missing(LeafView::TIME))?,
            operation: text(LeafView::OPERATION)?,
            actor: text(LeafView::ACTOR)?,
            subject: text(LeafView::SUBJECT)?,
            outcome: text(LeafView::OUTCOME)?,
            leaf_hash: leaf_hash(leaf).to_string(),
            value,
        })
    }

    /// The event as OCSF 1.5.0 with its place in the log, for programs that
    /// collect events. Leaves of format 1 get the members that OCSF requires
    /// and that they lack.
    pub fn to_ocsf(&self, log: &str) -> Value {
        let mut event = self.value.clone();
        let tenant = LeafView(&event).account().map(str::to_owned);
        let Some(members) = event.as_object_mut() else { return event };
        members.remove("cloud");
        members.entry("src_endpoint").or_insert_with(|| json!({ "uid": self.actor }));
        let mut metadata = match members.remove("metadata") {
            Some(Value::Object(metadata)) => metadata,
            _ => Map::new(),
        };
        for (name, value) in [
            ("product", json!({ "name": "Coffer", "vendor_name": "Coffer" })),
            ("version", json!("1.5.0")),
            ("log_name", json!(log)),
            ("sequence", json!(self.index)),
            ("uid", json!(self.leaf_hash)),
        ] {
            metadata.insert(name.to_owned(), value);
        }
        if let Some(tenant) = tenant.filter(|tenant| !tenant.is_empty()) {
            metadata.insert("tenant_uid".to_owned(), json!(tenant));
        }
        members.insert("metadata".to_owned(), Value::Object(metadata));
        event
    }
}

/// Which events are wanted; what is absent admits all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// The operation's name.
    pub operation: Option<String>,
    /// The actor's id.
    pub actor: Option<String>,
    /// The subject, or its beginning.
    pub subject: Option<String>,
    /// The outcome's name.
    pub outcome: Option<String>,
    /// Not before, in milliseconds since 1970.
    pub from_ms: Option<u64>,
    /// Before, in milliseconds since 1970.
    pub to_ms: Option<u64>,
}

impl EventFilter {
    /// Whether an event is wanted.
    pub fn admits(&self, event: &LogEvent) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|text| text == found);
        is(&self.operation, &event.operation)
            && is(&self.actor, &event.actor)
            && is(&self.outcome, &event.outcome)
            && self.subject.as_deref().is_none_or(|text| event.subject.starts_with(text))
            && self.from_ms.is_none_or(|from| event.time_ms >= from)
            && self.to_ms.is_none_or(|to| event.time_ms < to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A leaf as the first release wrote it.
    const FORMAT_1: &[u8] = br#"{"activity_id":1,"actor":{"user":{"uid":"pri-07"}},"api":{"operation":"object_put"},"category_uid":6,"class_uid":6003,"cloud":{"account":{"uid":"ten-09"}},"metadata":{"product":{"name":"Coffer"},"version":"1.1.0"},"resources":[{"uid":"ver-01"}],"severity_id":1,"status_detail":"intent","status_id":0,"time":1764000000123,"type_uid":600301}"#;

    #[test]
    fn a_leaf_of_format_1_still_reads_and_gets_what_ocsf_requires() {
        let event = LogEvent::read(7, FORMAT_1).unwrap();
        assert_eq!((event.operation.as_str(), event.subject.as_str()), ("object_put", "ver-01"));
        let ocsf = event.to_ocsf("coffer-1/log/ten-09");
        assert_eq!(ocsf["metadata"]["tenant_uid"], "ten-09");
        assert_eq!(ocsf["metadata"]["sequence"], 7);
        assert_eq!(ocsf["metadata"]["product"]["vendor_name"], "Coffer");
        assert_eq!(ocsf["src_endpoint"]["uid"], "pri-07");
        assert!(ocsf.get("cloud").is_none());
    }

    #[test]
    fn a_leaf_in_another_spelling_or_without_its_members_is_refused() {
        let spaced = String::from_utf8_lossy(FORMAT_1).replace(":6003", ": 6003");
        assert!(matches!(LogEvent::read(1, spaced.as_bytes()), Err(LogEventError::Canonical { .. })));
        assert!(matches!(LogEvent::read(1, b"{}"), Err(LogEventError::Member { .. })));
        assert!(LogEvent::read(1, b"[]").is_err());
        let odd = String::from_utf8_lossy(FORMAT_1)
            .replace(r#"{"product":{"name":"Coffer"},"version":"1.1.0"}"#, "\"odd\"");
        let event = LogEvent::read(1, odd.as_bytes()).unwrap().to_ocsf("log");
        assert_eq!(event["metadata"]["version"], "1.5.0");
    }

    #[test]
    fn a_filter_admits_what_all_of_its_parts_admit() {
        let event = LogEvent::read(7, FORMAT_1).unwrap();
        let text = |text: &str| Some(text.to_owned());
        let yes = EventFilter {
            operation: text("object_put"),
            actor: text("pri-07"),
            subject: text("ver-"),
            outcome: text("intent"),
            from_ms: Some(1_764_000_000_123),
            to_ms: Some(1_764_000_000_124),
        };
        assert!(yes.admits(&event) && EventFilter::default().admits(&event));
        for no in [
            EventFilter { operation: text("object_get"), ..yes.clone() },
            EventFilter { actor: text("pri-"), ..yes.clone() },
            EventFilter { subject: text("ver-02"), ..yes.clone() },
            EventFilter { outcome: text("done"), ..yes.clone() },
            EventFilter { from_ms: Some(1_764_000_000_124), ..yes.clone() },
            EventFilter { to_ms: Some(1_764_000_000_123), ..yes.clone() },
        ] {
            assert!(!no.admits(&event), "{no:?}");
        }
    }
}
