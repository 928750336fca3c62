//! The logs, from the sites into the catalogues: a first walk learns which run
//! of leaves lies where, a second reads them in order. In memory are some
//! sixty bytes for each run, and the leaves of a few.

use std::collections::{BTreeSet, BinaryHeap};
use std::sync::Arc;

use coffer_catalog::{Leaf, RebuildBatch};
use coffer_keys::leaf_hash;
use coffer_model::{Digest, RecordId, SiteId};
use coffer_regions::{Record, RecordKind};

use super::gather::{Found, Open, Opened, Walk, each, read};
use super::merge::Listed;
use super::{Lost, RebuildError, facts_of};
use crate::registry::copies_needed;
use crate::service::Service;
use crate::stored::LeafRun;
use crate::tenant::{Tenant, TenantSecrets};

/// Runs that are read at once, of up to 1024 leaves each.
const RUNS_AT_ONCE: usize = 16;

/// One run of leaves as the first walk found it.
#[derive(Clone, Debug)]
struct Run {
    first: u64,
    /// One past the last leaf.
    end: u64,
    id: RecordId,
    /// The sites that list it, by their places in the topology.
    holders: Box<[u8]>,
}

/// Leaves that are taken from one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    from: u64,
    to: u64,
    run: usize,
}

/// Fills the logs of these tenants, each up to its first gap.
pub(super) async fn load(service: &Service, lost: &[Lost]) -> Result<Walk, RebuildError> {
    let (mut walk, runs) = find(service, lost).await?;
    for (lost, mut runs) in lost.iter().zip(runs) {
        let tenant = &lost.tenant;
        runs.sort_unstable_by_key(|run| run.first);
        let segments = segments(&runs);
        let needed = copies_needed(&tenant.policy);
        let is_safe =
            |segment: &Segment| runs.get(segment.run).is_some_and(|run| run.holders.len() >= needed);
        let open = leaves_of(tenant);
        let mut size = 0;
        for some in segments.chunks(RUNS_AT_ONCE) {
            let (leaves, silent) = take(service, some, &runs, &open).await;
            // Sites that were there a moment ago: a log that ends where they
            // fell silent must not pass for the whole one.
            walk.silent.extend(silent);
            size += leaves.len() as u64;
            tenant.catalog.load(RebuildBatch { leaves, ..RebuildBatch::default() }).await?;
            if let Some(unread) = some.iter().find(|segment| segment.to > size) {
                super::refuse_if_silent(service, lost, &walk.silent)?;
                if is_safe(unread) {
                    return Err(RebuildError::LogUnread { tenant: tenant.id, from: size, to: unread.to });
                }
                break;
            }
        }
        // What fewer sites show is written again before a checkpoint covers it:
        // a run that was never under one is not safe because it was found.
        let safe = segments.iter().take_while(|segment| is_safe(segment)).last().map_or(0, |last| last.to);
        tenant.catalog.set_replicated_size(safe.min(size)).await?;
    }
    Ok(walk)
}

/// Every run of each tenant.
async fn find(service: &Service, lost: &[Lost]) -> Result<(Walk, Vec<Vec<Run>>), RebuildError> {
    let facts = facts_of::<LeafRun>(lost.iter().map(|lost| &lost.tenant), TenantSecrets::log_key);
    // The leaves themselves go as soon as they are counted.
    let open: Open<(usize, u64, u64)> = Arc::new(move |record: &Record| match facts(record) {
        Opened::Good((at, run)) => match run.first.checked_add(run.leaves.len() as u64) {
            Some(end) => Opened::Good((at, run.first, end)),
            None => Opened::Bad,
        },
        Opened::Foreign => Opened::Foreign,
        Opened::Bad => Opened::Bad,
    });
    let topology = &service.sites.topology().sites;
    let mut runs: Vec<Vec<Run>> = lost.iter().map(|_| Vec::new()).collect();
    let walk = each(service, RecordKind::Log, open, async |batch| {
        for Found { id, value: (at, first, end), holders, .. } in batch {
            let places = (0_u8..=u8::MAX).zip(topology).filter(|(_, site)| holders.contains(&site.id));
            let holders = places.map(|(place, _)| place).collect();
            if let Some(runs) = runs.get_mut(at) {
                runs.push(Run { first, end, id, holders });
            }
        }
        Ok::<(), RebuildError>(())
    });
    Ok((walk.await?, runs))
}

