//! `coffer site`.

use coffer_client::SiteInfo;
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::flags::SiteCommand;
use crate::output::bytes_text;

fn object(site: &SiteInfo) -> Value {
    json!({
        "site": site.name,
        "id": site.id.to_string(),
        "country": site.country.as_str(),
        "domain": site.domain,
        "tier": site.tier.to_string(),
        "alive": site.alive,
        "simulated": site.simulated,
        "records": site.records,
        "volume_bytes": site.volume_bytes,
        "damaged": site.damaged,
        "reported": site.reported,
    })
}

pub(super) async fn run(context: &Context<'_>, command: SiteCommand) -> Result<Exit, Failure> {
    let client = context.operator().await?;
    match command {
        SiteCommand::Ls => {
            for site in client.list_sites().await? {
                context.output.object(&object(&site));
                let state = if site.alive { "alive" } else { "down" };
                context.output.text(format_args!(
                    "{:<12} {} tier {:<3} {state:<6} {:>9} records {:>12}  damaged {} reported {}",
                    site.name,
                    site.country,
                    site.tier.to_string(),
                    site.records,
                    bytes_text(site.volume_bytes),
                    site.damaged,
                    site.reported,
                ));
            }
        }
        SiteCommand::Kill { name } => switch(context, &client.set_site_alive(&name, false).await?),
        SiteCommand::Revive { name } => switch(context, &client.set_site_alive(&name, true).await?),
    }
    Ok(Exit::Success)
}

fn switch(context: &Context<'_>, site: &SiteInfo) {
    context.output.object(&object(site));
    let state = if site.alive { "answers again" } else { "stopped answering" };
    context.output.text(format_args!("{} {state}", site.name));
}
