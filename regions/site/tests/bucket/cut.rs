//! The process dies at any of its requests, carried out or not: what was
//! acknowledged is there, and what was not is there as a whole or not at all,
//! with what `regions/BUCKET.md` says that a crash leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use coffer_model::{RecordId, ScopeId, SlotId};
use coffer_regions::{Change, Changed, Fence, Receipt, Record, RecordKind, Site, SiteError, SlotContent};
use coffer_site::{BucketError, BucketOptions, BucketSite};
use tempfile::TempDir;

use crate::s3::S3Server;
use crate::support::{description, record};
use crate::{objects, options};

/// The slot that is written.
const SLOT: SlotId = SlotId::from_bytes([0x51; 16]);
/// What the owners own.
const SCOPE: ScopeId = ScopeId::from_bytes([0x5c; 16]);
/// The workloads take fewer.
const REQUESTS_MAX: u64 = 200;

/// Longer bodies than a thousand bytes lie apart. Nobody repeats a request or probes: a dead process does neither.
fn options_of_one_life(server: &S3Server) -> BucketOptions {
    let mut options = options(server, "a", 1);
    (options.timing.apart_bytes, options.timing.connect) = (1000, Duration::from_secs(60));
    (options.timing.repetitions, options.timing.probe_every) = (0, Duration::from_secs(3600));
    options
}

async fn server_over(dir: &TempDir) -> S3Server {
    S3Server::over(dir.path(), &["shards"]).await
}

fn slot_content(generation: u64) -> SlotContent {
    SlotContent { generation, body: Bytes::from(format!("keys of generation {generation}")) }
}

/// Goes up as an upload in parts; S3 takes short ones only as the last, so that it is one.
fn long() -> Record {
    record(9, 2500)
}

fn small(n: u64) -> Record {
    record(n, 100)
}

fn workload(owned: bool) -> Vec<Change> {
    if owned {
        // What an owner's changes have more than others is the same for all of them.
        return vec![
            Change::Put(vec![small(1), small(2)]),
            Change::WriteSlot(SLOT, slot_content(1)),
            Change::Delete(vec![small(1).id()]),
        ];
    }
    vec![
        Change::Put((1..=3).map(small).collect()),
        Change::WriteSlot(SLOT, slot_content(1)),
        Change::Put(vec![long()]),
        Change::WriteSlot(SLOT, slot_content(2)),
        Change::Delete(vec![small(1).id(), small(2).id()]),
        Change::Delete(vec![long().id()]),
    ]
}

/// What a site holds after changes: the slow and obvious way.
#[derive(Clone, Default)]
struct Held {
    records: BTreeMap<RecordId, Record>,
    slot: Option<SlotContent>,
}

impl Held {
    fn after(changes: &[Change]) -> Self {
        let mut held = Self::default();
        for change in changes.iter().cloned() {
            match change {
                Change::Put(records) => {
                    held.records.extend(records.into_iter().map(|record| (record.id(), record)));
                }
                Change::Delete(ids) => held.records.retain(|id, _| !ids.contains(id)),
                Change::WriteSlot(_, content) => held.slot = Some(content),
                Change::WipeSuperseded(_) => {}
            }
        }
        held
    }
}

/// What was met where a change was under way, so that the test can say that
/// it has met all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Met {
    PutNot,
    PutUnlisted,
    PutWhole,
    DeletedNot,
    DeletedFromListing,
    DeletedWhole,
    BodyWithoutRecord,
    SlotOld,
    SlotNew,
}

/// Makes a change; an acknowledgement says what it should.
async fn make(site: &BucketSite, owner: Option<Fence>, change: Change) -> Result<(), SiteError> {
    let receipts = match &change {
        Change::Put(records) => records.iter().map(|record| Receipt::of(description(1).id, record)).collect(),
        _ => Vec::new(),
    };
    let done = match (owner, change) {
        (Some(owner), change) => site.change_under(owner, change).await?,
        (None, Change::Put(records)) => Changed::Stored(site.put(records).await?),
        (None, Change::Delete(ids)) => Changed::Removed(site.delete(ids).await?),
        (None, Change::WriteSlot(slot, content)) => {
            site.write_slot(slot, content).await?;
            Changed::Slot
        }
        (None, Change::WipeSuperseded(slot)) => {
            site.wipe_superseded(slot).await?;
            Changed::Slot
        }
    };
    if let Changed::Stored(stored) = done {
        assert_eq!(stored, receipts);
    }
    Ok(())
}

