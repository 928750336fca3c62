//! Damage in the store has a name, and never becomes a tree that passes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bench::{Bench, Fixed, key, noise, rich_tree};
use async_trait::async_trait;
use bytes::Bytes;
use coffer_client::backup::{
    BackupError, BackupOptions, BlobStore, BlobStoreError, FetchError, Manifest, MemoryStore, PlanError,
    Quiet, Repository, RestoreError, ScanError, UNFINISHED_MARKER, backup, manifest_in_memory, plan_restore,
    restore,
};

/// A bench with one snapshot of a file that fills a pack and a half.
async fn two_packs() -> (Bench, coffer_client::backup::SnapshotId, Manifest) {
    let bench = Bench::new().await;
    std::fs::write(bench.source().join("large"), noise(1, 24 << 20)).unwrap();
    let (report, manifest) = bench.backup().await;
    (bench, report.snapshot, manifest)
}

fn packs(bench: &Bench) -> Vec<String> {
    bench.store.blobs().keys().filter(|name| name.starts_with("packs/")).cloned().collect()
}

fn change(bench: &Bench, name: &str, how: impl FnOnce(&mut Vec<u8>)) {
    let mut body = bench.store.blobs()[name].to_vec();
    how(&mut body);
    bench.store.replace(name, body.into());
}

/// The largest pack of a store holds file content.
fn data_pack(bench: &Bench) -> String {
    packs(bench).into_iter().max_by_key(|name| bench.store.blobs()[name].len()).unwrap()
}

#[tokio::test]
async fn a_flipped_bit_in_a_pack_is_named_and_the_target_does_not_pass_as_whole() {
    let (bench, snapshot, _) = two_packs().await;
    let damaged = data_pack(&bench);
    change(&bench, &damaged, |body| body[5 << 20] ^= 1);
    let plan = plan_restore(&bench.repository, &snapshot, &bench.target()).await.unwrap();
    let failed = restore(&bench.repository, plan, Arc::new(Quiet)).await;
    let Err(RestoreError::Fetch(FetchError::Chunk { pack, .. })) = failed else { panic!("{failed:?}") };
    assert_eq!(pack, damaged);
    let marker = std::str::from_utf8(UNFINISHED_MARKER).unwrap();
    assert!(bench.target().join(marker).exists());
    assert!(matches!(manifest_in_memory(&bench.target()), Err(ScanError::UnfinishedRestore { .. })));
}

#[tokio::test]
async fn a_pack_cut_short_is_named() {
    let (bench, snapshot, _) = two_packs().await;
    let damaged = data_pack(&bench);
    change(&bench, &damaged, |body| body.truncate(1 << 20));
    let plan = plan_restore(&bench.repository, &snapshot, &bench.target()).await.unwrap();
    let failed = restore(&bench.repository, plan, Arc::new(Quiet)).await;
    let Err(RestoreError::Fetch(FetchError::Store(BlobStoreError::Truncated { name }))) = failed else {
        panic!("{failed:?}")
    };
    assert_eq!(name, damaged);
}

#[tokio::test]
async fn a_missing_pack_is_found_by_the_plan_before_the_target_is_touched() {
    let (bench, snapshot, _) = two_packs().await;
    bench.store.remove(&data_pack(&bench));
    let refused = plan_restore(&bench.repository, &snapshot, &bench.target()).await;
    assert!(matches!(refused, Err(PlanError::Fetch(FetchError::NoChunk { .. }))));
    assert!(!bench.target().exists());
}

#[tokio::test]
async fn the_next_backup_heals_a_missing_pack() {
    let (bench, snapshot, manifest) = two_packs().await;
    bench.store.remove(&data_pack(&bench));
    let (second, _) = bench.backup().await;
    assert!(second.stats.new_bytes > 8 << 20);
    assert_eq!(bench.restore(&snapshot, &manifest).await, []);
}

