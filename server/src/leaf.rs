//! One audit event as a leaf: canonical JSON (RFC 8785) that is an event of
//! the OCSF class "API Activity" (6003), and its RFC 6962 leaf hash. The format
//! is written down in `server/LEAVES.md`.

use coffer_catalog::Leaf;
use coffer_keys::{CanonicalError, leaf_hash, to_canonical};
use coffer_model::{Actor, AuditEvent, Operation, Outcome};
use serde_json::Value;

/// OCSF status ids: 0 unknown (the intent), 1 success, 2 failure, 99 other.
fn status(outcome: Outcome) -> (u8, &'static str) {
    match outcome {
        Outcome::Intent => (0, "intent"),
        Outcome::Done => (1, "done"),
        Outcome::Denied => (2, "denied"),
        Outcome::Failed => (2, "failed"),
        Outcome::Interrupted => (99, "interrupted"),
    }
}

/// OCSF activity ids of class 6003: 1 create, 2 read, 3 update, 4 delete, 99 other.
fn activity(operation: Operation) -> u8 {
    match operation {
        Operation::TenantCreate | Operation::BucketCreate | Operation::ObjectPut | Operation::HoldPlace => 1,
        Operation::BucketList
        | Operation::ObjectGet
        | Operation::ObjectStat
        | Operation::ObjectList
        | Operation::LogRead
        | Operation::HoldList
        | Operation::CaseExport
        | Operation::FactsRead => 2,
        Operation::Sites | Operation::BucketPolicy => 3,
        Operation::BucketRemove | Operation::ObjectDelete | Operation::HoldRelease => 4,
        Operation::DigestNote
        | Operation::DrillSign
        | Operation::Repair
        | Operation::SiteReach
        | Operation::SiteQuarantine
        | Operation::SiteRelease
        | Operation::Sweep
        | Operation::Rebuild
        | Operation::Scrub
        | Operation::Challenge
        | Operation::Call
        | Operation::EvidenceSign
        | Operation::Unseal
        | Operation::Seal => 99,
    }
}

/// The name of an operation in the log.
pub(crate) fn operation_name(operation: Operation) -> &'static str {
    match operation {
        Operation::TenantCreate => "tenant_create",
        Operation::BucketCreate => "bucket_create",
        Operation::BucketList => "bucket_list",
        Operation::BucketRemove => "bucket_remove",
        Operation::ObjectPut => "object_put",
        Operation::ObjectGet => "object_get",
        Operation::ObjectStat => "object_stat",
        Operation::ObjectList => "object_list",
        Operation::ObjectDelete => "object_delete",
        Operation::DigestNote => "digest_note",
        Operation::LogRead => "log_read",
        Operation::DrillSign => "drill_sign",
        Operation::Sites => "sites",
        Operation::SiteReach => "site_reach",
        Operation::SiteQuarantine => "site_quarantine",
        Operation::SiteRelease => "site_release",
        Operation::Sweep => "sweep",
        Operation::Rebuild => "rebuild",
        Operation::Repair => "repair",
        Operation::BucketPolicy => "bucket_policy",
        Operation::Scrub => "scrub",
        Operation::Challenge => "challenge",
        Operation::Call => "call",
        Operation::HoldPlace => "hold_place",
        Operation::HoldRelease => "hold_release",
        Operation::HoldList => "hold_list",
        Operation::CaseExport => "case_export",
        Operation::FactsRead => "facts_read",
        Operation::EvidenceSign => "evidence_sign",
        Operation::Unseal => "unseal",
        Operation::Seal => "seal",
    }
}

/// Every operation.
const ALL: [Operation; 31] = [
    Operation::TenantCreate,
    Operation::BucketCreate,
    Operation::BucketList,
    Operation::BucketRemove,
    Operation::ObjectPut,
    Operation::ObjectGet,
    Operation::ObjectStat,
    Operation::ObjectList,
    Operation::ObjectDelete,
    Operation::DigestNote,
    Operation::LogRead,
    Operation::DrillSign,
    Operation::Sites,
    Operation::SiteReach,
    Operation::SiteQuarantine,
    Operation::SiteRelease,
    Operation::Sweep,
    Operation::Rebuild,
    Operation::Repair,
    Operation::BucketPolicy,
    Operation::Scrub,
    Operation::Challenge,
    Operation::Call,
    Operation::HoldPlace,
    Operation::HoldRelease,
    Operation::HoldList,
    Operation::CaseExport,
    Operation::FactsRead,
    Operation::EvidenceSign,
    Operation::Unseal,
    Operation::Seal,
];

/// The operation of that name.
pub(crate) fn operation_named(name: &str) -> Option<Operation> {
    ALL.into_iter().find(|operation| operation_name(*operation) == name)
}

fn severity(outcome: Outcome) -> u8 {
    if outcome == Outcome::Denied { 3 } else { 1 }
}

