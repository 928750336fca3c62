//! The node agent on the real kernel: its runtimes, its walls, its loop. Tests
//! that need root say so where they do not have it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot set up must fail")]
#![expect(clippy::print_stderr, reason = "what could not be tested must be seen")]

mod attested;
mod bench;
mod discards;
mod endpoint;
mod fleet;
mod hostile;
mod killed;
mod pods;
mod pull;
mod reach;
mod runtimes;
