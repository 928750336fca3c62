//! `coffer try`: found a deployment, back a tree up, destroy sites, catalogue
//! and key service, recover in a new process, compare every file, and show
//! the signed record. Everything is real: real processes, a real socket, real
//! files; only the distance between the sites is simulated. With `--fleet` the
//! sites are storage pods, and are lost by killing them.

mod before;
mod fleet;
mod loss;
mod places;
mod report;

use std::path::Path;
use std::time::Duration;

use coffer_client::backup::Progress as _;
use coffer_model::Timestamp;
use serde_json::{Value, json};

use crate::commands::drill::verify_against_kit;
use crate::commands::home::Home;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::files;
use crate::flags::TryFlags;
use crate::progress::Bars;

use crate::commands::child::Child;
use before::BackedUp;
use places::Places;

/// How many shares of each set the recovery gets: the threshold, not one more.
const SHARES_USED: usize = 3;

pub(super) async fn run(context: &Context<'_>, flags: TryFlags) -> Result<Exit, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let places = Places::prepare(context, &flags)?;
    let mut home = None;
    // Not interrupted: whoever has begun a fleet ends it in order.
    let begun = match flags.fleet {
        true => fleet::start(context, &flags, &places).await.map(|started| home = Some(started)),
        false => Ok(()),
    };
    // Dropping the story ends its children.
    let told = match begun {
        Err(failure) => Err(failure),
        Ok(()) => tokio::select! {
            told = story(context, &flags, &places, home.as_mut()) => told,
            _ = interrupt.recv() => Err(interrupted()),
            _ = terminate.recv() => Err(interrupted()),
        },
    };
    let left = match home {
        Some(home) => home.end(context).await,
        None => Vec::new(),
    };
    let refused = told.as_ref().is_err_and(|failure| failure.exit == Exit::Usage);
    if !flags.keep || refused {
        // The record is signed, or the failure known: what stays behind
        // changes neither.
        for stays in places.clean(told.is_ok(), left.is_empty()) {
            context.output.remark(format_args!("remark: not removed: {}; remove it by hand", stays.what));
        }
    }
    if left.is_empty() { told } else { Err(not_ended(&told, &places, &left)) }
}

/// Something of the fleet could not be ended, however the trial went.
fn not_ended(told: &Result<Exit, Failure>, places: &Places, left: &[String]) -> Failure {
    let (data, left) = (places.data.display(), left.join("; "));
    let (before, exit) = match told {
        Ok(Exit::Differences) => (String::new(), Exit::Differences),
        Ok(_) => (String::new(), Exit::Failure),
        Err(failure) => (format!("{}; and ", failure.what), failure.exit),
    };
    Failure::new(format!("{before}not all of the fleet could be ended: {left}"))
        .exit(exit)
        .safe(format!("the directory that was backed up was only read; what is noted of the fleet is in {data}"))
        .next(format!(
            "mend the cause, run `coffer-node end --name NODE --dir {data}/fleet/nodes/NODE/agent` for each node there, and then remove {data}"
        ))
}

fn interrupted() -> Failure {
    Failure::new("interrupted").safe("the directory that was backed up was only read")
}

async fn story(
    context: &Context<'_>,
    flags: &TryFlags,
    places: &Places,
    home: Option<&mut Home>,
) -> Result<Exit, Failure> {
    let backed_up = before::back_up(context, flags, places, home.as_deref()).await?;
    let lost = loss::destroy(places, flags.lose, home).await?;
    let declared = context.clock.now();
    context.output.remark(format_args!(
        "{}: {}, every catalogue, the key service and the client's keys",
        if flags.fleet { "killed with their nodes' agents, and lost" } else { "lost" },
        loss::names(&lost.sites)
    ));
    let result = recover(context, flags, places, &backed_up, declared, &lost.scenario).await?;
    // The parent believes no exit code: it verifies the record itself.
    let record = verify_against_kit(&places.record(), &places.kit())?;
    report::tell(context, flags, places, &backed_up, &record, &result);
    Ok(match record.differences.count {
        0 if result.partial || backed_up.partial => Exit::Partial,
        0 => Exit::Success,
        _ => Exit::Differences,
    })
}

/// What the recovery told at its end.
struct Recovered {
    /// Single entries could not be restored.
    partial: bool,
    problems: Value,
}

async fn recover(
    context: &Context<'_>,
    flags: &TryFlags,
    places: &Places,
    backed_up: &BackedUp,
    declared: Timestamp,
    scenario: &str,
) -> Result<Recovered, Failure> {
    let mut arguments: Vec<std::ffi::OsString> =
        ["--json", "drill", "recover", "--watched"].map(Into::into).to_vec();
    let mut flag = |name: &str, value: &Path| {
        arguments.push(name.into());
        arguments.push(value.into());
    };
    flag("--config-dir", &places.profile());
    flag("--kit", &places.kit());
    flag("--data-dir", &places.data);
    flag("--target", &places.restored());
    flag("--manifest", &places.manifest());
    flag("--record-out", &places.record());
    // Not the first three: any three of the five serve.
    backed_up.custodians.iter().rev().take(SHARES_USED).for_each(|share| flag("--provider-share", share));
    backed_up.people.iter().skip(1).take(SHARES_USED).for_each(|share| flag("--tenant-share", share));
    flag("--manifest-note", Path::new(&backed_up.log_index.to_string()));
    flag("--declared-at", Path::new(&declared.0.to_string()));
    flag("--scenario", Path::new(scenario));
    flag("--rto", Path::new(&format!("{}s", flags.rto.0)));
    flag("--rpo", Path::new(&format!("{}s", flags.rpo.0)));
    let mut child = Child::spawn(&arguments)?;
    let bars = Bars::new(context.output);
    let (mut result, mut too_many) = (None, None);
    while let Some(event) = child.next_event().await {
        match event.get("event").and_then(Value::as_str) {
            Some("stage") => {
                let name = event.get("stage").and_then(Value::as_str).unwrap_or_default();
                bars.stage(name, event.get("total_bytes").and_then(Value::as_u64), None);
            }
            Some("progress") => bars.position(event.get("bytes").and_then(Value::as_u64).unwrap_or(0)),
            Some("phase") => report::phase_remark(context, &event),
            Some("too many lost") => too_many = event.get("more").and_then(Value::as_u64),
            Some("result") => result = Some(event),
            _ => child.remember_error(&event),
        }
    }
    bars.finish();
    let exit = child.wait(Duration::from_secs(60)).await?;
    let Some(result) = result else {
        // Nothing that came back may pass as a whole tree.
        if let Err(left) = files::remove_tree(&places.restored()) {
            context.output.remark(format_args!("remark: not removed, and not whole: {}", left.what));
        }
        let failure = child.failure("the recovery", exit);
        return Err(match too_many.and_then(|more| usize::try_from(more).ok()) {
            None => failure,
            // Nobody has these sites to bring back: the trial deleted them.
            Some(more) => failure
                .next(format!("run the trial again with --lose {} or less", flags.lose.saturating_sub(more))),
        });
    };
    let problems = result.get("problems").cloned().unwrap_or_else(|| json!([]));
    Ok(Recovered { partial: problems.as_array().is_some_and(|list| !list.is_empty()), problems })
}
