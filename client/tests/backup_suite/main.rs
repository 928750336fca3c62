//! The backup engine, end to end against a store in memory.
#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]
#![expect(clippy::disallowed_methods, reason = "these tests are about files")]

mod bench;
mod chunker;
mod damage;
mod differences;
mod manifest;
mod part;
mod problems;
mod roundtrip;
