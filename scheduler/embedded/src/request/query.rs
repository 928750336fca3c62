//! The parameters of a request, each parsed once.

use crate::refusal::Malformed;
use crate::selector::{FieldSelector, LabelSelector};

/// How strictly unknown and doubled fields of a body are taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    /// Dropped silently.
    Ignore,
    /// Dropped, and the answer warns.
    #[default]
    Warn,
    /// The request is refused.
    Strict,
}

/// What becomes of the objects that an object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// They stay, without an owner.
    Orphan,
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
}

/// Which state a list or watch may start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VersionMatch {
    /// That revision or a newer one.
    NotOlderThan,
    /// Precisely that revision.
    Exact,
}

/// What may stand behind the question mark.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    /// Page size; 0 is no limit.
    pub(crate) limit: usize,
    /// Where the next page begins.
    pub(crate) continues: Option<String>,
    /// Only objects with such labels.
    pub(crate) labels: LabelSelector,
    /// Only objects with such fields.
    pub(crate) fields: FieldSelector,
    /// A stream of changes in place of a list.
    pub(crate) watch: bool,
    /// Bookmarks in the stream.
    pub(crate) bookmarks: bool,
    /// The stream begins with the present.
    pub(crate) initial: bool,
    /// From which revision on.
    pub(crate) revision: Option<u64>,
    /// How that revision is meant.
    pub(crate) matching: Option<VersionMatch>,
    /// When a watch ends, in seconds.
    pub(crate) timeout: Option<u32>,
    /// Everything but the effect.
    pub(crate) dry_run: bool,
    /// Who owns the fields that the request sets.
    pub(crate) manager: Option<String>,
    /// Server-side apply: take fields from other managers.
    pub(crate) force: bool,
    /// Unknown fields.
    pub(crate) validation: FieldValidation,
    /// Seconds until a pod is gone at the latest.
    pub(crate) grace: Option<u32>,
    /// What becomes of owned objects.
    pub(crate) propagation: Option<Propagation>,
    /// Tables: whole objects, metadata or nothing in each row.
    pub(crate) include_object: Option<String>,
    /// Logs: which container.
    pub(crate) container: Option<String>,
    /// Logs: go on as they grow.
    pub(crate) follow: bool,
    /// Logs: of the container before its last start.
    pub(crate) previous: bool,
    /// Logs: each line with its time.
    pub(crate) timestamps: bool,
    /// Logs: this many last lines.
    pub(crate) tail: Option<u32>,
    /// Logs: not older than this many seconds.
    pub(crate) since_seconds: Option<u32>,
    /// Logs: not before this moment, RFC 3339.
    pub(crate) since_time: Option<String>,
    /// Logs: this many bytes at most.
    pub(crate) limit_bytes: Option<u64>,
}

impl Query {
    /// Parses what stands behind the question mark. Parameters that nobody knows are passed over.
    pub(super) fn parse(text: &str) -> Result<Self, Malformed> {
        let mut query = Self::default();
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            query.set(&name, &value)?;
        }
        Ok(query)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), Malformed> {
        match name {
            "limit" => self.limit = number("limit", value)?.unwrap_or(0),
            "continue" => self.continues = text(value),
            "labelSelector" => self.labels = LabelSelector::parse(value)?,
            "fieldSelector" => self.fields = FieldSelector::parse(value)?,
            "watch" => self.watch = flag("watch", value)?,
            "allowWatchBookmarks" => self.bookmarks = flag("allowWatchBookmarks", value)?,
            "sendInitialEvents" => self.initial = flag("sendInitialEvents", value)?,
            "resourceVersion" => self.revision = number("resourceVersion", value)?,
            "resourceVersionMatch" => self.matching = version_match(value)?,
            "timeoutSeconds" => self.timeout = number("timeoutSeconds", value)?,
            "dryRun" => self.dry_run = self.dry_run || dry_run(value)?,
            "fieldManager" => self.manager = manager(value)?,
            "force" => self.force = flag("force", value)?,
            "fieldValidation" => self.validation = validation(value)?,
            "gracePeriodSeconds" => self.grace = number("gracePeriodSeconds", value)?,
            "propagationPolicy" => self.propagation = Propagation::parse(value)?,
            "includeObject" => self.include_object = text(value),
            "container" => self.container = text(value),
            "follow" => self.follow = flag("follow", value)?,
            "previous" => self.previous = flag("previous", value)?,
            "timestamps" => self.timestamps = flag("timestamps", value)?,
            "tailLines" => self.tail = number("tailLines", value)?,
            "sinceSeconds" => self.since_seconds = number("sinceSeconds", value)?,
            "sinceTime" => self.since_time = text(value),
            "limitBytes" => self.limit_bytes = number("limitBytes", value)?,
            _ => {}
        }
        Ok(())
    }
}

impl Propagation {
    /// `Orphan`, `Background`, `Foreground`, or nothing.
    pub(crate) fn parse(value: &str) -> Result<Option<Self>, Malformed> {
        match value {
            "" => Ok(None),
            "Orphan" => Ok(Some(Self::Orphan)),
            "Background" => Ok(Some(Self::Background)),
            "Foreground" => Ok(Some(Self::Foreground)),
            _ => Err(odd("propagationPolicy", value)),
        }
    }
}

fn odd(parameter: &'static str, value: &str) -> Malformed {
    Malformed::Query { parameter, value: value.chars().take(64).collect() }
}

fn text(value: &str) -> Option<String> {
    (!value.is_empty()).then(|| value.to_owned())
}

fn number<T: std::str::FromStr>(parameter: &'static str, value: &str) -> Result<Option<T>, Malformed> {
    if value.is_empty() { Ok(None) } else { value.parse().map(Some).map_err(|_| odd(parameter, value)) }
}

fn flag(parameter: &'static str, value: &str) -> Result<bool, Malformed> {
    match value {
        "" | "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err(odd(parameter, value)),
    }
}

/// Nothing but `All` is a dry run; anything else is refused, lest it be carried out.
fn dry_run(value: &str) -> Result<bool, Malformed> {
    match value {
        "" => Ok(false),
        "All" => Ok(true),
        _ => Err(odd("dryRun", value)),
    }
}

fn manager(value: &str) -> Result<Option<String>, Malformed> {
    if value.len() > 128 || value.chars().any(char::is_control) {
        return Err(odd("fieldManager", value));
    }
    Ok(text(value))
}

fn validation(value: &str) -> Result<FieldValidation, Malformed> {
    match value {
        "" | "Warn" => Ok(FieldValidation::Warn),
        "Ignore" => Ok(FieldValidation::Ignore),
        "Strict" => Ok(FieldValidation::Strict),
        _ => Err(odd("fieldValidation", value)),
    }
}

fn version_match(value: &str) -> Result<Option<VersionMatch>, Malformed> {
    match value {
        "" => Ok(None),
        "NotOlderThan" => Ok(Some(VersionMatch::NotOlderThan)),
        "Exact" => Ok(Some(VersionMatch::Exact)),
        _ => Err(odd("resourceVersionMatch", value)),
    }
}
