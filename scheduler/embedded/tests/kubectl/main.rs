//! The contract with `kubectl` 1.32, and the table that is published of it: the
//! real binary against the embedded API over mutual TLS on loopback; what that
//! binary was seen to ask, replayed in this process; `API.md` against discovery.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod binary;
mod cluster;
mod contract;
mod published;
mod recorded;
mod server;
