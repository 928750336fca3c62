//! `coffer backup`, `snapshots`, `restore` and `ls`.

use std::path::Path;
use std::sync::Arc;

use coffer_client::backup::{
    self, BackupOptions, BackupReport, ManifestReader, OpenRepositoryError, Problem, Progress, Repository,
    Snapshot, SnapshotId, plan_restore, restore,
};
use coffer_client::keys::RepositoryKey;
use coffer_client::profile::{SourceNote, TenantProfile};
use coffer_client::{BucketStore, Client, ReadTerms};
use coffer_model::{BucketName, Timestamp, escape_bytes, unescape_bytes};
use serde_json::{Value, json};

use crate::context::Context;
use crate::exit::{Advise as _, Exit, Failure};
use crate::files;
use crate::flags::SnapshotName;
use crate::output::{bytes_text, rate_text};
use crate::progress::Bars;

/// The label under which the digest of a source-time manifest is noted.
const MANIFEST_LABEL: &str = "backup-manifest";
/// So many problems are told one by one.
const PROBLEMS_TOLD: usize = 50;
/// So many problems of a snapshot are kept with the profile.
const PROBLEMS_KEPT: usize = 200;

/// The repository in a bucket; made, with a fresh key, where there is none.
pub(super) async fn open_or_init(
    context: &Context<'_>,
    client: &Client,
    tenant: &TenantProfile,
    bucket: &BucketName,
) -> Result<Repository, Failure> {
    let store = Arc::new(BucketStore::new(client.clone(), bucket.clone()));
    let known = tenant.repository_key(bucket)?;
    if let Some(key) = &known {
        match Repository::open(store.clone(), key).await {
            Err(OpenRepositoryError::NoRepository) => {}
            opened => return Ok(opened?),
        }
    }
    let key = known.unwrap_or_else(|| RepositoryKey::generate(context.entropy.as_ref()));
    // Kept before it seals anything: a key that is lost is a backup that is lost.
    tenant.save_repository_key(bucket, &key)?;
    let recovery = tenant.recovery_key()?;
    let made = Repository::init(store, &key, recovery.as_ref(), context.entropy.as_ref()).await;
    made.map_err(|error| match error {
        backup::InitError::Exists => {
            // The key just made opens nothing; the repository has another one.
            drop(tenant.forget_repository_key(bucket));
            Failure::new(format!("bucket {bucket} holds a repository whose key this profile does not have"))
                .safe("the repository was not touched")
                .next("back up from the profile that made it, or choose another bucket")
        }
        other => other.into(),
    })
}

/// Notes a manifest's digest in the log and remembers where.
pub(super) async fn note_manifest(
    client: &Client,
    tenant: &TenantProfile,
    report: &BackupReport,
    bucket: &BucketName,
) -> Result<u64, Failure> {
    let log_index = client.note_digest(MANIFEST_LABEL, &report.manifest_digest).await.advise(
        "the snapshot is complete and can be restored",
        "run the backup again, so that the log proves its manifest",
    )?;
    let problems = report.problems.iter().take(PROBLEMS_KEPT).map(ToString::to_string).collect();
    let note = SourceNote { manifest_sha256: report.manifest_digest.to_string(), log_index, problems };
    tenant.save_source_note(bucket, &report.snapshot.to_string(), &note)?;
    Ok(log_index)
}

pub(super) async fn back_up(
    context: &Context<'_>,
    directory: &Path,
    bucket: &BucketName,
) -> Result<Exit, Failure> {
    let (client, tenant) = context.tenant().await?;
    let repository = open_or_init(context, &client, &tenant, bucket).await?;
    // The snapshot gets its id at the end; the manifest takes its name then.
    let spool = tenant.manifest_path(bucket, &format!("running-{}", std::process::id()))?;
    let bars = Bars::new(context.output);
    let begun = context.clock.monotonic();
    let report = run_backup(context, &repository, directory, &spool, bars.clone()).await?;
    let nanos = u64::try_from((context.clock.monotonic() - begun).as_nanos()).unwrap_or(u64::MAX);
    bars.finish();
    let named = tenant.manifest_path(bucket, &report.snapshot.to_string())?;
    std::fs::rename(&spool, &named).map_err(files::at(&named))?;
    let log_index = note_manifest(&client, &tenant, &report, bucket).await?;
    // The log that proves this backup is from now on the least that the
    // service must show.
    context.advance(&client, &tenant).await?;
    context.output.object(&json!({
        "snapshot": report.snapshot.to_string(),
        "files": report.stats.files,
        "entries": report.stats.entries,
        "bytes": report.stats.bytes,
        "new_bytes": report.stats.new_bytes,
        "stored_bytes": report.stored_bytes,
        "manifest_sha256": report.manifest_digest.to_string(),
        "log_index": log_index,
        "problems": problems_json(&report.problems),
    }));
    context.output.text(format_args!(
        "snapshot {}: {} files, {} ({} new, {} stored) {}",
        report.snapshot,
        report.stats.files,
        bytes_text(report.stats.bytes),
        bytes_text(report.stats.new_bytes),
        bytes_text(report.stored_bytes),
        rate_text(report.stats.bytes, nanos),
    ));
    Ok(tell_problems(context, &report.problems))
}