#[tokio::test]
async fn every_blob_that_is_damaged_anywhere_is_an_error_and_never_a_difference() {
    let bench = Bench::new().await;
    std::fs::write(bench.source().join("a"), noise(1, 3000)).unwrap();
    let (report, manifest) = bench.backup().await;
    let sound = bench.store.blobs();
    for (name, body) in &sound {
        for at in [0, 1, 8, 40, body.len() / 2, body.len() - 1] {
            let mut damaged = body.to_vec();
            damaged[at] ^= 0x10;
            bench.store.replace(name, damaged.into());
            let restored = try_restore(&bench, &report.snapshot).await;
            if restored {
                // The bytes were not needed: the trailer and frame of a pack.
                assert!(name.starts_with("packs/"), "{name} at {at}");
                assert_eq!(bench.differences(&manifest), []);
            }
            let _ = std::fs::remove_dir_all(bench.target());
        }
        bench.store.replace(name, body.clone());
    }
}

async fn try_restore(bench: &Bench, snapshot: &coffer_client::backup::SnapshotId) -> bool {
    let store: Arc<dyn BlobStore> = bench.store.clone();
    let Ok(repository) = Repository::open(store, &key(1)).await else { return false };
    let Ok(plan) = plan_restore(&repository, snapshot, &bench.target()).await else { return false };
    restore(&repository, plan, Arc::new(Quiet)).await.is_ok()
}

#[tokio::test]
async fn two_packs_that_changed_places_are_an_error() {
    let (bench, snapshot, _) = two_packs().await;
    let mut large: Vec<_> = packs(&bench);
    large.sort_by_key(|name| bench.store.blobs()[name].len());
    let [.., one, other] = large.as_slice() else { panic!("one pack only") };
    let (first, second) = (bench.store.blobs()[one].clone(), bench.store.blobs()[other].clone());
    bench.store.replace(one, second);
    bench.store.replace(other, first);
    assert!(!try_restore(&bench, &snapshot).await);
}

#[tokio::test]
async fn a_lost_index_is_made_again_from_the_packs() {
    let bench = Bench::new().await;
    rich_tree(&bench.source());
    let (report, manifest) = bench.backup().await;
    let indexes = bench.store.blobs().into_keys().filter(|name| name.starts_with("index/"));
    indexes.for_each(|name| bench.store.remove(&name));
    assert!(plan_restore(&bench.repository, &report.snapshot, &bench.target()).await.is_err());
    let read = bench.repository.rebuild_index(&*bench.entropy).await.unwrap();
    assert_eq!(read, u64::try_from(packs(&bench).len()).unwrap());
    assert_eq!(bench.restore(&report.snapshot, &manifest).await, []);
}

/// A store that fails after so many puts.
struct Failing {
    inner: Arc<MemoryStore>,
    puts_left: AtomicU64,
}

#[async_trait]
impl BlobStore for Failing {
    async fn put(&self, name: &str, body: Bytes) -> Result<(), BlobStoreError> {
        let left =
            self.puts_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_err() {
            return Err(BlobStoreError::Unavailable { name: name.to_owned(), reason: "gone".to_owned() });
        }
        self.inner.put(name, body).await
    }
    async fn get(&self, name: &str) -> Result<Bytes, BlobStoreError> {
        self.inner.get(name).await
    }
    async fn get_range(&self, name: &str, range: std::ops::Range<u64>) -> Result<Bytes, BlobStoreError> {
        self.inner.get_range(name, range).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<String>, BlobStoreError> {
        self.inner.list(prefix).await
    }
    async fn delete(&self, name: &str) -> Result<(), BlobStoreError> {
        self.inner.delete(name).await
    }
}

#[tokio::test]
async fn a_store_that_fails_at_any_put_leaves_no_snapshot_and_a_repository_that_works() {
    for puts in 0..5 {
        let bench = Bench::new().await;
        std::fs::write(bench.source().join("large"), noise(1, 24 << 20)).unwrap();
        let failing: Arc<dyn BlobStore> =
            Arc::new(Failing { inner: bench.store.clone(), puts_left: puts.into() });
        let repository = Repository::open(failing, &key(1)).await.unwrap();
        let mut text = Vec::new();
        let (source, entropy) = (bench.source(), bench.entropy.clone());
        let options = BackupOptions::default();
        let quiet = Arc::new(Quiet);
        let made = backup(&repository, &source, options, &mut text, &Fixed, entropy, quiet).await;
        let complete = made.is_ok();
        assert!(complete || matches!(made, Err(BackupError::Repository(_))));
        assert_eq!(bench.repository.snapshots().await.unwrap().len(), usize::from(complete), "{puts} puts");
        let (report, manifest) = bench.backup().await;
        assert_eq!(bench.restore(&report.snapshot, &manifest).await, []);
    }
}
