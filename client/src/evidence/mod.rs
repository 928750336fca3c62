//! The evidence pack: a report and everything that it rests on, in files that
//! an auditor checks with programs of other people. The form is
//! `client/EVIDENCE.md`. All but [`gather_facts`] and its like is pure: a pack
//! is a map from paths to bytes.

mod bom;
mod gather;
mod manifest;
mod pack;
mod proof;
mod readme;
mod verify;

pub use bom::{BomError, bill_of_materials};
pub use gather::{GatherError, Gathered, gather_facts, gather_log, read_record, stored_records};
pub use manifest::{MANIFEST, MANIFEST_SIGNATURE, Manifest, PACK_PREDICATE_TYPE};
pub use pack::{Draft, PackError, signature_path};
pub use proof::{TlogProof, TlogProofError};
pub use verify::{Verified, Wrong, differing, verify_digests, verify_pack};

use std::collections::BTreeMap;

/// The files of a pack: paths with `/`, and bytes.
pub type Files = BTreeMap<String, Vec<u8>>;
