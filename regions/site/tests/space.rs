//! A full site refuses early, reads always, and can be emptied again.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]
#![expect(clippy::disallowed_methods, reason = "a test fills a file system on purpose")]

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use coffer_model::SlotId;
use coffer_regions::{Site, SiteError, SlotContent};
use coffer_site::faults::RecordingDisk;
use coffer_site::{DirectorySite, Room, SiteOptions, Upkeep};
use support::{id, inline, maintain_all, open_with, record};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

/// Puts records of 10 kB until the site is full; how many it took.
async fn fill(site: &DirectorySite, from: u64) -> u64 {
    for n in from..from + 5000 {
        match site.put(vec![record(n, 10_000)]).await {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error, SiteError::Full);
                return n - from;
            }
        }
    }
    5000
}

/// Fills the site, and holds it to what a full site promises.
async fn is_full_and_can_be_emptied(site: &DirectorySite) {
    let taken = fill(site, 0).await;
    assert!(taken > 20 && taken < 5000, "{taken}");
    assert!(site.state().await.free_bytes.unwrap() < 11_000);
    assert!(!site.state().await.read_only, "full is not broken");
    for n in 0..taken {
        assert_eq!(site.get(id(n)).await, Ok(record(n, 10_000)), "a full site reads");
    }
    site.put(vec![record(1, 10_000)]).await.unwrap();
    let slot = SlotContent { generation: 1, body: "keys".into() };
    site.write_slot(SlotId::from_bytes([1; 16]), slot).await.unwrap();
    // Three of four die, everywhere, so that every volume has some to copy.
    let dying = (0..taken).filter(|n| n % 4 != 0);
    assert_eq!(site.delete(dying.clone().map(id).collect()).await, Ok(u64::try_from(dying.count()).unwrap()));
    maintain_all(site).await;
    let again = fill(site, 10_000).await;
    assert!(again > taken / 2, "{again} of {taken} fit again");
    for n in (0..taken).filter(|n| n % 4 == 0) {
        assert_eq!(site.get(id(n)).await, Ok(record(n, 10_000)));
    }
    assert_eq!(site.scrub().await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_site_on_a_full_disk_reads_deletes_and_compacts() {
    let dir = TempDir::new().unwrap();
    let disk = RecordingDisk::default();
    disk.set_room(Some(Room { total: 8 * MIB, free: 8 * MIB }));
    let options = SiteOptions { disk: Arc::new(disk), ..inline() };
    let site = open_with(dir.path(), options.clone()).unwrap();
    is_full_and_can_be_emptied(&site).await;
    drop(site);
    let site = open_with(dir.path(), options).unwrap();
    assert_eq!(site.state().await.damaged, 0);
}

#[tokio::test]
async fn a_site_keeps_to_the_size_that_it_was_given() {
    let dir = TempDir::new().unwrap();
    let options = SiteOptions { capacity_bytes: Some(4 * MIB), ..inline() };
    let site = open_with(dir.path(), options).unwrap();
    is_full_and_can_be_emptied(&site).await;
    assert!(site.state().await.volume_bytes <= 4 * MIB);
}

#[tokio::test]
async fn a_site_without_room_for_a_checkpoint_compacts_nevertheless() {
    let dir = TempDir::new().unwrap();
    let disk = RecordingDisk::default();
    let options = SiteOptions {
        disk: Arc::new(disk.clone()),
        volume_bytes: Some(64 << 10),
        checkpoint_bytes: 1,
        ..inline()
    };
    let site = open_with(dir.path(), options).unwrap();
    for n in 0..60 {
        site.put((0..50).map(|m| record(n * 50 + m, 10)).collect()).await.unwrap();
    }
    site.delete((0..900).map(id).collect()).await.unwrap();
    disk.set_room(Some(Room { total: 8 * MIB, free: 200 << 10 }));
    let done = maintain_all(&site).await;
    assert!(done.iter().any(|step| matches!(step, Upkeep::Reclaimed(_))), "{done:?}");
    assert!(!done.iter().any(|step| matches!(step, Upkeep::Checkpoint(_))), "{done:?}");
}

/// A file system of its own, as long as this lives.
struct Mounted(PathBuf);

impl Mounted {
    fn new(dir: &Path) -> Option<Self> {
        let options = ["-t", "tmpfs", "-o", "size=6m", "tmpfs"];
        let mounted = Command::new("mount").args(options).arg(dir).output();
        mounted.is_ok_and(|done| done.status.success()).then(|| Self(dir.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_site_on_a_small_file_system_survives_that_others_fill_it() {
    let dir = TempDir::new().unwrap();
    let Some(mounted) = Mounted::new(dir.path()) else {
        // Said where everybody sees it; the simulated disk above still ran.
        eprintln!("SKIPPED: no file system can be mounted here, so none was filled for real");
        return;
    };
    let root = mounted.0.join("site");
    let site = open_with(&root, inline()).unwrap();
    is_full_and_can_be_emptied(&site).await;
    // Somebody else takes the rest, also what the site keeps in reserve.
    let other = mounted.0.join("other");
    let mut written = vec![0; 6 * usize::try_from(MIB).unwrap()];
    while std::fs::write(&other, &written).is_err() && written.len() > 4096 {
        written.truncate(written.len() - 4096);
    }
    assert_eq!(site.put(vec![record(90_000, 100)]).await, Err(SiteError::Full));
    assert_eq!(site.get(id(0)).await, Ok(record(0, 10_000)));
    let deleted = site.delete((10_000..10_020).map(id).collect()).await;
    assert!(matches!(deleted, Ok(20) | Err(SiteError::Full)), "{deleted:?}");
    assert!(!site.state().await.read_only);
    std::fs::remove_file(&other).unwrap();
    site.delete((10_000..10_020).map(id).collect()).await.unwrap();
    maintain_all(&site).await;
    drop(site);
    let site = open_with(&root, inline()).unwrap();
    assert_eq!(site.get(id(0)).await, Ok(record(0, 10_000)));
    assert_eq!(site.state().await.damaged, 0);
}
