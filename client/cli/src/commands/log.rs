//! `coffer log`.

use serde_json::json;

use super::witness::policy;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::flags::LogCommand;

pub(super) async fn run(context: &Context<'_>, command: LogCommand) -> Result<Exit, Failure> {
    let LogCommand::Checkpoint { witnesses } = command;
    let policy = policy(&witnesses)?;
    let (client, tenant) = context.tenant_unchecked().await?;
    let mut watch = tenant.log_watch()?;
    let checkpoint = match &policy {
        None => watch.advance(&client).await?,
        Some(policy) => watch.advance_witnessed(&client, policy).await?,
    };
    tenant.remember(&watch)?;
    context.output.object(&json!({
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": checkpoint.root.to_string(),
        "checkpoint": watch.remembered(),
    }));
    context.output.text(watch.remembered().unwrap_or_default().trim_end());
    Ok(Exit::Success)
}
