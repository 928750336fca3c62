//! Wraps, shares, passphrase slots and recovery seals: what must not open.
#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

#[path = "../seeded/mod.rs"]
mod seeded;
mod sharing;
mod slots;
mod wraps;
