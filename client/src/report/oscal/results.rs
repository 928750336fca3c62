//! The assessment results: an observation and a finding for each objective,
//! and a risk for each one that is not satisfied.

use serde_json::{Value, json};

use super::super::check::{Finding, Status};
use super::super::{Evidence, LIMITS, Report};
use super::parts;

pub(super) fn document(report: &Report<'_>) -> Value {
    json!({
        "assessment-results": {
            "uuid": report.identity.uuid("document", "assessment-results"),
            "metadata": parts::metadata(report, "Assessment results"),
            "import-ap": { "href": "assessment-plan.json" },
            "results": [result(report)],
            "back-matter": parts::back_matter(report),
        }
    })
}

fn result(report: &Report<'_>) -> Value {
    let (material, findings) = (report.material, &report.findings);
    let limits: Vec<String> =
        LIMITS.iter().map(|limit| format!("{} {}", limit.what, limit.instead)).collect();
    let mut result = json!({
        "uuid": report.identity.uuid("result", ""),
        "title": format!("{} of {} objectives satisfied", report.satisfied(), findings.len()),
        "description": "Every objective was looked at by a query over the signed facts, the whole log and the drill records of \
            the period; the queries are those of the program and version in the metadata.",
        "start": material.period.from.to_string(),
        "end": material.period.to.to_string(),
        "reviewed-controls": parts::reviewed(report),
        "observations": findings.iter().map(|finding| observation(report, finding)).collect::<Vec<_>>(),
        "findings": findings.iter().map(|finding| found(report, finding)).collect::<Vec<_>>(),
        "remarks": format!("What this does not prove. {}", limits.join(" ")),
    });
    let risks: Vec<Value> = report.failed().map(|finding| risk(report, finding)).collect();
    if !risks.is_empty() {
        result["risks"] = Value::Array(risks);
    }
    result
}

pub(super) fn observation(report: &Report<'_>, finding: &Finding) -> Value {
    let evidence: Vec<Value> = finding.answer.evidence.iter().map(|one| relevant(report, one)).collect();
    json!({
        "uuid": report.identity.uuid("observation", finding.check.id),
        "title": finding.check.title,
        "description": finding.answer.reason,
        "methods": ["TEST"],
        "props": [parts::prop("check", finding.check.id)],
        "relevant-evidence": evidence,
        "collected": report.material.now().to_string(),
    })
}

fn relevant(report: &Report<'_>, evidence: &Evidence) -> Value {
    json!({
        "href": format!("#{}", parts::resource_id(report, evidence)),
        "description": evidence.title(),
    })
}

fn found(report: &Report<'_>, finding: &Finding) -> Value {
    let check = finding.check;
    let failed = finding.answer.status == Status::NotSatisfied;
    let mut found = json!({
        "uuid": report.identity.uuid("finding", check.id),
        "title": check.title,
        "description": format!("{}: {}", finding.answer.status.text(), finding.answer.reason),
        "props": parts::references(check),
        "target": {
            "type": "objective-id",
            "target-id": parts::objective_id(check),
            "status": {
                "state": finding.answer.status.state(),
                "reason": if failed { "fail" } else { "pass" },
            },
        },
        "related-observations": [{ "observation-uuid": report.identity.uuid("observation", check.id) }],
    });
    if failed {
        found["related-risks"] = json!([{ "risk-uuid": report.identity.uuid("risk", check.id) }]);
    }
    found
}

pub(super) fn risk(report: &Report<'_>, finding: &Finding) -> Value {
    json!({
        "uuid": report.identity.uuid("risk", finding.check.id),
        "title": finding.check.title,
        "description": finding.answer.reason,
        "statement": format!("Not shown: {}", finding.check.objective),
        "status": "open",
        "related-observations": [{ "observation-uuid": report.identity.uuid("observation", finding.check.id) }],
    })
}