/// What the process that is cut off got to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Got {
    /// Not even the creation of the site was acknowledged.
    NoSite,
    /// So many changes were acknowledged.
    Changes(usize),
}

/// Creates the site, opens it as the next process does and makes the changes,
/// until the bucket is gone.
async fn live(server: &S3Server, owner: Option<Fence>) -> Got {
    match BucketSite::create(options_of_one_life(server)).await {
        Ok(created) => drop(created),
        Err(BucketError::Unreachable(SiteError::Unreachable)) => return Got::NoSite,
        Err(other) => unreachable!("{other}"),
    }
    let site = BucketSite::open(options_of_one_life(server)).await.unwrap();
    let changes = workload(owner.is_some());
    let all = changes.len();
    for (done, change) in changes.into_iter().enumerate() {
        if let Err(error) = make(&site, owner, change).await {
            assert_eq!(error, SiteError::Unreachable);
            assert!(!site.answers());
            return Got::Changes(done);
        }
    }
    Got::Changes(all)
}

/// Compares a site with what was acknowledged, where `after` differs from
/// `before` by what was under way, and notes what is met there.
async fn compare(site: &BucketSite, before: &Held, after: &Held, dir: &Path, met: &mut BTreeSet<Met>) {
    let lines = site.list(RecordKind::Shard, None, 100).await.unwrap();
    let mut listed: BTreeMap<_, _> = lines.iter().map(|line| (line.id, line)).collect();
    let (mut unlisted, mut long_is_there) = (BTreeSet::new(), false);
    for record in (1..=3).map(small).chain([long()]) {
        let id = record.id();
        // Never half of it, and never an error that says something else.
        let read = site.get(id).await;
        assert!(read == Err(SiteError::Missing) || read.as_ref() == Ok(&record), "{id}: {read:?}");
        long_is_there = read.is_ok();
        let line = listed.remove(&id).map(|line| (line.digest, usize::try_from(line.body_bytes).unwrap()));
        if line.is_some() {
            assert!(read.is_ok(), "{id}: what is listed is there");
            assert_eq!(line, Some((record.digest(), record.body().len())));
        } else if read.is_ok() {
            unlisted.insert(Some(id));
        }
        let (was, will) = (before.records.contains_key(&id), after.records.contains_key(&id));
        met.extend(match (was, will, read.is_ok(), line.is_some()) {
            (true, true, true, true) | (false, false, false, false) => None,
            (false, true, false, _) => Some(Met::PutNot),
            (false, true, true, false) => Some(Met::PutUnlisted),
            (false, true, true, true) => Some(Met::PutWhole),
            (true, false, true, true) => Some(Met::DeletedNot),
            (true, false, true, false) => Some(Met::DeletedFromListing),
            (true, false, false, _) => Some(Met::DeletedWhole),
            (was, _, there, listed) => {
                unreachable!("{id}: by what was acknowledged {was}, there {there}, listed {listed}")
            }
        });
    }
    assert!(listed.is_empty(), "lines of nothing that was put: {listed:?}");
    // A scrub reports exactly what no listing shows.
    let found = site.scrub().await.unwrap();
    assert_eq!(found.iter().map(|finding| finding.record).collect::<BTreeSet<_>>(), unlisted);
    assert!(found.iter().all(|finding| finding.place.ends_with("not listed")), "{found:?}");
    if !long_is_there && !objects(dir, "/bodies/").is_empty() {
        met.insert(Met::BodyWithoutRecord);
    }
    compare_slot(site, before, after, met).await;
}

/// The slot holds what it held, or what was on its way.
async fn compare_slot(site: &BucketSite, before: &Held, after: &Held, met: &mut BTreeSet<Met>) {
    let read = site.read_slot(SLOT).await;
    let expected = |held: &Held| held.slot.clone().ok_or(SiteError::Missing);
    assert!(read == expected(before) || read == expected(after), "{read:?}");
    if before.slot != after.slot {
        met.insert(if read == expected(before) { Met::SlotOld } else { Met::SlotNew });
    }
    let listed: Vec<_> = site.list_slots().await.unwrap();
    assert_eq!(listed.iter().map(|line| line.generation).max(), read.ok().map(|content| content.generation));
    assert!(listed.iter().all(|line| line.slot == SLOT) && listed.len() <= 1, "{listed:?}");
}

