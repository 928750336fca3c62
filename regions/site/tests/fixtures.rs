//! Directories that every past version wrote still open, with all they hold.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::path::Path;

use coffer_model::SlotId;
use coffer_regions::{Site, SiteError};
use support::{accepts_and_reopens, copy_dir, id, maintain_all, open, open_with, record};
use tempfile::TempDir;

/// What the program that made each fixture put there.
async fn check(dir: &Path) {
    let site = open(dir);
    let lengths = [(1, 61), (2, 0), (3, 5000), (4, 7)].into_iter().chain((13..40).map(|n| (n, 100)));
    let mut count = 0;
    for (n, length) in lengths {
        assert_eq!(site.get(id(n)).await, Ok(record(n, length)));
        count += 1;
    }
    for n in 10..13 {
        assert_eq!(site.get(id(n)).await, Err(SiteError::Missing));
    }
    let state = site.state().await;
    assert_eq!((state.records, state.damaged, state.dead_bytes), (count, 0, 360));
    assert_eq!(site.read_slot(SlotId::from_bytes([0xab; 16])).await.unwrap().generation, 2);
    let site = accepts_and_reopens(site, dir, 900).await;
    assert_eq!(site.scrub().await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_directory_of_every_past_version_opens_and_goes_on() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut seen = 0;
    for fixture in std::fs::read_dir(fixtures).unwrap() {
        let dir = TempDir::new().unwrap();
        copy_dir(&fixture.unwrap().path(), dir.path());
        // An empty directory cannot be kept among the sources.
        std::fs::create_dir_all(dir.path().join("quarantine")).unwrap();
        check(dir.path()).await;
        seen += 1;
    }
    assert!(seen >= 1);
}

#[tokio::test]
async fn a_directory_of_version_1_is_compacted_like_any_other() {
    let dir = TempDir::new().unwrap();
    copy_dir(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1"), dir.path());
    std::fs::create_dir_all(dir.path().join("quarantine")).unwrap();
    let options = coffer_site::SiteOptions { volume_bytes: Some(8 << 10), ..support::inline() };
    let site = open_with(dir.path(), options.clone()).unwrap();
    site.delete([3].into_iter().chain(13..40).map(id).collect()).await.unwrap();
    site.put(vec![record(50, 4000)]).await.unwrap();
    maintain_all(&site).await;
    assert!(!support::volumes(dir.path()).contains(&"00000000.vol".to_owned()));
    drop(site);
    let site = open_with(dir.path(), options).unwrap();
    assert_eq!(site.get(id(1)).await, Ok(record(1, 61)));
    assert_eq!(site.get(id(10)).await, Err(SiteError::Missing));
    assert_eq!(site.state().await.records, 4);
}
