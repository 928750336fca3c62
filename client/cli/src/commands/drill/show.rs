//! `coffer drill ls` and `coffer drill show`: what lies on the shelf, each
//! record verified before a word of it is told.

use std::path::Path;

use coffer_client::drill::{
    AnyRecord, DrillPlan, History, Shelf, Shelved, cosigner_text, drill_file, look_for_redraws, sample_files,
    verify_noted, verify_sample,
};
use coffer_client::profile::write_atomically;
use serde_json::json;

use super::exercise::{Desk, plan_json, tell_plan};
use super::verify::{exit_of_v2, summary_v2, tell_v2};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::files;
use crate::output::seconds_text;

/// The files of a drill that others can check.
const FILES: [&str; 8] = [
    "plan.json",
    "plan.index",
    "population.txt",
    "foreseen.txt",
    "seed.txt",
    "seed.index",
    "sample.txt",
    "record.tlog-proof",
];

pub(super) async fn list(context: &Context<'_>) -> Result<Exit, Failure> {
    let desk = Desk::open(context).await?;
    let shelf = Shelf::open(&desk.client).await?;
    let mut exit = Exit::Success;
    for shelved in History::read(&shelf, &desk.party.log_key).await?.drills {
        if matches!(shelved.record, Some(Err(_))) {
            exit = Exit::Differences;
        }
        tell_line(context, &shelved);
    }
    Ok(exit)
}

fn tell_line(context: &Context<'_>, shelved: &Shelved) {
    let drill = &shelved.drill;
    match &shelved.record {
        None => {
            context.output.object(&json!({ "drill": drill, "state": "planned" }));
            context.output.text(format_args!("{drill}  planned"));
        }
        Some(Err(error)) => {
            context
                .output
                .object(&json!({ "drill": drill, "state": "not verified", "why": error.to_string() }));
            context.output.text(format_args!("{drill}  DOES NOT VERIFY: {error}"));
        }
        Some(Ok(AnyRecord::V1(record))) => {
            context
                .output
                .object(&json!({ "drill": drill, "state": "done", "record": super::summary(record) }));
            context.output.text(format_args!("{drill}  {}  {}", record.declared.utc(), record.scenario));
        }
        Some(Ok(AnyRecord::V2(record))) => {
            context.output.object(&json!({ "drill": drill, "state": "done", "record": summary_v2(record) }));
            let verdict = match (record.is_satisfied(), record.is_as_foreseen()) {
                (true, _) => "satisfied",
                (false, true) => "lost as foreseen",
                (false, false) => "NOT SATISFIED",
            };
            context.output.text(format_args!(
                "{drill}  {}  {:<13} {:<16} {:>12}  {verdict}",
                record.timeline.declared.utc(),
                record.scenario.kind.to_string(),
                record.scope.bucket,
                seconds_text(record.measured.rta_ns),
            ));
        }
    }
}

pub(super) async fn show(
    context: &Context<'_>,
    wanted: &str,
    export: Option<&Path>,
) -> Result<Exit, Failure> {
    let desk = Desk::open(context).await?;
    let shelf = Shelf::open(&desk.client).await?;
    let drills = History::beginning_with(&shelf, &desk.party.log_key, wanted).await?.drills;
    let mut found = drills.into_iter();
    let (Some(shelved), None) = (found.next(), found.next()) else {
        return Err(Failure::usage(format!("no drill, or more than one, begins with \"{wanted}\""))
            .next("`coffer drill ls` lists them"));
    };
    if let Some(directory) = export {
        write_files(&shelf, &shelved.drill, directory).await?;
    }
    let plan = shelf.get(&drill_file(&shelved.drill, "plan.json")).await?;
    match (&shelved.record, plan) {
        (Some(Err(error)), _) => {
            Err(Failure::new(format!("the record does not verify: {error}")).exit(Exit::Differences))
        }
        (Some(Ok(AnyRecord::V1(record))), _) => {
            context.output.object(&super::summary(record));
            Ok(Exit::Success)
        }
        (None, Some(plan)) => {
            let plan = DrillPlan::from_bytes(&plan)?;
            context.output.object(&plan_json(&plan));
            tell_plan(context, &plan);
            Ok(Exit::Success)
        }
        (None, None) => Err(Failure::new("the drill has neither a plan nor a record")),
        (Some(Ok(AnyRecord::V2(record))), _) => {
            check_all(context, &desk, &shelf, record).await?;
            context.output.object(&summary_v2(record));
            tell_v2(context, record);
            Ok(exit_of_v2(record))
        }
    }
}

/// Plan, sample, log proof, and that it was drawn once.
async fn check_all(
    context: &Context<'_>,
    desk: &Desk,
    shelf: &Shelf<'_>,
    record: &coffer_client::drill::DrillRecordV2,
) -> Result<(), Failure> {
    let bad = |what: String| Failure::new(what).safe("nothing was changed").exit(Exit::Differences);
    let files = sample_files(shelf, &record.drill).await?;
    verify_sample(record, &files).map_err(|error| bad(error.to_string()))?;
    let proof = shelf.get(&drill_file(&record.drill, "record.tlog-proof")).await?.unwrap_or_default();
    let proof = String::from_utf8_lossy(&proof).into_owned();
    let party = &desk.party;
    verify_noted(&proof, record, &party.log_key, &party.log_origin)
        .map_err(|error| bad(error.to_string()))?;
    if record.tenant != party.tenant {
        return Err(bad(format!("the record is one of the tenant {}", record.tenant)));
    }
    let setting = desk.setting(context);
    if record.scope.cosigner.as_ref().is_some_and(|key| *key != cosigner_text(setting.cosigner)) {
        context.output.remark("its sample was drawn with another key than this profile's cosigner");
    }
    if record.drawn.is_some() {
        let mut watch = desk.watch.clone();
        look_for_redraws(&setting, record, &mut watch).await?.map_err(|fault| bad(fault.to_string()))?;
    }
    Ok(())
}

async fn write_files(shelf: &Shelf<'_>, drill: &str, directory: &Path) -> Result<(), Failure> {
    files::make_empty_directory(directory)?;
    for name in FILES.into_iter().chain(["record.json"]) {
        if let Some(bytes) = shelf.get(&drill_file(drill, name)).await? {
            write_atomically(&directory.join(name), &bytes)?;
        }
    }
    Ok(())
}