/// The site as the next process finds it, made where there is none yet.
async fn next_life(server: &S3Server, got: Got) -> BucketSite {
    match BucketSite::open(options_of_one_life(server)).await {
        Ok(site) => site,
        Err(error) => {
            assert!(matches!(error, BucketError::NotASite), "{error}");
            assert!(got == Got::NoSite, "a site that was acknowledged is gone");
            BucketSite::create(options_of_one_life(server)).await.unwrap()
        }
    }
}

/// Lives until request `at`, and lives again. Whether it lived to its end.
async fn cut_and_go_on(at: u64, arrives: bool, owned: bool, met: &mut BTreeSet<Met>) -> bool {
    let owner = |epoch| owned.then_some(Fence { scope: SCOPE, epoch });
    let dir = TempDir::new().unwrap();
    let server = server_over(&dir).await;
    server.cut_at(at, arrives);
    let got = live(&server, owner(1)).await;
    server.settled().await;
    let whole = server.requests() <= at;
    drop(server);

    let changes = workload(owned);
    let done = if let Got::Changes(done) = got { done } else { 0 };
    assert_eq!(whole, done == changes.len(), "whoever is cut off is not told that all went well");
    let (acknowledged, under_way) = changes.split_at(done);
    let before = Held::after(acknowledged);
    // Without a site nothing was under way.
    let one_more = if got == Got::NoSite { 0 } else { (done + 1).min(changes.len()) };
    let after = Held::after(&changes[..one_more]);
    // Another server over the same bucket: nothing of the old process reaches it.
    let server = server_over(&dir).await;
    let site = next_life(&server, got).await;
    compare(&site, &before, &after, dir.path(), met).await;
    let epoch = site.epoch(SCOPE).await.unwrap();
    assert!(epoch <= 1 && (epoch == 1 || !owned || done == 0), "epoch {epoch} after {done} changes");
    if epoch == 1 {
        assert_eq!(site.put(vec![small(1)]).await, Err(SiteError::Superseded));
    }

    // What was not acknowledged is asked for again, by the next owner.
    for change in under_way {
        make(&site, owner(2), change.clone()).await.unwrap();
    }
    let end = Held::after(&changes);
    compare(&site, &end, &end, dir.path(), &mut BTreeSet::new()).await;
    if !under_way.is_empty() && owned {
        let late = make(&site, owner(1), Change::Put(vec![small(1)])).await;
        assert_eq!(late, Err(SiteError::Superseded), "the owner who died comes too late");
    }
    assert_eq!(site.state().await.records, 1, "counted now, for the first time");
    whole
}

/// Every request of the workload in turn, until it is through without a cut.
async fn cut_at_every_request(arrives: bool, owned: bool) -> BTreeSet<Met> {
    let (mut at, mut met) = (0, BTreeSet::new());
    while !cut_and_go_on(at, arrives, owned, &mut met).await {
        at += 1;
        assert!(at < REQUESTS_MAX, "it comes to an end");
    }
    assert!(at > 20, "only {at} requests: something of the workload is not made");
    met
}

/// Carried out and not answered, and not carried out.
async fn cut_everywhere(owned: bool) -> BTreeSet<Met> {
    let (arrived, lost) = tokio::join!(cut_at_every_request(true, owned), cut_at_every_request(false, owned));
    arrived.union(&lost).copied().collect()
}

/// What a crash can leave of changes that were under way.
const LEFT: [Met; 8] = [
    Met::PutNot,
    Met::PutUnlisted,
    Met::PutWhole,
    Met::DeletedNot,
    Met::DeletedFromListing,
    Met::DeletedWhole,
    Met::SlotOld,
    Met::SlotNew,
];

#[tokio::test]
async fn a_process_that_dies_at_any_request_leaves_what_it_acknowledged_and_nothing_half() {
    let mut all = BTreeSet::from(LEFT);
    all.insert(Met::BodyWithoutRecord);
    assert_eq!(cut_everywhere(false).await, all, "every state of the document is met");
}

#[tokio::test]
async fn an_owner_that_dies_at_any_request_leaves_what_it_acknowledged_to_the_next_one() {
    assert_eq!(cut_everywhere(true).await, BTreeSet::from(LEFT), "every state of the document is met");
}