/// The leaf of an event. The text is put together in canonical order rather
/// than sorted from a tree: every call writes two. A test holds it against the
/// canonical form of the same members.
pub(crate) fn leaf(event: &AuditEvent) -> Result<Leaf, CanonicalError> {
    let (status_id, outcome) = status(event.outcome);
    let activity_id = activity(event.operation);
    let actor = match &event.actor {
        Actor::Principal(id) => id.to_string(),
        Actor::Service => "service".to_owned(),
        Actor::Anonymous => "anonymous".to_owned(),
    };
    // The one text that a caller can choose, and so the one to escape.
    let subject = to_canonical(&Value::String(event.subject.clone()))?;
    let tenant = event.tenant.map(|id| format!(r#""tenant_uid":"{id}","#)).unwrap_or_default();
    let head = format!(
        concat!(
            r#"{{"activity_id":{},"actor":{{"user":{{"uid":"{}"}}}},"api":{{"operation":"{}"}},"#,
            r#""category_uid":6,"class_uid":6003,"#,
            r#""metadata":{{"product":{{"name":"Coffer","vendor_name":"Coffer"}},{}"version":"1.5.0"}},"#,
            r#""resources":[{{"uid":"#
        ),
        activity_id,
        actor,
        operation_name(event.operation),
        tenant,
    );
    // OCSF asks for the text where the id is "other".
    let status = if status_id == 99 { r#""status":"Interrupted","# } else { "" };
    let tail = format!(
        concat!(
            r#"}}],"severity_id":{},"src_endpoint":{{"uid":"{}"}},{}"#,
            r#""status_detail":"{}","status_id":{},"time":{},"type_uid":{}}}"#
        ),
        severity(event.outcome),
        actor,
        status,
        outcome,
        status_id,
        event.time.0 / 1_000_000,
        600_300 + u32::from(activity_id),
    );
    let body = [head.as_bytes(), &subject, tail.as_bytes()].concat();
    let hash = leaf_hash(&body);
    Ok(Leaf { body, hash })
}

#[cfg(test)]
mod tests {
    use coffer_model::{PrincipalId, TenantId, Timestamp};
    use serde_json::json;

    use super::*;

    fn canonical(event: &AuditEvent, actor: &str) -> Vec<u8> {
        let (status_id, outcome) = status(event.outcome);
        let activity_id = activity(event.operation);
        let mut value = json!({
            "activity_id": activity_id,
            "actor": { "user": { "uid": actor } },
            "api": { "operation": operation_name(event.operation) },
            "category_uid": 6,
            "class_uid": 6003,
            "metadata": {
                "product": { "name": "Coffer", "vendor_name": "Coffer" },
                "version": "1.5.0",
            },
            "resources": [{ "uid": event.subject }],
            "severity_id": severity(event.outcome),
            "src_endpoint": { "uid": actor },
            "status_id": status_id,
            "status_detail": outcome,
            "time": event.time.0 / 1_000_000,
            "type_uid": 600_300 + u32::from(activity_id),
        });
        if let Some(tenant) = event.tenant {
            value["metadata"]["tenant_uid"] = json!(tenant.to_string());
        }
        if event.outcome == Outcome::Interrupted {
            value["status"] = json!("Interrupted");
        }
        to_canonical(&value).unwrap()
    }

    #[test]
    fn a_leaf_is_the_canonical_form_of_its_members_whatever_a_caller_wrote() {
        let principal = PrincipalId::from_bytes([7; 16]);
        let actors = [
            (Actor::Principal(principal), principal.to_string()),
            (Actor::Service, "service".to_owned()),
            (Actor::Anonymous, "anonymous".to_owned()),
        ];
        let subjects = [
            "",
            "ver-00",
            "\"},{\"uid\":\"forged",
            "a\\b/c",
            "\u{0}\u{1f}\n\t\u{7f}",
            "é \u{2028} \u{1f600}",
        ];
        let outcomes =
            [Outcome::Intent, Outcome::Done, Outcome::Denied, Outcome::Failed, Outcome::Interrupted];
        for (actor, name) in &actors {
            for subject in subjects {
                for outcome in outcomes {
                    for operation in [Operation::ObjectPut, Operation::DigestNote, Operation::ObjectDelete] {
                        let event = AuditEvent {
                            time: Timestamp(1_764_000_000_123_456_789),
                            tenant: (outcome != Outcome::Denied).then(|| TenantId::from_bytes([9; 16])),
                            actor: actor.clone(),
                            operation,
                            subject: subject.to_owned(),
                            outcome,
                        };
                        let leaf = leaf(&event).unwrap();
                        assert_eq!(leaf.body, canonical(&event, name), "{subject:?}");
                        assert_eq!(leaf.hash, leaf_hash(&leaf.body));
                    }
                }
            }
        }
    }
}
