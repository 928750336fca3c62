//! `coffer audit`: the log, read, searched, exported, verified, proven.

mod events;
mod offline;
mod resume;
mod source;
mod syslog;

use std::path::Path;

use coffer_client::audit::{EventFilter, ExportError, RangeRequest, TlogProof, export_log};
use coffer_client::backup::Progress as _;
use coffer_client::keys::WitnessPolicy;
use coffer_model::{Operation, Timestamp};
use serde_json::json;

use super::witness::policy;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::files::{self, Sink};
use crate::flags::{AuditCommand, LogFlags, OcsfFlags};
use crate::output::bytes_text;
use crate::progress::Bars;

use events::Events;
use resume::Bookmark;
use source::Source;
pub(super) use source::{kit_key, pinned};

pub(super) async fn run(context: &Context<'_>, command: AuditCommand) -> Result<Exit, Failure> {
    match command {
        AuditCommand::Tail { count, follow, resume, log, events } => {
            let from = resume.map(|file| Bookmark::open(&file)).transpose()?;
            tail(context, count, follow, from, &log, &events).await
        }
        AuditCommand::Search { operation, actor, subject, outcome, from, to, log, events } => {
            let milliseconds = |at: Timestamp| at.0 / 1_000_000;
            let (from_ms, to_ms) = (from.map(milliseconds), to.map(milliseconds));
            if from_ms.zip(to_ms).is_some_and(|(from, to)| to <= from) {
                return Err(Failure::usage("--to is not after --from: no event could be in between"));
            }
            let filter = EventFilter { operation, actor, subject, outcome, from_ms, to_ms };
            search(context, &filter, &log, &events).await
        }
        AuditCommand::Export { directory, log, events, witnesses } => {
            export(context, &directory, &log, &events, policy(&witnesses)?.as_ref()).await
        }
        AuditCommand::Verify { path, checkpoint, key, witnesses } => {
            let witnesses = policy(&witnesses)?;
            offline::verify(context, &path, checkpoint.as_deref(), &key, witnesses.as_ref())
        }
        AuditCommand::Prove { index, output, export: None, log, witnesses } => {
            prove(context, index, &output, &log, policy(&witnesses)?.as_ref()).await
        }
        AuditCommand::Prove { index, output, export: Some(export), log, witnesses } => {
            let witnesses = policy(&witnesses)?;
            offline::prove(context, index, &output, &export, &log.key, witnesses.as_ref())
        }
    }
}

async fn tail(
    context: &Context<'_>,
    count: u64,
    follow: bool,
    mut bookmark: Option<Bookmark>,
    log: &LogFlags,
    flags: &OcsfFlags,
) -> Result<Exit, Failure> {
    let named = flags.ocsf.as_deref().filter(|file| *file != Path::new("-") && !files::is_special(file));
    if let Some(file) = named.filter(|_| follow) {
        let what = format!("{} would get its name when it is whole, and a log has no end", file.display());
        return Err(Failure::usage(what).next("follow with `--ocsf -` or --syslog"));
    }
    let mut source = Source::open(context, log).await?;
    let everything = EventFilter::default();
    let mut events = Events::open(context, flags)?;
    if follow {
        let wanted = match &bookmark {
            Some(bookmark) => RangeRequest::From(bookmark.next(source.watch.origin())?, u64::MAX),
            None => RangeRequest::Last(count),
        };
        let mut followed = source.watch.follow(&source.client, wanted).await?;
        while let Some(range) = followed.next(&mut source.watch).await? {
            source.remember(context)?;
            events.show_range(&range, &everything, source.watch.origin())?;
            events.flush()?;
            if !events.is_heard() {
                // What nobody took was not handed on.
                return Ok(Exit::Success);
            }
            if let Some(bookmark) = &mut bookmark {
                bookmark.keep(source.watch.origin(), range.first + range.leaves.len() as u64)?;
            }
        }
        context.output.remark("the service ended the stream; it is stopping");
    } else {
        let (_, range) = source.watch.read_now(&source.client, RangeRequest::Last(count)).await?;
        source.remember(context)?;
        events.show_range(&range, &everything, source.watch.origin())?;
    }
    events.finish()?;
    Ok(Exit::Success)
}

