//! Damage to what was acknowledged is reported, costs as little as possible,
//! and never comes back as wrong bytes.

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

use coffer_regions::{Record, Site, SiteError};
use coffer_site::OpenSiteError;
use support::{Sample, accepts_and_reopens, open, open_as, readable, record, volume};
use tempfile::TempDir;

fn three_batches() -> Vec<Vec<Record>> {
    vec![
        vec![record(1, 40), record(2, 30)],
        vec![record(3, 50), record(4, 20)],
        vec![record(5, 35), record(6, 45)],
    ]
}

/// Batches that the flip at `position` does not lie in.
fn others(sample: &Sample, position: usize) -> Vec<Record> {
    let hit = sample.ends.partition_point(|end| *end <= position);
    let kept = sample.batches.iter().enumerate().filter(|(batch, _)| batch + 1 != hit);
    kept.flat_map(|(_, records)| records.clone()).collect()
}

#[tokio::test]
async fn a_flipped_byte_anywhere_is_reported_and_costs_other_batches_nothing() {
    let sample = Sample::of(three_batches()).await;
    let bytes = sample.bytes();
    for position in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[position] ^= 1 << (position % 8);
        let image = sample.image(&flipped);
        let site = open(image.path());
        let others = others(&sample, position);
        assert_eq!(readable(&site, &others).await, others.len(), "flip at {position}");
        let right = readable(&site, &sample.batches.concat()).await;
        assert!(right >= others.len());
        let findings = site.scrub().await.unwrap();
        assert!(!findings.is_empty(), "flip at {position} is not in the scrub");
        assert!(site.state().await.damaged > 0, "flip at {position} is not counted");
        let site = accepts_and_reopens(site, image.path(), 9).await;
        assert_eq!(readable(&site, &others).await, others.len(), "flip at {position}, reopened");
    }
}

#[tokio::test]
async fn one_flipped_bit_in_a_header_or_table_costs_at_most_one_record() {
    let sample = Sample::of(three_batches()).await;
    let bytes = sample.bytes();
    // Beside the count of entries, which says where the bodies lie, and beside
    // the body lengths in the table.
    for position in sample.ends[1]..sample.ends[2] {
        let within = position - sample.ends[1];
        let length = (92..92 + 112).contains(&within) && (20..24).contains(&((within - 92) % 56));
        if (48..52).contains(&within) || length {
            continue;
        }
        let mut flipped = bytes.clone();
        flipped[position] ^= 1;
        let image = sample.image(&flipped);
        let site = open(image.path());
        assert!(readable(&site, &sample.batches.concat()).await >= 5, "flip at {within} of the batch");
    }
}

#[tokio::test]
async fn flips_while_the_site_is_open_are_found_by_reading_and_by_scrub() {
    let sample = Sample::of(three_batches()).await;
    let bytes = sample.bytes();
    let site = open(sample.dir.path());
    for position in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[position] ^= 0x80;
        // In place: the site has the file open.
        support::write(&volume(sample.dir.path(), 0), &flipped);
        readable(&site, &sample.batches.concat()).await;
        assert!(!site.scrub().await.unwrap().is_empty(), "flip at {position}");
    }
}

#[tokio::test]
async fn a_damaged_record_is_replaced_by_the_same_record_and_by_no_other() {
    let sample = Sample::of(three_batches()).await;
    let mut bytes = sample.bytes();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let image = sample.image(&bytes);
    let site = open(image.path());
    let damaged = record(6, 45);
    assert_eq!(site.get(damaged.id()).await, Err(SiteError::Damaged));
    assert_eq!(site.put(vec![record(6, 46)]).await, Err(SiteError::Conflict));
    site.put(vec![damaged.clone()]).await.unwrap();
    assert_eq!(site.get(damaged.id()).await.as_ref(), Ok(&damaged));
    drop(site);
    let site = open(image.path());
    assert_eq!(site.get(damaged.id()).await, Ok(damaged));
    assert_eq!(site.scrub().await, Ok(Vec::new()));
}

