//! What several documents have in common: metadata, controls, evidence.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::super::check::{Check, Evidence};
use super::super::identity::constant;
use super::super::{CAUTION, Report, SOFTWARE_VERSION};
use super::{NAMESPACE, OSCAL_VERSION};

pub(super) fn metadata(report: &Report<'_>, title: &str) -> Value {
    let facts = &report.material.facts.facts;
    json!({
        "title": format!("{title} of tenant {}", facts.tenant.name),
        "last-modified": report.material.now().to_string(),
        "version": SOFTWARE_VERSION,
        "oscal-version": OSCAL_VERSION,
        "props": [
            prop("tenant", &facts.tenant.id),
            prop("log-origin", &report.material.log.checkpoint.origin),
        ],
        "roles": [{ "id": "provider", "title": "Provider of the service" }],
        "parties": [{ "uuid": provider(report), "type": "organization", "name": provider_name(report) }],
        "responsible-parties": [{ "role-id": "provider", "party-uuids": [provider(report)] }],
        "remarks": CAUTION,
    })
}

/// The provider is known by the name under which its key signs.
fn provider_name(report: &Report<'_>) -> String {
    let origin = &report.material.log.checkpoint.origin;
    origin.split_once("/log/").map_or(origin.as_str(), |(name, _)| name).to_owned()
}

fn provider(report: &Report<'_>) -> String {
    constant("provider", &provider_name(report))
}

/// One property of ours. OSCAL takes no empty value.
pub(super) fn prop(name: &str, value: &str) -> Value {
    let value = if value.trim().is_empty() { "none" } else { value.trim() };
    json!({ "name": name, "ns": NAMESPACE, "value": value })
}

/// The controls that a report looks at, each once.
pub(super) fn controls(report: &Report<'_>) -> Vec<&'static str> {
    let all: BTreeSet<&str> = report.findings.iter().map(|finding| finding.check.control()).collect();
    all.into_iter().collect()
}

/// Which controls and objectives are reviewed.
pub(super) fn reviewed(report: &Report<'_>) -> Value {
    let controls: Vec<Value> =
        controls(report).iter().map(|control| json!({ "control-id": control })).collect();
    let objectives: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| json!({ "objective-id": objective_id(finding.check) }))
        .collect();
    json!({
        "control-selections": [{ "include-controls": controls }],
        "control-objective-selections": [{ "include-objectives": objectives }],
    })
}

/// The id of a check's objective.
pub(super) fn objective_id(check: &Check) -> String {
    format!("coffer_obj.{}", check.id)
}

/// The references of a check to the other standards, as properties.
pub(super) fn references(check: &Check) -> Vec<Value> {
    check.references.iter().map(|one| prop(one.standard.short(), one.text)).collect()
}

/// The id of a piece of evidence in this report.
pub(super) fn resource_id(report: &Report<'_>, evidence: &Evidence) -> String {
    report.identity.uuid("evidence", &evidence.path())
}

/// The evidence of a report, where it lies in a pack, and its digest where it
/// does not depend on the pack.
pub(super) fn back_matter(report: &Report<'_>) -> Value {
    let resources: Vec<Value> = report.evidence().iter().map(|one| resource(report, one)).collect();
    json!({ "resources": resources })
}

fn resource(report: &Report<'_>, evidence: &Evidence) -> Value {
    let media = match evidence {
        Evidence::Facts | Evidence::Drill(_) | Evidence::Residency => "application/json",
        Evidence::Log | Evidence::Leaf(_) => "text/plain",
    };
    let mut link = json!({ "href": format!("../../{}", evidence.path()), "media-type": media });
    if let Some(digest) = digest(report, evidence) {
        link["hashes"] = json!([{ "algorithm": "SHA-256", "value": digest }]);
    }
    json!({ "uuid": resource_id(report, evidence), "title": evidence.title(), "rlinks": [link] })
}

/// SHA-256 of a piece of evidence, hexadecimal, where the report has its bytes.
pub(in super::super) fn digest(report: &Report<'_>, evidence: &Evidence) -> Option<String> {
    let material = report.material;
    let bytes: Vec<u8> = match evidence {
        Evidence::Facts => material.facts_envelope.clone(),
        Evidence::Log => material.log.note.clone().into_bytes(),
        Evidence::Drill(id) => {
            material.drills.iter().find(|drill| drill.record.drill == *id)?.envelope.clone()
        }
        Evidence::Residency | Evidence::Leaf(_) => return None,
    };
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    Some(coffer_model::Digest(digest).to_string())
}
