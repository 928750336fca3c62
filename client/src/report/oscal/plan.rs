//! The assessment plan: the objectives in our words, and how each is looked at.

use serde_json::{Value, json};

use super::super::check::Finding;
use super::super::{Evidence, Report};
use super::parts;

pub(super) fn document(report: &Report<'_>) -> Value {
    let objectives: Vec<Value> = report.findings.iter().map(objective).collect();
    json!({
        "assessment-plan": {
            "uuid": report.identity.uuid("document", "assessment-plan"),
            "metadata": parts::metadata(report, "Assessment plan"),
            // There is no system security plan: the signed facts describe the system.
            "import-ssp": { "href": format!("#{}", parts::resource_id(report, &Evidence::Facts)) },
            "local-definitions": { "objectives-and-methods": objectives },
            "reviewed-controls": parts::reviewed(report),
            "back-matter": parts::back_matter(report),
        }
    })
}

fn objective(finding: &Finding) -> Value {
    let check = finding.check;
    json!({
        "control-id": check.control(),
        "description": check.title,
        "props": parts::references(check),
        "parts": [{
            "id": parts::objective_id(check),
            "name": "assessment-objective",
            "title": check.title,
            "prose": check.objective,
        }],
    })
}
