//! Reports in NIST's Open Security Controls Assessment Language (OSCAL 1.2.1):
//! what is implemented, how it is assessed, what was found, and what is to be
//! done. Objectives are ours and are defined in the plan; each stands under
//! the control of SP 800-53 that asks for it.

mod component;
mod milestones;
mod parts;
mod plan;
mod results;

use coffer_keys::{statement, to_canonical};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::Report;
pub(super) use parts::digest;

/// The version of OSCAL.
pub(super) const OSCAL_VERSION: &str = "1.2.1";
/// Our properties' namespace; it need not resolve.
pub(super) const NAMESPACE: &str = "https://coffer.invalid/ns/oscal";

/// The predicate under which the program trestle signs and verifies.
pub const PREDICATE_TYPE: &str =
    "https://oscal-compass.github.io/compliance-trestle/predicates/oscal-signing/v1";

/// The documents of a report, each canonical JSON, by file name.
pub struct OscalDocuments {
    /// Name and bytes; without a plan of action where nothing is to be done.
    pub files: Vec<(&'static str, Vec<u8>)>,
}

pub(super) fn documents(report: &Report<'_>) -> OscalDocuments {
    let mut files = vec![
        ("component-definition.json", bytes(&component::document(report))),
        ("assessment-plan.json", bytes(&plan::document(report))),
        ("assessment-results.json", bytes(&results::document(report))),
    ];
    if report.failed().next().is_some() {
        files.push(("plan-of-action-and-milestones.json", bytes(&milestones::document(report))));
    }
    OscalDocuments { files }
}

/// Objects of strings, lists and small integers have a canonical form; one
/// that had none would be refused by every reader as empty.
fn bytes(document: &Value) -> Vec<u8> {
    to_canonical(document).unwrap_or_default()
}

/// The statement with which a canonical file of that name is signed for a
/// tenant, in the form that `trestle verify` reads. The tenant is ours: one key
/// signs for all of them.
pub fn signing_statement(name: &str, canonical: &[u8], tenant: &str) -> Value {
    let digest: [u8; 32] = Sha256::digest(canonical).into();
    let how = json!({
        "canonicalization": "RFC8785",
        "digestAlgorithm": "sha256",
        "digestSource": "canonical-json",
        "tenant": tenant,
        "tool": "coffer",
    });
    statement(name, &coffer_model::Digest(digest).to_string(), PREDICATE_TYPE, &how)
}