#[tokio::test]
async fn a_record_that_rotted_unseen_is_not_acknowledged_again_unwritten() {
    let sample = Sample::of(three_batches()).await;
    let site = open(sample.dir.path());
    let mut bytes = sample.bytes();
    let first_body = 128 + 92 + 112;
    bytes[first_body] ^= 1;
    support::write(&volume(sample.dir.path(), 0), &bytes);
    site.put(vec![record(1, 40)]).await.unwrap();
    assert_eq!(site.get(support::id(1)).await, Ok(record(1, 40)));
}

#[tokio::test]
async fn a_volume_cut_in_the_middle_of_earlier_batches_keeps_what_lies_before() {
    let sample = Sample::of(three_batches()).await;
    let bytes = sample.bytes();
    for length in 0..sample.ends[2] {
        let image = sample.image(&bytes[..length]);
        let site = open(image.path());
        let whole = sample.ends.iter().filter(|end| **end <= length).count().saturating_sub(1);
        let kept = sample.batches[..whole].concat();
        assert_eq!(readable(&site, &kept).await, kept.len(), "cut at {length}");
        assert_eq!(readable(&site, &sample.batches[whole..].concat()).await, 0, "cut at {length}");
        accepts_and_reopens(site, image.path(), 9).await;
    }
}

#[tokio::test]
async fn a_hole_in_the_middle_costs_what_lay_in_it() {
    let sample = Sample::of(three_batches()).await;
    let bytes = sample.bytes();
    let removed = [&bytes[..sample.ends[1]], &bytes[sample.ends[2]..]].concat();
    let mut zeroed = bytes.clone();
    zeroed[sample.ends[1]..sample.ends[2]].fill(0);
    for (image, rest) in [(removed, 2), (zeroed, 4)] {
        let image = sample.image(&image);
        let site = open(image.path());
        assert!(readable(&site, &sample.batches.concat()).await >= rest);
        assert!(site.state().await.damaged > 0);
        accepts_and_reopens(site, image.path(), 9).await;
    }
}

#[tokio::test]
async fn a_record_copied_over_another_is_damage_and_not_that_record() {
    let sample = Sample::of(vec![vec![record(1, 40), record(2, 40)], vec![record(3, 40)]]).await;
    let mut bytes = sample.bytes();
    let bodies = 128 + 92 + 112;
    bytes.copy_within(bodies..bodies + 40, bodies + 40);
    let site = open(sample.image(&bytes).path());
    assert_eq!(site.get(support::id(2)).await, Err(SiteError::Damaged));
    assert_eq!(site.get(support::id(1)).await, Ok(record(1, 40)));
    let mut bytes = sample.bytes();
    bytes.copy_within(220..276, 276);
    let site = open(sample.image(&bytes).path());
    assert_eq!(readable(&site, &[record(1, 40), record(3, 40)]).await, 2);
    assert_eq!(site.get(support::id(2)).await, Err(SiteError::Missing));
    assert!(site.state().await.damaged > 0);
}

#[tokio::test]
async fn a_body_that_holds_copies_of_batches_survives_beside_damage_and_is_not_scanned_as_batches() {
    let inner = Sample::of(three_batches()).await;
    let copy = inner.bytes();
    let id = support::id(50);
    let kind = coffer_regions::RecordKind::Log;
    let nested = Record::new(kind, id, Default::default(), copy.into()).unwrap();
    let sample = Sample::of(vec![vec![record(7, 10)], vec![nested.clone()], vec![record(8, 10)]]).await;
    let mut bytes = sample.bytes();
    bytes[sample.ends[1]..sample.ends[1] + 92].fill(0);
    let site = open(sample.image(&bytes).path());
    assert_eq!(readable(&site, &[record(7, 10), record(8, 10)]).await, 2);
    assert_eq!(readable(&site, &inner.batches.concat()).await, 0, "records of the copy are not the site's");
}

