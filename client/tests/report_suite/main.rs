//! Reports and evidence packs: every check fails on bad evidence, and no
//! changed byte of a pack goes unnamed.
#![expect(clippy::unwrap_used, reason = "what is made here is well formed, or the test fails")]

mod checks;
mod fixture;
mod formats;
mod mutation;
