//! The component definition: what this software does about each control.

use serde_json::{Value, json};

use super::super::Report;
use super::super::identity::constant;
use super::super::mapping::CAUTION;
use super::parts;

/// Where the controls come from.
const CATALOGUE: &str = "https://doi.org/10.6028/NIST.SP.800-53r5";

pub(super) fn document(report: &Report<'_>) -> Value {
    let requirements: Vec<Value> =
        parts::controls(report).iter().map(|control| requirement(report, control)).collect();
    let software = &report.material.facts.facts.software;
    json!({
        "component-definition": {
            "uuid": report.identity.uuid("document", "component-definition"),
            "metadata": parts::metadata(report, "Component definition for the reports"),
            "components": [{
                "uuid": constant("component", &software.version),
                "type": "software",
                "title": format!("Coffer {}", software.version),
                "description": "Encrypted storage and backup, spread over sites in known jurisdictions, with evidence.",
                "control-implementations": [{
                    "uuid": constant("implementation", &software.version),
                    "source": CATALOGUE,
                    "description": CAUTION,
                    "implemented-requirements": requirements,
                }],
            }],
        }
    })
}

fn requirement(report: &Report<'_>, control: &str) -> Value {
    let of_control = report.findings.iter().filter(|finding| finding.check.control() == control);
    let objectives: Vec<&str> = of_control.clone().map(|finding| finding.check.objective).collect();
    let props: Vec<Value> = of_control.map(|finding| parts::prop("check", finding.check.id)).collect();
    json!({
        "uuid": constant("requirement", control),
        "control-id": control,
        "description": objectives.join(" "),
        "props": props,
    })
}
