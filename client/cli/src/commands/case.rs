//! `coffer case`: what lies under a legal hold, exported and verified.

use std::path::Path;

use coffer_client::backup::Progress as _;
use coffer_client::case::{CaseReport, export_case, verify_case};
use coffer_client::keys::VerifierName;
use coffer_model::{HoldId, Timestamp};
use serde_json::json;

use super::audit::pinned;
use super::hold::place;
use crate::context::Context;
use crate::exit::{Advise as _, Exit, Failure};
use crate::files;
use crate::flags::{CaseCommand, KeyFlags};
use crate::output::bytes_text;
use crate::progress::Bars;

pub(super) async fn run(context: &Context<'_>, command: CaseCommand) -> Result<Exit, Failure> {
    match command {
        CaseCommand::Export { directory, hold, by } => export(context, &directory, hold, by).await,
        CaseCommand::Verify { directory, key } => verify(context, &directory, &key),
    }
}

async fn export(
    context: &Context<'_>,
    directory: &Path,
    hold: HoldId,
    by: Option<String>,
) -> Result<Exit, Failure> {
    let (client, tenant) = context.tenant().await?;
    let known = client.list_holds().await?.into_iter().find(|known| known.id == hold);
    let Some(hold) = known else {
        return Err(Failure::new(format!("there is no hold {hold}"))
            .safe("nothing was written")
            .next("`coffer hold ls` shows which there are"));
    };
    files::make_empty_directory(directory)?;
    let mut watch = tenant.log_watch()?;
    let by = by.unwrap_or_else(|| format!("{} on {}", tenant.identity().principal, files::host_name()));
    let bars = Bars::new(context.output);
    bars.stage("exporting the case", None, None);
    let told = &mut |bytes| bars.advance(bytes, 0);
    let words = (context.clock.now().to_string(), by);
    let exported = export_case(&client, &mut watch, &hold, directory, words, told).await.advise(
        "what was written has no statement, and so is no case",
        "mend the cause, then export into another directory",
    )?;
    bars.finish();
    tenant.remember(&watch)?;
    context.output.object(&json!({
        "hold": hold.id.to_string(),
        "directory": directory.display().to_string(),
        "objects": exported.objects,
        "bytes": exported.bytes,
        "leaves": exported.leaves,
        "noted": exported.noted,
    }));
    context.output.text(format_args!(
        "{} objects of {}, {}, and {} leaves about them are in {}; leaf {} notes it",
        exported.objects,
        place(&hold),
        bytes_text(exported.bytes),
        exported.leaves,
        directory.display(),
        exported.noted
    ));
    Ok(Exit::Success)
}

fn verify(context: &Context<'_>, directory: &Path, flags: &KeyFlags) -> Result<Exit, Failure> {
    let key: VerifierName = match pinned(flags)? {
        Some(key) => key,
        None => context
            .profile
            .tenant(context.tenant.as_deref())
            .advise("nothing was verified", "name the key with --kit or --key")?
            .log_watch()?
            .key(),
    };
    let report = verify_case(directory, &key).map_err(files::at(directory))?;
    Ok(tell(context, directory, &report))
}

fn tell(context: &Context<'_>, directory: &Path, report: &CaseReport) -> Exit {
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    let contents = report.contents.as_ref();
    let noted = report.noted.as_ref();
    let at = |time_ms: u64| Timestamp(time_ms.saturating_mul(1_000_000)).to_string();
    context.output.object(&json!({
        "verified": report.is_good(),
        "hold": contents.map(|contents| &contents.hold.id),
        "objects": contents.map(|contents| contents.objects.len()),
        "leaves": contents.map(|contents| contents.leaves.len()),
        "exported_by": noted.map(|(actor, _)| actor),
        "exported": noted.map(|(_, time)| at(*time)),
        "findings": findings,
    }));
    for finding in &findings {
        context.output.text(format_args!("WRONG {finding}"));
    }
    match (contents, noted) {
        (Some(contents), Some((actor, time))) if report.is_good() => {
            context.output.text(format_args!(
                "the case verifies: {} objects under {}, every byte as {actor} exported it on {}",
                contents.objects.len(),
                contents.hold.id,
                at(*time)
            ));
            Exit::Success
        }
        _ => {
            context.output.text(format_args!("{} does not verify; do not rely on it", directory.display()));
            Exit::Differences
        }
    }
}