async fn search(
    context: &Context<'_>,
    filter: &EventFilter,
    log: &LogFlags,
    flags: &OcsfFlags,
) -> Result<Exit, Failure> {
    let mut source = Source::open(context, log).await?;
    let mut events = Events::open(context, flags)?;
    let bars = Bars::new(context.output);
    let (checkpoint, mut range) =
        source.watch.read_now(&source.client, RangeRequest::From(0, u64::MAX)).await?;
    source.remember(context)?;
    let mut at = 0;
    loop {
        at += range.leaves.len() as u64;
        events.show_range(&range, filter, source.watch.origin())?;
        if at >= checkpoint.size {
            break;
        }
        bars.stage(&format!("{at} of {} leaves", checkpoint.size), None, None);
        range = source.watch.read_at(&source.client, RangeRequest::From(at, u64::MAX), &checkpoint).await?;
    }
    bars.finish();
    let shown = events.finish()?;
    context
        .output
        .remark(format_args!("{shown} of {} events, each proven to be in the log", checkpoint.size));
    if let Some(unknown) = filter.operation.as_deref().filter(|name| shown == 0 && !is_operation(name)) {
        let example = "object_put, object_get or bucket_policy";
        context.output.remark(format_args!(
            "no operation that this program knows is called {unknown:?}; they are called {example}, for example"
        ));
    }
    Ok(Exit::Success)
}

/// Whether a leaf could be of an operation of this name.
fn is_operation(name: &str) -> bool {
    serde_json::from_value::<Operation>(json!(name)).is_ok()
}

async fn export(
    context: &Context<'_>,
    directory: &Path,
    log: &LogFlags,
    flags: &OcsfFlags,
    witnesses: Option<&WitnessPolicy>,
) -> Result<Exit, Failure> {
    let mut source = Source::open(context, log).await?;
    files::make_empty_directory(directory)?;
    let mut events = flags.ocsf.as_ref().map(|_| Events::open(context, flags)).transpose()?;
    let bars = Bars::new(context.output);
    bars.stage("exporting the log", None, None);
    let origin = source.watch.origin().to_owned();
    let key = source.watch.key();
    let mut unwritten = None;
    let everything = EventFilter::default();
    let told = &mut |index: u64, leaf: &[u8]| {
        bars.advance(leaf.len() as u64, 1);
        if let Some(events) = &mut events {
            let shown = events.show(index, leaf, &everything, &origin);
            unwritten = unwritten.take().or_else(|| shown.err());
        }
    };
    let exported = export_log(&source.client, &mut source.watch, &key, directory, witnesses, told).await;
    let exported = exported.map_err(|error| match error {
        ExportError::Log(error) => Failure::from(error),
        error => Failure::from(error).safe("what was written has no checkpoint, and so is no export"),
    })?;
    bars.finish();
    if let Some(failure) = unwritten {
        return Err(failure);
    }
    if let Some(events) = events {
        events.finish()?;
    }
    source.remember(context)?;
    context.output.object(&json!({
        "origin": exported.checkpoint.origin,
        "size": exported.checkpoint.size,
        "root": exported.checkpoint.root.to_string(),
        "directory": directory.display().to_string(),
        "files": exported.files,
        "bytes": exported.bytes,
    }));
    context.output.text(format_args!(
        "{} leaves in {} files, {}, in {}",
        exported.checkpoint.size,
        exported.files,
        bytes_text(exported.bytes),
        directory.display()
    ));
    let whose = if log.service { format!(" --key '{key}'") } else { String::new() };
    context.output.text(format_args!("verify it with `coffer audit verify {}{whose}`", directory.display()));
    Ok(Exit::Success)
}

async fn prove(
    context: &Context<'_>,
    index: u64,
    output: &Path,
    log: &LogFlags,
    witnesses: Option<&WitnessPolicy>,
) -> Result<Exit, Failure> {
    let mut source = Source::open(context, log).await?;
    let checkpoint = match witnesses {
        None => source.watch.read_now(&source.client, RangeRequest::From(0, 0)).await?.0,
        Some(policy) => source.watch.advance_witnessed(&source.client, policy).await?,
    };
    source.remember(context)?;
    if index >= checkpoint.size {
        return Err(Failure::new(format!("the log has {} leaves, counted from 0", checkpoint.size))
            .safe("nothing was written")
            .next("`coffer audit search` shows which leaves there are"));
    }
    let leaf = source.watch.leaf(&source.client, index, &checkpoint).await?;
    let note = source.watch.remembered().unwrap_or_default().to_owned();
    let proof = TlogProof { index, leaf: leaf.leaf, path: leaf.inclusion, checkpoint: note };
    write_proof(context, &proof, output)
}

/// Writes a proof and says so, unless it is what stdout shows.
fn write_proof(context: &Context<'_>, proof: &TlogProof, output: &Path) -> Result<Exit, Failure> {
    let mut sink = Sink::open(output)?;
    sink.write(proof.to_text().as_bytes()).map_err(files::at(output))?;
    sink.finish()?;
    if output != Path::new("-") {
        let file = output.display();
        context.output.object(&json!({ "index": proof.index, "file": file.to_string() }));
        context.output.text(format_args!(
            "leaf {} is proven by {file}; verify it with `coffer audit verify {file}`",
            proof.index
        ));
    }
    Ok(Exit::Success)
}
