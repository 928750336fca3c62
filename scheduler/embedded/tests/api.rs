//! The API through `kube::Client` in process, as the controllers use it, and
//! over mutual TLS; its store, also under a writer that is killed; and what
//! must be refused.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a fixture that cannot be made is a failed test")]

#[path = "api/authorization.rs"]
mod authorization;
#[path = "api/crash.rs"]
mod crash;
#[path = "api/custom.rs"]
mod custom;
#[path = "api/deletion.rs"]
mod deletion;
#[path = "api/eviction.rs"]
mod eviction;
#[path = "api/fixture.rs"]
mod fixture;
#[path = "api/history.rs"]
mod history;
#[path = "api/hostile.rs"]
mod hostile;
#[path = "api/objects.rs"]
mod objects;
#[path = "api/patches.rs"]
mod patches;
#[path = "api/tls.rs"]
mod tls;
#[path = "api/transactions.rs"]
mod transactions;
