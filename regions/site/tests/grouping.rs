//! Group commit: one fsync covers what waited for it.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use coffer_model::RecordId;
use coffer_regions::{Record, RecordKind, Site};
use coffer_site::{Disk, HostDisk, Room, SiteOptions};
use proptest::prelude::*;
use support::{open, open_with, record};
use tempfile::TempDir;

/// How many putters there are, and how many of them are in a put.
#[derive(Default)]
struct Putters {
    counts: Mutex<(usize, usize)>,
    changed: Condvar,
}

impl Putters {
    fn change(&self, change: impl FnOnce(&mut (usize, usize))) {
        change(&mut self.counts.lock().unwrap());
        self.changed.notify_all();
    }

    fn wait_until_all_are_in_a_put(&self) {
        let counts = self.counts.lock().unwrap();
        drop(self.changed.wait_while(counts, |(putters, putting)| putting < putters).unwrap());
    }
}

/// The disk of this machine, whose fsyncs last until every putter waits for one.
struct PatientDisk(Arc<Putters>);

impl Disk for PatientDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        HostDisk.create(path)
    }

    fn write(&self, file: &File, parts: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
        HostDisk.write(file, parts, offset)
    }

    fn sync_data(&self, file: &File) -> io::Result<()> {
        self.0.wait_until_all_are_in_a_put();
        HostDisk.sync_data(file)
    }

    fn sync_all(&self, file: &File) -> io::Result<()> {
        self.0.wait_until_all_are_in_a_put();
        HostDisk.sync_all(file)
    }

    fn cut(&self, file: &File, length: u64) -> io::Result<()> {
        HostDisk.cut(file, length)
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

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_putters_need_far_fewer_fsyncs_than_puts() {
    let (dir, putters) = (TempDir::new().unwrap(), Arc::<Putters>::default());
    let disk = Arc::new(PatientDisk(Arc::clone(&putters)));
    let site = Arc::new(open_with(dir.path(), SiteOptions { disk, ..SiteOptions::default() }).unwrap());
    putters.change(|(all, _)| *all = 64);
    let tasks: Vec<_> = (0..64)
        .map(|putter| {
            let (site, putters) = (site.clone(), Arc::clone(&putters));
            tokio::spawn(async move {
                for n in 0..20 {
                    putters.change(|(_, putting)| *putting += 1);
                    site.put(vec![record(putter * 100 + n, 200)]).await.unwrap();
                    putters.change(|(_, putting)| *putting -= 1);
                }
                putters.change(|(all, _)| *all -= 1);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(site.state().await.records, 64 * 20);
    assert!(site.fsyncs() < 64 * 20 / 4, "{} fsyncs", site.fsyncs());
}

#[tokio::test]
async fn a_put_of_many_records_needs_one_fsync() {
    let dir = TempDir::new().unwrap();
    let site = open(dir.path());
    site.put((0..4096).map(|n| record(n, 10)).collect()).await.unwrap();
    assert_eq!(site.fsyncs(), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Put(Vec<(u8, usize)>),
    Delete(Vec<u8>),
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => prop::collection::vec((0..12_u8, 0..40_usize), 1..5).prop_map(Step::Put),
        2 => prop::collection::vec(0..12_u8, 1..4).prop_map(Step::Delete),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..25)
}

type Oracle = std::collections::BTreeMap<RecordId, Record>;

/// What a site without a disk would do.
fn expected_put(oracle: &mut Oracle, records: &[Record]) -> bool {
    let mut after = oracle.clone();
    for record in records {
        if after.insert(record.id(), record.clone()).is_some_and(|old| old != *record) {
            return false;
        }
    }
    *oracle = after;
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_site_does_what_a_map_does_also_across_reopening(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let dir = TempDir::new().unwrap();
        let (mut site, mut oracle) = (open(dir.path()), Oracle::new());
        for step in steps {
            match step {
                Step::Put(puts) => {
                    let records: Vec<_> = puts.iter().map(|(n, length)| record(u64::from(*n), *length)).collect();
                    let accepted = runtime.block_on(site.put(records.clone())).is_ok();
                    prop_assert_eq!(accepted, expected_put(&mut oracle, &records));
                }
                Step::Delete(ids) => {
                    let ids: Vec<_> = ids.into_iter().map(|n| support::id(u64::from(n))).collect();
                    let removed = ids.iter().filter(|id| oracle.remove(id).is_some()).count();
                    prop_assert_eq!(runtime.block_on(site.delete(ids)), Ok(u64::try_from(removed).unwrap()));
                }
                Step::Reopen => {
                    drop(site);
                    site = open(dir.path());
                }
            }
            let listed = runtime.block_on(site.list(RecordKind::Shard, None, usize::MAX)).unwrap();
            prop_assert!(listed.iter().map(|line| line.id).eq(oracle.keys().copied()));
            for record in oracle.values() {
                prop_assert_eq!(&runtime.block_on(site.get(record.id())).unwrap(), record);
            }
        }
    }
}
