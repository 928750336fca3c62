//! The embedded Kubernetes API: a store with revisions and watch on SQLite, and
//! the subset of the API that `kubectl` and the controllers of the fleet ask for.

mod agent_access;
mod api;
mod audit;
mod authorize;
mod body;
mod convert;
mod discovery;
mod embedded;
mod fields;
mod identity;
pub mod kinds;
mod listener;
mod metrics;
mod moment;
mod node_access;
mod object;
mod openapi;
pub mod platform;
mod pods;
mod quantity;
mod read;
mod refusal;
mod registry;
mod reply;
mod request;
mod review;
mod rules;
mod scale;
mod schema;
mod selector;
mod service;
pub mod store;
mod table;
mod transaction;
mod watch;
mod write;

pub use agent_access::AgentAccess;
pub use audit::{Audit, AuditEvent, NoAudit};
pub use embedded::{Embedded, Options, StartError};
pub use identity::Identity;
pub use listener::{ListenError, Tls};
pub use node_access::{LogRequest, NoNodeAccess, NodeAccess, NodeAccessError};
pub use refusal::{Cause, Fault, Malformed, Refusal, Subject};
pub use reply::Body;
pub use service::Service;
pub use transaction::Change;

/// Namespaces that are always there.
const FIRST_NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];