/// Which leaves are taken from which run, in order and up to the first gap.
/// A run that too few sites took was never under a checkpoint, and its numbers
/// may have been given again: what more sites hold wins. `runs` are in order
/// of their first leaves.
fn segments(runs: &[Run]) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    let mut covering: BinaryHeap<(usize, RecordId, usize)> = BinaryHeap::new();
    let mut upcoming = runs.iter().enumerate().peekable();
    let mut next = 0;
    loop {
        while let Some((place, run)) = upcoming.next_if(|(_, run)| run.first <= next) {
            covering.push((run.holders.len(), run.id, place));
        }
        let ended = |place: usize| runs.get(place).is_none_or(|run| run.end <= next);
        while covering.peek().is_some_and(|(_, _, place)| ended(*place)) {
            covering.pop();
        }
        let Some((_, _, place)) = covering.peek().copied() else { return segments };
        let Some(end) = runs.get(place).map(|run| run.end) else { return segments };
        let until = upcoming.peek().map_or(end, |(_, run)| run.first.min(end));
        match segments.last_mut() {
            Some(last) if last.run == place => last.to = until,
            _ => segments.push(Segment { from: next, to: until, run: place }),
        }
        next = until;
    }
}

/// Opens runs of one tenant, their leaves hashed.
fn leaves_of(tenant: &Arc<Tenant>) -> Open<(u64, Vec<Leaf>)> {
    let facts = facts_of::<LeafRun>(std::iter::once(tenant), TenantSecrets::log_key);
    Arc::new(move |record: &Record| match facts(record) {
        Opened::Good((_, LeafRun { first, leaves })) => {
            let leaf = |body: Vec<u8>| Leaf { hash: leaf_hash(&body), body };
            Opened::Good((first, leaves.into_iter().map(leaf).collect()))
        }
        Opened::Foreign => Opened::Foreign,
        Opened::Bad => Opened::Bad,
    })
}

/// The leaves of some segments, up to the first run that cannot be read again,
/// and the sites that did not answer.
async fn take(
    service: &Service,
    segments: &[Segment],
    runs: &[Run],
    open: &Open<(u64, Vec<Leaf>)>,
) -> (Vec<Leaf>, BTreeSet<SiteId>) {
    let topology = &service.sites.topology().sites;
    let listed = segments.iter().filter_map(|segment| runs.get(segment.run)).map(|run| {
        let holders = run.holders.iter().filter_map(|place| topology.get(usize::from(*place)));
        // Nothing of another tenant is among them, so that no digest is needed.
        let holders = holders.map(|site| (site.id, Digest([0; 32]))).collect();
        Listed { id: run.id, holders, body_bytes: 0 }
    });
    let batch = read(&service.sites, listed.collect(), Arc::clone(open)).await;
    let mut found = batch.found.into_iter().peekable();
    let mut leaves = Vec::new();
    for segment in segments {
        let run = runs.get(segment.run).map(|run| run.id);
        let Some(Found { value: (first, all), .. }) = found.next_if(|found| Some(found.id) == run) else {
            break;
        };
        let skip = usize::try_from(segment.from.saturating_sub(first)).unwrap_or(usize::MAX);
        let count = usize::try_from(segment.to - segment.from).unwrap_or(usize::MAX);
        leaves.extend(all.into_iter().skip(skip).take(count));
    }
    (leaves, batch.silent)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn run(n: u8, first: u64, end: u64, holders: u8) -> Run {
        Run { first, end, id: RecordId::from_bytes([n; 16]), holders: (0..holders).collect() }
    }

    /// Which run each leaf is taken from, the slow and obvious way.
    fn slowly(runs: &[Run]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..runs.len()).collect();
        order.sort_by_key(|place| (runs[*place].holders.len(), runs[*place].id));
        let mut leaves = BTreeMap::new();
        for place in order {
            for leaf in runs[place].first..runs[place].end {
                leaves.insert(leaf, place);
            }
        }
        (0..)
            .zip(leaves)
            .take_while(|(expected, (leaf, _))| expected == leaf)
            .map(|(_, (_, run))| run)
            .collect()
    }

    fn quickly(runs: &[Run]) -> Vec<usize> {
        let mut leaves = Vec::new();
        for segment in segments(runs) {
            assert_eq!(segment.from, leaves.len() as u64);
            leaves.extend((segment.from..segment.to).map(|_| segment.run));
        }
        leaves
    }

    #[test]
    fn runs_in_order_are_taken_whole_and_nothing_after_a_gap() {
        let runs = [run(1, 0, 10, 6), run(2, 10, 20, 4), run(3, 21, 30, 6)];
        let whole = [Segment { from: 0, to: 10, run: 0 }, Segment { from: 10, to: 20, run: 1 }];
        assert_eq!(segments(&runs), whole);
        assert_eq!(segments(&runs[1..]), []);
        assert_eq!(segments(&[]), []);
    }

    #[test]
    fn where_runs_overlap_the_one_that_more_sites_hold_wins_however_they_overlap() {
        let mut state = 7_u64;
        let mut chance = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..2000 {
            let mut runs: Vec<Run> = (0..12)
                .map(|n| {
                    let first = chance(20);
                    run(n, first, first + chance(8), 1 + u8::try_from(chance(3)).unwrap())
                })
                .collect();
            runs.sort_by_key(|run| run.first);
            assert_eq!(quickly(&runs), slowly(&runs), "{runs:?}");
        }
    }
}
