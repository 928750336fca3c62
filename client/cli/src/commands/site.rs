//! `coffer site`.

use coffer_client::profile::ProfileError;
use coffer_client::{CallError, Client, DeclaredCertificate, RebalanceOptions, SiteChange, SiteInfo};
use serde_json::{Value, json};

use super::site_list::{free, lines, state};
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
        "refilling": site.refilling,
        "standing": site.standing,
        "read_only": site.read_only,
        "dead_bytes": site.dead_bytes,
        "free_bytes": site.free_bytes,
        "full": site.full,
        "written_bytes": site.written_bytes,
        "known_damage": site.known_damage,
        "unnamed_shards": site.unnamed_shards.map(|(shards, _)| shards),
        "unnamed_shard_bytes": site.unnamed_shards.map(|(_, bytes)| bytes),
        "last_seen": site.last_seen.map(|time| time.to_string()),
    })
}

pub(super) async fn run(context: &Context<'_>, command: SiteCommand) -> Result<Exit, Failure> {
    match command {
        SiteCommand::Ls => {
            let sites = anybody(context).await?.list_sites().await?;
            sites.iter().for_each(|site| context.output.object(&object(site)));
            lines(&sites).iter().for_each(|line| context.output.text(line));
        }
        SiteCommand::Show { name } => show(context, &name).await?,
        SiteCommand::Add { file, name } => {
            let text = crate::files::read_small(&file, SITE_FILE_LIMIT)?;
            let text = String::from_utf8_lossy(&text);
            let site = context.operator().await?.add_site(&text, name.as_deref()).await?;
            told(context, &site, "takes data from now on");
        }
        SiteCommand::Drain { name, undo } => {
            let (change, word) = match undo {
                false => {
                    (SiteChange::Drain, "takes no new data; `coffer repair run` moves away what it holds")
                }
                true => (SiteChange::Undrain, "takes data again"),
            };
            change_site(context, &name, change, word).await?;
        }
        SiteCommand::Retire { name } => {
            change_site(context, &name, SiteChange::Retire, "is retired for good").await?;
        }
        SiteCommand::Replace { name } => {
            let word = "has a new, empty disk; `coffer repair run` fills it";
            change_site(context, &name, SiteChange::Replace, word).await?;
        }
        SiteCommand::Rebalance { run, rate, full_speed } => {
            let options = RebalanceOptions { bytes_per_second: rate.unwrap_or(0), full_speed };
            return super::rebalance::run(context, run.then_some(options)).await;
        }
        SiteCommand::Certify { name, tier, issuer, number, from, until } => {
            let declared = DeclaredCertificate { issuer, number, tier, from, until };
            let client = context.operator().await?;
            let certified = client.certify_site(&name, declared).await;
            let word = format!("has a declared certificate of tier {tier} until {until}");
            told(context, &still_there(&client, &name, certified, "nothing was declared").await?, &word);
        }
        #[cfg(feature = "embedded")]
        SiteCommand::Authority { authority, data_dir } => {
            super::site_enroll::authority(context, authority, &data_dir)?;
        }
        #[cfg(feature = "embedded")]
        SiteCommand::Enroll { name, country, out, authority, data_dir } => {
            super::site_enroll::enroll(context, &name, country, &out, authority, &data_dir)?;
        }
        SiteCommand::Kill { name } => switch(context, &name, false).await?,
        SiteCommand::Revive { name } => switch(context, &name, true).await?,
    }
    Ok(Exit::Success)
}

/// No site file comes near. In bytes.
pub(super) const SITE_FILE_LIMIT: u64 = 1 << 20;

async fn show(context: &Context<'_>, name: &str) -> Result<(), Failure> {
    let sites = anybody(context).await?.list_sites().await?;
    let Some(site) = sites.into_iter().find(|site| site.name == name) else {
        return Err(Failure::new(format!("there is no site {name}"))
            .safe("nothing was changed")
            .next("`coffer site ls` shows the names of the sites"));
    };
    context.output.object(&object(&site));
    let seen =
        site.last_seen.map_or_else(|| "not since the service started".to_owned(), |time| time.to_string());
    let line = |name: &str, value: &str| context.output.text(format_args!("{name:<12} {value}"));
    line("site", &site.name);
    line("id", &site.id.to_string());
    line("place", &format!("{}, domain {}, tier {}", site.country, site.domain, site.tier));
    line("state", &state(&site));
    line("last seen", &seen);
    line("records", &site.records.to_string());
    line("stored", &bytes_text(site.volume_bytes));
    line("dead", &bytes_text(site.dead_bytes));
    line("free", &free(&site));
    line(
        "written",
        &format!("{} of shards and records since the service started", bytes_text(site.written_bytes)),
    );
    line("damaged", &format!("{} known, {} found by itself", site.known_damage, site.damaged));
    let unnamed = match site.unnamed_shards {
        Some((0, _)) => "no shards".to_owned(),
        Some((shards, bytes)) => {
            format!("{shards} shards, {}, of no version or of puts under way", bytes_text(bytes))
        }
        None => "unknown until a repair has looked".to_owned(),
    };
    line("unnamed", &unnamed);
    line("reported", &format!("{} reads that it answered wrongly", site.reported));
    Ok(())
}

async fn change_site(
    context: &Context<'_>,
    name: &str,
    change: SiteChange,
    word: &str,
) -> Result<(), Failure> {
    let client = context.operator().await?;
    let changed = client.change_site(name, change).await;
    let site = still_there(&client, name, changed, "no site was changed").await?;
    told(context, &site, word);
    Ok(())
}

/// What is left to do about a site that is retired.
const AFTER_RETIRED: &str =
    "nothing is left to do for it; for a site in its place, add one under another name, `coffer site add`";

/// As [`named`], and what it means that a site of that name is gone for good.
async fn still_there<T>(
    client: &Client,
    name: &str,
    answer: Result<T, CallError>,
    safe: &str,
) -> Result<T, Failure> {
    let retired = |site: &SiteInfo| site.name == name && site.standing == "retired";
    let gone = match &answer {
        Err(CallError::Precondition(_)) => client.list_sites().await.is_ok_and(|all| all.iter().any(retired)),
        _ => false,
    };
    named(answer, safe).map_err(|failure| if gone { failure.next(AFTER_RETIRED) } else { failure })
}

/// What no site of that name means.
pub(super) fn named<T>(answer: Result<T, CallError>, safe: &str) -> Result<T, Failure> {
    match answer {
        Err(error @ CallError::NotFound(_)) => {
            Err(error).advise(safe, "`coffer site ls` shows the names of the sites")
        }
        answer => Ok(answer?),
    }
}

fn told(context: &Context<'_>, site: &SiteInfo, word: &str) {
    context.output.object(&object(site));
    context.output.text(format_args!("{} {word}", site.name));
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
    let site = named(switched, "no site was changed")?;
    told(context, &site, if site.alive { "answers again" } else { "stopped answering" });
    Ok(())
}
