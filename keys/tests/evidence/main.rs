//! Log proofs, checkpoints, canonical JSON and signed records.
#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

#[path = "../seeded/mod.rs"]
mod seeded;

mod merkle;
mod notes;
mod records;
mod witnesses;
