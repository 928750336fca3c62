//! Blocks are reserved as a help, not as a promise: a site goes on where its
//! disk reserves none, and where the disk is full at that very moment it
//! refuses the put, reads on, and takes it once there is room.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use coffer_model::SlotId;
use coffer_regions::{Site, SiteError, SlotContent};
use coffer_site::faults::{RecordingDisk, Survivors};
use coffer_site::{DirectorySite, Disk, Room, SiteOptions};
use rustix::io::Errno;
use support::{id, inline, open_with, record};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
/// What a statistic of the disk says, whatever it holds: others write there,
/// too, between the look and the write.
const SAID: Room = Room { total: 1 << 40, free: 1 << 40 };

/// A disk that reserves nothing while it has a reason to refuse.
#[derive(Clone, Default)]
struct Unreserved {
    disk: RecordingDisk,
    refusal: Arc<Mutex<Option<Errno>>>,
    asked: Arc<AtomicU64>,
}

impl Unreserved {
    fn refuse(&self, refusal: Option<Errno>) {
        *self.refusal.lock().unwrap() = refusal;
    }

    /// How often it was asked to reserve.
    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// Others take everything but so many bytes, or give it back.
    fn leave(&self, free: Option<u64>) {
        self.disk.set_room(free.map(|free| Room { total: SAID.total, free }));
        self.refuse(free.map(|_| Errno::NOSPC));
    }
}

impl Disk for Unreserved {
    fn reserve(&self, file: &File, offset: u64, bytes: u64) -> io::Result<()> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        match *self.refusal.lock().unwrap() {
            Some(refusal) => Err(refusal.into()),
            None => self.disk.reserve(file, offset, bytes),
        }
    }

    fn room(&self, _: &Path) -> io::Result<Room> {
        Ok(SAID)
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        self.disk.create(path)
    }

    fn write(&self, file: &File, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.disk.write(file, parts, offset)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.disk.sync_data(file)
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        self.disk.sync_all(file)
    }

    fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        self.disk.cut(file, length)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.make_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }

    fn forget_cached(&self, file: &File) {
        self.disk.forget_cached(file);
    }
}

fn options(disk: &Unreserved) -> SiteOptions {
    SiteOptions { disk: Arc::new(disk.clone()), volume_bytes: Some(MIB), ..inline() }
}

/// That these are there, and that nothing is said to be damaged.
async fn has(site: &DirectorySite, numbers: impl Iterator<Item = u64>) {
    for n in numbers {
        assert_eq!(site.get(id(n)).await, Ok(record(n, 20_000)), "{n}");
    }
    assert_eq!(site.state().await.damaged, 0);
    assert_eq!(site.scrub().await, Ok(Vec::new()));
}

/// What the medium holds if the power goes now, and what was acknowledged is
/// in it.
async fn survives_a_power_cut(disk: &Unreserved, dir: &Path, numbers: impl Iterator<Item = u64>) {
    let images = TempDir::new().unwrap();
    let image = images.path().join("image");
    disk.disk.crash_image(dir, &image, Survivors::Seeded(1)).unwrap();
    has(&open_with(&image, inline()).unwrap(), numbers).await;
}

#[tokio::test]
async fn a_disk_that_reserves_no_blocks_takes_everything_and_loses_nothing() {
    // A full disk, a file system that has no such call, a medium that fails it.
    for refusal in [Errno::NOSPC, Errno::OPNOTSUPP, Errno::NOSYS, Errno::IO] {
        let (dirs, disk) = (TempDir::new().unwrap(), Unreserved::default());
        let dir = dirs.path().join("site");
        disk.refuse(Some(refusal));
        let site = open_with(&dir, options(&disk)).unwrap();
        for n in 0..120 {
            site.put(vec![record(n, 20_000)]).await.unwrap();
        }
        assert!(support::volumes(&dir).len() > 2, "it goes on to new volumes");
        assert!((3..40).contains(&disk.asked()), "not for each batch again: {}", disk.asked());
        has(&site, 0..120).await;
        survives_a_power_cut(&disk, &dir, 0..120).await;
        drop(site);
        // The file system was exchanged for one that can.
        disk.refuse(None);
        let (site, before) = (open_with(&dir, options(&disk)).unwrap(), disk.asked());
        for n in 120..180 {
            site.put(vec![record(n, 20_000)]).await.unwrap();
        }
        assert!(disk.asked() > before);
        has(&site, 0..180).await;
    }
}

#[tokio::test]
async fn a_disk_that_is_full_when_blocks_are_reserved_refuses_the_put_reads_on_and_takes_it_later() {
    let (dirs, disk) = (TempDir::new().unwrap(), Unreserved::default());
    let dir = dirs.path().join("site");
    let site = open_with(&dir, options(&disk)).unwrap();
    let mut taken = 0;
    // Full in the middle of a batch, before its first byte, and where a new volume begins.
    for left in [15_000, 0, 25_000, 100, 0] {
        let asked = disk.asked();
        while disk.asked() == asked {
            // As far as blocks are reserved, up to where the next are asked for.
            site.put(vec![record(taken, 20_000)]).await.unwrap();
            taken += 1;
        }
        let reserved = disk.asked();
        disk.leave(Some(left));
        let refused = async {
            loop {
                match site.put(vec![record(taken, 20_000)]).await {
                    Ok(_) => taken += 1,
                    Err(error) => return error,
                }
            }
        };
        assert_eq!(refused.await, SiteError::Full);
        assert_eq!(site.get(id(taken)).await, Err(SiteError::Missing), "not acknowledged, not there");
        assert!(!site.state().await.read_only, "full is not broken");
        has(&site, 0..taken).await;
        survives_a_power_cut(&disk, &dir, 0..taken).await;
        assert_eq!(site.put(vec![record(taken, 20_000)]).await.map(drop), Err(SiteError::Full));
        site.put(vec![record(0, 20_000)]).await.unwrap();
        disk.leave(None);
        site.put(vec![record(taken, 20_000)]).await.unwrap();
        taken += 1;
        assert!(disk.asked() > reserved, "it asks again");
        let slot = SlotContent { generation: taken, body: "keys".into() };
        site.write_slot(SlotId::from_bytes([1; 16]), slot).await.unwrap();
        has(&site, 0..taken).await;
    }
    // A new volume for each: no room for its head, for its first batch, for half of that.
    for (n, left) in (5000..).zip([100, 200, 400_000]) {
        disk.leave(Some(left));
        assert_eq!(site.put(vec![record(n, 900_000)]).await, Err(SiteError::Full));
        assert_eq!(site.get(id(n)).await, Err(SiteError::Missing));
        has(&site, 0..taken).await;
        survives_a_power_cut(&disk, &dir, 0..taken).await;
        disk.leave(None);
        site.put(vec![record(n, 900_000)]).await.unwrap();
        assert_eq!(site.get(id(n)).await, Ok(record(n, 900_000)));
    }
    survives_a_power_cut(&disk, &dir, 0..taken).await;
    drop(site);
    let site = open_with(&dir, inline()).unwrap();
    has(&site, 0..taken).await;
    assert_eq!(site.state().await.records, taken + 3);
}
