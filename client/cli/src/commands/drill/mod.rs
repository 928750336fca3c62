//! `coffer drill`: a restoration that is planned, timed, compared and signed.

#[cfg(feature = "embedded")]
mod cold;
mod exercise;
mod ground;
mod left;
mod other_reader;
mod proof;
#[cfg(feature = "embedded")]
mod recover;
mod schedule;
mod show;
#[cfg(feature = "embedded")]
mod stand_in;
mod verify;

pub(super) use verify::{pinned_key, summary, verify_against_kit};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::flags::DrillCommand;

pub(super) async fn run(context: &Context<'_>, command: DrillCommand) -> Result<Exit, Failure> {
    match command {
        DrillCommand::Plan(wish) => exercise::plan(context, &wish).await,
        DrillCommand::Run(run) => {
            exercise::run(context, run.plan.as_deref(), run.wish.as_ref(), &run.flags).await
        }
        DrillCommand::Ls => show::list(context).await,
        DrillCommand::Show { drill, export } => show::show(context, &drill, export.as_deref()).await,
        DrillCommand::Schedule(command) => schedule::run(context, command).await,
        DrillCommand::Verify { record, files, pinned, whose } => {
            verify::run(context, &record, files.as_deref(), &pinned, &whose)
        }
        #[cfg(feature = "embedded")]
        DrillCommand::StandIn(flags) => stand_in::run(context, &flags).await,
        #[cfg(feature = "embedded")]
        DrillCommand::Recover(flags) => recover::run(context, &flags).await,
    }
}
