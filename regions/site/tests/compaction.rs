//! Compaction gives space back, loses nothing that lives, revives nothing that
//! is dead, and is told from loss.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use coffer_model::RecordId;
use coffer_regions::{Record, RecordKind, Site, SiteError};
use coffer_site::{DirectorySite, SiteOptions, Upkeep, inspect};
use support::{id, maintain_all, open_with, quick, readable, record, volumes};
use tempfile::TempDir;

/// Upkeep that takes longer than this does not happen.
const HANG: Duration = Duration::from_secs(120);

/// Volumes of about thirty records of 2,000 bytes.
fn small() -> SiteOptions {
    SiteOptions { volume_bytes: Some(64 << 10), ..quick() }
}

fn open(dir: &Path) -> DirectorySite {
    open_with(dir, small()).unwrap()
}

/// The site as its volumes alone tell it.
fn open_without_checkpoint(dir: &Path) -> DirectorySite {
    let _ = std::fs::remove_file(dir.join("CHECKPOINT"));
    open(dir)
}

async fn put_each(site: &DirectorySite, numbers: impl IntoIterator<Item = u64>) -> Vec<Record> {
    let mut put = Vec::new();
    for n in numbers {
        site.put(vec![record(n, 2000)]).await.unwrap();
        put.push(record(n, 2000));
    }
    put
}

async fn delete(site: &DirectorySite, numbers: impl IntoIterator<Item = u64>) {
    site.delete(numbers.into_iter().map(id).collect()).await.unwrap();
}

#[tokio::test]
async fn volumes_that_are_mostly_dead_are_removed_and_what_lives_in_them_is_kept() {
    let dir = TempDir::new().unwrap();
    let site = open(dir.path());
    put_each(&site, 0..150).await;
    delete(&site, (0..150).filter(|n| n % 5 != 0)).await;
    let (before, reach) = (site.state().await, site.state().await.reach.unwrap());
    let done = maintain_all(&site).await;
    assert!(done.iter().any(|step| matches!(step, Upkeep::Reclaimed(_))), "{done:?}");
    let living: Vec<_> = (0..150).filter(|n| n % 5 == 0).map(|n| record(n, 2000)).collect();
    let after = site.state().await;
    assert!(after.volume_bytes < before.volume_bytes / 2, "{before:?} {after:?}");
    assert!(after.dead_bytes < before.dead_bytes / 2);
    assert_eq!(after.records, 30);
    assert_eq!(readable(&site, &living).await, 30);
    assert_eq!(site.scrub().await, Ok(Vec::new()));
    drop(site);
    for open in [open, open_without_checkpoint] {
        let site = open(dir.path());
        let state = site.state().await;
        assert_eq!((state.records, state.damaged, state.dead_bytes), (30, 0, after.dead_bytes));
        assert_eq!(readable(&site, &living).await, 30);
        assert_eq!(site.get(id(1)).await, Err(SiteError::Missing));
        assert_eq!(site.reaches(reach).await, Ok(true), "history goes on over compacted volumes");
        assert_eq!(site.scrub().await, Ok(Vec::new()));
    }
    let found = inspect(dir.path(), true).unwrap();
    assert_eq!((found.records, found.findings, found.losses), (30, Vec::new(), Vec::new()));
    let text = String::from_utf8(support::read(&dir.path().join("SITE"))).unwrap();
    assert!(text.contains("\"format\": 2"), "numbers with gaps are another format: {text}");
}

#[tokio::test]
async fn a_removal_outlives_its_volume_while_an_older_copy_can_come_back() {
    let dir = TempDir::new().unwrap();
    let site = open(dir.path());
    // Volume 0 lives; one dead record lies in it.
    let living = put_each(&site, 0..32).await;
    assert_eq!(volumes(dir.path()).len(), 2);
    // Its removal lies in a volume that dies.
    put_each(&site, 100..110).await;
    delete(&site, [3]).await;
    put_each(&site, 110..130).await;
    put_each(&site, 130..140).await;
    delete(&site, 100..130).await;
    maintain_all(&site).await;
    assert!(!volumes(dir.path()).contains(&"00000001.vol".to_owned()), "{:?}", volumes(dir.path()));
    assert!(volumes(dir.path()).contains(&"00000000.vol".to_owned()));
    assert_eq!(site.get(id(3)).await, Err(SiteError::Missing));
    drop(site);
    let site = open_without_checkpoint(dir.path());
    assert_eq!(site.get(id(3)).await, Err(SiteError::Missing), "the dead are not revived");
    assert_eq!(readable(&site, &living).await, 31);
    // Once the last copy is gone, nothing need guard against it.
    delete(&site, 0..32).await;
    delete(&site, 130..140).await;
    maintain_all(&site).await;
    drop(site);
    let site = open_without_checkpoint(dir.path());
    assert_eq!(site.state().await.records, 0);
}

