//! `coffer drill recover`: one new process that starts with nothing but the
//! recovery kit, the sites that are left and the shares that people brought,
//! and ends with every file back and a signed record of it.

use std::path::Path;
use std::sync::Arc;

use coffer_client::backup::{Progress, Repository};
use coffer_client::drill::{DrillRecord, Phase, Shares, Verdict};
use coffer_client::keys::{RecoverySecret, Share};
use coffer_client::profile::write_atomically;
use coffer_client::{BucketStore, Client, Credentials, LogWatch};
use coffer_custody::{Custodian as _, Quorum, combine_share_files};
use coffer_model::{BucketName, TenantId, Timestamp};
use coffer_server::{Host, RecoverError, RecoveryKit, RecoveryReport, Service};
use serde_json::json;
use tokio::sync::oneshot;

use super::proof::{self, Circumstances, Places};
use super::verify::summary;
use crate::commands::backup::{find_snapshot, tell_problems};
use crate::context::Context;
use crate::exit::{Advise as _, Exit, Failure};
use crate::files;
use crate::flags::{RecoverFlags, SnapshotName};
use crate::output::seconds_json;
use crate::progress::{Bars, Events, print_event};
use crate::timeline::Timeline;

/// No kit or share comes near. In bytes.
const FILE_LIMIT: u64 = 16 << 20;

pub(super) async fn run(context: &Context<'_>, flags: &RecoverFlags) -> Result<Exit, Failure> {
    if flags.watched {
        crate::commands::end_with_stdin(|| std::process::exit(1));
    }
    let declared = flags.declared_at.map_or_else(|| context.clock.now(), Timestamp);
    let mut steps = Steps {
        timeline: Timeline::new(context.clock.clone(), declared, flags.declared_at.map(|_| "alarm")),
        watched: flags.watched,
        told: 0,
    };
    steps.tell();
    let progress: Arc<dyn Progress> =
        if flags.watched { Events::new(context.clock.clone()) } else { Bars::new(context.output) };
    // Before anything is opened: a target in use would be refused at the end.
    files::refuse_used(&flags.target)?;
    let kit = read_kit(&flags.kit)?;
    let (service, report) = recover(context, flags, &kit, &mut steps).await?;
    let (tenant, name) = only_tenant(&service, context.tenant.as_deref())?;
    context
        .output
        .remark(format_args!("recovered {} object versions; restoring tenant {name}", report.versions));

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let endpoint = format!("https://{}", listener.local_addr()?);
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(coffer_server::serve(Arc::clone(&service), listener, async {
        drop(stopped.await);
    }));
    let client = connect(context, &service, tenant, endpoint).await?;
    steps.end("serve", 0);
    let done = prove(context, flags, &kit, &report, &client, tenant, &mut steps, progress).await;
    // Whatever happened, the service ends first and in order.
    let _ = stop.send(());
    drop(client);
    match serving.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            context.output.remark(format_args!("the recovered service did not stop in order: {error}"))
        }
        Err(error) => context.output.remark(format_args!("the recovered service ended badly: {error}")),
    }
    done
}

/// The timeline, told phase by phase to whoever watches.
struct Steps {
    timeline: Timeline,
    watched: bool,
    told: usize,
}

impl Steps {
    fn end(&mut self, name: &str, bytes: u64) {
        self.timeline.end_phase(name, bytes);
        self.tell();
    }

    fn tell(&mut self) {
        let phases = self.timeline.phases();
        if self.watched {
            phases.iter().skip(self.told).for_each(tell_phase);
        }
        self.told = phases.len();
    }
}

fn tell_phase(phase: &Phase) {
    let seconds = seconds_json(phase.duration_ns);
    print_event(&json!({ "event": "phase", "phase": phase.name, "seconds": seconds, "bytes": phase.bytes }));
}

