//! The catalogue as its callers see it: the file, the stories, the log, the
//! rebuild, and files of past formats.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail loudly, in its helpers too")]

mod challenges;
mod file;
mod fixtures;
mod group;
mod lookups;
mod puts;
mod rebuild;
mod repair;
mod sample;
