//! The power is cut during every operation of a workload on the disk, with
//! what was not fsynced lost at random: whatever was acknowledged is there.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot be set up, or finds a loss, fails"
)]

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use coffer_model::{RecordId, SlotId};
use coffer_regions::{Record, RecordKind, Site, SiteError, SlotContent};
use coffer_site::faults::{RecordingDisk, Survivors};
use coffer_site::{DirectorySite, SiteOptions, inspect};
use support::{inline, open_with, record};
use tempfile::TempDir;

/// A small generator; the workload follows from its seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<Record>),
    Delete(Vec<RecordId>),
    Slot(SlotId, SlotContent),
    Wipe(SlotId),
    Reopen,
    Maintain,
}

fn steps(seed: u64, count: usize) -> Vec<Step> {
    let mut dice = Dice(seed);
    let mut generation = 0;
    let mut step = || match dice.below(18) {
        0..=5 => {
            let records = 1 + dice.below(4);
            let put = (0..records).map(|_| {
                let n = dice.below(20);
                // One id always has one length, so that no put is a conflict.
                record(n, usize::try_from(n * n * 23 % 9000).unwrap())
            });
            Step::Put(put.collect())
        }
        6..=8 => Step::Delete((0..=dice.below(4)).map(|_| support::id(dice.below(20))).collect()),
        9 => {
            generation += 1;
            let slot = SlotId::from_bytes([u8::try_from(dice.below(2)).unwrap(); 16]);
            let body = vec![u8::try_from(generation % 251).unwrap(); 300];
            Step::Slot(slot, SlotContent { generation, body: body.into() })
        }
        10 => Step::Wipe(SlotId::from_bytes([u8::try_from(dice.below(2)).unwrap(); 16])),
        11 => Step::Reopen,
        _ => Step::Maintain,
    };
    (0..count).map(|_| step()).collect()
}

/// What a site may hold after everything that it acknowledged, and after one
/// request that it did not answer.
#[derive(Default)]
struct Acknowledged {
    records: BTreeMap<RecordId, BTreeSet<Held>>,
    slots: BTreeMap<SlotId, BTreeSet<Option<u64>>>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Held {
    Nothing,
    Record([u8; 32]),
    /// Torn, of which nobody was told that it is there.
    Torn,
}

impl Acknowledged {
    fn note(&mut self, step: &Step, answered: bool) {
        let mut may = |id: RecordId, held: Held, torn: bool| {
            let set = self.records.entry(id).or_insert_with(|| BTreeSet::from([Held::Nothing]));
            if answered {
                set.clear();
            } else if torn && !set.contains(&held) {
                set.insert(Held::Torn);
            }
            set.insert(held);
        };
        match step {
            Step::Put(records) => {
                records.iter().for_each(|record| may(record.id(), Held::Record(record.digest().0), true));
            }
            Step::Delete(ids) => ids.iter().for_each(|id| may(*id, Held::Nothing, false)),
            Step::Slot(slot, content) => {
                let set = self.slots.entry(*slot).or_insert_with(|| BTreeSet::from([None]));
                if answered {
                    set.clear();
                }
                set.insert(Some(content.generation));
            }
            Step::Wipe(_) | Step::Reopen | Step::Maintain => {}
        }
    }

