//! A checkpoint of the index saves an opening the scan, and is never believed
//! over the volumes.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::path::Path;

use coffer_regions::{ListedRecord, RecordKind, ScrubFinding, Site, SiteState};
use coffer_site::{DirectorySite, SiteOptions, Upkeep};
use support::{accepts_and_reopens, copy_dir, id, open_with, quick, read, record, volume, write};
use tempfile::TempDir;

fn options() -> SiteOptions {
    SiteOptions { volume_bytes: Some(4 << 10), checkpoint_bytes: 2 << 10, ..quick() }
}

fn open(dir: &Path) -> DirectorySite {
    open_with(dir, options()).unwrap()
}

/// A site of several volumes, closed, with removals and replaced records.
async fn closed() -> TempDir {
    closed_with(0).await
}

/// The same with other ids: the same lengths everywhere, other content.
async fn closed_with(first: u64) -> TempDir {
    let dir = TempDir::new().unwrap();
    let site = open(dir.path());
    for n in 0..18 {
        site.put(vec![record(first + n, 400), record(first + 100 + n, 0)]).await.unwrap();
    }
    site.delete((0..6).map(|n| id(first + n * 3)).collect()).await.unwrap();
    site.put(vec![record(first + 3, 77)]).await.unwrap();
    dir
}

/// Everything that an opened site shows.
async fn seen(site: &DirectorySite) -> (Vec<ListedRecord>, SiteState) {
    let listed = site.list(RecordKind::Shard, None, usize::MAX).await.unwrap();
    for line in &listed {
        assert_eq!(site.get(line.id).await.unwrap().digest(), line.digest);
    }
    let state = site.state().await;
    (listed, SiteState { free_bytes: None, ..state })
}

/// What the volumes alone say, and how many bytes they are.
async fn scanned(dir: &Path) -> ((Vec<ListedRecord>, SiteState), u64) {
    let copy = TempDir::new().unwrap();
    copy_dir(dir, copy.path());
    let _ = std::fs::remove_file(copy.path().join("CHECKPOINT"));
    let site = open(copy.path());
    assert!(site.scanned_bytes() > 0);
    (seen(&site).await, site.scanned_bytes())
}

#[tokio::test]
async fn a_site_that_was_closed_is_opened_without_a_scan_and_shows_the_same() {
    let dir = closed().await;
    let (expected, _) = scanned(dir.path()).await;
    let site = open(dir.path());
    assert_eq!(site.scanned_bytes(), 0);
    assert_eq!(seen(&site).await, expected);
    let site = accepts_and_reopens(site, dir.path(), 900).await;
    assert_eq!(site.scrub().await, Ok(Vec::new()));
}

#[tokio::test]
async fn only_what_was_written_since_a_checkpoint_is_scanned() {
    let dir = closed().await;
    let site = open(dir.path());
    for n in 200..215 {
        site.put(vec![record(n, 200)]).await.unwrap();
    }
    site.delete(vec![id(7), id(200)]).await.unwrap();
    let killed = TempDir::new().unwrap();
    copy_dir(dir.path(), killed.path());
    drop(site);
    let (expected, all) = scanned(killed.path()).await;
    let site = open(killed.path());
    assert!(site.scanned_bytes() > 0 && site.scanned_bytes() < all / 2, "{}", site.scanned_bytes());
    assert_eq!(seen(&site).await, expected);
}

#[tokio::test]
async fn a_checkpoint_is_written_after_so_many_bytes() {
    let dir = TempDir::new().unwrap();
    let site = open(dir.path());
    site.put(vec![record(1, 100)]).await.unwrap();
    assert_eq!(site.maintain().await, Ok(Upkeep::Nothing));
    site.put(vec![record(2, 3000)]).await.unwrap();
    assert!(matches!(site.maintain().await, Ok(Upkeep::Checkpoint(_))));
    assert_eq!(site.maintain().await, Ok(Upkeep::Nothing));
    assert!(dir.path().join("CHECKPOINT").exists());
}

#[tokio::test]
async fn a_checkpoint_with_any_byte_flipped_or_cut_anywhere_is_ignored() {
    let dir = closed().await;
    let (expected, all) = scanned(dir.path()).await;
    let bytes = read(&dir.path().join("CHECKPOINT"));
    let image = TempDir::new().unwrap();
    copy_dir(dir.path(), image.path());
    for position in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[position] ^= 1 << (position % 8);
        for (what, wrong) in [("flip", &flipped[..]), ("cut", &bytes[..position])] {
            // Every byte is flipped; of the cuts, some are enough.
            if what == "cut" && position % 16 != 0 {
                continue;
            }
            write(&image.path().join("CHECKPOINT"), wrong);
            let site = open(image.path());
            assert_eq!(site.scanned_bytes(), all, "{what} at {position}");
            assert_eq!(seen(&site).await, expected, "{what} at {position}");
        }
    }
}

