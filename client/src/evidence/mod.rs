//! The evidence pack: a report and everything that it rests on, in files that
//! an auditor checks with programs of other people. The form is
//! `client/EVIDENCE.md`.

mod gather;

pub use gather::{GatherError, Gathered, gather_facts, gather_log, read_record, stored_records};
