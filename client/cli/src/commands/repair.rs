//! `coffer repair`, and what `coffer object stat --shards` shows.

use std::collections::BTreeMap;

use coffer_client::backup::Progress as _;
use coffer_client::{Client, RepairOptions, RepairPlan, RepairRound, RepairSums, ShardLedger};
use coffer_model::escape_bytes;
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::flags::{ObjectAddress, RepairCommand};
use crate::output::{bytes_text, rate_text};
use crate::progress::Bars;

pub(super) async fn run(context: &Context<'_>, command: RepairCommand) -> Result<Exit, Failure> {
    match command {
        RepairCommand::Plan { budget, lines } => {
            let plan = context.operator().await?.plan_repair(budget.unwrap_or(0), lines).await?;
            show_plan(context, &plan);
            Ok(if plan.beyond_repair > 0 { Exit::Differences } else { Exit::Success })
        }
        RepairCommand::Run { rate, full_speed, budget } => {
            let options = RepairOptions {
                budget_bytes: budget.unwrap_or(0),
                bytes_per_second: rate.unwrap_or(0),
                full_speed,
            };
            repair(context, options).await
        }
        RepairCommand::Status => {
            let status = context.operator().await?.repair_status().await?;
            let mut value = sums_object(&status.sums);
            value["running"] = json!(status.running);
            value["began"] = json!(status.began.map(|time| time.to_string()));
            value["ended"] = json!(status.ended.map(|time| time.to_string()));
            value["last_round"] = json!(status.last_round.as_ref().map(round_object));
            value["trouble"] = json!(status.trouble);
            context.output.object(&value);
            let word = match (status.running, status.began) {
                (true, _) => "a repair is under way",
                (false, Some(_)) => "no repair is under way; of the last one",
                (false, None) => "no repair was run since the service started",
            };
            context.output.text(word);
            if status.began.is_some() {
                context.output.text(sums_text(&status.sums));
            }
            for reason in status.last_round.iter().flat_map(|last| &last.reasons) {
                context.output.remark(format_args!("failed: {reason}"));
            }
            if let Some(trouble) = &status.trouble {
                context.output.remark(format_args!("it broke off: {trouble}"));
            }
            Ok(Exit::Success)
        }
        RepairCommand::Ls => list(context).await,
    }
}

fn plan_object(plan: &RepairPlan) -> Value {
    json!({
        "steps": plan.step_count,
        "bytes": plan.bytes,
        "later_steps": plan.later_steps,
        "later_bytes": plan.later_bytes,
        "versions": plan.versions,
        "versions_short": plan.versions_short,
        "out_of_place": plan.out_of_place,
        "beyond_repair": plan.beyond_repair,
        "waiting": plan.waiting,
        "first_steps": plan.steps.iter().map(|step| json!({
            "tenant": step.tenant.to_string(),
            "version": step.version.to_string(),
            "redundancy": step.redundancy,
            "bytes": step.bytes,
            "step": step.text,
        })).collect::<Vec<_>>(),
        "troubles": plan.troubles.iter().map(|trouble| json!({
            "tenant": trouble.tenant.to_string(),
            "version": trouble.version.to_string(),
            "beyond_repair": trouble.beyond_repair,
            "trouble": trouble.text,
        })).collect::<Vec<_>>(),
    })
}

fn show_plan(context: &Context<'_>, plan: &RepairPlan) {
    context.output.object(&plan_object(plan));
    context.output.text(format_args!(
        "{} versions looked at, {} not as they should be; {} records out of place",
        plan.versions, plan.versions_short, plan.out_of_place
    ));
    context.output.text(format_args!(
        "{} steps, {} to read and write; {} steps, {} left for later rounds",
        plan.step_count,
        bytes_text(plan.bytes),
        plan.later_steps,
        bytes_text(plan.later_bytes)
    ));
    for step in &plan.steps {
        // What only tidies up puts nothing at risk.
        let survives = match step.redundancy {
            u32::MAX => "-".to_owned(),
            losses => losses.to_string(),
        };
        context.output.text(format_args!("  survives {survives:>2}  {}  {}", step.version, step.text));
    }
    let left = plan.step_count.saturating_sub(plan.steps.len() as u64);
    if left > 0 {
        context.output.text(format_args!("  and {left} more"));
    }
    for trouble in &plan.troubles {
        context.output.text(format_args!("  {}  {}", trouble.version, trouble.text));
    }
    let told = plan.troubles.len() as u64;
    let troubles = plan.beyond_repair + plan.waiting;
    if troubles > told {
        context.output.text(format_args!("  and {} more in trouble", troubles - told));
    }
}

fn sums_object(sums: &RepairSums) -> Value {
    json!({
        "rounds": sums.rounds,
        "steps_done": sums.steps_done,
        "steps_failed": sums.steps_failed,
        "shards_written": sums.shards_written,
        "read_back": sums.read_back,
        "bytes_moved": sums.bytes_moved,
        "bytes_left": sums.bytes_left,
    })
}

