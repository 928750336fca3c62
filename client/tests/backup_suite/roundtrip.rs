//! What is backed up comes back, all of it and nothing else.

use std::sync::Arc;

use crate::bench::{Bench, Fixed, key, noise, raw, rich_tree};
use coffer_client::backup::{
    BackupOptions, BlobStore, InitError, OpenRepositoryError, PlanError, Quiet, ReadError, Repository,
    backup, compare, compare_streams, manifest_in_memory, plan_restore,
};
use coffer_keys::RecoverySecret;

#[tokio::test]
async fn a_rich_tree_comes_back_without_one_difference() {
    let bench = Bench::new().await;
    rich_tree(&bench.source());
    let (report, manifest) = bench.backup().await;
    assert_eq!(report.problems, []);
    assert_eq!(bench.restore(&report.snapshot, &manifest).await, []);
}

#[tokio::test]
async fn the_manifest_of_the_backup_is_the_manifest_of_an_independent_scan() {
    let bench = Bench::new().await;
    rich_tree(&bench.source());
    let (_, manifest) = bench.backup().await;
    let (scanned, problems) = manifest_in_memory(&bench.source()).unwrap();
    assert_eq!(problems, []);
    assert_eq!(compare(&manifest, &scanned), []);
    assert_eq!(manifest, scanned);
    let (mut one, mut other) = (Vec::new(), Vec::new());
    manifest.write(&mut one).unwrap();
    scanned.write(&mut other).unwrap();
    assert_eq!(compare_streams(one.as_slice(), other.as_slice()).unwrap(), []);
}

#[tokio::test]
async fn the_second_backup_of_the_same_tree_stores_no_file_byte_again() {
    let bench = Bench::new().await;
    rich_tree(&bench.source());
    let (first, _) = bench.backup().await;
    // Two equal files of 9 MiB are stored once.
    assert!(first.stats.new_bytes < first.stats.bytes - (8 << 20));
    let (second, _) = bench.backup().await;
    assert_eq!(second.stats.new_bytes, 0);
    assert_eq!(second.packs, 0);
    assert_eq!(second.manifest_digest, first.manifest_digest);
}

#[tokio::test]
async fn an_older_snapshot_restores_after_the_tree_has_changed() {
    let bench = Bench::new().await;
    rich_tree(&bench.source());
    let (first, manifest) = bench.backup().await;
    let mut large = noise(1, 9 << 20);
    large.splice(3 << 20..3 << 20, *b"inserted");
    std::fs::write(bench.source().join("deep/er/large"), large).unwrap();
    std::fs::remove_file(raw(&bench.source(), b"not utf-8 \xff\xfe\n")).unwrap();
    let (second, changed) = bench.backup().await;
    assert!(second.stats.new_bytes > 0 && second.stats.new_bytes < 9 << 20);
    assert_eq!(bench.restore(&first.snapshot, &manifest).await, []);
    std::fs::remove_dir_all(bench.target()).unwrap();
    assert_eq!(bench.restore(&second.snapshot, &changed).await, []);
}

#[tokio::test]
async fn thousands_of_small_files_come_back() {
    let bench = Bench::new().await;
    for directory in 0..20_u64 {
        let path = bench.source().join(format!("d{directory}"));
        std::fs::create_dir(&path).unwrap();
        for file in 0..100 {
            std::fs::write(path.join(format!("f{file}")), noise(directory * 100 + file, 900)).unwrap();
        }
    }
    let (report, manifest) = bench.backup().await;
    assert_eq!(report.stats.files, 2000);
    assert_eq!(bench.restore(&report.snapshot, &manifest).await, []);
}

#[tokio::test]
async fn an_empty_tree_comes_back_empty() {
    let bench = Bench::new().await;
    let (report, manifest) = bench.backup().await;
    assert_eq!(bench.restore(&report.snapshot, &manifest).await, []);
}

#[tokio::test]
async fn snapshots_are_listed_with_what_they_hold() {
    let bench = Bench::new().await;
    std::fs::write(bench.source().join("a"), b"1").unwrap();
    let (report, _) = bench.backup().await;
    let snapshots = bench.repository.snapshots().await.unwrap();
    assert_eq!(snapshots.len(), 1);
    assert_eq!(snapshots[0].id, report.snapshot);
    assert_eq!(snapshots[0].host, "here");
    assert_eq!(snapshots[0].stats.files, 1);
    assert_eq!(report.snapshot.to_string().parse(), Ok(report.snapshot));
    let other = "00000000000000000000000000000000".parse().unwrap();
    assert!(matches!(bench.repository.snapshot(&other).await, Err(ReadError::NoSnapshot(_))));
}

#[tokio::test]
async fn another_key_does_not_open_the_repository() {
    let bench = Bench::new().await;
    let store: Arc<dyn BlobStore> = bench.store.clone();
    assert!(Repository::open(store.clone(), &key(1)).await.is_ok());
    let refused = Repository::open(store, &key(2)).await;
    assert!(matches!(refused, Err(OpenRepositoryError::WrongKey)));
}

#[tokio::test]
async fn a_second_repository_in_the_same_place_is_refused() {
    let bench = Bench::new().await;
    let store: Arc<dyn BlobStore> = bench.store.clone();
    let refused = Repository::init(store, &key(2), None, &*bench.entropy).await;
    assert!(matches!(refused, Err(InitError::Exists)));
}

#[tokio::test]
async fn the_recovery_secret_alone_opens_and_another_does_not() {
    let bench = Bench::new().await;
    let store: Arc<dyn BlobStore> = Arc::new(coffer_client::backup::MemoryStore::default());
    let secret = RecoverySecret::generate(&*bench.entropy);
    let other = RecoverySecret::generate(&*bench.entropy);
    let made = Repository::init(store.clone(), &key(3), Some(&secret.public_key()), &*bench.entropy).await;
    let id = made.unwrap().id();
    assert_eq!(Repository::open_with_recovery(store.clone(), &secret).await.unwrap().id(), id);
    let refused = Repository::open_with_recovery(store, &other).await;
    assert!(matches!(refused, Err(OpenRepositoryError::Recovery)));
    let without: Arc<dyn BlobStore> = bench.store.clone();
    let refused = Repository::open_with_recovery(without, &secret).await;
    assert!(matches!(refused, Err(OpenRepositoryError::NoRecovery)));
}

#[tokio::test]
async fn a_target_that_is_not_empty_is_refused_and_left_alone() {
    let bench = Bench::new().await;
    let (report, _) = bench.backup().await;
    std::fs::create_dir(bench.target()).unwrap();
    std::fs::write(bench.target().join("mine"), b"mine").unwrap();
    let refused = plan_restore(&bench.repository, &report.snapshot, &bench.target()).await;
    assert!(matches!(refused, Err(PlanError::TargetNotEmpty { .. })));
    assert_eq!(std::fs::read_dir(bench.target()).unwrap().count(), 1);
}

#[tokio::test]
async fn a_root_that_is_not_there_is_an_error_and_leaves_no_snapshot() {
    let bench = Bench::new().await;
    let missing = bench.place.path().join("missing");
    let mut text = Vec::new();
    let options = BackupOptions::default();
    let (entropy, quiet) = (bench.entropy.clone(), Arc::new(Quiet));
    let refused = backup(&bench.repository, &missing, options, &mut text, &Fixed, entropy, quiet).await;
    assert!(refused.is_err());
    assert!(bench.repository.snapshots().await.unwrap().is_empty());
}
