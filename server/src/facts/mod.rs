//! What the service says about one tenant's data, now and signed: the facts
//! from which a report is made without it. Only what is this tenant's, or the
//! deployment's as a whole; no secret, and no name of an object. The form is
//! `server/FACTS.md`.

mod deployment;
mod residency;
mod statement;
mod versions;

use coffer_catalog::CatalogError;
use coffer_keys::{
    CanonicalError, EnvelopeError, NoteError, STATEMENT_PAYLOAD_TYPE, leaf_hash, open_checkpoint,
    sign_statement, statement as statement_about, to_canonical,
};
use coffer_model::{Outcome, ResidencyPolicy, Timestamp};
use serde_json::{Value, json};

use crate::audit::AuditError;
use crate::authorize::{Grant, Granted};
use crate::jobs::JobError;
use crate::repair::RepairError;
use crate::service::Service;

pub(crate) use deployment::{certificate_digest, founded};
pub(crate) use residency::{ListResidency, ResidencyLine, list_residency};
pub(crate) use statement::sign;

/// The predicate type of this version of the facts.
const PREDICATE_TYPE: &str = "urn:coffer:facts:v2";

/// The largest integer of canonical JSON; a larger figure is written as this
/// one and means "at least".
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Why there are no facts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FactsError {
    #[error("the catalogue failed: {0}")]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Jobs(#[from] JobError),
    #[error("the checkpoint that was just signed does not open: {0}")]
    Note(#[from] NoteError),
    #[error("what lies where could not be looked at: {0}")]
    Look(#[from] RepairError),
    #[error("a stored principal or wrapped key cannot be read")]
    Stored,
    #[error("the facts have no canonical form: {0}")]
    Form(#[from] CanonicalError),
    #[error("the facts could not be signed: {0}")]
    Sign(#[from] EnvelopeError),
    #[error("refused, because the audit log cannot be written: {0}")]
    Audit(#[from] AuditError),
}

/// The facts as a signed envelope, and the leaf that notes their digest.
pub(crate) async fn signed_facts(service: &Service, call: Granted<()>) -> Result<(Vec<u8>, u64), FactsError> {
    let ((), grant) = call.into_parts();
    let statement = grant.settled(service, gather(service, &grant).await).await?;
    let digest = leaf_hash(&to_canonical(&statement)?);
    let event = grant.event(service, Some(digest.to_string()), Outcome::Done);
    let audit_seq = grant.tenant().note(&event).await?;
    let envelope =
        sign_statement(&service.evidence, &service.evidence_name, STATEMENT_PAYLOAD_TYPE, &statement)?;
    Ok((envelope, audit_seq))
}

/// The statement: about the tenant's log as it was when the facts were taken.
async fn gather(service: &Service, grant: &Grant) -> Result<Value, FactsError> {
    let tenant = grant.tenant();
    // Witnesses see the very state that the facts are about.
    let note = service.cosigned(tenant).await?.note;
    let checkpoint = open_checkpoint(&note, &service.evidence_name, &service.evidence.verifying_key())?;
    let taken = service.host.clock.now();
    let (buckets, versions) = versions::look(service, tenant).await?;
    let predicate = json!({
        "taken": moment(taken),
        "tenant": {
            "id": tenant.id.to_string(),
            "name": tenant.name,
            "policy": policy(&tenant.policy),
        },
        "software": { "name": "coffer", "version": env!("CARGO_PKG_VERSION") },
        "log": { "origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.to_string() },
        "sites": deployment::sites(service).await?,
        "scrub": deployment::scrub(service, tenant).await?,
        "buckets": buckets,
        "keys": versions.keys(tenant, founded(tenant).await?),
        "principals": deployment::principals(tenant).await?,
        "operators": service.deployment.operators.len(),
        "custody": deployment::custody(service),
        "certificates": deployment::certificates(service),
        "witnessed": deployment::witnessed(service, tenant).await?,
        "versions": versions.sums(),
        "deletion": {
            // A tombstone hides and nothing removes what it hides.
            "reversible": true,
            "erases": false,
            "people_needed": 1,
        },
    });
    Ok(statement_about(&checkpoint.origin, &checkpoint.root.to_string(), PREDICATE_TYPE, &predicate))
}

/// A moment in both of its forms.
fn moment(time: Timestamp) -> Value {
    json!({ "ns": time.0.to_string(), "utc": time.to_string() })
}

/// A figure as canonical JSON can hold it.
fn figure(number: u64) -> u64 {
    number.min(INTEGER_MAX)
}

fn policy(policy: &ResidencyPolicy) -> Value {
    let places = |list: &[coffer_model::Jurisdiction]| -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    };
    json!({
        "allow": places(&policy.allow),
        "deny": places(&policy.deny),
        "tier_min": policy.tier_min.to_string(),
        "data": policy.geometry.k(),
        "parity": policy.geometry.m(),
        "accept_degraded": policy.degraded == coffer_model::Degraded::Accept,
    })
}
