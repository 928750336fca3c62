//! `coffer evidence`: packs that an auditor checks without us.

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::flags::EvidenceCommand;

pub(super) async fn run(_context: &Context<'_>, _command: EvidenceCommand) -> Result<Exit, Failure> {
    Ok(Exit::Success)
}