#[tokio::test]
async fn exchanged_and_foreign_volumes_are_refused_by_name() {
    let sample = Sample::of(three_batches()).await;
    let foreign = TempDir::new().unwrap();
    let other = open_as(foreign.path(), 2).unwrap();
    other.put(vec![record(1, 40)]).await.unwrap();
    drop(other);
    let image = sample.image(&support::read(&volume(foreign.path(), 0)));
    assert!(matches!(open_as(image.path(), 1), Err(OpenSiteError::VolumeOfOtherSite { .. })));
    let image = sample.image(&sample.bytes());
    support::write(&volume(image.path(), 1), &sample.bytes());
    assert!(matches!(open_as(image.path(), 1), Err(OpenSiteError::VolumeExchanged { found: 0, .. })));
}

#[tokio::test]
async fn a_volume_that_lost_both_headers_is_damage_and_the_site_goes_on() {
    let sample = Sample::of(three_batches()).await;
    let mut bytes = sample.bytes();
    bytes[..128].fill(0);
    let image = sample.image(&bytes);
    let site = open(image.path());
    assert_eq!(site.state().await.damaged, 1);
    assert_eq!(readable(&site, &sample.batches.concat()).await, 0);
    assert!(!site.scrub().await.unwrap().is_empty());
    accepts_and_reopens(site, image.path(), 9).await;
    assert_eq!(support::read(&volume(image.path(), 0)), bytes, "damage is left as it is");
}

#[tokio::test]
async fn a_directory_of_another_site_and_a_second_opener_are_refused() {
    let dir = TempDir::new().unwrap();
    let site = open(dir.path());
    assert!(matches!(open_as(dir.path(), 1), Err(OpenSiteError::Locked { .. })));
    drop(site);
    assert!(matches!(open_as(dir.path(), 2), Err(OpenSiteError::OtherSite { .. })));
    drop(open(dir.path()));
}

#[tokio::test]
async fn a_slot_with_a_flipped_byte_in_one_half_is_read_from_the_other() {
    use coffer_model::SlotId;
    use coffer_regions::SlotContent;
    let dir = TempDir::new().unwrap();
    let site = open(dir.path());
    let slot = SlotId::from_bytes([0xab; 16]);
    let content = |generation: u64| SlotContent { generation, body: format!("keys {generation}").into() };
    site.write_slot(slot, content(1)).await.unwrap();
    site.write_slot(slot, content(2)).await.unwrap();
    let path = dir.path().join("slots").join("ab".repeat(16));
    let bytes = support::read(&path);
    let half = bytes.len() / 2;
    for position in (0..100).chain(4090..4110).chain([half - 1]) {
        let mut flipped = bytes.clone();
        flipped[half + position] ^= 4;
        support::write(&path, &flipped);
        assert_eq!(site.read_slot(slot).await, Ok(content(1)), "flip at {position}");
        assert_eq!(site.scrub().await.unwrap().len(), 1, "flip at {position}");
        flipped[position] ^= 4;
        support::write(&path, &flipped);
        assert_eq!(site.read_slot(slot).await, Err(SiteError::Damaged), "both at {position}");
        assert_eq!(site.wipe_superseded(slot).await, Err(SiteError::Damaged));
    }
    support::write(&path, &bytes);
    assert_eq!(site.read_slot(slot).await, Ok(content(2)));
    site.wipe_superseded(slot).await.unwrap();
    assert!(support::read(&path)[..half].iter().all(|byte| *byte == 0), "the old generation is gone");
    // A slot's file under the name of another slot is no slot.
    support::write(&dir.path().join("slots").join("cd".repeat(16)), &bytes);
    assert_eq!(site.read_slot(SlotId::from_bytes([0xcd; 16])).await, Err(SiteError::Damaged));
}