pub(super) fn read_kit(path: &Path) -> Result<RecoveryKit, Failure> {
    let text = String::from_utf8_lossy(&files::read_small(path, FILE_LIMIT)?).into_owned();
    RecoveryKit::from_json(&text)
        .advise("nothing was read or written", "bring the kit that the deployment printed last")
}

async fn recover(
    context: &Context<'_>,
    flags: &RecoverFlags,
    kit: &RecoveryKit,
    steps: &mut Steps,
) -> Result<(Arc<Service>, RecoveryReport), Failure> {
    let quorum = Quorum { share_paths: flags.provider_shares.clone() };
    let root = quorum.unlock().advise("the sites were not touched", "bring the shares of more custodians")?;
    steps.end("provider quorum", 0);
    let mut host = Host::of_this_machine(context.clock.clone(), context.entropy.clone());
    host.given_up.extend(flags.without_sites.iter().cloned());
    let watched = flags.watched;
    let tell = move |stage: &'static str, count: u64| {
        if watched {
            print_event(&json!({ "event": "stage", "stage": stage, "total_bytes": null, "count": count }));
        }
    };
    let recovered = Service::recover(host, &flags.data_dir, &root, kit, &tell).await;
    if let (true, Err(RecoverError::TooManyLost { more, .. })) = (watched, &recovered) {
        print_event(&json!({ "event": "too many lost", "more": more }));
    }
    let (service, report) = recovered.map_err(|error| match &error {
        RecoverError::TooManyLost { missing, more, .. } => Failure::new(format!(
            "{} of {} sites are missing ({}); {more} more {} suffice",
            missing.len(),
            kit.sites.len(),
            missing.join(", "),
            if *more == 1 { "would" } else { "sites would" },
        ))
        .safe("nothing was harmed: the remaining sites were not written to, and nothing was restored")
        .next(format!("bring back any {more} of the missing sites and run it again")),
        _ => Failure::new(error).safe("the sites were only read; nothing was restored"),
    })?;
    steps.end("catalogue", 0);
    Ok((service, report))
}

fn only_tenant(service: &Service, wanted: Option<&str>) -> Result<(TenantId, String), Failure> {
    let tenants = service.tenants();
    let names = || tenants.iter().map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ");
    let found = match wanted {
        Some(wanted) => tenants.iter().find(|(_, name)| name == wanted),
        None => tenants.first().filter(|_| tenants.len() == 1),
    };
    found.cloned().ok_or_else(|| {
        Failure::usage(format!("name one of the recovered tenants ({}) with --tenant", names()))
    })
}

async fn connect(
    context: &Context<'_>,
    service: &Service,
    tenant: TenantId,
    endpoint: String,
) -> Result<Client, Failure> {
    let issued = service.issue_tenant_credential(tenant).await?;
    let credentials = Credentials {
        ca_pem: issued.ca_pem,
        certificate_pem: issued.certificate_pem,
        key_pem: issued.key_pem,
        endpoint,
    };
    context.connect(&credentials).await
}

async fn only_bucket(client: &Client, wanted: Option<&BucketName>) -> Result<BucketName, Failure> {
    if let Some(wanted) = wanted {
        return Ok(wanted.clone());
    }
    match client.list_buckets().await?.as_slice() {
        [only] => Ok(only.name.clone()),
        several => {
            Err(Failure::usage(format!("the tenant has {} buckets; name one with --bucket", several.len())))
        }
    }
}

/// The watch over the tenant's log, from the checkpoint that the kit pins.
fn pinned_watch(kit: &RecoveryKit, tenant: TenantId) -> Result<LogWatch, Failure> {
    let origin = format!("{}/log/{tenant}", kit.evidence_name);
    let key = kit.verifying_key().ok_or_else(|| Failure::new("the kit's evidence key is damaged"))?;
    let pinned = kit.checkpoints.iter().find(|pinned| pinned.origin == origin);
    Ok(LogWatch::new(origin, key, pinned.map(|pinned| pinned.checkpoint.clone()))?)
}

