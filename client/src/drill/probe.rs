//! What is measured just before a drill, on the way that it will take: reads of
//! objects without what is lost, files on the disk of the target, and a part of
//! the tree restored, read back and compared by the code that the drill runs.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use coffer_model::ObjectKey;
use futures::{StreamExt as _, stream};
use tokio::task::spawn_blocking;

use super::disk::{self, reader, writer};
use super::exercise::READS;
use super::pilot::Pilot;
use super::planning::{MakePlanError, Setting, TreeSource, Wish};
use super::predict::{Rates, Work};
use crate::backup::{
    Part, Quiet, Repository, RestorePlan, compare_streams, manifest_of_tree, plan_restore, restore,
};
use crate::objects::{GetError, ObjectInfo};
use crate::store::BucketStore;
use crate::terms::ReadTerms;

/// One in so many is read beforehand, of objects as of the entries of a tree.
const SHARE: usize = 4;

/// But at least so many objects where there are, at most so many, and of at
/// most so many bytes.
const OBJECTS: (usize, usize) = (24, 400);
const OBJECT_BYTES: u64 = 64 << 20;

/// Packs that a restoration fetches at once, and how many are looked at.
const TREE_READS: usize = 2;
const PACKS: usize = 6;

/// A measurement that took less than this is done again, so often.
const ENOUGH: Duration = Duration::from_millis(200);
const ROUNDS: u64 = 4;

/// A pilot restores at most so many entries and about so many bytes at a time;
/// larger files are left out of it.
const PILOT_ENTRIES: u64 = 800;
const PILOT_BYTES: u64 = 64 << 20;
const PILOT_FILE_BYTES: u64 = 16 << 20;

/// From this ratio of their sizes on, small and large objects tell the cost of
/// an object from that of its bytes.
const APART: u64 = 3;

/// What was measured.
#[derive(Default)]
pub(super) struct Probed {
    pub(super) rates: Rates,
    pub(super) pilot: Option<Pilot>,
}

/// The tree that will be restored, as far as it is known beforehand.
pub(super) struct Looked {
    /// Reached as the drill will reach it.
    repository: Repository,
    plan: RestorePlan,
    took: Duration,
}

