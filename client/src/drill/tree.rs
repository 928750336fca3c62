//! A whole tree restored for a drill: out of the repository, without what is
//! lost, into a directory of its own; then looked at without regard to any
//! backup and compared with the manifest that was made at the source.

use std::path::Path;
use std::sync::Arc;

use coffer_model::escape_bytes;
use tokio::task::spawn_blocking;

use super::disk::{self, reader, writer};
use super::exercise::{Conduct, DrillError, prove_noted};
use super::finish::Came;
use super::origin::{Origin, OtherReader, OtherReaderError};
use super::pace::{Pace, Paced};
use super::planning::{Setting, TreeSource};
use super::timeline::Timeline;
use crate::backup::{
    BlobStore, BlobStoreError, FetchError, ManifestReader, PlanError, ReadError, Repository, RestoreError,
    compare_streams, manifest_of_tree, plan_restore, restore,
};
use crate::digits::sha256_hex;
use crate::log::LogWatch;
use crate::store::BucketStore;
use crate::terms::ReadTerms;

/// The directory of the restored tree, below the drill's.
pub const RESTORED: &str = "restored";

/// Restores and compares; what does not come back is a result.
pub(super) async fn exercise(
    setting: &Setting<'_>,
    origin: &Origin<'_>,
    source: &TreeSource<'_>,
    terms: &ReadTerms,
    conduct: &Conduct,
    timeline: &mut Timeline,
    log: &mut LogWatch,
) -> Result<Came, DrillError> {
    let (target, made) = (conduct.directory.join(RESTORED), conduct.directory.join("restored.manifest"));
    // What an interrupted run left is no tree that passes as whole.
    disk::remove_tree(&target)?;
    prove_noted(setting, log, source.note_index, &source.manifest_sha256, "the source's manifest").await?;
    timeline.end_phase("log", 0);
    let mut came = Came::new(0, 0);
    came.expected_sha256 = source.manifest_sha256.to_string();
    came.restored_sha256 = sha256_hex(b"");
    (came.expected, came.expected_bytes) = expected(source)?;
    let restored = match (&origin.failed, origin.reader) {
        (Some(class), _) => Err(class.clone()),
        (None, Some(reader)) => bring_back_by(reader, source, &target, timeline).await,
        (None, None) => {
            let client = origin.client.unwrap_or(setting.client).clone();
            let store: Arc<dyn BlobStore> =
                Arc::new(BucketStore::on(client, source.bucket.clone(), terms.clone()));
            let store = Arc::new(Paced { store, pace: Pace::new(conduct.max_rate) });
            let repository = origin.repository.unwrap_or(source.repository).through(store);
            bring_back(&repository, source, conduct, timeline).await
        }
    };
    // The newest write that a tree can bring back is its snapshot's.
    came.newest_write = source.repository.snapshot(&source.snapshot).await.ok().map(|snapshot| snapshot.time);
    match restored {
        Ok(restored) => {
            // What came back beyond the source is a difference, and no more than everything.
            came.restored = restored.entries.min(came.expected);
            came.restored_bytes = restored.bytes.min(came.expected_bytes);
            if restored.problems > 0 {
                came.deviations.push(format!(
                    "{} entries could not be given all that they had, for want of privilege or support",
                    restored.problems
                ));
            }
        }
        Err(class) => {
            timeline.end_phase("restore", 0);
            came.unreadable = 1;
            came.failures.insert(class, 1);
            disk::remove_tree(&target)?;
            return Ok(came);
        }
    }
    compare(source, conduct, &target, &made, timeline, &mut came).await?;
    if !conduct.keep {
        disk::remove_tree(&target)?;
    }
    Ok(came)
}

/// Entries and bytes that are to come back, as the manifest of the source says.
fn expected(source: &TreeSource<'_>) -> Result<(u64, u64), DrillError> {
    let words = |error: &dyn std::fmt::Display| DrillError::Compare(error.to_string());
    let mut manifest = ManifestReader::new(reader(&source.manifest)?).map_err(|error| words(&error))?;
    let (mut entries, mut bytes) = (0, 0_u64);
    while let Some(entry) = manifest.next_entry().map_err(|error| words(&error))? {
        entries += 1;
        bytes += entry.data.iter().map(|(_, length)| length).sum::<u64>();
    }
    Ok((entries, bytes))
}

/// What came back.
struct Back {
    entries: u64,
    bytes: u64,
    /// Entries that could not be given all that they had.
    problems: usize,
}

