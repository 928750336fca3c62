//! The record of a drill: a restoration that was timed and compared with its
//! source. An in-toto Statement v1 (<https://in-toto.io/Statement/v1>) in a
//! DSSE envelope, signed by the service that restored, verified without it.
//!
//! The record goes to the provider for its signature, so it names no file of
//! the tenant: differences are counted by class, and the list with the names
//! stays with the tenant, bound by its digest.

mod moment;
mod record;
#[cfg(test)]
mod tests;
mod verify;

pub use moment::Moment;
pub use record::{
    Differences, DrillRecord, Evidence, Manifests, Measured, NOT_PROVEN, Objectives, PREDICATE_TYPE, Phase,
    Shares, Software, Verdict, Verdicts,
};
pub use verify::{Inconsistency, PAYLOAD_TYPE, RECORD_BYTES_MAX, VerifyRecordError, verify_record};
