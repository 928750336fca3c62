//! What the tests of the store share: a site in a temporary directory, and
//! records whose content follows from their number.
#![expect(clippy::disallowed_methods, reason = "tests damage files on purpose")]
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use coffer_model::{Entropy, Execution, FailureDomain, RecordId, SiteDescription, SiteId, Tier};
use coffer_regions::{ClearGeometry, Record, RecordKind, Site, SiteError};
use coffer_site::faults::RecordingDisk;
use coffer_site::{DirectorySite, OpenSiteError, SiteOptions, Upkeep};
use tempfile::TempDir;

/// Counts; every nonce differs.
#[derive(Default)]
pub(crate) struct CountingEntropy(AtomicU64);

impl Entropy for CountingEntropy {
    fn fill(&self, out: &mut [u8]) {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        let hash = blake3::hash(&n.to_le_bytes());
        out.iter_mut().zip(hash.as_bytes().iter().cycle()).for_each(|(to, from)| *to = *from);
    }
}

pub(crate) fn description(n: u8) -> SiteDescription {
    SiteDescription {
        id: SiteId::from_bytes([n; 16]),
        name: format!("test{n}"),
        country: "DE".parse().unwrap(),
        domain: FailureDomain("rack".to_owned()),
        tier: Tier::III,
    }
}

pub(crate) fn open_as(dir: &Path, n: u8) -> Result<DirectorySite, OpenSiteError> {
    DirectorySite::open_or_create(dir, description(n), Arc::new(CountingEntropy::default()))
}

pub(crate) fn open(dir: &Path) -> DirectorySite {
    open_as(dir, 1).unwrap()
}

/// Opens or creates a site with these options.
pub(crate) fn open_with(dir: &Path, options: SiteOptions) -> Result<DirectorySite, OpenSiteError> {
    let (description, entropy) = (description(1), Arc::new(CountingEntropy::default()));
    if dir.join("SITE").exists() {
        DirectorySite::open_with(dir, description, entropy, options)
    } else {
        DirectorySite::create_with(dir, description, entropy, options)
    }
}

/// Everything in the task that asks.
pub(crate) fn inline() -> SiteOptions {
    SiteOptions { execution: Execution::Inline, ..SiteOptions::default() }
}

/// The same on a disk that waits for no medium.
pub(crate) fn quick() -> SiteOptions {
    SiteOptions { disk: Arc::new(RecordingDisk::default()), ..inline() }
}

pub(crate) fn id(n: u64) -> RecordId {
    let mut bytes = [0x11; 16];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    RecordId::from_bytes(bytes)
}

/// Record `n`: its body follows from its number and length.
pub(crate) fn record(n: u64, length: usize) -> Record {
    let mut body = vec![0; length];
    blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut body);
    Record::new(RecordKind::Shard, id(n), ClearGeometry { k: 4, m: 2, index: 0 }, Bytes::from(body)).unwrap()
}

pub(crate) fn volume(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("volumes/{number:08}.vol"))
}

pub(crate) fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

pub(crate) fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

/// A site of three batches in one volume, and the length of the volume before
/// each batch and at the end.
pub(crate) struct Sample {
    pub(crate) dir: TempDir,
    pub(crate) batches: Vec<Vec<Record>>,
    pub(crate) ends: Vec<usize>,
}

impl Sample {
    pub(crate) async fn of(batches: Vec<Vec<Record>>) -> Self {
        let dir = TempDir::new().unwrap();
        let site = open(dir.path());
        let mut ends = vec![128];
        for batch in &batches {
            site.put(batch.clone()).await.unwrap();
            ends.push(usize::try_from(site.state().await.volume_bytes).unwrap());
        }
        Self { dir, batches, ends }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        read(&volume(self.dir.path(), 0))
    }

    /// The directory of a site whose only volume has these bytes.
    pub(crate) fn image(&self, bytes: &[u8]) -> TempDir {
        let dir = TempDir::new().unwrap();
        drop(open(dir.path()));
        write(&volume(dir.path(), 0), bytes);
        dir
    }
}

/// How many of `records` read back right; panics on a wrong byte.
pub(crate) async fn readable(site: &DirectorySite, records: &[Record]) -> usize {
    let mut right = 0;
    for record in records {
        match site.get(record.id()).await {
            Ok(read) => {
                assert_eq!(&read, record, "wrong bytes");
                right += 1;
            }
            Err(error) => assert!(matches!(error, SiteError::Missing | SiteError::Damaged), "{error}"),
        }
    }
    right
}

/// That the site takes a new record, and still has it when opened again.
pub(crate) async fn accepts_and_reopens(site: DirectorySite, dir: &Path, n: u64) -> DirectorySite {
    let new = record(n, 40);
    site.put(vec![new.clone()]).await.unwrap();
    drop(site);
    let site = open(dir);
    assert_eq!(site.get(new.id()).await, Ok(new));
    site
}

/// Copies a directory of files and directories.
pub(crate) fn copy_dir(from: &Path, into: &Path) {
    std::fs::create_dir_all(into).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = into.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_dir(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// Does whatever upkeep is due; the steps that were needed.
pub(crate) async fn maintain_all(site: &DirectorySite) -> Vec<Upkeep> {
    let mut done = Vec::new();
    loop {
        match site.maintain().await.unwrap() {
            Upkeep::Nothing => return done,
            step => done.push(step),
        }
        assert!(done.len() < 10_000, "upkeep comes to an end");
    }
}

/// The names of the volume files.
pub(crate) fn volumes(dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(dir.join("volumes")).unwrap();
    let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