async fn bring_back(
    repository: &Repository,
    source: &TreeSource<'_>,
    conduct: &Conduct,
    timeline: &mut Timeline,
) -> Result<Back, String> {
    let target = conduct.directory.join(RESTORED);
    let plan =
        plan_restore(repository, &source.snapshot, &target).await.map_err(|error| class_of_plan(&error))?;
    timeline.end_phase("plan", 0);
    let report = restore(repository, plan, Arc::clone(&conduct.progress)).await;
    let report = report.map_err(|error| class_of_restore(&error))?;
    timeline.end_phase("restore", report.bytes);
    Ok(Back { entries: report.entries, bytes: report.bytes, problems: report.problems.len() })
}

async fn bring_back_by(
    reader: &dyn OtherReader,
    source: &TreeSource<'_>,
    target: &Path,
    timeline: &mut Timeline,
) -> Result<Back, String> {
    let report = reader.restore(&source.snapshot.to_string(), target).await;
    let report = report.map_err(|error| match error {
        OtherReaderError::Run(_) => "the reader could not be run".to_owned(),
        OtherReaderError::TooFew(_) => "too few shards or copies".to_owned(),
        OtherReaderError::Damaged(_) => "damaged".to_owned(),
        OtherReaderError::Refused(_) => "the reader refused".to_owned(),
    })?;
    timeline.end_phase("reader", report.bytes);
    Ok(Back { entries: report.entries, bytes: report.bytes, problems: 0 })
}

async fn compare(
    source: &TreeSource<'_>,
    conduct: &Conduct,
    target: &Path,
    made: &Path,
    timeline: &mut Timeline,
    came: &mut Came,
) -> Result<(), DrillError> {
    let mut out = writer(made)?;
    let (root, progress) = (target.to_owned(), Arc::clone(&conduct.progress));
    let words = |error: &dyn std::fmt::Display| DrillError::Compare(error.to_string());
    let read_back = spawn_blocking(move || manifest_of_tree(&root, &mut out, progress.as_ref()));
    let read_back = read_back.await.map_err(|error| words(&error))?.map_err(|error| words(&error))?;
    timeline.end_phase("read back", read_back.bytes);
    came.restored_sha256 = read_back.digest.to_string();
    let differences =
        compare_streams(reader(&source.manifest)?, reader(made)?).map_err(|error| words(&error))?;
    timeline.end_phase("compare", 0);
    for difference in differences {
        let class = format!("{:?}", difference.class);
        came.listed.push(format!("{class} {}", escape_bytes(&difference.path)));
        *came.by_class.entry(class).or_default() += 1;
    }
    Ok(())
}

fn class_of_store(error: &BlobStoreError) -> String {
    let class = match error {
        BlobStoreError::Missing { .. } => "not found",
        BlobStoreError::Damaged { .. } => "damaged",
        BlobStoreError::Truncated { .. } => "cut off",
        BlobStoreError::Unavailable { .. } => "too few shards or copies",
        BlobStoreError::Refused { .. } => "refused",
    };
    class.to_owned()
}

fn class_of_fetch(error: &FetchError) -> String {
    match error {
        FetchError::Store(error) => class_of_store(error),
        FetchError::Length { .. } => "cut off".to_owned(),
        FetchError::NoChunk { .. } => "not found".to_owned(),
        FetchError::Chunk { .. } | FetchError::Entries(_) => "damaged".to_owned(),
        FetchError::Worker => "a defect".to_owned(),
    }
}

fn class_of_read(error: &ReadError) -> String {
    match error {
        ReadError::Store(error) => class_of_store(error),
        ReadError::NoSnapshot(_) => "not found".to_owned(),
        ReadError::Record { .. } | ReadError::Sealing(_) => "damaged".to_owned(),
    }
}

fn class_of_plan(error: &PlanError) -> String {
    match error {
        PlanError::TargetNotEmpty { .. } | PlanError::Target { .. } => "the target refused".to_owned(),
        PlanError::Repository(error) => class_of_read(error),
        PlanError::Fetch(error) => class_of_fetch(error),
    }
}

fn class_of_restore(error: &RestoreError) -> String {
    match error {
        RestoreError::Fetch(error) => class_of_fetch(error),
        RestoreError::Content { .. } => "damaged".to_owned(),
        RestoreError::Target { .. } | RestoreError::TargetNotEmpty { .. } => "the target refused".to_owned(),
        RestoreError::Worker => "a defect".to_owned(),
    }
}
