//! Tests of a disk that fails: full, a write error, an fsync error.

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use coffer_model::{Entropy, FailureDomain, RecordId, SiteDescription, SiteId, SlotId, Tier};
use coffer_regions::{ClearGeometry, Record, RecordKind, Site, SiteError, SlotContent};
use tempfile::TempDir;

use crate::disk::{Disk, HostDisk, Room};
use crate::{DirectorySite, SiteOptions, inspect};

const SOUND: u8 = 0;
/// Half of the bytes are written, then there is no room.
const FULL: u8 = 1;
/// Half of the bytes are written, then the medium fails.
const BROKEN: u8 = 2;
/// Everything is written, but the fsync fails.
const FSYNC: u8 = 3;
/// Full, and what was written cannot be cut away.
const FULL_AND_STUCK: u8 = 4;

#[derive(Clone, Default)]
struct FaultyDisk(Arc<AtomicU8>);

impl FaultyDisk {
    fn mode(&self) -> u8 {
        self.0.load(Ordering::SeqCst)
    }
}

impl Disk for FaultyDisk {
    fn write(&self, file: &File, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        let half: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        let error = match self.mode() {
            FULL | FULL_AND_STUCK => io::ErrorKind::StorageFull,
            BROKEN => io::ErrorKind::Other,
            _ => return HostDisk.write(file, parts, offset),
        };
        HostDisk.write(file, &mut [IoSlice::new(&half[..half.len() / 2])], offset)?;
        Err(error.into())
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        if self.mode() == FSYNC { Err(io::ErrorKind::Other.into()) } else { HostDisk.sync_data(file) }
    }

    fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        if self.mode() == FULL_AND_STUCK {
            Err(io::ErrorKind::Other.into())
        } else {
            HostDisk.cut(file, length)
        }
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        HostDisk.create(path)
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        HostDisk.sync_all(file)
    }

    fn reserve(&self, file: &File, offset: u64, bytes: u64) -> io::Result<()> {
        HostDisk.reserve(file, offset, bytes)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        HostDisk.make_dir(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        HostDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        HostDisk.remove(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        HostDisk.sync_dir(path)
    }

    fn forget_cached(&self, file: &File) {
        HostDisk.forget_cached(file);
    }

    fn room(&self, path: &Path) -> io::Result<Room> {
        HostDisk.room(path)
    }
}

/// Identities and tags of zeros.
pub(crate) struct Zeros;

impl Entropy for Zeros {
    fn fill(&self, out: &mut [u8]) {
        out.fill(0);
    }
}

fn record(n: u8) -> Record {
    let id = RecordId::from_bytes([n; 16]);
    Record::new(RecordKind::Manifest, id, ClearGeometry::default(), Bytes::from(vec![n; 500])).unwrap()
}

/// A site that unit tests create.
pub(crate) fn description() -> SiteDescription {
    SiteDescription {
        id: SiteId::from_bytes([1; 16]),
        name: "test".to_owned(),
        country: "DE".parse().unwrap(),
        domain: FailureDomain("rack".to_owned()),
        tier: Tier::III,
    }
}

fn open(dir: &Path, disk: &FaultyDisk) -> DirectorySite {
    let description = description();
    if inspect(dir, false).is_err() {
        drop(DirectorySite::create(dir, description.clone(), Arc::new(Zeros)).unwrap());
    }
    let options = SiteOptions { disk: Arc::new(disk.clone()), ..SiteOptions::default() };
    DirectorySite::open_with(dir, description, Arc::new(Zeros), options).unwrap()
}

#[tokio::test]
async fn a_full_disk_refuses_the_put_keeps_nothing_of_it_and_goes_on_when_there_is_room() {
    let (dir, disk) = (TempDir::new().unwrap(), FaultyDisk::default());
    let site = open(dir.path(), &disk);
    site.put(vec![record(1)]).await.unwrap();
    let bytes = site.state().await.volume_bytes;
    disk.0.store(FULL, Ordering::SeqCst);
    assert_eq!(site.put(vec![record(2)]).await, Err(SiteError::Full));
    assert_eq!(site.get(record(2).id()).await, Err(SiteError::Missing));
    assert_eq!(site.get(record(1).id()).await, Ok(record(1)));
    let length = std::fs::metadata(dir.path().join("volumes/00000000.vol")).unwrap().len();
    assert_eq!(length, bytes, "the half that was written is cut away");
    disk.0.store(SOUND, Ordering::SeqCst);
    site.put(vec![record(2)]).await.unwrap();
    drop(site);
    let site = open(dir.path(), &disk);
    assert_eq!(site.get(record(2).id()).await, Ok(record(2)));
    assert_eq!(site.state().await.damaged, 0);
}

#[tokio::test]
async fn a_failed_write_or_fsync_ends_all_writing_until_the_site_is_reopened() {
    for fault in [BROKEN, FSYNC, FULL_AND_STUCK] {
        let (dir, disk) = (TempDir::new().unwrap(), FaultyDisk::default());
        let site = open(dir.path(), &disk);
        site.put(vec![record(1)]).await.unwrap();
        disk.0.store(fault, Ordering::SeqCst);
        assert_eq!(site.put(vec![record(2)]).await, Err(SiteError::ReadOnly));
        assert_eq!(site.get(record(2).id()).await, Err(SiteError::Missing), "not acknowledged, not shown");
        disk.0.store(SOUND, Ordering::SeqCst);
        assert_eq!(site.put(vec![record(3)]).await, Err(SiteError::ReadOnly), "no second try");
        assert_eq!(site.delete(vec![record(1).id()]).await, Err(SiteError::ReadOnly));
        let slot = SlotContent { generation: 1, body: Bytes::new() };
        assert_eq!(site.write_slot(SlotId::from_bytes([1; 16]), slot).await, Err(SiteError::ReadOnly));
        assert_eq!(site.get(record(1).id()).await, Ok(record(1)));
        assert_eq!(site.fsyncs(), 1);
        drop(site);
        let site = open(dir.path(), &disk);
        assert_eq!(site.get(record(1).id()).await, Ok(record(1)));
        site.put(vec![record(3)]).await.unwrap();
        assert_eq!(site.scrub().await, Ok(Vec::new()));
    }
}

#[tokio::test]
async fn a_put_or_delete_over_the_limits_is_refused() {
    let (dir, disk) = (TempDir::new().unwrap(), FaultyDisk::default());
    let site = open(dir.path(), &disk);
    let many = vec![record(1); crate::PUT_RECORDS_MAX + 1];
    assert_eq!(site.put(many).await, Err(SiteError::OverLimit));
    let ids = vec![record(1).id(); crate::PUT_RECORDS_MAX + 1];
    assert_eq!(site.delete(ids).await, Err(SiteError::OverLimit));
}