fn sums_text(sums: &RepairSums) -> String {
    format!(
        "{} rounds, {} steps done, {} failed; {} shards written, {} records read back; {} moved, {} left",
        sums.rounds,
        sums.steps_done,
        sums.steps_failed,
        sums.shards_written,
        sums.read_back,
        bytes_text(sums.bytes_moved),
        bytes_text(sums.bytes_left)
    )
}

fn round_object(round: &RepairRound) -> Value {
    json!({
        "done": round.done,
        "failed": round.failed,
        "reasons": round.reasons,
        "shards": round.shards,
        "read_back": round.read_back,
        "copies": round.copies,
        "moved": round.moved,
        "removed": round.removed,
        "small": round.small,
        "slots": round.slots,
        "plan": plan_object(&round.plan),
    })
}

async fn repair(context: &Context<'_>, options: RepairOptions) -> Result<Exit, Failure> {
    let client = context.operator().await?;
    let bars = Bars::new(context.output);
    let began = context.clock.monotonic();
    let mut total = 0;
    let told = |sums: &RepairSums| {
        let wanted = sums.bytes_moved + sums.bytes_left;
        if wanted != total {
            total = wanted;
            bars.stage("repair", Some(wanted), None);
        }
        bars.position(sums.bytes_moved);
    };
    let (sums, last) = client.run_repair(options, told).await?;
    bars.finish();
    let took = u64::try_from((context.clock.monotonic() - began).as_nanos()).unwrap_or(u64::MAX);
    let mut value = sums_object(&sums);
    value["last_round"] = round_object(&last);
    context.output.object(&value);
    context.output.text(sums_text(&sums));
    context.output.text(format_args!("rate         {}", rate_text(sums.bytes_moved, took)));
    for reason in &last.reasons {
        context.output.remark(format_args!("failed: {reason}"));
    }
    for trouble in &last.plan.troubles {
        context.output.text(format_args!("{}  {}", trouble.version, trouble.text));
    }
    let left = last.failed > 0 || last.plan.versions_short > 0;
    Ok(match (last.plan.beyond_repair > 0, left) {
        (true, _) => Exit::Differences,
        (false, true) => Exit::Partial,
        (false, false) => {
            context.output.text("everything is as it was promised");
            Exit::Success
        }
    })
}

/// The tenant's objects that have less than was promised.
async fn list(context: &Context<'_>) -> Result<Exit, Failure> {
    let (client, _) = context.tenant().await?;
    let buckets = client.list_buckets().await?;
    let names: BTreeMap<_, _> = buckets.iter().map(|bucket| (bucket.id, bucket.name.as_str())).collect();
    let (versions, total) = client.list_short().await?;
    for short in &versions {
        let bucket = names.get(&short.bucket).copied().unwrap_or("(removed)");
        let key = escape_bytes(short.key.as_bytes());
        context.output.object(&json!({
            "bucket": bucket,
            "key": key,
            "version": short.version.to_string(),
            "redundancy": short.redundancy,
            "promised": short.promised,
            "why": short.why,
        }));
        let why =
            if short.why.is_empty() { "repair makes it whole".to_owned() } else { short.why.join("; ") };
        context.output.text(format_args!(
            "{bucket}/{key}  survives {} of {} losses  {why}",
            short.redundancy, short.promised
        ));
    }
    if total > versions.len() as u64 {
        context.output.remark(format_args!("and {} more", total - versions.len() as u64));
    }
    if versions.is_empty() {
        context.output.remark("everything is as it was promised");
    }
    Ok(Exit::Success)
}

/// Where every shard of an object lies.
pub(super) async fn stat_shards(
    context: &Context<'_>,
    client: &Client,
    address: &ObjectAddress,
    verify: bool,
) -> Result<Exit, Failure> {
    let ledger = client.stat_shards(&address.bucket, &address.key, verify).await?;
    let states = ledger.states.iter().map(|state| {
        json!({
            "stripe": state.shard.map(|(stripe, _)| stripe),
            "index": state.shard.map(|(_, index)| index),
            "site": state.site,
            "state": state.state,
            "out_of_place": state.out_of_place,
        })
    });
    context.output.object(&json!({
        "version": ledger.version.to_string(),
        "geometry": ledger.geometry,
        "survives": ledger.redundancy,
        "promised": ledger.promised,
        "shards": states.collect::<Vec<_>>(),
    }));
    context.output.text(format_args!("version   {}\ngeometry  {}", ledger.version, ledger.geometry));
    context
        .output
        .text(format_args!("survives  {} more losses, {} were promised", ledger.redundancy, ledger.promised));
    for state in &ledger.states {
        let what = match state.shard {
            Some((stripe, index)) => format!("stripe {stripe} shard {index}"),
            None => "record".to_owned(),
        };
        let place = if state.out_of_place { "  out of place" } else { "" };
        context.output.text(format_args!("  {what:<22} {:<12} {}{place}", state.site, state.state));
    }
    Ok(if is_whole(&ledger) { Exit::Success } else { Exit::Partial })
}

fn is_whole(ledger: &ShardLedger) -> bool {
    let good = |state: &coffer_client::ShardState| {
        !state.out_of_place && matches!(state.state.as_str(), "listed" | "verified")
    };
    ledger.states.iter().all(good)
}