#[tokio::test]
async fn an_old_checkpoint_is_continued_and_one_of_other_volumes_is_ignored() {
    let dir = closed().await;
    let old = read(&dir.path().join("CHECKPOINT"));
    let site = open(dir.path());
    for n in 300..330 {
        site.put(vec![record(n, 200)]).await.unwrap();
    }
    drop(site);
    let (expected, all) = scanned(dir.path()).await;
    let latest = read(&dir.path().join("CHECKPOINT"));
    write(&dir.path().join("CHECKPOINT"), &old);
    let site = open(dir.path());
    assert!(site.scanned_bytes() < all);
    assert_eq!(seen(&site).await, expected);
    drop(site);

    // The same site in another history: the same id, names and lengths.
    let other = closed_with(5000).await;
    let (expected, all) = scanned(other.path()).await;
    for checkpoint in [&old, &latest] {
        let copy = TempDir::new().unwrap();
        copy_dir(other.path(), copy.path());
        write(&copy.path().join("CHECKPOINT"), checkpoint);
        let site = open(copy.path());
        assert_eq!(site.scanned_bytes(), all);
        assert_eq!(seen(&site).await, expected);
    }
}

#[tokio::test]
async fn a_volume_shorter_or_older_than_the_checkpoint_says_is_scanned() {
    let dir = closed().await;
    let names = support::volumes(dir.path());
    for name in &names {
        let copy = TempDir::new().unwrap();
        copy_dir(dir.path(), copy.path());
        let path = copy.path().join("volumes").join(name);
        let bytes = read(&path);
        write(&path, &bytes[..bytes.len() - 10]);
        let (expected, all) = scanned(copy.path()).await;
        let site = open(copy.path());
        assert_eq!(site.scanned_bytes(), all, "{name} is cut");
        assert_eq!(seen(&site).await, expected, "{name} is cut");
    }
    let copy = TempDir::new().unwrap();
    copy_dir(dir.path(), copy.path());
    std::fs::remove_file(copy.path().join("volumes").join(&names[1])).unwrap();
    let (expected, all) = scanned(copy.path()).await;
    let site = open(copy.path());
    assert_eq!(site.scanned_bytes(), all, "a volume is missing");
    assert_eq!(seen(&site).await, expected);
    assert!(site.state().await.damaged > 0);
}

/// Everything that steps of so many bytes find.
async fn pass(site: &DirectorySite, bytes_max: u64) -> (Vec<ScrubFinding>, u64) {
    let (mut findings, mut records, mut from) = (Vec::new(), 0, None);
    loop {
        let step = site.scrub_step(from, bytes_max).await.unwrap();
        assert!(step.next.is_none() || step.next > from, "a step goes on");
        findings.extend(step.findings);
        (records, from) = (records + step.records, step.next);
        if from.is_none() {
            return (findings, records);
        }
    }
}

#[tokio::test]
async fn a_pass_verifies_what_was_written_first_first_whatever_the_steps() {
    let dir = TempDir::new().unwrap();
    let site = open(dir.path());
    // Not the order of their ids, and over several volumes.
    let numbers: Vec<u64> = (0..24).map(|n| n * 7 % 24).collect();
    for n in &numbers {
        site.put(vec![record(*n, 400)]).await.unwrap();
    }
    // What is replaced is as young as its last copy.
    site.delete(vec![id(numbers[0])]).await.unwrap();
    site.put(vec![record(numbers[0], 400)]).await.unwrap();
    drop(site);
    let written: Vec<u64> = numbers[1..].iter().chain(&numbers[..1]).copied().collect();
    // All of it rots, so that every record is named when it is read.
    for name in support::volumes(dir.path()) {
        let path = dir.path().join("volumes").join(name);
        let mut bytes = read(&path);
        for n in &numbers {
            let body = record(*n, 400).body().clone();
            let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(&body)).collect();
            places.into_iter().for_each(|at| bytes[at] ^= 1);
        }
        write(&path, &bytes);
    }
    let site = open(dir.path());
    assert!(support::volumes(dir.path()).len() > 2);
    for bytes_max in [1, 900, u64::MAX] {
        let (findings, records) = pass(&site, bytes_max).await;
        let read: Vec<_> = findings.iter().map(|finding| finding.record.unwrap()).collect();
        assert_eq!(read, written.iter().map(|n| id(*n)).collect::<Vec<_>>(), "in steps of {bytes_max}");
        assert_eq!(records, 24);
    }
}

#[tokio::test]
async fn rot_in_headers_and_tables_that_a_checkpoint_covers_is_found_by_a_pass_in_steps() {
    let dir = closed().await;
    // The volume's own header, the first batch's, its table.
    for (number, at) in [(0, 20), (0, 128 + 40), (1, 64 + 20), (1, 128 + 92 + 5)] {
        let path = volume(dir.path(), number);
        let whole = read(&path);
        let mut rotten = whole.clone();
        rotten[at] ^= 1;
        write(&path, &rotten);
        let site = open(dir.path());
        assert_eq!(site.scanned_bytes(), 0, "the checkpoint covers it");
        for bytes_max in [1, 300, u64::MAX] {
            let (findings, records) = pass(&site, bytes_max).await;
            assert!(!findings.is_empty(), "byte {at}, in steps of {bytes_max}");
            assert!(findings.iter().all(|finding| finding.record.is_none()), "no body is damaged");
            assert_eq!(records, site.state().await.records);
        }
        drop(site);
        write(&path, &whole);
    }
    assert_eq!(pass(&open(dir.path()), 1).await.0, Vec::new());
}
