//! Pods that lie and callers that misbehave: whatever comes is refused by
//! name, and everybody else is served on.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

#[path = "support/caller.rs"]
mod caller;
#[path = "support/liar.rs"]
mod liar;
#[expect(dead_code, reason = "shared with tests that need more of it")]
#[path = "support/pods.rs"]
mod pods;

use std::sync::Arc;

use caller::{header, part};
use coffer_model::{SiteDescription, SiteId};
use coffer_proto::SITE_SERVER_NAME;
use coffer_proto::site::v1::{self, PutHeader, PutRequest, RecordHeader, RecordPart};
use coffer_regions::{Site, SiteError};
use coffer_site::daemon::{DaemonError, Notice, serve};
use coffer_site::{DirectorySite, PodRefusal, SiteIdentity};
use liar::{Lie, LyingSite, LyingStore};
use pods::{Certified, Fleet};
use support::record;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};

fn store() -> (TempDir, Arc<DirectorySite>) {
    let dir = TempDir::new().unwrap();
    let store = Arc::new(support::open(dir.path()));
    (dir, store)
}

/// What an adapter for `description` makes of a pod with this certificate.
async fn refusal_of(fleet: &Fleet, certified: &Certified, description: SiteDescription) -> PodRefusal {
    let (_dir, store) = store();
    let running = fleet.serve_as(store.clone(), fleet.options(certified, pods::RECEIPTS)).await;
    let pod = fleet.open(description.clone(), running.address).await;
    assert!(!pod.answers());
    assert_eq!(pod.put(vec![record(1, 10)]).await, Err(SiteError::Untrusted));
    assert_eq!(pod.get(record(1, 10).id()).await, Err(SiteError::Untrusted));
    assert!(!pod.state().await.alive);
    assert_eq!(store.state().await.records, 0, "nothing was sent");
    let refusal = pod.refusal().unwrap();
    assert!(fleet.seen.refusals().contains(&(description.id, refusal.clone())), "the witness was told");
    refusal
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_a_wrong_certificate_is_refused_by_name_before_anything_is_sent() {
    let fleet = Fleet::new();
    let own = support::description(1);
    let with = |identity: SiteIdentity| fleet.authority.pod(SITE_SERVER_NAME, &[identity.to_string()]);
    let right = pods::identity(&own);

    let other = SiteId::from_bytes([9; 16]);
    let other_site = with(SiteIdentity { site: other, ..right });
    assert_eq!(refusal_of(&fleet, &other_site, own.clone()).await, PodRefusal::OtherSite(other));

    let elsewhere = with(SiteIdentity { country: "US".parse().unwrap(), ..right });
    let refusal = refusal_of(&fleet, &elsewhere, own.clone()).await;
    let (found, promised) = ("US".parse().unwrap(), own.country);
    assert_eq!(refusal, PodRefusal::OtherCountry { found, promised });

    let nobody = fleet.authority.pod(SITE_SERVER_NAME, &[]);
    assert_eq!(refusal_of(&fleet, &nobody, own.clone()).await.name(), "no-site-certificate");

    let other_name = fleet.authority.pod("other.internal", &[right.to_string()]);
    assert_eq!(refusal_of(&fleet, &other_name, own.clone()).await.name(), "wrong-certificate");

    let stranger = pods::Authority::new().pod(SITE_SERVER_NAME, &[right.to_string()]);
    assert_eq!(refusal_of(&fleet, &stranger, own).await.name(), "wrong-certificate");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_does_not_start_with_a_certificate_or_key_that_is_not_its_own() {
    let fleet = Fleet::new();
    let (_dir, store) = store();
    let own = pods::identity(store.description());
    let start = async |identity: SiteIdentity, receipts: [u8; 32]| {
        let certified = fleet.authority.pod(SITE_SERVER_NAME, &[identity.to_string()]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let options = fleet.options(&certified, receipts);
        serve(store.clone(), options, listener, std::future::ready(())).await
    };
    assert!(start(own, pods::RECEIPTS).await.is_ok());
    let other = SiteIdentity { site: SiteId::from_bytes([9; 16]), ..own };
    assert!(matches!(start(other, pods::RECEIPTS).await, Err(DaemonError::OtherSite { .. })));
    let elsewhere = SiteIdentity { country: "FR".parse().unwrap(), ..own };
    assert!(matches!(start(elsewhere, pods::RECEIPTS).await, Err(DaemonError::OtherCountry { .. })));
    assert!(matches!(start(own, [1; 32]).await, Err(DaemonError::ReceiptKey)));
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_that_are_replayed_forged_or_for_something_else_are_refused_by_name() {
    for (lie, name) in [
        (Lie::Replay, "replayed-receipt"),
        (Lie::OtherSite, "receipt-of-other-site"),
        (Lie::OtherDigest, "wrong-receipt"),
        (Lie::FewerReceipts, "wrong-receipt"),
        (Lie::OtherKey, "forged-receipt"),
        (Lie::OldSignature, "forged-receipt"),
        (Lie::ShortNonce, "replayed-receipt"),
        (Lie::ShortDigest, "malformed-answer"),
    ] {
        let fleet = Fleet::new();
        let description = support::description(1);
        let running = LyingStore::serve(&fleet, &description, lie).await;
        let pod = fleet.open(description.clone(), running.address).await;
        pod.put(vec![record(1, 100)]).await.unwrap();
        assert_eq!(pod.put(vec![record(2, 100)]).await, Err(SiteError::Untrusted), "{name}");
        let refusals = fleet.seen.refusals();
        let names: Vec<_> = refusals.iter().map(|(site, refusal)| (*site, refusal.name())).collect();
        assert_eq!(names, vec![(description.id, name)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_record_served_in_place_and_listings_out_of_order_are_refused_by_name() {
    let fleet = Fleet::new();
    let (_dir, store) = store();
    store.put(vec![record(1, 100), record(2, 100), record(3, 100)]).await.unwrap();
    let running = fleet.serve(Arc::new(LyingSite(store.clone()))).await;
    let pod = fleet.open(store.description().clone(), running.address).await;
    // It serves record 2 under the id of record 1, and lists backwards.
    assert_eq!(pod.get(record(1, 100).id()).await, Err(SiteError::Damaged));
    let listed = pod.list(coffer_regions::RecordKind::Shard, None, 10).await;
    assert_eq!(listed, Err(SiteError::Untrusted));
    assert_eq!(pod.get_range(record(1, 100).id(), 0..5).await, Err(SiteError::Untrusted));
    assert_eq!(pod.scrub().await, Err(SiteError::Untrusted), "a pass without end is none");
    let names: Vec<_> = fleet.seen.refusals().iter().map(|(_, refusal)| refusal.name()).collect();
    assert_eq!(names, vec!["wrong-record", "malformed-answer", "malformed-answer", "malformed-answer"]);
}

/// Puts that no adapter makes.
fn malformed_puts() -> Vec<Vec<PutRequest>> {
    let good = part(&record(1, 10));
    let first = |header, parts| PutRequest { header: Some(header), parts };
    let more = |parts| PutRequest { header: None, parts };
    let with = |change: fn(&mut RecordHeader)| {
        let mut part = good.clone();
        part.header.iter_mut().for_each(change);
        vec![first(header(1, 10), vec![part])]
    };
    vec![
        vec![],
        vec![more(vec![good.clone()])],
        vec![first(PutHeader { nonce: vec![1; 31].into(), ..header(1, 10) }, vec![good.clone()])],
        vec![first(header(4097, 10), vec![good.clone()])],
        vec![first(header(1, (64 << 20) + 1), vec![good.clone()])],
        vec![first(header(1, 9), vec![good.clone()])],
        vec![first(header(2, 20), vec![good.clone()])],
        vec![first(header(1, 10), vec![good.clone(), good.clone()])],
        vec![first(header(1, 10), vec![]), first(header(1, 10), vec![good.clone()])],
        vec![first(header(1, 10), vec![RecordPart { header: None, data: good.data.clone() }])],
        with(|header| header.kind = 99),
        with(|header| header.k = 1 << 20),
        with(|header| header.body_bytes = u32::MAX),
        with(|header| header.body_bytes = 11),
        with(|header| header.digest = vec![0; 32].into()),
        with(|header| header.digest = vec![].into()),
        with(|header| header.id = vec![1; 17].into()),
        with(|header| header.index = 1),
        // Over the limit of one message.
        vec![first(header(1, 10), vec![RecordPart { header: None, data: vec![0; 3 << 20].into() }])],
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn oversized_and_malformed_requests_are_refused_store_nothing_and_cost_nobody_else() {
    let fleet = Fleet::new();
    let (_dir, store) = store();
    let running = fleet.serve(store.clone()).await;
    let mut raw = caller::connect(caller::endpoint(&fleet, running.address)).await;
    for (n, messages) in malformed_puts().into_iter().enumerate() {
        let refused = raw.put(tokio_stream::iter(messages)).await;
        assert!(refused.is_err(), "put {n}");
    }
    let short: bytes::Bytes = vec![1; 15].into();
    assert!(raw.get(v1::GetRequest { id: short.clone() }).await.is_err());
    let backwards = v1::GetRangeRequest { id: vec![1; 16].into(), start: 5, end: 4 };
    assert!(raw.get_range(backwards).await.is_err());
    assert!(raw.list(v1::ListRequest { kind: 1, after: short.clone(), limit: 1 }).await.is_err());
    assert!(raw.list(v1::ListRequest { kind: 0, after: vec![].into(), limit: 1 }).await.is_err());
    assert!(raw.list(v1::ListRequest { kind: 1, after: vec![].into(), limit: 4097 }).await.is_err());
    assert!(raw.delete(v1::DeleteRequest { ids: vec![short.clone()], fence: None }).await.is_err());
    assert!(
        raw.delete(v1::DeleteRequest { ids: vec![vec![1; 16].into(); 4097], fence: None }).await.is_err()
    );
    assert!(raw.answer(v1::AnswerRequest { record: vec![1; 16].into(), key: short.clone() }).await.is_err());
    let greedy = v1::ScrubStepRequest { from: vec![].into(), bytes_max: u64::MAX };
    assert!(raw.scrub_step(greedy).await.is_err());
    assert!(raw.reaches(v1::ReachesRequest { reach: None }).await.is_err());
    let long = v1::WriteSlotRequest {
        slot: vec![1; 16].into(),
        generation: 1,
        body: vec![0; 65537].into(),
        fence: None,
    };
    assert!(raw.write_slot(long).await.is_err());
    assert!(raw.list_slots(v1::ListSlotsRequest { after: short, limit: 1 }).await.is_err());

    assert_eq!(store.state().await.records, 0);
    assert_eq!(store.list_slots().await, Ok(Vec::new()));
    let noted = |notice: &Notice| matches!(notice, Notice::Request { caller, .. } if caller == "service");
    assert!(fleet.seen.notices().iter().filter(|notice| noted(notice)).count() > 20);
    let pod = fleet.open(store.description().clone(), running.address).await;
    pod.put(vec![record(1, 100)]).await.unwrap();
    assert_eq!(pod.get(record(1, 100).id()).await, Ok(record(1, 100)));
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_silence_and_more_connections_than_there_are_places_cost_nobody_else() {
    let fleet = Fleet::new();
    let (_dir, store) = store();
    let running = fleet.serve(store.clone()).await;
    let pod = fleet.open(store.description().clone(), running.address).await;
    assert!(pod.answers());
    let mut silent = Vec::new();
    for n in 0..80_u8 {
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        if n % 2 == 0 {
            // The other side may have closed it already.
            let _ = stream.write_all(&vec![n; 500]).await;
        }
        silent.push(stream);
    }
    pod.put(vec![record(1, 100)]).await.unwrap();
    while !fleet.seen.notices().contains(&Notice::Connections) {
        let stream = TcpStream::connect(running.address).await.unwrap();
        silent.push(stream);
        tokio::task::yield_now().await;
    }
    assert_eq!(pod.get(record(1, 100).id()).await, Ok(record(1, 100)));
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_that_hold_every_place_for_handshakes_keep_no_caller_out() {
    let fleet = Fleet::new();
    let (_dir, store) = store();
    let running = fleet.serve(store.clone()).await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(TcpStream::connect(running.address).await.unwrap());
    }
    let pod = fleet.open(store.description().clone(), running.address).await;
    assert!(pod.answers(), "a caller with a certificate comes in beside them");
    pod.put(vec![record(1, 100)]).await.unwrap();
    for _ in 0..200 {
        silent.push(TcpStream::connect(running.address).await.unwrap());
    }
    assert_eq!(pod.get(record(1, 100).id()).await, Ok(record(1, 100)), "and stays");
    assert!(fleet.seen.notices().contains(&Notice::Connections));
}