impl Looked {
    /// How much there is to do.
    pub(super) fn work(&self) -> Work {
        Work { look_ns: nanos(self.took), ..work_of(&self.plan) }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

fn work_of(plan: &RestorePlan) -> Work {
    Work {
        objects: plan.fetches,
        object_bytes: plan.fetch_bytes,
        files: plan.entries,
        file_bytes: plan.bytes,
        ..Work::default()
    }
}

/// Reads that were timed together.
#[derive(Clone, Copy, Debug, Default)]
struct Timed {
    objects: u64,
    bytes: u64,
    took_ns: u64,
}

impl Timed {
    fn and(self, other: Self) -> Self {
        Self {
            objects: self.objects.saturating_add(other.objects),
            bytes: self.bytes.saturating_add(other.bytes),
            took_ns: self.took_ns.saturating_add(other.took_ns),
        }
    }

    fn each(self) -> u64 {
        self.took_ns.checked_div(self.objects).unwrap_or(0)
    }
}

/// What an object costs, and a MiB, from small objects and large ones; where
/// they do not differ enough to tell, all of it is the objects'.
fn fit(small: Timed, large: Timed) -> (u64, u64) {
    let of = |timed: Timed| [timed.objects, timed.bytes, timed.took_ns].map(i128::from);
    let ([few, little, quick], [many, much, long]) = (of(small), of(large));
    let whole = small.and(large);
    let apart = much * few - little * many;
    if few == 0 || many == 0 || much * few < i128::from(APART) * little * many || apart <= 0 {
        return (whole.each(), 0);
    }
    let narrow = |value: i128| u64::try_from(value.max(0)).unwrap_or(u64::MAX);
    let mib = 1 << 20;
    let per_mib = (long * few - quick * many) * mib / apart;
    let per_object = (quick - per_mib * little / mib) / few;
    match (per_mib > 0, per_object > 0) {
        (true, true) => (narrow(per_object), narrow(per_mib)),
        (true, false) => (0, narrow((quick + long) * mib / (little + much))),
        (false, _) => (whole.each(), 0),
    }
}

impl Setting<'_> {
    /// Looks at the snapshot, as the drill will.
    pub(super) async fn look(
        &self,
        source: &TreeSource<'_>,
        terms: &ReadTerms,
        target: &Path,
    ) -> Result<Looked, MakePlanError> {
        let store = BucketStore::on(self.client.clone(), source.bucket.clone(), terms.clone());
        let repository = source.repository.through(Arc::new(store));
        let begun = self.clock.monotonic();
        let plan = match plan_restore(&repository, &source.snapshot, target).await {
            Ok(plan) => plan,
            // What is lost may hide the snapshot; how much there is to do is known all the same.
            Err(_) => plan_restore(source.repository, &source.snapshot, target).await?,
        };
        let took = self.clock.monotonic().saturating_sub(begun);
        Ok(Looked { repository, plan, took })
    }

    /// Measures the way of the drill. `scratch` is made and removed again.
    pub(super) async fn probe(
        &self,
        wish: &Wish,
        terms: &ReadTerms,
        readable: Vec<&ObjectInfo>,
        tree: Option<&Looked>,
        scratch: &Path,
    ) -> Result<Probed, MakePlanError> {
        let Some(tree) = tree else {
            let rates = self.time_objects(wish, terms, readable, Rates::default()).await;
            return Ok(Probed { rates, pilot: None });
        };
        let probed = self.probe_tree(wish, terms, readable, tree, scratch).await;
        disk::remove_tree(scratch)?;
        probed
    }

    async fn probe_tree(
        &self,
        wish: &Wish,
        terms: &ReadTerms,
        readable: Vec<&ObjectInfo>,
        tree: &Looked,
        scratch: &Path,
    ) -> Result<Probed, MakePlanError> {
        let (files, clock) = (scratch.join("files"), Arc::clone(&self.clock));
        let rates = spawn_blocking(move || disk::calibrate(&files, &clock)).await;
        let rates = rates.map_err(|_| MakePlanError::Worker)??;
        let rates = self.time_packs(wish, terms, readable, rates).await;
        let pilot = self.pilot(tree, &rates, scratch).await;
        Ok(Probed { rates, pilot })
    }

    async fn time_objects(
        &self,
        wish: &Wish,
        terms: &ReadTerms,
        mut readable: Vec<&ObjectInfo>,
        rates: Rates,
    ) -> Rates {
        // Versions are random: their order is as good as a draw.
        readable.sort_by_key(|info| info.version);
        let most = (readable.len() / SHARE).clamp(OBJECTS.0, OBJECTS.1);
        let (mut chosen, mut bytes): (Vec<&ObjectInfo>, u64) = (Vec::new(), 0);
        for info in readable.into_iter().take(most) {
            if bytes >= OBJECT_BYTES {
                break;
            }
            bytes = bytes.saturating_add(info.size);
            chosen.push(info);
        }
        chosen.sort_by_key(|info| (info.size, info.version));
        let (small, large) = chosen.split_at(chosen.len() / 2);
        self.fitted(wish, terms, (small, large), READS, rates).await
    }

    async fn time_packs(
        &self,
        wish: &Wish,
        terms: &ReadTerms,
        mut readable: Vec<&ObjectInfo>,
        rates: Rates,
    ) -> Rates {
        readable.sort_by_key(|info| (info.size, info.version));
        let packs = readable.split_off(readable.len().saturating_sub(PACKS));
        let small = readable.iter().take(PACKS).copied().collect::<Vec<_>>();
        self.fitted(wish, terms, (&small, &packs), TREE_READS, rates).await
    }

    /// The rates of objects, by reading small ones and large ones.
    async fn fitted(
        &self,
        wish: &Wish,
        terms: &ReadTerms,
        (small, large): (&[&ObjectInfo], &[&ObjectInfo]),
        at_once: usize,
        rates: Rates,
    ) -> Rates {
        let small = self.time_reads(wish, terms, small, at_once).await;
        let large = self.time_reads(wish, terms, large, at_once).await;
        let (object_ns, object_mib_ns) = fit(small, large);
        Rates { object_ns, object_mib_ns, ..rates }
    }

    /// Reads objects to their end, again and again until that took long enough
    /// to be told from chance.
    async fn time_reads(
        &self,
        wish: &Wish,
        terms: &ReadTerms,
        objects: &[&ObjectInfo],
        at_once: usize,
    ) -> Timed {
        let mut timed = Timed::default();
        for _ in 0..ROUNDS {
            if objects.is_empty() || timed.took_ns >= nanos(ENOUGH) {
                break;
            }
            let took_ns = self.time_once(wish, terms, objects, at_once).await;
            let bytes = objects.iter().map(|info| info.size).sum();
            timed = timed.and(Timed { objects: count(objects.len()), bytes, took_ns });
        }
        timed
    }

    async fn time_once(
        &self,
        wish: &Wish,
        terms: &ReadTerms,
        objects: &[&ObjectInfo],
        at_once: usize,
    ) -> u64 {
        let begun = self.clock.monotonic();
        let read = |key: ObjectKey| async move {
            let (_, mut body) = self.client.get_on(&wish.bucket, &key, None, terms).await?;
            while body.next().await?.is_some() {}
            Ok::<_, GetError>(())
        };
        let reads: Vec<_> = objects.iter().map(|info| read(info.key.clone())).collect();
        // What does not come says nothing of the way; the drill itself will find it.
        stream::iter(reads).buffer_unordered(at_once).for_each(|_| std::future::ready(())).await;
        nanos(self.clock.monotonic().saturating_sub(begun))
    }

    /// Restores parts of the tree; none where one does not come back: the drill
    /// will find out why.
    async fn pilot(&self, tree: &Looked, rates: &Rates, scratch: &Path) -> Option<Pilot> {
        let share = u64::try_from(SHARE).unwrap_or(1);
        let (entries, bytes) = (tree.plan.entries.max(1), tree.plan.bytes.max(1));
        let of_bytes = u128::from(entries) * u128::from(PILOT_BYTES) / u128::from(bytes);
        let of_bytes = u64::try_from(of_bytes).unwrap_or(u64::MAX).max(1);
        let wanted = (entries / share).min(PILOT_ENTRIES).min(of_bytes);
        let mut pilot = Pilot::default();
        for turn in 0..ROUNDS {
            // What was restored already is not restored again.
            let rest = pilot.entries.saturating_add(wanted) <= entries / 2;
            if turn > 0 && (!rest || u128::from(pilot.took_ns()) >= ENOUGH.as_nanos()) {
                break;
            }
            let part = Part::spread(entries, wanted, turn, PILOT_FILE_BYTES);
            let (work, took) = self.restore_part(tree, part, &scratch.join(format!("part-{turn}"))).await?;
            pilot.add(rates, work, &took);
        }
        Some(pilot)
    }

    /// Restores a part, reads it back and compares it with itself.
    async fn restore_part(
        &self,
        tree: &Looked,
        part: Part,
        target: &Path,
    ) -> Option<(Work, Vec<(&'static str, Duration)>)> {
        disk::make_directory(target).ok()?;
        let plan = tree.plan.of_part(&tree.repository, part, target).await.ok()?;
        let work = work_of(&plan);
        let mut took = Vec::new();
        let mut begun = self.clock.monotonic();
        let mut ended = |name| {
            let now = self.clock.monotonic();
            took.push((name, now.saturating_sub(begun)));
            begun = now;
        };
        restore(&tree.repository, plan, Arc::new(Quiet)).await.ok()?;
        ended("restore");
        let made = target.with_extension("manifest");
        let (root, mut out) = (target.to_owned(), writer(&made).ok()?);
        let read_back = spawn_blocking(move || manifest_of_tree(&root, &mut out, &Quiet));
        read_back.await.ok()?.ok()?;
        ended("read back");
        compare_streams(reader(&made).ok()?, reader(&made).ok()?).ok()?;
        ended("compare");
        Some((work, took))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(objects: u64, bytes: u64, took_ns: u64) -> Timed {
        Timed { objects, bytes, took_ns }
    }

    #[test]
    fn small_and_large_objects_tell_the_cost_of_each_from_that_of_its_bytes() {
        // 1 ms each, 2 ms a MiB.
        let of = |objects: u64, mib: u64| timed(objects, mib << 20, objects * 1_000_000 + mib * 2_000_000);
        let (each, mib) = fit(of(100, 1), of(100, 50));
        assert!(each.abs_diff(1_000_000) < 1000 && mib.abs_diff(2_000_000) < 1000, "{each} {mib}");
    }

    #[test]
    fn what_cannot_be_told_apart_is_foreseen_as_one_and_never_below_zero() {
        let alike = (timed(10, 1000, 50_000), timed(10, 1100, 70_000));
        assert_eq!(fit(alike.0, alike.1), (6000, 0));
        assert_eq!(fit(timed(10, 10, 90_000), timed(10, 1 << 20, 10_000)), (5000, 0));
        let (each, mib) = fit(timed(10, 1 << 20, 10), timed(10, 8 << 20, 1_000_000));
        assert!(each == 0 && mib > 0);
        assert_eq!(fit(timed(0, 0, 0), timed(1, 5, 77)), (77, 0));
        assert_eq!(fit(timed(0, 0, 0), timed(0, 0, 0)), (0, 0));
    }
}
