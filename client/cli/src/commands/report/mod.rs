//! `coffer report`: gather, verify, ask every check, write.

mod gather;

use std::path::Path;

use coffer_client::Client;
use coffer_client::evidence::signature_path;
use coffer_client::profile::write_atomically;
use coffer_client::report::{Report, Status, signing_statement, to_canonical};
use serde_json::{Value, json};

pub(super) use gather::{Material, material};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::files::{self, Sink};
use crate::flags::{ReportFlags, ReportFormat};

pub(super) async fn run(context: &Context<'_>, flags: ReportFlags) -> Result<Exit, Failure> {
    if is_stdout(&flags.out) && flags.format == ReportFormat::Oscal {
        return Err(Failure::usage("--format oscal writes a directory, which stdout is not"));
    }
    let (client, tenant) = context.tenant().await?;
    let gathered = material(context, &client, &tenant, &flags.material).await?;
    let report = Report::new(&gathered.material);
    match flags.format {
        ReportFormat::Html => write(&flags.out, report.html(false).as_bytes())?,
        ReportFormat::Csv => write(&flags.out, report.csv().as_bytes())?,
        ReportFormat::Oscal => oscal(&client, &report, &flags.out).await?,
        ReportFormat::Pdf => write(&flags.out, &report.pdf())?,
    }
    // Nothing else goes where the report went.
    if !is_stdout(&flags.out) {
        tell(context, &report, &flags.out);
    }
    Ok(Exit::Success)
}

/// The OSCAL files, each with the service's signature beside it. What they
/// rest on is in an evidence pack.
async fn oscal(client: &Client, report: &Report<'_>, out: &Path) -> Result<(), Failure> {
    files::make_empty_directory(out)?;
    for (name, bytes) in report.oscal().files {
        let tenant = &report.material.facts.facts.tenant.id;
        let statement = to_canonical(&signing_statement(name, &bytes, tenant))?;
        let signed = client.sign_statement(statement).await?;
        write(&out.join(name), &bytes)?;
        write(&out.join(signature_path(name)), &signed.envelope)?;
    }
    Ok(())
}

/// A report in one file, or to stdout or a device.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    if !is_stdout(path) && !files::is_special(path) {
        return Ok(write_atomically(path, bytes)?);
    }
    let mut sink = Sink::open(path)?;
    sink.write(bytes).map_err(files::at(path))?;
    sink.finish()
}

fn is_stdout(path: &Path) -> bool {
    path == Path::new("-")
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