#[tokio::test]
async fn a_compacted_volume_is_no_loss_and_a_lost_volume_is() {
    let dir = TempDir::new().unwrap();
    let site = open(dir.path());
    put_each(&site, 0..150).await;
    delete(&site, 30..70).await;
    maintain_all(&site).await;
    drop(site);
    let names = volumes(dir.path());
    assert!(!names.contains(&"00000001.vol".to_owned()), "{names:?}");
    let lost = TempDir::new().unwrap();
    support::copy_dir(dir.path(), lost.path());
    std::fs::remove_file(support::volume(lost.path(), 0)).unwrap();
    let site = open(lost.path());
    assert!(site.state().await.damaged > 0, "volume 0 is missing and the ledger does not name it");
    assert!(site.state().await.records > 0);
    drop(site);
    // Without its ledger a site says that something is missing, and has all.
    std::fs::remove_file(dir.path().join("RETIRED")).unwrap();
    let site = open_without_checkpoint(dir.path());
    assert!(site.state().await.damaged > 0);
    let living: Vec<_> = (0..30).chain(70..150).map(|n| record(n, 2000)).collect();
    assert_eq!(readable(&site, &living).await, 110);
}

#[tokio::test]
async fn a_damaged_record_is_not_copied_and_keeps_its_volume_until_it_is_repaired() {
    let dir = TempDir::new().unwrap();
    let site = open(dir.path());
    put_each(&site, 0..40).await;
    delete(&site, (0..32).filter(|n| n % 4 != 0)).await;
    let path = support::volume(dir.path(), 0);
    let mut bytes = support::read(&path);
    // In the body of record 4, the fifth batch of the volume.
    let extent = 92 + 56 + 2000;
    bytes[128 + 4 * extent + 92 + 56 + 700] ^= 1;
    support::write(&path, &bytes);
    maintain_all(&site).await;
    assert!(volumes(dir.path()).contains(&"00000000.vol".to_owned()));
    assert_eq!(site.get(id(4)).await, Err(SiteError::Damaged));
    assert_eq!(site.state().await.damaged, 1);
    assert_eq!(site.scrub().await.unwrap().len(), 1);
    let others: Vec<_> = (0..40).filter(|n| *n >= 32 || n % 4 == 0).map(|n| record(n, 2000)).collect();
    assert_eq!(readable(&site, &others).await, others.len() - 1);
    site.put(vec![record(4, 2000)]).await.unwrap();
    maintain_all(&site).await;
    assert!(!volumes(dir.path()).contains(&"00000000.vol".to_owned()));
    assert_eq!(readable(&site, &others).await, others.len());
    assert_eq!(site.scrub().await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_copy_torn_at_any_byte_costs_nothing_while_the_volume_it_came_from_is_there() {
    let dir = TempDir::new().unwrap();
    let options = SiteOptions { volume_bytes: Some(2048), ..quick() };
    let site = open_with(dir.path(), options.clone()).unwrap();
    for n in 0..10 {
        site.put(vec![record(n, 150)]).await.unwrap();
    }
    site.delete((0..4).map(id).collect()).await.unwrap();
    let (names, before) = (volumes(dir.path()), site.state().await.volume_bytes);
    assert!(matches!(site.maintain().await, Ok(Upkeep::Copied(_))));
    let grown = usize::try_from(site.state().await.volume_bytes - before).unwrap();
    let last = volumes(dir.path()).pop().unwrap();
    assert_eq!(Some(&last), names.last(), "the copies follow in the same volume");
    let bytes = support::read(&dir.path().join("volumes").join(&last));
    let living: Vec<_> = (4..10).map(|n| record(n, 150)).collect();
    let image = TempDir::new().unwrap();
    for torn in 0..grown {
        support::copy_dir(dir.path(), image.path());
        let _ = std::fs::remove_file(image.path().join("CHECKPOINT"));
        let mut cut = bytes[..bytes.len() - torn].to_vec();
        for lost in [false, true] {
            // Cut short, or as long as it should be and lost from there on.
            if lost {
                cut.resize(bytes.len(), 0);
            }
            support::write(&image.path().join("volumes").join(&last), &cut);
            let site = open_with(image.path(), options.clone()).unwrap();
            assert_eq!(readable(&site, &living).await, 6, "{torn} bytes are lost: {lost}");
            assert_eq!(site.get(id(0)).await, Err(SiteError::Missing));
            drop(site);
            let _ = std::fs::remove_file(image.path().join("CHECKPOINT"));
            let site = open_with(image.path(), options.clone()).unwrap();
            assert_eq!(readable(&site, &living).await, 6, "{torn} bytes are lost: {lost}, reopened");
            drop(site);
            std::fs::remove_dir_all(image.path().join("volumes")).unwrap();
            support::copy_dir(dir.path(), image.path());
            let _ = std::fs::remove_file(image.path().join("CHECKPOINT"));
        }
    }
}

#[tokio::test]
async fn a_volume_with_damaged_framing_is_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    let site = open(dir.path());
    put_each(&site, 0..40).await;
    delete(&site, 2..32).await;
    drop(site);
    let path = support::volume(dir.path(), 0);
    let mut bytes = support::read(&path);
    bytes[128 + 3] ^= 1;
    support::write(&path, &bytes);
    let site = open_without_checkpoint(dir.path());
    maintain_all(&site).await;
    assert_eq!(support::read(&path), bytes);
    assert!(site.state().await.damaged > 0);
}

#[tokio::test]
async fn history_of_before_is_reached_after_and_another_history_is_not() {
    let dir = TempDir::new().unwrap();
    let site = open(dir.path());
    let mut reaches = Vec::new();
    for n in 0..100 {
        put_each(&site, [n]).await;
        reaches.push(site.state().await.reach.unwrap());
    }
    for reach in &reaches {
        assert_eq!(site.reaches(*reach).await, Ok(true));
        let digest = coffer_model::Digest([7; 32]);
        let forked = coffer_regions::Reach { digest, ..*reach };
        assert_eq!(site.reaches(forked).await, Ok(false), "another batch of that number");
    }
    delete(&site, 0..70).await;
    maintain_all(&site).await;
    let gone = 100 - u64::try_from(volumes(dir.path()).len()).unwrap();
    assert!(gone > 0);
    let mut compared = 0;
    for reach in &reaches {
        assert_eq!(site.reaches(*reach).await, Ok(true));
        let forked = coffer_regions::Reach { digest: coffer_model::Digest([7; 32]), ..*reach };
        compared += usize::from(site.reaches(forked).await == Ok(false));
    }
    assert!(compared >= 30, "what is still there is compared: {compared}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_with_threads_compacts_by_itself() {
    let dir = TempDir::new().unwrap();
    let options = SiteOptions { volume_bytes: Some(64 << 10), ..SiteOptions::default() };
    let site = open_with(dir.path(), options).unwrap();
    put_each(&site, 0..150).await;
    delete(&site, 0..150).await;
    // Each batch wakes the upkeep, which goes on beside what wakes it.
    let compacted = async {
        let mut wakings = 0;
        while volumes(dir.path()).len() > 2 {
            put_each(&site, [1000 + wakings]).await;
            delete(&site, [1000 + wakings]).await;
            wakings += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let compacted = tokio::time::timeout(HANG, compacted).await;
    assert!(compacted.is_ok(), "{:?}", volumes(dir.path()));
    put_each(&site, [5000]).await;
    drop(site);
    assert_eq!(readable(&open_without_checkpoint(dir.path()), &[record(5000, 2000)]).await, 1);
}

#[tokio::test]
async fn a_site_that_compacts_does_what_a_map_does() {
    for seed in 1..9_u64 {
        let dir = TempDir::new().unwrap();
        let (mut site, mut oracle) = (open(dir.path()), BTreeMap::<RecordId, Record>::new());
        let mut state = seed;
        let mut below = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        for _ in 0..300 {
            let n = below(60);
            match below(10) {
                0..=4 => {
                    let record = record(n, usize::try_from(n * 150).unwrap());
                    site.put(vec![record.clone()]).await.unwrap();
                    oracle.insert(record.id(), record);
                }
                5..=7 => {
                    let removed = u64::from(oracle.remove(&id(n)).is_some());
                    assert_eq!(site.delete(vec![id(n)]).await, Ok(removed));
                }
                8 => drop(site.maintain().await.unwrap()),
                _ => {
                    drop(site);
                    let reopen = if below(2) == 0 { open } else { open_without_checkpoint };
                    site = reopen(dir.path());
                }
            }
        }
        maintain_all(&site).await;
        let listed = site.list(RecordKind::Shard, None, usize::MAX).await.unwrap();
        assert!(listed.iter().map(|line| line.id).eq(oracle.keys().copied()), "seed {seed}");
        let records: Vec<_> = oracle.values().cloned().collect();
        assert_eq!(readable(&site, &records).await, records.len(), "seed {seed}");
        assert_eq!(site.scrub().await, Ok(Vec::new()));
    }
}