/// Backs a tree up; its source-time manifest is written to `manifest`, which
/// is removed again if there is no snapshot.
pub(super) async fn run_backup(
    context: &Context<'_>,
    repository: &Repository,
    directory: &Path,
    manifest: &Path,
    progress: Arc<dyn Progress>,
) -> Result<BackupReport, Failure> {
    let host = files::host_name();
    let options = BackupOptions { host, ..BackupOptions::default() };
    let mut writer = files::writer(manifest)?;
    let entropy = Arc::clone(&context.entropy);
    let clock = context.clock.as_ref();
    let done = backup::backup(repository, directory, options, &mut writer, clock, entropy, progress).await;
    match done {
        Ok(report) => files::finish(manifest, writer).map(|()| report),
        Err(error) => {
            drop(std::fs::remove_file(manifest));
            Err(Failure::new(error)
                .safe("no snapshot was made; older ones are untouched")
                .next("mend the cause and run it again"))
        }
    }
}

pub(super) fn problems_json(problems: &[Problem]) -> Value {
    problems.iter().map(|problem| json!(problem.to_string())).collect()
}

/// Tells the problems of single entries; with any of them the run is partial.
pub(super) fn tell_problems(context: &Context<'_>, problems: &[Problem]) -> Exit {
    if problems.is_empty() {
        return Exit::Success;
    }
    context.output.remark(format_args!("{} entries need a look:", problems.len()));
    for problem in problems.iter().take(PROBLEMS_TOLD) {
        context.output.remark(format_args!("  {problem}"));
    }
    if let Some(more) = problems.len().checked_sub(PROBLEMS_TOLD).filter(|more| *more > 0) {
        context.output.remark(format_args!("  and {more} more; --json lists them all"));
    }
    Exit::Partial
}

pub(super) async fn snapshots(context: &Context<'_>, bucket: &BucketName) -> Result<Exit, Failure> {
    let (client, tenant) = context.tenant().await?;
    let repository = context.repository(&client, &tenant, bucket).await?;
    for snapshot in repository.snapshots().await? {
        let Snapshot { id, time, host, path, stats, .. } = &snapshot;
        context.output.object(&json!({
            "snapshot": id.to_string(),
            "time": time.to_string(),
            "host": host,
            "path": escape_bytes(path),
            "files": stats.files,
            "bytes": stats.bytes,
            "problems": stats.problems,
        }));
        let incomplete = match stats.problems {
            0 => String::new(),
            count => format!("  ({count} incomplete)"),
        };
        context.output.text(format_args!(
            "{id}  {time}  {:>9} files {:>12}  {}:{}{incomplete}",
            stats.files,
            bytes_text(stats.bytes),
            escape_bytes(host.as_bytes()),
            escape_bytes(path),
        ));
    }
    Ok(Exit::Success)
}

/// Says which entries were not whole when the snapshot was made, as far as
/// this profile knows; how many they are, the snapshot itself knows.
fn tell_incomplete(context: &Context<'_>, count: u64, known: &[String]) {
    if count == 0 {
        return;
    }
    context.output.remark(format_args!(
        "remark: {count} entries of this snapshot were already incomplete when it was made:"
    ));
    for problem in known.iter().take(PROBLEMS_TOLD) {
        context.output.remark(format_args!("  {problem}"));
    }
    let told = u64::try_from(known.len().min(PROBLEMS_TOLD)).unwrap_or(u64::MAX);
    match count.saturating_sub(told) {
        0 => {}
        more if told == 0 => context.output.remark(format_args!(
            "  this profile does not know which {more}; the one that made the backup does"
        )),
        more => context.output.remark(format_args!("  and {more} more")),
    }
}

