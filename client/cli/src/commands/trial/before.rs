//! The trial before the loss: a service in a process of its own, a tenant, a
//! bucket, a backup, and everything that people take with them.

use std::path::PathBuf;
use std::time::Duration;

use coffer_client::backup::Progress as _;
use coffer_client::pin_checkpoint;
use coffer_client::profile::{Profile, read_text, write_atomically};
use coffer_model::{BucketName, Degraded, Geometry, ResidencyPolicy, Tier};
use serde_json::Value;

use super::fleet::{self, Pods};
use super::loss;
use super::places::Places;
use crate::commands::backup::{note_manifest, open_or_init, run_backup, tell_problems};
use crate::commands::child::Child;
use crate::commands::home::Home;
use crate::commands::tenant;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::flags::TryFlags;
use crate::progress::Bars;

/// The trial's tenant and its bucket.
const TENANT: &str = "demo";
const BUCKET: &str = "backups";

/// What people took with them, and what was measured.
pub(super) struct BackedUp {
    pub(super) custodians: Vec<PathBuf>,
    pub(super) people: Vec<PathBuf>,
    /// The leaf that notes the manifest's digest.
    pub(super) log_index: u64,
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) stored_bytes: u64,
    pub(super) nanos: u64,
    /// Entries of the source that could not be read.
    pub(super) partial: bool,
}

pub(super) async fn back_up(
    outer: &Context<'_>,
    flags: &TryFlags,
    places: &Places,
    home: Option<&Home>,
) -> Result<BackedUp, Failure> {
    let bars = Bars::new(outer.output);
    bars.stage("found a deployment", None, None);
    let pods = match home {
        Some(home) => Some(fleet::sites(outer, places, home).await?),
        None => None,
    };
    let mut service = start_service(flags, places, pods).await?;
    loss::check(places, flags.lose)?;
    let context = Context::new(outer.output, Profile::at(places.profile()), None);
    let (profile, people) = tenant::create(&context, TENANT, policy()?, &places.people()).await?;
    let client = context.connect(&profile.credentials()?).await?;
    let bucket = BucketName::new(BUCKET)?;
    client.create_bucket(&bucket, None).await?;
    let repository = open_or_init(&context, &client, &profile, &bucket).await?;
    let begun = context.clock.monotonic();
    let report =
        run_backup(&context, &repository, &flags.directory, &places.manifest(), bars.clone()).await?;
    let nanos = u64::try_from((context.clock.monotonic() - begun).as_nanos()).unwrap_or(u64::MAX);
    let log_index = note_manifest(&client, &profile, &report, &bucket).await?;
    // The checkpoint that the tenant keeps outside the provider: the
    // recovered log must extend it.
    let mut watch = profile.log_watch()?;
    watch.advance(&client).await?;
    let kit = read_text(&places.kit())?;
    let kit = pin_checkpoint(&kit, watch.origin(), watch.remembered().unwrap_or_default())?;
    write_atomically(&places.kit(), kit.as_bytes())?;
    bars.finish();
    let partial = tell_problems(&context, &report.problems) == Exit::Partial;
    // No orderly end: what was acknowledged must survive this.
    service.kill().await?;
    let share = |n: usize| places.custodians().join(format!("custodian-{n}.json"));
    Ok(BackedUp {
        custodians: (1..=5).map(share).collect(),
        people,
        log_index,
        files: report.stats.files,
        bytes: report.stats.bytes,
        stored_bytes: report.stored_bytes,
        nanos,
        partial,
    })
}

/// Six sites in the European Union and Switzerland, any two of which may go.
fn policy() -> Result<ResidencyPolicy, Failure> {
    Ok(ResidencyPolicy {
        allow: vec!["EU".parse()?, "CH".parse()?],
        deny: Vec::new(),
        tier_min: Tier::III,
        geometry: Geometry::DEFAULT,
        degraded: Degraded::Refuse,
    })
}

async fn start_service(flags: &TryFlags, places: &Places, pods: Option<Pods>) -> Result<Child, Failure> {
    let mut arguments: Vec<std::ffi::OsString> =
        ["--json", "--quiet", "serve", "--exit-with-stdin"].map(Into::into).to_vec();
    let mut flag = |name: &str, value: PathBuf| {
        arguments.push(name.into());
        arguments.push(value.into());
    };
    flag("--config-dir", places.profile());
    flag("--data-dir", places.data.clone());
    flag("--listen", "127.0.0.1:0".into());
    // Nothing on the machine opens the root key: only people do.
    flag("--custodian", "quorum".into());
    flag("--shares-out", places.custodians());
    flag("--kit-out", places.kit());
    match (pods, &flags.sites) {
        (Some(pods), _) => {
            flag("--sites", pods.sites);
            flag("--endpoints-file", pods.endpoints);
        }
        (None, Some(sites)) => flag("--sites", sites.clone()),
        (None, None) => {}
    }
    let mut child = Child::spawn(&arguments)?;
    while let Some(event) = child.next_event().await {
        if event.get("ready").and_then(Value::as_bool) == Some(true) {
            return Ok(child);
        }
        child.remember_error(&event);
    }
    let exit = child.wait(Duration::from_secs(10)).await?;
    Err(child.failure("the service", exit))
}
