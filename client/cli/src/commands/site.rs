//! `coffer site`.

use coffer_client::profile::ProfileError;
use coffer_client::{CallError, Client, SiteInfo};
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::{Advise as _, Exit, Failure};
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
        "quarantined": site.quarantined,
    })
}

pub(super) async fn run(context: &Context<'_>, command: SiteCommand) -> Result<Exit, Failure> {
    match command {
        SiteCommand::Ls => {
            for site in anybody(context).await?.list_sites().await? {
                context.output.object(&object(&site));
                let state = match (site.alive, site.quarantined) {
                    (_, true) => "quarantined",
                    (true, false) => "alive",
                    (false, false) => "down",
                };
                context.output.text(format_args!(
                    "{:<12} {} tier {:<3} {state:<11} {:>9} records {:>12}  damaged {} reported {}",
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
        SiteCommand::Kill { name } => switch(context, &name, false).await?,
        SiteCommand::Revive { name } => switch(context, &name, true).await?,
    }
    Ok(Exit::Success)
}

/// A connection that may look at the sites: the operator's or, where this
/// user is none, a tenant's.
async fn anybody(context: &Context<'_>) -> Result<Client, Failure> {
    match context.profile.operator() {
        Err(ProfileError::NotOperator(_)) => Ok(context.tenant_unchecked().await?.0),
        credentials => context.connect(&credentials?).await,
    }
}

async fn switch(context: &Context<'_>, name: &str, alive: bool) -> Result<(), Failure> {
    let switched = context.operator().await?.set_site_alive(name, alive).await;
    let site = match switched {
        Err(error @ CallError::NotFound(_)) => {
            return Err(error).advise("no site was changed", "`coffer site ls` shows the names of the sites");
        }
        switched => switched?,
    };
    context.output.object(&object(&site));
    let state = if site.alive { "answers again" } else { "stopped answering" };
    context.output.text(format_args!("{} {state}", site.name));
    Ok(())
}
