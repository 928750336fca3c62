//! What a crash leaves behind the last acknowledged batch costs nothing that
//! was acknowledged, and the site goes on.

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

use coffer_regions::{Record, Site, SiteError};
use support::{Sample, accepts_and_reopens, open, readable, record};

fn three_batches() -> Vec<Vec<Record>> {
    vec![
        vec![record(1, 60), record(2, 0)],
        vec![record(3, 100)],
        vec![record(4, 50), record(5, 1), record(6, 90)],
    ]
}

#[tokio::test]
async fn a_last_batch_cut_at_any_length_is_there_whole_or_not_at_all() {
    let sample = Sample::of(three_batches()).await;
    let bytes = sample.bytes();
    assert_eq!(bytes.len(), sample.ends[3]);
    for length in sample.ends[2]..=bytes.len() {
        let image = sample.image(&bytes[..length]);
        let site = open(image.path());
        let earlier = sample.batches[..2].concat();
        assert_eq!(readable(&site, &earlier).await, 3, "cut at {length}");
        let whole = length == bytes.len();
        assert_eq!(readable(&site, &sample.batches[2]).await, if whole { 3 } else { 0 }, "cut at {length}");
        assert_eq!(site.state().await.damaged, 0, "a write that was not acknowledged is no damage");
        let site = accepts_and_reopens(site, image.path(), 9).await;
        assert_eq!(readable(&site, &earlier).await, 3, "cut at {length}, reopened");
        assert_eq!(site.scrub().await, Ok(Vec::new()));
    }
}

#[tokio::test]
async fn pages_of_the_last_batch_that_never_reached_the_disk_cost_only_that_batch() {
    let batches = vec![vec![record(1, 5000)], vec![record(2, 3000), record(3, 9000), record(4, 6000)]];
    let sample = Sample::of(batches).await;
    let (bytes, start) = (sample.bytes(), sample.ends[1]);
    let pages = start / 4096..bytes.len().div_ceil(4096);
    for lost in 1..1_u32 << pages.len() {
        let mut image = bytes.clone();
        for (bit, page) in pages.clone().enumerate().filter(|(bit, _)| lost >> bit & 1 == 1) {
            let end = (page * 4096 + 4096).min(bytes.len());
            let noise = if lost % 2 == 0 { 0 } else { 0x5a ^ u8::try_from(bit).unwrap() };
            image[(page * 4096).max(start)..end].fill(noise);
        }
        let image = sample.image(&image);
        let site = open(image.path());
        assert_eq!(readable(&site, &sample.batches[0]).await, 1, "pages {lost:b}");
        let rest = readable(&site, &sample.batches[1]).await;
        assert!(rest < 3 && site.state().await.damaged > 0, "pages {lost:b}");
        let site = accepts_and_reopens(site, image.path(), 9).await;
        assert_eq!(readable(&site, &sample.batches[0]).await, 1, "pages {lost:b}, reopened");
        assert_eq!(readable(&site, &sample.batches[1]).await, rest, "pages {lost:b}, reopened");
    }
}

#[tokio::test]
async fn any_bytes_behind_the_last_batch_are_cut_and_kept_aside() {
    let sample = Sample::of(three_batches()).await;
    for (fill, length) in [(0, 1), (0, 5000), (0xff, 91), (0xff, 92), (0xff, 70_000)] {
        let bytes = [sample.bytes(), vec![fill; length]].concat();
        let image = sample.image(&bytes);
        let site = open(image.path());
        assert_eq!(readable(&site, &sample.batches.concat()).await, 6);
        let kept: Vec<_> = std::fs::read_dir(image.path().join("quarantine")).unwrap().collect();
        assert_eq!(kept.len(), 1);
        assert_eq!(support::read(&kept[0].as_ref().unwrap().path()), vec![fill; length]);
        let site = accepts_and_reopens(site, image.path(), 9).await;
        assert_eq!(site.scrub().await, Ok(Vec::new()));
        assert_eq!(site.state().await.damaged, 0);
    }
}

#[tokio::test]
async fn a_tail_that_copies_an_earlier_batch_is_not_taken_for_a_batch() {
    let sample = Sample::of(three_batches()).await;
    let site = open(sample.dir.path());
    site.delete(vec![support::id(3)]).await.unwrap();
    drop(site);
    let bytes = sample.bytes();
    let replayed = [&bytes[..], &bytes[sample.ends[1]..sample.ends[2]]].concat();
    let image = sample.image(&replayed);
    let site = open(image.path());
    // The body of record 3 proves itself, but its batch does not.
    assert!(site.state().await.damaged > 0);
    assert_eq!(readable(&site, &[sample.batches[0].clone(), sample.batches[2].clone()].concat()).await, 5);
}

#[tokio::test]
async fn leftovers_of_files_that_were_being_created_are_removed() {
    let sample = Sample::of(three_batches()).await;
    let leftover = sample.dir.path().join("volumes/00000001.vol.new");
    support::write(&leftover, b"half a header");
    let slot = sample.dir.path().join("slots/00112233445566778899aabbccddeeff.new");
    support::write(&slot, b"half a slot");
    let site = open(sample.dir.path());
    assert!(!leftover.exists() && !slot.exists());
    assert_eq!(readable(&site, &sample.batches.concat()).await, 6);
    assert_eq!(site.list_slots().await, Ok(Vec::new()));
}

#[tokio::test]
async fn leftovers_that_cannot_be_removed_close_the_site_for_writing_and_not_for_reading() {
    for leftover in
        ["CHECKPOINT.new", "volumes/00000001.vol.new", "slots/00112233445566778899aabbccddeeff.new"]
    {
        let sample = Sample::of(three_batches()).await;
        // A folder, which the removal of a file does not remove.
        let path = sample.dir.path().join(leftover);
        std::fs::create_dir(&path).unwrap();
        let site = open(sample.dir.path());
        assert!(path.exists() && site.state().await.read_only, "{leftover}");
        assert_eq!(readable(&site, &sample.batches.concat()).await, 6, "{leftover}");
        assert_eq!(site.put(vec![record(9, 40)]).await, Err(SiteError::ReadOnly), "{leftover}");
        assert_eq!(site.list_slots().await, Ok(Vec::new()), "{leftover}");
        drop(site);
        std::fs::remove_dir(&path).unwrap();
        let site = accepts_and_reopens(open(sample.dir.path()), sample.dir.path(), 9).await;
        assert_eq!(readable(&site, &sample.batches.concat()).await, 6, "{leftover}");
    }
}
