//! `coffer report`: gather, verify, ask every check, write.

mod gather;

use std::path::Path;

use coffer_client::profile::write_atomically;
use coffer_client::report::{Report, Status};
use serde_json::{Value, json};

pub(super) use gather::{Material, material};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::flags::{ReportFlags, ReportFormat};

pub(super) async fn run(context: &Context<'_>, flags: ReportFlags) -> Result<Exit, Failure> {
    let (client, tenant) = context.tenant().await?;
    let gathered = material(context, &client, &tenant, &flags.material).await?;
    let report = Report::new(&gathered.material);
    match flags.format {
        ReportFormat::Html => write(&flags.out, report.html(false).as_bytes())?,
        ReportFormat::Csv => write(&flags.out, report.csv().as_bytes())?,
        ReportFormat::Pdf | ReportFormat::Oscal => {
            for (name, bytes) in report.oscal().files {
                write(&flags.out.join(name), &bytes)?;
            }
        }
    }
    tell(context, &report, &flags.out);
    Ok(Exit::Success)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    Ok(write_atomically(path, bytes)?)
}

/// What was found, for people and for programs.
pub(super) fn tell(context: &Context<'_>, report: &Report<'_>, out: &Path) {
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "check": finding.check.id,
                "status": finding.answer.status.state(),
                "reason": finding.answer.reason,
            })
        })
        .collect();
    context.output.object(&json!({
        "out": out.display().to_string(),
        "satisfied": report.satisfied(),
        "objectives": report.findings.len(),
        "findings": findings,
    }));
    for finding in report.findings.iter().filter(|finding| finding.answer.status == Status::NotSatisfied) {
        let (check, answer) = (finding.check, &finding.answer);
        context.output.text(format_args!("not satisfied  {:<16} {}", check.id, answer.reason));
    }
    context.output.text(format_args!(
        "{} of {} objectives satisfied; {}",
        report.satisfied(),
        report.findings.len(),
        out.display()
    ));
}
