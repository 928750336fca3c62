//! What every drill does, whoever opened the repository: restore, look at
//! what is there, compare it with what was, and have the result signed.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_client::backup::{
    Difference, ManifestReader, Problem, Progress, ReadBack, Repository, SnapshotId, compare_streams,
    manifest_of_tree, plan_restore, restore,
};
use coffer_client::drill::{
    Differences, DrillRecord, Evidence, Manifests, Measured, NOT_PROVEN, Objectives, Shares, Software,
    Verdicts,
};
use coffer_client::profile::write_atomically;
use coffer_client::{Client, LogWatch, hex, note_subject_names};
use coffer_model::{Digest, Timestamp, escape_bytes};

use crate::context::Context;
use crate::exit::{Advise as _, Exit, Failure};
use crate::files;
use crate::flags::Seconds;
use crate::timeline::Timeline;

/// Reads a source-time manifest to its end: its digest, and that it is whole.
pub(super) fn read_source(manifest: &Path) -> Result<ReadBack, Failure> {
    let mut reader = ManifestReader::new(files::reader(manifest)?)?;
    while reader.next_entry()?.is_some() {}
    reader
        .read_back()
        .ok_or_else(|| Failure::new(format!("{}: the manifest does not end", manifest.display())))
}

/// Proves that the log notes the manifest's digest, under a checkpoint that
/// extends the remembered one.
pub(super) async fn prove_noted(
    client: &Client,
    watch: &mut LogWatch,
    index: u64,
    digest: &Digest,
) -> Result<(), Failure> {
    let checkpoint = watch.advance(client).await?;
    let leaf = watch.leaf(client, index, &checkpoint).await?;
    if note_subject_names(&leaf.leaf, digest) {
        return Ok(());
    }
    Err(Failure::new(format!("leaf {index} of the log does not note the digest of this manifest"))
        .safe("nothing was restored")
        .next("find the manifest that was made with this backup")
        .exit(Exit::Differences))
}

/// A tree that came back, and how it compares.
pub(super) struct Restored {
    pub(super) files: u64,
    pub(super) bytes: u64,
    pub(super) entries: u64,
    pub(super) manifest: Digest,
    pub(super) differences: Vec<Difference>,
    pub(super) problems: Vec<Problem>,
}

/// Where the tree, its manifest and its source's manifest are.
pub(super) struct Places {
    pub(super) target: PathBuf,
    pub(super) source_manifest: PathBuf,
    pub(super) restored_manifest: PathBuf,
}

/// Restores a snapshot into an empty directory and compares every entry.
pub(super) async fn restore_and_compare(
    repository: &Repository,
    snapshot: &SnapshotId,
    places: &Places,
    timeline: &mut Timeline,
    progress: Arc<dyn Progress>,
) -> Result<Restored, Failure> {
    let plan = plan_restore(repository, snapshot, &places.target)
        .await
        .advise("nothing was written", "name a new or an empty directory")?;
    timeline.end_phase("plan", 0);
    let (files, bytes) = (plan.files, plan.bytes);
    let report = restore(repository, plan, Arc::clone(&progress)).await.advise(
        "the sites were only read; the target keeps its marker and does not pass as whole",
        "remove the target and run it again",
    )?;
    timeline.end_phase("restore", report.bytes);
    let (target, path) = (places.target.clone(), places.restored_manifest.clone());
    let tree = tokio::task::spawn_blocking(move || {
        let mut writer = files::writer(&path)?;
        let tree = manifest_of_tree(&target, &mut writer, progress.as_ref())?;
        files::finish(&path, writer).map(|()| tree)
    })
    .await??;
    timeline.end_phase("read back", tree.bytes);
    let source = files::reader(&places.source_manifest)?;
    let differences = compare_streams(source, files::reader(&places.restored_manifest)?)?;
    timeline.end_phase("compare", 0);
    let problems = report.problems.into_iter().chain(tree.problems).collect();
    Ok(Restored { files, bytes, entries: report.entries, manifest: tree.digest, differences, problems })
}

/// What a record says beyond what was measured.
pub(super) struct Circumstances {
    pub(super) tenant: String,
    pub(super) scenario: String,
    pub(super) sites: u64,
    pub(super) sites_lost: Vec<String>,
    pub(super) rto: Seconds,
    pub(super) rpo: Seconds,
    /// The newest write that came back.
    pub(super) newest_write: Timestamp,
    pub(super) source_manifest: Digest,
    pub(super) source_note_index: u64,
    pub(super) checkpoint_before: Option<String>,
    pub(super) checkpoint_after: String,
    pub(super) shares: Shares,
}

/// The record of a drill that ended with the timeline's last phase.
pub(super) fn record(
    context: &Context<'_>,
    circumstances: Circumstances,
    restored: &Restored,
    timeline: &Timeline,
    differences: Differences,
) -> DrillRecord {
    let objectives = Objectives { rto_seconds: circumstances.rto.0, rpo_seconds: circumstances.rpo.0 };
    let measured = Measured::new(timeline.total(), timeline.declared().since(circumstances.newest_write));
    let verdicts = Verdicts::of(&objectives, &measured, &differences);
    let drill = hex(&context.entropy.sixteen());
    DrillRecord {
        drill,
        tenant: circumstances.tenant,
        scenario: circumstances.scenario,
        sites: circumstances.sites,
        sites_lost: circumstances.sites_lost,
        objectives,
        measured,
        declared: timeline.declared().into(),
        finished: timeline.finished().into(),
        phases: timeline.phases().to_vec(),
        files: restored.files,
        bytes: restored.bytes,
        manifests: Manifests {
            source_sha256: circumstances.source_manifest.to_string(),
            restored_sha256: restored.manifest.to_string(),
            source_note_index: circumstances.source_note_index,
        },
        differences,
        evidence: Evidence {
            checkpoint_before: circumstances.checkpoint_before,
            checkpoint_after: circumstances.checkpoint_after,
        },
        shares: circumstances.shares,
        software: Software::this(),
        verdicts,
        not_proven: NOT_PROVEN.map(str::to_owned).to_vec(),
    }
}

/// Counts the differences and keeps their list, which names files, beside the
/// record: the record goes to the provider and is bound to the list by digest.
/// A line of chance keeps short lists from being guessed from their digest.
pub(super) fn keep_differences(
    context: &Context<'_>,
    differences: &[Difference],
    list: &Path,
) -> Result<Differences, Failure> {
    if differences.is_empty() {
        return Ok(Differences::default());
    }
    let chance = hex(&context.entropy.sixteen());
    let mut text = Vec::new();
    writeln!(text, "# {chance}")?;
    let mut by_class: BTreeMap<String, u64> = BTreeMap::new();
    for Difference { path, class } in differences {
        let class = format!("{class:?}");
        writeln!(text, "{class} {}", escape_bytes(path))?;
        *by_class.entry(class).or_default() += 1;
    }
    write_atomically(list, &text)?;
    let count = u64::try_from(differences.len()).unwrap_or(u64::MAX);
    Ok(Differences { count, by_class, list_blake3: Some(blake3::hash(&text).to_hex().to_string()) })
}
