//! The audit log away from its service: ranges that prove themselves, exports
//! in the layout of C2SP tlog-tiles, proofs of single leaves, and their
//! verification with nothing but the log's key. The formats are written down
//! in `client/AUDIT.md`.

pub(crate) mod disk;
mod event;
mod export;
mod paths;
mod proof;
mod range;
mod verify;

pub use event::{EventFilter, LogEvent, LogEventError};
pub use export::{ExportError, Exported, export_log};
pub use proof::{PROOF_BYTES_MAX, ProofFileError, TlogProof, prove_from_export};
pub use range::{FollowedLog, LeafRange, RangeRequest};
pub use verify::{ExportReport, Finding, Trusted, verify_export};
