//! The promises of the [`Site`] port as one suite: every adapter runs it in
//! its tests. It asserts, so it belongs into tests only.
#![expect(clippy::unwrap_used, reason = "a test suite: a broken promise panics")]

mod owners;

use std::sync::Arc;

use bytes::Bytes;
use coffer_model::{RecordId, SlotId};
use coffer_regions::{
    Challenge, ClearGeometry, Receipt, Record, RecordKind, Site, SiteError, SlotContent, UnverifiedBytes,
    answer_of,
};

/// Runs every check, each on a fresh and empty site from `make`.
///
/// # Panics
/// When the adapter breaks a promise of the port.
pub async fn conformance<F, Fut>(make: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Site>>,
{
    without_owners(&make).await;
    owners::follow_one_another(make).await;
}

/// The same for an adapter that holds no epochs: it knows none, and refuses to
/// raise one, or to change anything under one.
///
/// # Panics
/// When the adapter breaks a promise of the port.
pub async fn conformance_without_epochs<F, Fut>(make: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Site>>,
{
    without_owners(&make).await;
    owners::are_refused(make().await).await;
}

/// Checks on a fresh and empty site that a slot which `damage` made unreadable is listed among the others, found by
/// reading it, and whole again once it is written.
///
/// # Panics
/// When the adapter breaks a promise of the port.
pub async fn damaged_slots(site: Arc<dyn Site>, damage: impl AsyncFnOnce(SlotId)) {
    for n in [3, 1, 2] {
        site.write_slot(slot(n), content(u64::from(n) + 4, b"keys")).await.unwrap();
    }
    damage(slot(2)).await;
    assert_eq!(site.read_slot(slot(2)).await, Err(SiteError::Damaged));
    let listed: Vec<_> =
        site.list_slots().await.unwrap().iter().map(|line| (line.slot, line.generation)).collect();
    assert_eq!(listed, vec![(slot(1), 5), (slot(2), 0), (slot(3), 7)]);
    assert_eq!(site.scrub().await.unwrap().len(), 1);
    site.write_slot(slot(2), content(6, b"keys")).await.unwrap();
    assert_eq!(site.read_slot(slot(2)).await, Ok(content(6, b"keys")));
    assert_eq!(site.list_slots().await.unwrap().get(1).map(|line| line.generation), Some(6));
    assert_eq!(site.scrub().await, Ok(Vec::new()), "nothing of the damage is left");
}

async fn without_owners<F, Fut>(make: &F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Site>>,
{
    a_fresh_site_is_empty(make().await).await;
    what_was_put_is_read_back(make().await).await;
    many_are_read_in_the_order_asked_for(make().await).await;
    the_longest_and_the_empty_body_are_kept(make().await).await;
    a_second_put_is_acknowledged_again(make().await).await;
    other_content_under_an_id_is_a_conflict(make().await).await;
    listings_are_ordered_paged_and_of_one_kind(make().await).await;
    what_was_deleted_is_gone_and_may_come_again(make().await).await;
    concurrent_puts_are_all_kept(make().await).await;
    concurrent_puts_of_one_id_keep_one_content(make().await).await;
    parts_are_read_and_nothing_past_the_end(make().await).await;
    challenges_are_answered_from_the_stored_bytes(make().await).await;
    a_scrub_in_steps_meets_every_record_once(make().await).await;
    history_is_reached_up_to_its_last_batch(make().await).await;
    slots_go_forward_only(make().await).await;
    slots_are_wiped_and_listed(make().await).await;
}

fn id(n: u64) -> RecordId {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    RecordId::from_bytes(bytes)
}

fn slot(n: u8) -> SlotId {
    SlotId::from_bytes([n; 16])
}

fn record(kind: RecordKind, n: u64, body: impl Into<Bytes>) -> Record {
    let geometry = match kind {
        RecordKind::Shard => ClearGeometry { k: 4, m: 2, index: 5 },
        _ => ClearGeometry::default(),
    };
    Record::new(kind, id(n), geometry, body.into()).unwrap()
}

fn shard(n: u64) -> Record {
    record(RecordKind::Shard, n, format!("body of {n}"))
}

fn receipt(site: &dyn Site, record: &Record) -> Receipt {
    Receipt::of(site.description().id, record)
}

async fn a_fresh_site_is_empty(site: Arc<dyn Site>) {
    assert_eq!(site.get(id(1)).await, Err(SiteError::Missing));
    assert_eq!(site.delete(vec![id(1)]).await, Ok(0));
    assert_eq!(site.put(Vec::new()).await, Ok(Vec::new()));
    assert_eq!(site.read_slot(slot(1)).await, Err(SiteError::Missing));
    assert_eq!(site.wipe_superseded(slot(1)).await, Err(SiteError::Missing));
    assert_eq!(site.list_slots().await, Ok(Vec::new()));
    assert_eq!(site.scrub().await, Ok(Vec::new()));
    for kind in RecordKind::ALL {
        assert_eq!(site.list(kind, None, 10).await, Ok(Vec::new()));
    }
    let state = site.state().await;
    assert!(state.alive);
    assert_eq!((state.records, state.damaged), (0, 0));
}

async fn what_was_put_is_read_back(site: Arc<dyn Site>) {
    let records: Vec<_> = (1..).zip(RecordKind::ALL).map(|(n, kind)| record(kind, n, vec![7; 100])).collect();
    let receipts = site.put(records.clone()).await.unwrap();
    let expected: Vec<_> = records.iter().map(|record| receipt(site.as_ref(), record)).collect();
    assert_eq!(receipts, expected, "one receipt for each record, in their order");
    for record in &records {
        assert_eq!(site.get(record.id()).await.as_ref(), Ok(record));
    }
    assert_eq!(site.state().await.records, 6);
    assert_eq!(site.scrub().await, Ok(Vec::new()));
}

async fn many_are_read_in_the_order_asked_for(site: Arc<dyn Site>) {
    site.put(vec![shard(1), shard(2), shard(3)]).await.unwrap();
    let answers = site.get_many(vec![id(3), id(9), id(1), id(3)]).await;
    assert_eq!(answers, [Ok(shard(3)), Err(SiteError::Missing), Ok(shard(1)), Ok(shard(3))]);
    assert_eq!(site.get_many(Vec::new()).await, []);
}

async fn the_longest_and_the_empty_body_are_kept(site: Arc<dyn Site>) {
    let longest = record(RecordKind::Shard, 1, vec![0xa5; Record::BODY_BYTES_MAX]);
    let empty = record(RecordKind::Log, 2, Vec::new());
    site.put(vec![longest.clone(), empty.clone()]).await.unwrap();
    assert_eq!(site.get(id(1)).await, Ok(longest));
    assert_eq!(site.get(id(2)).await, Ok(empty));
}

async fn a_second_put_is_acknowledged_again(site: Arc<dyn Site>) {
    let first = site.put(vec![shard(1)]).await.unwrap();
    let bytes = site.state().await.volume_bytes;
    assert_eq!(site.put(vec![shard(1)]).await, Ok(first.clone()));
    assert_eq!(site.put(vec![shard(1), shard(1)]).await.unwrap().len(), 2);
    let state = site.state().await;
    assert_eq!((state.records, state.volume_bytes), (1, bytes), "nothing is stored twice");
    let twice = site.put(vec![shard(2), shard(2)]).await.unwrap();
    assert_eq!(twice.len(), 2);
    assert_eq!(site.state().await.records, 2);
}

async fn other_content_under_an_id_is_a_conflict(site: Arc<dyn Site>) {
    site.put(vec![shard(1)]).await.unwrap();
    let other = record(RecordKind::Shard, 1, "other");
    let other_kind = record(RecordKind::Manifest, 1, "body of 1");
    assert_eq!(site.put(vec![other.clone()]).await, Err(SiteError::Conflict));
    assert_eq!(site.put(vec![other_kind]).await, Err(SiteError::Conflict));
    assert_eq!(site.put(vec![shard(2), other]).await, Err(SiteError::Conflict));
    assert_eq!(site.get(id(2)).await, Err(SiteError::Missing), "a refused put leaves nothing");
    assert_eq!(site.get(id(1)).await, Ok(shard(1)));
    let against_itself = vec![shard(3), record(RecordKind::Shard, 3, "other")];
    assert_eq!(site.put(against_itself).await, Err(SiteError::Conflict));
    assert_eq!(site.get(id(3)).await, Err(SiteError::Missing));
}

async fn listings_are_ordered_paged_and_of_one_kind(site: Arc<dyn Site>) {
    let shuffled = (0..50).map(|n| n * 37 % 50);
    site.put(shuffled.map(shard).collect()).await.unwrap();
    site.put(vec![record(RecordKind::Manifest, 1000, "m")]).await.unwrap();
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = site.list(RecordKind::Shard, after, 7).await.unwrap();
        assert!(page.len() <= 7);
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        seen.extend(page);
    }
    assert_eq!(seen.iter().map(|line| line.id).collect::<Vec<_>>(), (0..50).map(id).collect::<Vec<_>>());
    for (n, line) in (0..).zip(&seen) {
        let record = shard(n);
        assert_eq!((line.kind, line.digest), (RecordKind::Shard, record.digest()));
        assert_eq!(usize::try_from(line.body_bytes).unwrap(), record.body().len());
    }
    assert_eq!(site.list(RecordKind::Manifest, None, 10).await.unwrap().len(), 1);
    assert_eq!(site.list(RecordKind::Shard, None, 0).await, Ok(Vec::new()));
    assert_eq!(site.list(RecordKind::Shard, Some(id(49)), 10).await, Ok(Vec::new()));
}

async fn what_was_deleted_is_gone_and_may_come_again(site: Arc<dyn Site>) {
    site.put(vec![shard(1), shard(2), shard(3)]).await.unwrap();
    assert_eq!(site.delete(vec![id(1), id(3), id(9), id(1)]).await, Ok(2), "counts what was there, once");
    assert_eq!(site.get(id(1)).await, Err(SiteError::Missing));
    assert_eq!(site.get(id(2)).await, Ok(shard(2)));
    let listed = site.list(RecordKind::Shard, None, 10).await.unwrap();
    assert_eq!(listed.iter().map(|line| line.id).collect::<Vec<_>>(), vec![id(2)]);
    assert_eq!(site.delete(vec![id(1)]).await, Ok(0));
    let other = record(RecordKind::Shard, 1, "other content");
    site.put(vec![other.clone()]).await.unwrap();
    assert_eq!(site.get(id(1)).await, Ok(other));
    assert_eq!(site.delete(Vec::new()).await, Ok(0));
}

async fn concurrent_puts_are_all_kept(site: Arc<dyn Site>) {
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let site = site.clone();
            tokio::spawn(async move { site.put(vec![shard(2 * n), shard(2 * n + 1)]).await })
        })
        .collect();
    for (n, task) in (0..).zip(tasks) {
        let expected = [shard(2 * n), shard(2 * n + 1)].map(|record| receipt(site.as_ref(), &record));
        assert_eq!(task.await.unwrap().as_deref(), Ok(&expected[..]));
    }
    for n in 0..128 {
        assert_eq!(site.get(id(n)).await, Ok(shard(n)));
    }
    assert_eq!(site.state().await.records, 128);
}

