//! The epochs of owners on a disk: they survive whatever an acknowledged
//! record survives, and rot makes none of them lower.
#![expect(clippy::disallowed_methods, reason = "tests damage files on purpose")]

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::path::Path;
use std::sync::Arc;

use coffer_model::ScopeId;
use coffer_regions::{Change, Fence, Site, SiteError};
use coffer_site::SiteOptions;
use coffer_site::faults::{RecordingDisk, Survivors};
use support::{inline, open_with, record};
use tempfile::TempDir;

const SCOPE: ScopeId = ScopeId::from_bytes([7; 16]);

fn fence(epoch: u64) -> Fence {
    Fence { scope: SCOPE, epoch }
}

fn on(disk: &RecordingDisk) -> SiteOptions {
    SiteOptions { disk: Arc::new(disk.clone()), ..inline() }
}

/// Owners follow one another; the last epoch that was acknowledged.
async fn owners(dir: &Path, disk: &RecordingDisk) -> u64 {
    let mut known = 0;
    let Ok(site) = open_with(dir, on(disk)) else { return known };
    for n in 1..=4 {
        // Odd ones come with their first change, even ones are announced.
        let raised = match n % 2 {
            0 => site.raise(fence(n)).await,
            _ => site.change_under(fence(n), Change::Put(vec![record(n, 100)])).await.map(drop),
        };
        assert!(raised.is_ok() || disk.power_is_cut(), "{raised:?}");
        if raised.is_err() {
            break;
        }
        known = n;
    }
    known
}

#[tokio::test]
async fn an_epoch_that_was_raised_is_there_after_a_power_cut_in_any_operation() {
    let (dir, disk) = (TempDir::new().unwrap(), RecordingDisk::default());
    assert_eq!(owners(&dir.path().join("site"), &disk).await, 4);
    for nth in 1..=disk.operations() {
        let (dir, disk) = (TempDir::new().unwrap(), RecordingDisk::default());
        disk.cut_power_during(nth);
        let known = owners(&dir.path().join("site"), &disk).await;
        let drawn = (0..3).map(|image| Survivors::Seeded(nth * 10 + image));
        for survivors in [Survivors::None, Survivors::All].into_iter().chain(drawn) {
            let image = dir.path().join("image");
            disk.crash_image(&dir.path().join("site"), &image, survivors).unwrap();
            let context = format!("cut in operation {nth}, {survivors:?}");
            if image.join("SITE").exists() {
                let site = open_with(&image, on(&RecordingDisk::default()));
                let site = site.unwrap_or_else(|error| panic!("{context}: {error}"));
                let epoch = site.epoch(SCOPE).await.unwrap();
                assert!((known..=known + 1).contains(&epoch), "{context}: {epoch}, acknowledged {known}");
                let late = site.change_under(fence(epoch.max(2) - 1), Change::Put(vec![record(9, 10)])).await;
                assert!(epoch < 2 || late == Err(SiteError::Superseded), "{context}: {late:?}");
                // A put that nobody was answered may be torn; an epoch never is.
                let findings = site.scrub().await.unwrap();
                assert!(
                    findings.iter().all(|found| found.place.contains(".vol:")),
                    "{context}: {findings:?}"
                );
                site.raise(fence(100)).await.unwrap();
            } else {
                assert_eq!(known, 0, "{context}");
            }
            std::fs::remove_dir_all(&image).unwrap();
        }
    }
}

#[tokio::test]
async fn an_epoch_whose_file_rots_is_reported_and_never_becomes_an_older_one() {
    let dir = TempDir::new().unwrap();
    let site = open_with(dir.path(), inline()).unwrap();
    for epoch in 1..=3 {
        site.raise(fence(epoch)).await.unwrap();
    }
    drop(site);
    let file = dir.path().join("epochs").join("07".repeat(16));
    let bytes = std::fs::read(&file).unwrap();
    for at in [0, 8, 24, 69_632, 69_640, 69_660] {
        let mut rotten = bytes.clone();
        rotten[at] ^= 1;
        std::fs::write(&file, &rotten).unwrap();
        let site = open_with(dir.path(), inline()).unwrap();
        let epoch = site.epoch(SCOPE).await.unwrap();
        assert!(epoch == 3 || epoch == 0, "byte {at}: {epoch}");
        assert!(!site.scrub().await.unwrap().is_empty(), "byte {at}");
        assert!(site.state().await.damaged > 0, "byte {at}");
        // The owner goes on, and mends it by doing so.
        site.change_under(fence(4), Change::Put(vec![record(1, 10)])).await.unwrap();
        assert_eq!(site.scrub().await, Ok(Vec::new()), "byte {at}");
        assert_eq!(site.epoch(SCOPE).await, Ok(4));
        drop(site);
        let site = open_with(dir.path(), inline()).unwrap();
        assert_eq!((site.epoch(SCOPE).await, site.state().await.damaged), (Ok(4), 0), "byte {at}");
        drop(site);
        std::fs::write(&file, &bytes).unwrap();
    }
}

#[tokio::test]
async fn an_epoch_that_cannot_be_written_lets_nothing_pass() {
    let (dir, disk) = (TempDir::new().unwrap(), RecordingDisk::default());
    let site = open_with(dir.path(), on(&disk)).unwrap();
    site.raise(fence(1)).await.unwrap();
    disk.fail_fsync(1);
    let raised = site.change_under(fence(2), Change::Put(vec![record(1, 10)])).await;
    assert_eq!(raised, Err(SiteError::ReadOnly));
    assert_eq!(site.get(record(1, 10).id()).await, Err(SiteError::Missing));
    assert_eq!(site.change_under(fence(3), Change::Put(vec![record(1, 10)])).await, Err(SiteError::ReadOnly));
    drop(site);
    let site = open_with(dir.path(), on(&disk)).unwrap();
    assert!(site.epoch(SCOPE).await.unwrap() >= 1);
    site.change_under(fence(4), Change::Put(vec![record(1, 10)])).await.unwrap();
}