/// The snapshot that is meant; the latest is the one with the newest time.
pub(super) async fn find_snapshot(
    repository: &Repository,
    name: SnapshotName,
) -> Result<SnapshotId, Failure> {
    match name {
        SnapshotName::Id(id) => Ok(id),
        SnapshotName::Latest => {
            repository.snapshots().await?.last().map(|snapshot| snapshot.id).ok_or_else(|| {
                Failure::new("the repository has no snapshot").next("make one with `coffer backup`")
            })
        }
    }
}

pub(super) async fn restore_to(
    context: &Context<'_>,
    snapshot: SnapshotName,
    target: &Path,
    bucket: &BucketName,
    as_of: Option<Timestamp>,
) -> Result<Exit, Failure> {
    let (client, tenant) = context.tenant().await?;
    let terms = ReadTerms { as_of, ..ReadTerms::default() };
    let store = BucketStore::on(client, bucket.clone(), terms);
    let repository = context.repository_in(&tenant, bucket, store).await?;
    let id = find_snapshot(&repository, snapshot).await?;
    let incomplete = repository.snapshot(&id).await?.stats.problems;
    let known = tenant.source_note(bucket, &id.to_string())?.map(|note| note.problems).unwrap_or_default();
    let begun = context.clock.monotonic();
    let plan = plan_restore(&repository, &id, target).await.advise(
        "nothing was written",
        "name a new or an empty directory and a snapshot of `coffer snapshots`",
    )?;
    let (files, bars) = (plan.files, Bars::new(context.output));
    let report = restore(&repository, plan, bars.clone()).await.advise(
        "the backup is untouched; the target keeps its marker and does not pass as whole",
        "remove the target and run it again",
    )?;
    bars.finish();
    let nanos = u64::try_from((context.clock.monotonic() - begun).as_nanos()).unwrap_or(u64::MAX);
    context.output.object(&json!({
        "snapshot": id.to_string(),
        "target": target.display().to_string(),
        "files": files,
        "entries": report.entries,
        "bytes": report.bytes,
        "problems": problems_json(&report.problems),
        "incomplete": incomplete,
        "incomplete_known": known,
    }));
    context.output.text(format_args!(
        "restored {files} files, {} to {} {}",
        bytes_text(report.bytes),
        target.display(),
        rate_text(report.bytes, nanos),
    ));
    tell_incomplete(context, incomplete, &known);
    Ok(tell_problems(context, &report.problems))
}

pub(super) async fn list(
    context: &Context<'_>,
    snapshot: SnapshotName,
    path: Option<&str>,
    bucket: &BucketName,
) -> Result<Exit, Failure> {
    let below = path.map(unescape_bytes).transpose()?.unwrap_or_default();
    let below = below.strip_suffix(b"/").unwrap_or(&below).to_vec();
    let (client, tenant) = context.tenant().await?;
    let repository = context.repository(&client, &tenant, bucket).await?;
    let id = find_snapshot(&repository, snapshot).await?;
    let manifest = tenant.manifest_path(bucket, &id.to_string())?;
    let reader = files::reader(&manifest)
        .advise("the snapshot is untouched", "list it with the profile that made it, or restore it")?;
    let mut reader = ManifestReader::new(reader)?;
    let mut found = below.is_empty();
    while let Some(entry) = reader.next_entry()? {
        let inside = below.is_empty()
            || entry.path == below
            || entry.path.strip_prefix(below.as_slice()).is_some_and(|rest| rest.first() == Some(&b'/'));
        if !inside {
            continue;
        }
        found = true;
        let path = if entry.path.is_empty() { ".".to_owned() } else { escape_bytes(&entry.path) };
        let kind = format!("{:?}", entry.kind).to_lowercase();
        context.output.object(&json!({ "path": path, "kind": kind, "mode": entry.mode, "size": entry.size }));
        context.output.text(format_args!("{kind:<11} {:>06o} {:>14}  {path}", entry.mode, entry.size));
    }
    if found {
        Ok(Exit::Success)
    } else {
        Err(Failure::new(format!("the snapshot has no entry {}", escape_bytes(&below))))
    }
}
