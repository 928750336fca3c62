//! The embedded Kubernetes API: a store with revisions and watch on SQLite, and
//! the subset of the API that `kubectl` and the controllers of the fleet ask for.

pub mod convert;
pub mod discovery;
pub mod kinds;
pub mod media;
pub mod metrics;
pub mod openapi;
pub mod platform;
pub mod table;
