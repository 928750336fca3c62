//! `coffer witness`, and the policies by which other commands ask for
//! witnesses.

mod serve;

use std::path::{Path, PathBuf};

use coffer_client::keys::{POLICY_BYTES_MAX, VerifierName, WitnessName, WitnessPolicy};
use coffer_client::witness::WitnessBook;
use serde_json::json;

use super::audit::{kit_key, pinned};
use crate::context::Context;
use crate::exit::{Advise as _, Exit, Failure};
use crate::files;
use crate::flags::{WitnessCommand, WitnessFlags};

pub(super) async fn run(context: &Context<'_>, command: WitnessCommand) -> Result<Exit, Failure> {
    match command {
        WitnessCommand::Init { directory, name } => init(context, &directory, &name),
        WitnessCommand::Serve { directory, listen, logs, kits, exit_with_stdin } => {
            let book = WitnessBook::open(&directory, watched(&logs, &kits)?)?;
            serve::run(context, book, listen, exit_with_stdin).await
        }
        WitnessCommand::Show { directory, key } => {
            let logs = pinned(&key)?.into_iter().collect();
            show(context, &WitnessBook::open(&directory, logs)?)
        }
    }
}

fn init(context: &Context<'_>, directory: &Path, name: &str) -> Result<Exit, Failure> {
    let public = WitnessBook::create(directory, name, context.entropy.as_ref())
        .advise("nothing was written over", "name a new directory, or another --name")?;
    context.output.object(&json!({ "key": public.to_string() }));
    context.output.text(&public);
    Ok(Exit::Success)
}

fn show(context: &Context<'_>, book: &WitnessBook) -> Result<Exit, Failure> {
    let seen: Vec<_> = book.seen().map(|seen| (&seen.checkpoint.origin, seen.checkpoint.size)).collect();
    let logs: Vec<_> = seen.iter().map(|(origin, size)| json!({ "origin": origin, "size": size })).collect();
    context.output.object(&json!({ "key": book.public().to_string(), "logs": logs }));
    context.output.text(book.public());
    for (origin, size) in seen {
        context.output.text(format_args!("{size:>10}  {origin}"));
    }
    Ok(Exit::Success)
}

/// The keys of the logs that a witness watches.
fn watched(logs: &[String], kits: &[PathBuf]) -> Result<Vec<VerifierName>, Failure> {
    let mut keys = Vec::new();
    for log in logs {
        keys.push(log.parse::<VerifierName>().map_err(Failure::usage)?);
    }
    for kit in kits {
        keys.push(kit_key(kit)?);
    }
    if keys.is_empty() {
        return Err(Failure::usage("a witness without a log has nothing to do")
            .next("name a recovery kit with --kit, or a key with --log"));
    }
    Ok(keys)
}

/// A policy out of its file.
pub(super) fn read_policy(path: &Path) -> Result<WitnessPolicy, Failure> {
    let text = files::read_small(path, POLICY_BYTES_MAX as u64)?;
    let parsed = WitnessPolicy::parse(&String::from_utf8_lossy(&text));
    parsed.map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// Which witnesses are asked for, if any are.
pub(super) fn policy(flags: &WitnessFlags) -> Result<Option<WitnessPolicy>, Failure> {
    if let Some(path) = &flags.witnesses {
        return read_policy(path).map(Some);
    }
    let keys: Result<Vec<WitnessName>, _> = flags.witness.iter().map(|key| key.parse()).collect();
    let keys = keys.map_err(Failure::usage)?;
    Ok((!keys.is_empty()).then(|| WitnessPolicy::all_of(keys)))
}

/// Who cosigned, as the end of a sentence.
pub(super) fn cosigned_text(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("; cosigned by {}", names.join(", ")),
    }
}