    async fn check(&self, site: &DirectorySite, context: &str) {
        let mut living = 0;
        for (id, may) in &self.records {
            let held = match site.get(*id).await {
                Ok(record) => Held::Record(record.digest().0),
                Err(SiteError::Missing) => Held::Nothing,
                Err(SiteError::Damaged) => Held::Torn,
                Err(error) => panic!("{context}: {error}"),
            };
            assert!(may.contains(&held), "{context}: {id} is {held:?}, may be {may:?}");
            living += usize::from(held != Held::Nothing);
        }
        let listed = site.list(RecordKind::Shard, None, usize::MAX).await.unwrap();
        assert_eq!(listed.len(), living, "{context}: the listing is what can be read");
        for (slot, may) in &self.slots {
            let held = site.read_slot(*slot).await.ok().map(|content| content.generation);
            assert!(may.contains(&held), "{context}: {slot} is {held:?}, may be {may:?}");
        }
    }
}

async fn perform(site: &DirectorySite, step: &Step) -> Result<(), SiteError> {
    match step {
        Step::Put(records) => site.put(records.clone()).await.map(drop),
        Step::Delete(ids) => site.delete(ids.clone()).await.map(drop),
        Step::Slot(slot, content) => site.write_slot(*slot, content.clone()).await,
        Step::Wipe(slot) => match site.wipe_superseded(*slot).await {
            Err(SiteError::Missing) => Ok(()),
            done => done,
        },
        Step::Maintain => site.maintain().await.map(drop),
        Step::Reopen => Ok(()),
    }
}

fn options(disk: &RecordingDisk) -> SiteOptions {
    // Small volumes, so that they are compacted and checkpoints matter.
    SiteOptions {
        disk: Arc::new(disk.clone()),
        volume_bytes: Some(16 << 10),
        checkpoint_bytes: 24 << 10,
        ..inline()
    }
}

/// Runs the steps until one is not answered; what was acknowledged until then.
async fn run(dir: &Path, disk: &RecordingDisk, steps: &[Step]) -> Acknowledged {
    let mut acknowledged = Acknowledged::default();
    let Ok(mut site) = open_with(dir, options(disk)) else { return acknowledged };
    for step in steps {
        if matches!(step, Step::Reopen) {
            drop(site);
            match open_with(dir, options(disk)) {
                Ok(opened) => site = opened,
                Err(_) => return acknowledged,
            }
        }
        let answered = perform(&site, step).await;
        assert!(answered.is_ok() || disk.power_is_cut(), "{answered:?}");
        acknowledged.note(step, answered.is_ok());
        if answered.is_err() {
            break;
        }
    }
    acknowledged
}

/// Opens the image, checks it, and that it takes a record and keeps all.
async fn check_image(dir: &Path, acknowledged: &Acknowledged, context: &str) {
    if !dir.join("SITE").exists() {
        assert!(acknowledged.records.is_empty() && acknowledged.slots.is_empty(), "{context}: no site");
        return;
    }
    let seen = inspect(dir, false).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(seen.losses, Vec::new(), "{context}: no crash makes the checkpoint name what is not there");
    let disk = RecordingDisk::default();
    let site = open_with(dir, options(&disk)).unwrap_or_else(|error| panic!("{context}: {error}"));
    acknowledged.check(&site, context).await;
    let new = record(1000, 40);
    site.put(vec![new.clone()]).await.unwrap_or_else(|error| panic!("{context}: {error}"));
    drop(site);
    let site = open_with(dir, options(&disk)).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(site.get(new.id()).await, Ok(new), "{context}");
    site.delete(vec![support::id(1000)]).await.unwrap();
    acknowledged.check(&site, context).await;
}

async fn cut_everywhere(seed: u64, count: usize, images: u64) {
    let steps = steps(seed, count);
    let (dir, disk) = (TempDir::new().unwrap(), RecordingDisk::default());
    run(&dir.path().join("site"), &disk, &steps).await;
    let ledger = dir.path().join("site/RETIRED");
    assert!(ledger.exists(), "the workload of seed {seed} compacts");
    for nth in 1..=disk.operations() {
        let (dir, disk) = (TempDir::new().unwrap(), RecordingDisk::default());
        disk.cut_power_during(nth);
        let from = dir.path().join("site");
        let acknowledged = run(&from, &disk, &steps).await;
        let drawn = (0..images).map(|image| Survivors::Seeded(seed * 1000 + nth * 10 + image));
        for survivors in [Survivors::None, Survivors::All].into_iter().chain(drawn) {
            let into = dir.path().join("image");
            disk.crash_image(&from, &into, survivors).unwrap();
            let context = format!("seed {seed}, cut in operation {nth}, {survivors:?}");
            check_image(&into, &acknowledged, &context).await;
            std::fs::remove_dir_all(&into).unwrap();
        }
    }
}

#[tokio::test]
async fn whatever_was_acknowledged_survives_a_power_cut_in_any_operation() {
    for seed in [1, 3] {
        cut_everywhere(seed, 60, 1).await;
    }
}

/// Opens copies of the image with the power cut in each operation of the
/// opening, and checks what is read then and what such a cut leaves.
async fn cut_the_opening(image: &Path, acknowledged: &Acknowledged, context: &str) -> u64 {
    for nth in 1.. {
        let (dir, disk) = (TempDir::new().unwrap(), RecordingDisk::default());
        let (from, into) = (dir.path().join("site"), dir.path().join("image"));
        support::copy_dir(image, &from);
        disk.cut_power_during(nth);
        let context = format!("{context}, then in operation {nth} of the opening");
        let site = open_with(&from, options(&disk)).unwrap_or_else(|error| panic!("{context}: {error}"));
        if !disk.power_is_cut() {
            return nth - 1;
        }
        acknowledged.check(&site, &context).await;
        let refused = site.put(vec![record(1000, 40)]).await;
        assert_eq!(refused, Err(SiteError::ReadOnly), "{context}");
        drop(site);
        disk.crash_image(&from, &into, Survivors::Seeded(nth)).unwrap();
        check_image(&into, acknowledged, &context).await;
    }
    unreachable!("an opening ends");
}

#[tokio::test]
async fn an_opening_during_which_every_change_begins_to_fail_still_reads_whatever_was_acknowledged() {
    let steps = steps(1, 60);
    let (dir, disk) = (TempDir::new().unwrap(), RecordingDisk::default());
    run(&dir.path().join("site"), &disk, &steps).await;
    let (mut longest, mut unfinished) = (0, 0);
    for nth in 1..=disk.operations() {
        let (dir, disk) = (TempDir::new().unwrap(), RecordingDisk::default());
        disk.cut_power_during(nth);
        let (from, image) = (dir.path().join("site"), dir.path().join("image"));
        let acknowledged = run(&from, &disk, &steps).await;
        disk.crash_image(&from, &image, Survivors::Seeded(nth)).unwrap();
        if image.join("SITE").exists() {
            unfinished += usize::from(has_unfinished(&image));
            let context = format!("cut in operation {nth}");
            longest = longest.max(cut_the_opening(&image, &acknowledged, &context).await);
        }
    }
    assert!(longest > 4 && unfinished > 0, "some openings change something: {longest}, {unfinished}");
}

/// Whether a file is there whose making the power cut ended.
fn has_unfinished(image: &Path) -> bool {
    ["", "volumes", "slots"].iter().any(|folder| {
        let mut files = std::fs::read_dir(image.join(folder)).unwrap();
        files.any(|file| file.unwrap().path().extension().is_some_and(|extension| extension == "new"))
    })
}

#[tokio::test]
async fn a_recording_disk_loses_what_was_not_fsynced_and_nothing_else() {
    let dir = TempDir::new().unwrap();
    let disk = RecordingDisk::default();
    let root = dir.path().join("site");
    let site = open_with(&root, options(&disk)).unwrap();
    site.put(vec![record(1, 5000)]).await.unwrap();
    disk.fail_fsync(1);
    assert_eq!(site.put(vec![record(2, 9000)]).await, Err(SiteError::ReadOnly));
    disk.crash_image(&root, &dir.path().join("none"), Survivors::None).unwrap();
    disk.crash_image(&root, &dir.path().join("all"), Survivors::All).unwrap();
    let length = |name: &str| std::fs::metadata(support::volume(&dir.path().join(name), 0)).unwrap().len();
    assert!(length("none") + 9000 < length("all"), "the second batch was not fsynced");
    let none = open_with(&dir.path().join("none"), inline()).unwrap();
    assert_eq!(none.get(support::id(1)).await, Ok(record(1, 5000)));
    assert_eq!(none.get(support::id(2)).await, Err(SiteError::Missing));
    drop(site);
    // The failed fsync gave its pages up: what is read next comes from the medium.
    let again = open_with(&root, options(&disk)).unwrap();
    assert_eq!(again.get(support::id(1)).await, Ok(record(1, 5000)));
    assert_ne!(again.get(support::id(2)).await, Ok(record(2, 9000)));
}
