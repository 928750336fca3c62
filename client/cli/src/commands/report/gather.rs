//! The material of a report: fetched, read from files, verified.

use coffer_client::Client;
use coffer_client::backup::Progress as _;
use coffer_client::drill::RECORD_BYTES_MAX;
use coffer_client::evidence::{GatherError, gather_facts, gather_log, read_record, stored_records};
use coffer_client::profile::TenantProfile;
use coffer_client::report::{DrillItem, Material as ReportMaterial};

use crate::commands::witness::policy;
use crate::context::Context;
use crate::exit::{Advise as _, Exit, Failure};
use crate::files;
use crate::flags::MaterialFlags;
use crate::progress::Bars;

const RECORD_LIMIT: u64 = RECORD_BYTES_MAX as u64;

/// The material, and what else a pack holds.
pub(crate) struct Material {
    pub(crate) material: ReportMaterial,
    pub(crate) ca_pem: String,
}

pub(crate) async fn material(
    context: &Context<'_>,
    client: &Client,
    tenant: &TenantProfile,
    flags: &MaterialFlags,
) -> Result<Material, Failure> {
    let period = flags.period(context.clock.now());
    let period = period.ok_or_else(|| Failure::usage("the period ends before it begins"))?;
    let signer = tenant.log_key()?;
    let witnesses = policy(&flags.witnesses)?;
    let bars = Bars::new(context.output);
    bars.stage("records", None, None);
    let mut drills = stored_records(client, &signer).await.map_err(unbelieved)?;
    for path in &flags.records {
        let envelope = files::read_small(path, RECORD_LIMIT)?;
        let item = read_record(&path.display().to_string(), envelope, &signer)
            .advise("nothing was written", "leave this record out, or bring the one that was signed")
            .map_err(|failure| failure.exit(Exit::Differences))?;
        drills.push(item);
    }
    drills.sort_by(|a, b| order(a).cmp(&order(b)));
    drills.dedup_by(|a, b| a.record.drill == b.record.drill);
    let residency = match flags.residency {
        true => Some(client.residency().await?),
        false => None,
    };
    bars.stage("facts", None, None);
    let facts = gather_facts(client, &signer).await.map_err(unbelieved)?;
    let mut watch = tenant.log_watch()?;
    bars.stage("log", None, None);
    let log = gather_log(client, &mut watch, witnesses.as_ref()).await.map_err(unbelieved)?;
    tenant.remember(&watch)?;
    bars.finish();
    let named = witnesses.iter().flat_map(|policy| policy.witnesses());
    let witnesses = named.map(|witness| witness.key.to_string()).collect();
    let (facts_envelope, ca_pem) = (facts.envelope, facts.ca_pem);
    let facts = facts.facts;
    let material = ReportMaterial { period, facts, facts_envelope, log, drills, residency, witnesses };
    Ok(Material { material, ca_pem })
}

/// What the service gave and does not verify is no failure of the command: it
/// is what the command was to find.
fn unbelieved(error: GatherError) -> Failure {
    match error {
        GatherError::Call(error) => error.into(),
        GatherError::Log(error) => error.into(),
        GatherError::Read { .. } => error.into(),
        GatherError::Facts(_) | GatherError::Extract(_) | GatherError::Record { .. } => Failure::from(error)
            .exit(Exit::Differences)
            .safe("nothing was written")
            .next("do not rely on this service before the cause is known"),
    }
}

/// By time, then by id.
fn order(drill: &DrillItem) -> (u64, &str) {
    (drill.declared().0, drill.record.drill.as_str())
}