async fn concurrent_puts_of_one_id_keep_one_content(site: Arc<dyn Site>) {
    let candidate = |n: usize| record(RecordKind::Registry, 1, format!("candidate {n}"));
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let site = site.clone();
            tokio::spawn(async move { site.put(vec![candidate(n)]).await })
        })
        .collect();
    let mut winners = Vec::new();
    for (n, task) in tasks.into_iter().enumerate() {
        match task.await.unwrap() {
            Ok(_) => winners.push(n),
            Err(error) => assert_eq!(error, SiteError::Conflict),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(site.get(id(1)).await, Ok(candidate(winners[0])));
}

async fn parts_are_read_and_nothing_past_the_end(site: Arc<dyn Site>) {
    site.put(vec![record(RecordKind::Shard, 1, "0123456789")]).await.unwrap();
    let part = async |range| site.get_range(id(1), range).await;
    assert_eq!(part(2..5).await, Ok(UnverifiedBytes(Bytes::from_static(b"234"))));
    assert_eq!(part(0..10).await, Ok(UnverifiedBytes(Bytes::from_static(b"0123456789"))));
    assert_eq!(part(10..10).await, Ok(UnverifiedBytes(Bytes::new())));
    assert_eq!(part(9..11).await, Err(SiteError::OverLimit));
    assert_eq!(site.get_range(id(2), 0..1).await, Err(SiteError::Missing));
}

async fn challenges_are_answered_from_the_stored_bytes(site: Arc<dyn Site>) {
    let long = record(RecordKind::Shard, 1, (0..100_000_u32).map(|n| n.to_le_bytes()[0]).collect::<Vec<_>>());
    site.put(vec![long.clone(), shard(2)]).await.unwrap();
    for (n, body) in [(1, long.body()), (2, shard(2).body())] {
        let challenge = Challenge { record: id(n), key: [9; 32] };
        assert_eq!(site.answer(challenge).await, Ok(answer_of(&challenge.key, body)));
    }
    assert_eq!(site.answer(Challenge { record: id(3), key: [9; 32] }).await, Err(SiteError::Missing));
}

async fn a_scrub_in_steps_meets_every_record_once(site: Arc<dyn Site>) {
    for n in 0..20 {
        site.put(vec![shard(n)]).await.unwrap();
    }
    let (mut from, mut records, mut bytes, mut steps) = (None, 0, 0, 0);
    loop {
        let step = site.scrub_step(from, 30).await.unwrap();
        assert_eq!(step.findings, Vec::new());
        assert!(step.records > 0 || step.next.is_none() || step.next > from, "a step makes progress");
        (records, bytes, steps) = (records + step.records, bytes + step.bytes, steps + 1);
        from = step.next;
        if from.is_none() {
            break;
        }
    }
    let total: usize = (0..20).map(|n| shard(n).body().len()).sum();
    // What holds the records together is read too.
    assert!(records == 20 && bytes >= u64::try_from(total).unwrap(), "{records} {bytes}");
    assert!(steps > 1);
}

/// Sites that keep no history have no reach to compare.
async fn history_is_reached_up_to_its_last_batch(site: Arc<dyn Site>) {
    site.put(vec![shard(1)]).await.unwrap();
    let Some(first) = site.state().await.reach else { return };
    site.put(vec![shard(2)]).await.unwrap();
    let second = site.state().await.reach.unwrap();
    assert!(second.sequence > first.sequence);
    assert_eq!(site.reaches(first).await, Ok(true));
    assert_eq!(site.reaches(second).await, Ok(true));
    let later = coffer_regions::Reach { sequence: second.sequence + 1, ..second };
    assert_eq!(site.reaches(later).await, Ok(false));
    let forked = coffer_regions::Reach { digest: first.digest, ..second };
    assert_eq!(site.reaches(forked).await, Ok(false));
}

fn content(generation: u64, body: &[u8]) -> SlotContent {
    SlotContent { generation, body: Bytes::copy_from_slice(body) }
}

async fn slots_go_forward_only(site: Arc<dyn Site>) {
    let one = slot(1);
    site.write_slot(one, content(5, b"five")).await.unwrap();
    site.write_slot(one, content(5, b"five")).await.unwrap();
    assert_eq!(site.write_slot(one, content(5, b"FIVE")).await, Err(SiteError::Conflict));
    assert_eq!(site.write_slot(one, content(4, b"five")).await, Err(SiteError::Conflict));
    assert_eq!(site.read_slot(one).await, Ok(content(5, b"five")));
    for generation in 6..12 {
        site.write_slot(one, content(generation, &vec![9; 1000 / usize::try_from(generation).unwrap()]))
            .await
            .unwrap();
    }
    assert_eq!(site.read_slot(one).await, Ok(content(11, &[9; 90])));
    let longest = content(u64::MAX, &vec![3; 64 << 10]);
    site.write_slot(one, longest.clone()).await.unwrap();
    assert_eq!(site.read_slot(one).await, Ok(longest));
    let over = content(1, &vec![3; (64 << 10) + 1]);
    assert_eq!(site.write_slot(slot(2), over).await, Err(SiteError::OverLimit));
    assert_eq!(site.read_slot(slot(2)).await, Err(SiteError::Missing));
    site.write_slot(slot(3), content(0, b"")).await.unwrap();
    assert_eq!(site.read_slot(slot(3)).await, Ok(content(0, b"")));
}

async fn slots_are_wiped_and_listed(site: Arc<dyn Site>) {
    for n in [9, 1, 5] {
        site.write_slot(slot(n), content(1, b"old")).await.unwrap();
        site.write_slot(slot(n), content(u64::from(n) + 1, b"new")).await.unwrap();
        site.wipe_superseded(slot(n)).await.unwrap();
        site.wipe_superseded(slot(n)).await.unwrap();
        assert_eq!(site.read_slot(slot(n)).await, Ok(content(u64::from(n) + 1, b"new")));
    }
    let listed = site.list_slots().await.unwrap();
    let pairs: Vec<_> = listed.iter().map(|line| (line.slot, line.generation)).collect();
    assert_eq!(pairs, vec![(slot(1), 2), (slot(5), 6), (slot(9), 10)]);
    assert_eq!(site.scrub().await, Ok(Vec::new()));
}
