//! `coffer drill`: a restoration that is timed, compared and signed.

mod proof;
#[cfg(feature = "embedded")]
mod recover;
mod rehearse;
mod verify;

pub(super) use verify::{pinned_key, summary, verify_against_kit};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::flags::DrillCommand;

pub(super) async fn run(context: &Context<'_>, command: DrillCommand) -> Result<Exit, Failure> {
    match command {
        DrillCommand::Run { bucket, rto, rpo, out, keep } => {
            rehearse::run(context, &bucket, rto, rpo, &out, keep).await
        }
        DrillCommand::Verify { record, pinned } => verify::run(context, &record, &pinned),
        #[cfg(feature = "embedded")]
        DrillCommand::Recover(flags) => recover::run(context, &flags).await,
    }
}
