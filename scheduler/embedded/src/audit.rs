//! The audit port: who asked for which change, and what was answered.

use std::net::IpAddr;

use http::StatusCode;

/// One request that was not a mere reading, or that was refused to its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// When it was answered; nanoseconds since 1970, UTC.
    pub at: coffer_model::Timestamp,
    /// Who asked.
    pub user: String,
    /// The groups of the caller.
    pub groups: Vec<String>,
    /// `create`, `update`, `patch`, `delete`, `deletecollection`; of refused readings also `get`, `list`, `watch`.
    pub verb: &'static str,
    /// Group of the resource; empty for the core group.
    pub group: String,
    /// Plural of the resource, with its part: `pods/binding`.
    pub resource: String,
    /// Namespace; empty for what has none.
    pub namespace: String,
    /// Name; empty for a collection, or where the server made it up.
    pub name: String,
    /// Whether it was a dry run.
    pub dry_run: bool,
    /// What was answered.
    pub status: StatusCode,
    /// From where it was asked; none from inside the process.
    pub source: Option<IpAddr>,
}

/// Is told of every request that changes something, and of every one that authorization refused.
pub trait Audit: Send + Sync {
    /// Takes the event down. Must not block: it is called on the task that answers.
    fn record(&self, event: AuditEvent);

    /// Whether what is answered from now on can be written down. Where not, nobody changes anything but the inside of
    /// the process, and nodes what is their own: their leases must not end because a log is full.
    fn can_record(&self) -> bool {
        true
    }
}

/// Keeps nothing; for tests and tools that keep no log.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAudit;

impl Audit for NoAudit {
    fn record(&self, _event: AuditEvent) {}
}
