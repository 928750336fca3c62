//! A pod over real sockets with mutual TLS keeps the promises of the port,
//! comes back by itself, and holds nobody longer than the deadline.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

#[path = "support/pods.rs"]
mod pods;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use coffer_regions::{Site, SiteError};
use coffer_site::conformance::{conformance, damaged_slots};
use coffer_site::daemon::Notice;
use coffer_site::{PodRefusal, PodSite, PodTiming};
use pods::{Fleet, RunningPod};
use support::record;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Waits until a pod answers, or does not; the test's own time limit ends it.
async fn until(pod: &PodSite, answers: bool) {
    while pod.answers() != answers {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_keeps_the_promises_over_mutual_tls() {
    let fleet = Fleet::new();
    let kept: Mutex<Vec<(TempDir, RunningPod)>> = Mutex::default();
    conformance(async || {
        let dir = TempDir::new().unwrap();
        let store = support::open(dir.path());
        let description = store.description().clone();
        let running = fleet.serve(Arc::new(store)).await;
        let pod = fleet.open(description, running.address).await;
        kept.lock().unwrap().push((dir, running));
        Arc::new(pod) as Arc<dyn Site>
    })
    .await;
    assert_eq!(fleet.seen.refusals(), []);
    assert_eq!(fleet.seen.notices(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_shows_the_slots_that_are_damaged_and_takes_them_anew() {
    let fleet = Fleet::new();
    let dir = TempDir::new().unwrap();
    let store = support::open(dir.path());
    let description = store.description().clone();
    let running = fleet.serve(Arc::new(store)).await;
    let pod = fleet.open(description, running.address).await;
    damaged_slots(Arc::new(pod), async |slot| {
        let name: String = slot.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let path = dir.path().join("slots").join(name);
        support::write(&path, &vec![7; support::read(&path).len()]);
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_was_stopped_and_started_again_answers_again_with_everything() {
    let fleet = Fleet::new();
    let dir = TempDir::new().unwrap();
    let store = support::open(dir.path());
    let description = store.description().clone();
    let certified = fleet.certificate(&description);
    let running = fleet.serve(Arc::new(store)).await;
    let address = running.address;
    let pod = fleet.open(description.clone(), address).await;
    assert!(pod.answers(), "it was asked while it was opened");
    pod.put(vec![record(1, 1000)]).await.unwrap();
    running.stop().await;
    until(&pod, false).await;
    assert_eq!(pod.get(record(1, 1000).id()).await, Err(SiteError::Unreachable));
    assert_eq!(pod.put(vec![record(2, 10)]).await, Err(SiteError::Unreachable));
    assert!(!pod.state().await.alive);

    let listener = TcpListener::bind(address).await.unwrap();
    let store: Arc<dyn Site> = Arc::new(support::open(dir.path()));
    let options = fleet.options(&certified, pods::RECEIPTS);
    let server = tokio::spawn(coffer_site::daemon::serve(store, options, listener, std::future::pending()));
    until(&pod, true).await;
    assert_eq!(pod.get(record(1, 1000).id()).await, Ok(record(1, 1000)));
    assert!(pod.state().await.alive);
    server.abort();
}

/// Repeats a call that a busy machine may not answer within a short deadline;
/// it fails in no other way.
async fn in_time<T>(call: impl AsyncFn() -> Result<T, SiteError>) -> T {
    loop {
        match call().await {
            Err(SiteError::Unreachable) => tokio::time::sleep(Duration::from_millis(5)).await,
            answer => return answer.unwrap(),
        }
    }
}

/// A way to a pod that can be cut without a word, as a firewall does: bytes
/// are taken and go nowhere.
struct Firewall {
    address: std::net::SocketAddr,
    open: watch::Sender<bool>,
}

impl Firewall {
    async fn before(pod: std::net::SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, opened) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                let target = TcpStream::connect(pod).await.unwrap();
                let (caller, target) = (caller.into_split(), target.into_split());
                tokio::spawn(carry(caller.0, target.1, opened.clone()));
                tokio::spawn(carry(target.0, caller.1, opened.clone()));
            }
        });
        Self { address, open }
    }
}

async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut open: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if open.wait_for(|open| *open).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_to_a_pod_that_falls_silent_end_as_unreachable_and_the_next_ones_at_once() {
    let fleet = Fleet::new();
    let dir = TempDir::new().unwrap();
    let store = support::open(dir.path());
    let description = store.description().clone();
    let running = fleet.serve(Arc::new(store)).await;
    let firewall = Firewall::before(running.address).await;
    let timing = PodTiming {
        call: Duration::from_millis(700),
        probe: Duration::from_millis(300),
        probe_every: Duration::from_millis(50),
        ..PodTiming::default()
    };
    let pod = fleet.open_as(&fleet.caller, description, firewall.address, timing).await;
    in_time(async || pod.put(vec![record(1, 1000)]).await).await;

    firewall.open.send(false).unwrap();
    let (get, put, list) = tokio::join!(
        pod.get(record(1, 1000).id()),
        pod.put(vec![record(2, 100_000)]),
        pod.list(coffer_regions::RecordKind::Shard, None, 10),
    );
    assert_eq!(get, Err(SiteError::Unreachable));
    assert_eq!(put, Err(SiteError::Unreachable));
    assert_eq!(list, Err(SiteError::Unreachable));
    assert!(!pod.answers());
    assert!(!pod.state().await.alive);

    firewall.open.send(true).unwrap();
    until(&pod, true).await;
    assert_eq!(in_time(async || pod.get(record(1, 1000).id()).await).await, record(1, 1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certified_caller_that_is_not_on_the_list_gets_nothing_and_is_noted() {
    let fleet = Fleet::new();
    let dir = TempDir::new().unwrap();
    let store = Arc::new(support::open(dir.path()));
    let description = store.description().clone();
    let running = fleet.serve(Arc::clone(&store) as Arc<dyn Site>).await;
    let stranger = fleet.authority.caller();
    let print = coffer_site::daemon::fingerprint(stranger.certificate.der());
    let pod = fleet.open_as(&stranger, description.clone(), running.address, pods::timing()).await;
    assert!(!pod.answers());
    assert_eq!(pod.put(vec![record(1, 10)]).await, Err(SiteError::Unreachable));
    assert_eq!(store.state().await.records, 0);
    assert!(fleet.seen.refusals().contains(&(description.id, PodRefusal::Caller)));
    assert!(fleet.seen.notices().contains(&Notice::Caller { fingerprint: Some(print) }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_certified_by_nobody_that_the_pod_knows_does_not_even_connect() {
    let fleet = Fleet::new();
    let dir = TempDir::new().unwrap();
    let store = Arc::new(support::open(dir.path()));
    let description = store.description().clone();
    let running = fleet.serve(Arc::clone(&store) as Arc<dyn Site>).await;
    let stranger = pods::Authority::new().caller();
    let pod = fleet.open_as(&stranger, description, running.address, pods::timing()).await;
    assert!(!pod.answers());
    assert_eq!(pod.put(vec![record(1, 10)]).await, Err(SiteError::Unreachable));
    assert_eq!(store.state().await.records, 0);
}
