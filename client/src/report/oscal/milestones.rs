//! The plan of action: one item for each objective that is not satisfied.

use serde_json::{Value, json};

use super::super::Report;
use super::super::check::Finding;
use super::{parts, results};

pub(super) fn document(report: &Report<'_>) -> Value {
    let failed: Vec<&Finding> = report.failed().collect();
    let each =
        |make: &dyn Fn(&Finding) -> Value| failed.iter().map(|finding| make(finding)).collect::<Vec<_>>();
    json!({
        "plan-of-action-and-milestones": {
            "uuid": report.identity.uuid("document", "plan-of-action-and-milestones"),
            "metadata": parts::metadata(report, "Plan of action and milestones"),
            "system-id": {
                "identifier-type": "https://ietf.org/rfc/rfc4122",
                "id": report.identity.uuid("system", ""),
            },
            "observations": each(&|finding| results::observation(report, finding)),
            "risks": each(&|finding| results::risk(report, finding)),
            "poam-items": each(&|finding| item(report, finding)),
            "back-matter": parts::back_matter(report),
        }
    })
}

fn item(report: &Report<'_>, finding: &Finding) -> Value {
    let check = finding.check;
    json!({
        "uuid": report.identity.uuid("poam-item", check.id),
        "title": check.title,
        "description": format!("{} To do: {}", finding.answer.reason, check.remedy),
        "props": [parts::prop("check", check.id)],
        "related-observations": [{ "observation-uuid": report.identity.uuid("observation", check.id) }],
        "related-risks": [{ "risk-uuid": report.identity.uuid("risk", check.id) }],
    })
}
