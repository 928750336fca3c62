//! Reports and evidence packs: every check fails on bad evidence, and no
//! changed byte of a pack goes unnamed.
#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

mod checks;
mod drills;
mod fixture;
mod formats;
mod hostile;
mod mutation;
