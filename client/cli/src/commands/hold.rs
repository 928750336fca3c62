//! `coffer hold`: what may not be deleted.

use coffer_client::HoldInfo;
use coffer_model::escape_bytes;
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::flags::HoldCommand;

pub(super) fn object(hold: &HoldInfo) -> Value {
    json!({
        "id": hold.id.to_string(),
        "bucket": hold.bucket.as_ref().map(ToString::to_string),
        "prefix": escape_bytes(&hold.prefix),
        "exact": hold.exact,
        "reason": hold.reason,
        "placed": hold.placed.to_string(),
        "placed_by": hold.placed_by.to_string(),
        "released": hold.released.map(|(time, _)| time.to_string()),
        "released_by": hold.released.map(|(_, by)| by.to_string()),
    })
}

/// What lies under it.
pub(super) fn place(hold: &HoldInfo) -> String {
    let bucket = hold.bucket.as_ref().map_or_else(|| "a removed bucket".to_owned(), ToString::to_string);
    let prefix = escape_bytes(&hold.prefix);
    match (hold.exact, prefix.is_empty()) {
        (true, _) => format!("{bucket}/{prefix}"),
        (false, true) => bucket,
        (false, false) => format!("{bucket}/{prefix}*"),
    }
}

pub(super) async fn run(context: &Context<'_>, command: HoldCommand) -> Result<Exit, Failure> {
    let (client, _) = context.tenant().await?;
    match command {
        HoldCommand::Add { prefix: (bucket, prefix), exact, reason } => {
            let hold = client.place_hold(&bucket, &prefix, exact, &reason).await?;
            context.output.object(&object(&hold));
            context.output.text(format_args!("{} lies under {}: {}", place(&hold), hold.id, hold.reason));
        }
        HoldCommand::Ls { all } => {
            let mut holds = client.list_holds().await?;
            holds.retain(|hold| all || hold.released.is_none());
            holds.sort_by_key(|hold| (hold.placed, hold.id));
            for hold in holds {
                context.output.object(&object(&hold));
                let state = match hold.released {
                    Some((time, _)) => format!("{} to {time}", hold.placed),
                    None => format!("since {}", hold.placed),
                };
                context.output.text(format_args!("{}  {state}  {}  {}", hold.id, place(&hold), hold.reason));
            }
        }
        HoldCommand::Release { hold } => {
            let hold = client.release_hold(hold).await?;
            context.output.object(&object(&hold));
            context.output.text(format_args!("{} is free of {}", place(&hold), hold.id));
        }
    }
    Ok(Exit::Success)
}
