//! `coffer drill schedule`: drills that come due again and again. A schedule
//! is a file on the shelf; a timer of the machine runs what is due.

use std::time::Duration;

use coffer_client::drill::{Schedule, Shelf};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::exercise::{Desk, Which, carry_out_new, wish_of};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::files;
use crate::flags::{DrillWish, RunFlags, ScheduleCommand};

pub(super) async fn run(context: &Context<'_>, command: ScheduleCommand) -> Result<Exit, Failure> {
    match command {
        ScheduleCommand::Add { name, wish } => add(context, &name, &wish).await,
        ScheduleCommand::Ls => list(context).await,
        ScheduleCommand::Rm { name } => {
            let desk = Desk::open(context).await?;
            Schedule::remove(&Shelf::open(&desk.client).await?, &name).await?;
            context.output.object(&json!({ "removed": name }));
            context.output.text(format_args!("removed {name}"));
            Ok(Exit::Success)
        }
        ScheduleCommand::Run { flags } => run_due(context, &flags).await,
    }
}

async fn add(context: &Context<'_>, name: &str, flags: &DrillWish) -> Result<Exit, Failure> {
    let every = flags.every.ok_or_else(|| Failure::usage("say how often with --every, for example 7d"))?;
    if every.0 == 0 {
        return Err(Failure::usage("a schedule that is due all the time is none"));
    }
    if flags.snapshot.is_some() {
        return Err(Failure::usage("a schedule restores the latest snapshot, whichever that is then"));
    }
    let desk = Desk::open(context).await?;
    let wish = wish_of(context, flags)?;
    if !desk.client.list_buckets().await?.iter().any(|bucket| bucket.name == wish.bucket) {
        return Err(Failure::new(format!("there is no bucket {}", wish.bucket))
            .safe("nothing was entered")
            .next("`coffer bucket ls` lists them"));
    }
    let schedule = Schedule::new(name, &wish, flags.objects, every.0, context.clock.now())?;
    schedule.keep(&Shelf::open(&desk.client).await?).await?;
    tell(context, &schedule);
    Ok(Exit::Success)
}

fn tell(context: &Context<'_>, schedule: &Schedule) {
    let late = schedule.is_due(context.clock.now());
    context.output.object(&json!({
        "name": schedule.name,
        "bucket": schedule.bucket,
        "scenario": schedule.kind,
        "every_seconds": schedule.every_seconds,
        "next_due": schedule.next_due.utc(),
        "due": late,
    }));
    context.output.text(format_args!(
        "{:<20} {:<13} {:<16} every {} s, due {}{}",
        schedule.name,
        schedule.kind.to_string(),
        schedule.bucket,
        schedule.every_seconds,
        schedule.next_due.utc(),
        if late { " (DUE)" } else { "" }
    ));
}

async fn list(context: &Context<'_>) -> Result<Exit, Failure> {
    let desk = Desk::open(context).await?;
    for schedule in Schedule::all(&Shelf::open(&desk.client).await?).await? {
        tell(context, &schedule);
    }
    Ok(Exit::Success)
}

/// Each due drill in a directory of its own. One that fails stays due and keeps
/// no other from its turn; the command's exit says that not all went well.
async fn run_due(context: &Context<'_>, flags: &RunFlags) -> Result<Exit, Failure> {
    let mut desk = Desk::open(context).await?;
    files::make_directory(&flags.out)?;
    let now = context.clock.now();
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut exit = Exit::Success;
    for mut schedule in Schedule::all(&Shelf::open(&desk.client).await?).await? {
        if !schedule.is_due(now) {
            continue;
        }
        let next = now.plus(Duration::from_secs(schedule.every_seconds));
        let wish = schedule.wish(next)?;
        let own = RunFlags {
            out: flags.out.join(format!("{}-{}", schedule.name, now.0)),
            keep: flags.keep,
            max_rate: flags.max_rate,
            resume: false,
            check_trend: flags.check_trend,
            other_tenants: flags.other_tenants.clone(),
            deleted: flags.deleted.clone(),
            left: flags.left.clone(),
        };
        let which = if schedule.objects { Which::Objects } else { Which::Tree(None) };
        match carry_out_new(context, &mut desk, &wish, which, &own).await {
            Ok(Exit::Success) => {}
            Ok(other) => exit = other,
            Err(failure) => {
                let stopped = tokio::select! {
                    biased;
                    _ = interrupts.recv() => true,
                    () = std::future::ready(()) => false,
                };
                if stopped {
                    return Err(failure);
                }
                exit = context.output.failure(&failure);
                context.output.remark(format_args!("the schedule {} stays due", schedule.name));
                continue;
            }
        }
        schedule.next_due = next.into();
        schedule.keep(&Shelf::open(&desk.client).await?).await?;
    }
    Ok(exit)
}
