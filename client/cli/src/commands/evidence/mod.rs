//! `coffer evidence`: packs that an auditor checks without us.

mod export;
mod residency;
mod verify;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::flags::EvidenceCommand;

pub(super) async fn run(context: &Context<'_>, command: EvidenceCommand) -> Result<Exit, Failure> {
    match command {
        EvidenceCommand::Export { out, material } => export::run(context, &out, &material).await,
        EvidenceCommand::Residency { object, material } => {
            residency::run(context, object.as_ref(), &material).await
        }
        EvidenceCommand::Verify { pack, pinned, witnesses, accept_not_remade } => {
            verify::run(context, &pack, &pinned, &witnesses, accept_not_remade)
        }
    }
}
