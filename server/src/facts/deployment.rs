//! The facts that are the deployment's: its sites, how far they were read and
//! asked, and who may act for the tenant.

use coffer_catalog::CatalogError;
use coffer_keys::{CanonicalError, leaf_hash, to_canonical};
use coffer_model::{Digest, TierCertificate, Timestamp};
use serde_json::{Value, json};

use super::{FactsError, figure, moment};
use crate::jobs::{Coverage, DelayState};
use crate::leaf_text::LeafText;
use crate::metrics::expiry_of_pem;
use crate::service::Service;
use crate::stored::Principal;
use crate::tenant::Tenant;

/// Every site, those included that were retired: what they held is gone, and
/// a reader should see that they were there.
pub(super) async fn sites(service: &Service) -> Result<Value, FactsError> {
    let mut all = Vec::new();
    for listed in service.sites.listed() {
        let site = &listed.address.site;
        let state = service.sites.state(site.id).await;
        let known = u64::try_from(service.damage.count(site.id)).unwrap_or(u64::MAX);
        all.push(json!({
            "id": site.id.to_string(),
            "name": site.name,
            "country": site.country.to_string(),
            "domain": site.domain.0,
            "tier": site.tier.to_string(),
            "tier_certificate": listed.address.certificate.as_ref().map_or(Value::Null, certificate),
            "standing": listed.standing.name(),
            "simulated": service.sites.simulated(&site.name).is_some(),
            "answers": state.alive,
            "quarantined": service.sites.is_quarantined(site.id),
            "read_only": state.read_only,
            "records": figure(state.records),
            "volume_bytes": figure(state.volume_bytes),
            "damaged": figure(state.damaged.max(known)),
            "reported": figure(service.sites.reported(site.id)),
        }));
    }
    Ok(Value::Array(all))
}

/// What an operator declared about the tier of a building.
fn certificate(declared: &TierCertificate) -> Value {
    json!({
        "issuer": declared.issuer,
        "number": declared.number,
        "tier": declared.tier.to_string(),
        "from": declared.from.to_string(),
        "until": declared.until.to_string(),
        "declared": moment(declared.declared),
        "declared_by": declared.declared_by.to_string(),
    })
}

/// The digest by which the service's log names a declaration.
pub(crate) fn certificate_digest(declared: &TierCertificate) -> Result<Digest, CanonicalError> {
    Ok(leaf_hash(&to_canonical(&certificate(declared))?))
}

/// Who keeps the root key, as far as the program that opened it told.
pub(super) fn custody(service: &Service) -> Value {
    match service.custody.get() {
        None => json!({ "kind": "not told", "threshold": 0, "shares": 0 }),
        Some(custody) => json!({
            "kind": custody.kind.name(),
            "threshold": custody.threshold,
            "shares": custody.shares,
        }),
    }
}

/// Until when the certificates of TLS are valid that this service stands for.
pub(super) fn certificates(service: &Service) -> Value {
    // A moment beyond the year 2554 is written as the last one that there is.
    let until = expiry_of_pem(service.ca_pem()).map(|seconds| seconds.saturating_mul(1_000_000_000));
    json!([{ "name": "authority", "until": until.map_or(Value::Null, |ns| moment(Timestamp(ns))) }])
}

/// The newest state of the tenant's log that witnesses were shown, with what
/// they put under it, and which keys they have.
pub(super) async fn witnessed(service: &Service, tenant: &Tenant) -> Result<Value, FactsError> {
    let note = service.last_cosigned(tenant).await?;
    let keys: Vec<String> = service.witness_keys().iter().map(ToString::to_string).collect();
    Ok(json!({ "checkpoint": note, "witnesses": keys }))
}

/// How far each site was read, and what its answers say.
pub(super) async fn scrub(service: &Service, tenant: &Tenant) -> Result<Value, FactsError> {
    let mut all = Vec::new();
    for site in service.scrub_status().await? {
        let age = match site.coverage {
            Coverage::Kept(age) | Coverage::Slipped(age) => json!(figure(age.as_secs())),
            Coverage::Unknown => Value::Null,
        };
        let delay = match service.delay_state(site.site.id).await? {
            DelayState::Learning(_) => "learning",
            DelayState::AsEnrolled => "as enrolled",
            DelayState::Later => "later",
            DelayState::Indistinct => "indistinct",
        };
        all.push(json!({
            "site": site.site.name,
            "kept": site.is_kept(),
            "age_seconds": age,
            "last_ended": site.last.map_or(Value::Null, |pass| moment(pass.ended)),
            "findings": site.last.map_or(0, |pass| figure(pass.findings)),
            "bytes_total": figure(site.bytes_total),
            "at_risk": site.at_risk,
            "delay": delay,
        }));
    }
    let challenges = tenant.catalog.challenge_counts().await?;
    Ok(json!({
        "promised_seconds": figure(service.watch.settings().scrub_within.as_secs()),
        "sites": all,
        "unasked_challenges": figure(challenges.fresh.values().sum()),
        "unchallenged_versions": figure(challenges.unchallenged_versions),
        "trouble": service.watch.trouble().unwrap_or_default(),
    }))
}

/// The tenant's principals, oldest first. Whose they are in the world is the
/// tenant's to know: here are ids.
pub(super) async fn principals(tenant: &Tenant) -> Result<Value, FactsError> {
    let mut all: Vec<Principal> = stored_principals(tenant).await?;
    all.sort_by_key(|principal| (principal.created, principal.id));
    let one = |principal: &Principal| {
        let role = match principal.role {
            coffer_model::Role::Operator => "operator",
            coffer_model::Role::Tenant => "tenant",
        };
        json!({ "id": principal.id.to_string(), "role": role, "created": moment(principal.created) })
    };
    Ok(all.iter().map(one).collect())
}

async fn stored_principals(tenant: &Tenant) -> Result<Vec<Principal>, FactsError> {
    let facts: Result<_, CatalogError> = tenant.catalog.facts("principal").await;
    let read = |(_, body): &([u8; 16], Vec<u8>)| postcard::from_bytes(body).map_err(|_| FactsError::Stored);
    facts?.iter().map(read).collect()
}

/// When the tenant's keys were made: the time of the first leaf of its log,
/// milliseconds since 1970. Keys have no time of their own where they lie.
pub(crate) async fn founded(tenant: &Tenant) -> Result<Option<u64>, FactsError> {
    let leaves = tenant.catalog.leaves(0, 1).await?;
    Ok(leaves.first().and_then(|leaf| LeafText::read(leaf)).map(|leaf| leaf.time))
}
