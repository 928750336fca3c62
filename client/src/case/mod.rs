//! A case: what lies under a legal hold, exported for somebody who does not
//! trust the exporter, with the leaves of the log that tell what became of each
//! object, and the statement that the service signed about it. The format is
//! written down in `client/CASE.md`.

mod contents;
mod export;
mod verify;

pub use contents::{CaseContents, CaseFile, CaseHold, CaseLeaf, CaseObject};
pub use export::{CaseError, ExportedCase, export_case};
pub use verify::{CaseReport, verify_case};

/// What our statement is about.
const PREDICATE_TYPE: &str = "urn:coffer:case:v1";

/// The signed statement.
const STATEMENT: &str = "case.json";
/// The list that it signs.
const CONTENTS: &str = "contents.json";
/// The proof that the log notes the statement.
const NOTED: &str = "case.tlog-proof";