/// The indices of shares that have already opened their key.
fn indices(paths: &[std::path::PathBuf]) -> Result<Vec<u64>, Failure> {
    let index = |path: &std::path::PathBuf| {
        let text = String::from_utf8_lossy(&files::read_small(path, FILE_LIMIT)?).into_owned();
        Ok(u64::from(Share::from_text(&text)?.index()))
    };
    paths.iter().map(index).collect()
}

#[expect(
    clippy::too_many_arguments,
    reason = "one story told from one place; a struct would only rename them"
)]
async fn prove(
    context: &Context<'_>,
    flags: &RecoverFlags,
    kit: &RecoveryKit,
    report: &RecoveryReport,
    client: &Client,
    tenant: TenantId,
    steps: &mut Steps,
    progress: Arc<dyn Progress>,
) -> Result<Exit, Failure> {
    let secret = combine_share_files(&flags.tenant_shares).advise(
        "the service is recovered, nothing was restored",
        "bring the shares of more of the tenant's people",
    )?;
    let secret = RecoverySecret::danger_from_bytes(secret);
    steps.end("tenant quorum", 0);
    let mut watch = pinned_watch(kit, tenant)?;
    let before = watch.remembered().map(str::to_owned);
    let source = proof::read_source(&flags.manifest)?;
    proof::prove_noted(client, &mut watch, flags.manifest_note, &source.digest).await?;
    steps.end("log", 0);
    let bucket = only_bucket(client, flags.bucket.as_ref()).await?;
    let store = Arc::new(BucketStore::new(client.clone(), bucket));
    let repository = Repository::open_with_recovery(store, &secret).await?;
    let wanted = flags.snapshot.map_or(SnapshotName::Latest, SnapshotName::Id);
    let snapshot = find_snapshot(&repository, wanted).await?;
    steps.end("repository", 0);
    let beside = |name: &str| flags.record_out.with_file_name(name);
    let places = Places {
        target: flags.target.clone(),
        source_manifest: flags.manifest.clone(),
        restored_manifest: beside("restored.manifest"),
    };
    let restored =
        proof::restore_and_compare(&repository, &snapshot, &places, &mut steps.timeline, progress).await?;
    steps.tell();
    watch.advance(client).await?;
    let circumstances = Circumstances {
        tenant: tenant.to_string(),
        scenario: flags.scenario.clone(),
        sites: u64::try_from(kit.sites.len()).unwrap_or(u64::MAX),
        sites_lost: report.missing_sites.clone(),
        rto: flags.rto,
        rpo: flags.rpo,
        newest_write: report.newest_write.unwrap_or(Timestamp(0)),
        source_manifest: source.digest,
        source_note_index: flags.manifest_note,
        checkpoint_before: before,
        checkpoint_after: watch.remembered().unwrap_or_default().to_owned(),
        shares: Shares { provider: indices(&flags.provider_shares)?, tenant: indices(&flags.tenant_shares)? },
    };
    let differences = proof::keep_differences(context, &restored.differences, &beside("differences.txt"))?;
    let record = proof::record(context, circumstances, &restored, &steps.timeline, differences);
    let signed =
        client.sign_drill(&record).await.advise("the restored tree is there", "run the drill again")?;
    write_atomically(&flags.record_out, &signed.envelope)?;
    tell(context, &record, flags, &restored);
    tell_problems(context, &restored.problems);
    Ok(if record.verdicts.integrity == Verdict::Satisfied { Exit::Success } else { Exit::Differences })
}

fn tell(context: &Context<'_>, record: &DrillRecord, flags: &RecoverFlags, restored: &proof::Restored) {
    let mut value = summary(record);
    value["event"] = json!("result");
    value["record"] = json!(flags.record_out.display().to_string());
    value["entries"] = json!(restored.entries);
    value["problems"] = crate::commands::backup::problems_json(&restored.problems);
    context.output.object(&value);
    context.output.text(format_args!(
        "restored {} files with {} differences; record {}",
        record.files,
        record.differences.count,
        flags.record_out.display()
    ));
}
