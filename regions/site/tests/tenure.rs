//! Pods with a lease, over real sockets: they stop writing when it runs out,
//! read on, and an earlier incarnation is not believed by who knows a later one.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]
#![expect(clippy::disallowed_methods, reason = "the test is who grants leases and places pods")]

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

#[expect(dead_code, reason = "shared with tests that need more of it")]
#[path = "support/pods.rs"]
mod pods;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coffer_model::{Clock, SlotId, Timestamp};
use coffer_regions::{Site, SiteError, SlotContent};
use coffer_site::{EndpointsFile, LeaseFile, PodCredentials, PodOptions, PodRefusal, PodSite, Witness};
use pods::{Fleet, RunningPod};
use support::{CountingEntropy, record};
use tempfile::TempDir;

/// A clock that stands still until it is moved, in milliseconds.
#[derive(Default)]
struct Hand(Mutex<u64>);

impl Hand {
    fn set(&self, ms: u64) {
        *self.0.lock().unwrap() = ms;
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(*self.0.lock().unwrap() * 1_000_000)
    }
    fn monotonic(&self) -> Duration {
        Duration::from_millis(*self.0.lock().unwrap())
    }
}

fn grant(path: &Path, epoch: u64, until_ms: u64) {
    std::fs::write(path, format!("{{\"version\":1,\"epoch\":{epoch},\"valid_until_unix_ms\":{until_ms}}}"))
        .unwrap();
}

/// A pod with a lease that ends at 1,000 ms.
struct Leased {
    running: RunningPod,
    lease: Arc<LeaseFile>,
    file: PathBuf,
    clock: Arc<Hand>,
    store: Arc<coffer_site::DirectorySite>,
}

async fn leased(fleet: &Fleet, dir: &Path, epoch: u64) -> Leased {
    let (file, clock) = (dir.join(format!("lease-{epoch}")), Arc::new(Hand::default()));
    grant(&file, epoch, 1_000);
    let lease = Arc::new(LeaseFile::open(&file, Arc::clone(&clock) as Arc<dyn Clock>).unwrap());
    let store = Arc::new(support::open(&dir.join(format!("store-{epoch}"))));
    let certified = fleet.certificate(store.description());
    let mut options = fleet.options(&certified, pods::RECEIPTS);
    options.lease = Some(Arc::clone(&lease));
    let running = fleet.serve_as(Arc::clone(&store) as Arc<dyn Site>, options).await;
    Leased { running, lease, file, clock, store }
}

/// Where the pods are, for whoever looks.
struct Places {
    file: PathBuf,
}

impl Places {
    fn at(dir: &Path, pod: &Leased, incarnation: u64) -> Self {
        let places = Self { file: dir.join("endpoints.json") };
        places.moved(pod, Some(incarnation));
        places
    }

    fn moved(&self, pod: &Leased, incarnation: Option<u64>) {
        let (site, address) = (pod.store.description().id, pod.running.address);
        let incarnation = incarnation.map_or_else(|| "null".to_owned(), |n| n.to_string());
        let line = format!(
            "{{\"site\":\"{site}\",\"endpoint\":\"https://{address}\",\"incarnation\":{incarnation}}}"
        );
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{{\"format\":1,\"sites\":[{line}]}}")).unwrap();
        std::fs::rename(&new, &self.file).unwrap();
    }

    async fn open(&self, fleet: &Fleet, pod: &Leased) -> PodSite {
        let options = PodOptions {
            description: pod.store.description().clone(),
            // Nobody listens there: where the pod is, the file says.
            endpoint: "https://127.0.0.1:9".to_owned(),
            discovery: Arc::new(EndpointsFile::open(&self.file).unwrap()),
            credentials: PodCredentials {
                ca_pem: fleet.authority.ca_pem.clone(),
                certificate_pem: fleet.caller.certificate.pem(),
                key_pem: fleet.caller.key_pem.clone().into(),
            },
            timing: pods::timing(),
            entropy: Arc::new(CountingEntropy::default()),
            witness: Arc::clone(&fleet.seen) as Arc<dyn Witness>,
        };
        PodSite::open(options).await.unwrap()
    }
}

async fn until(what: impl AsyncFn() -> bool) {
    while !what().await {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_whose_lease_ran_out_writes_nothing_reads_on_and_writes_again_when_it_is_renewed() {
    let (fleet, dir) = (Fleet::new(), TempDir::new().unwrap());
    let pod = leased(&fleet, dir.path(), 7).await;
    let site = fleet.open(pod.store.description().clone(), pod.running.address).await;
    site.put(vec![record(1, 1000)]).await.unwrap();
    assert!(!site.state().await.read_only);

    pod.clock.set(1_000);
    let slot = SlotId::from_bytes([1; 16]);
    let content = SlotContent { generation: 1, body: "key".into() };
    assert_eq!(site.put(vec![record(2, 10)]).await, Err(SiteError::NoLease));
    assert_eq!(site.delete(vec![record(1, 1000).id()]).await, Err(SiteError::NoLease));
    assert_eq!(site.write_slot(slot, content.clone()).await, Err(SiteError::NoLease));
    assert_eq!(site.wipe_superseded(slot).await, Err(SiteError::NoLease));
    assert_eq!(site.get(record(1, 1000).id()).await, Ok(record(1, 1000)));
    let state = site.state().await;
    assert!(state.alive && state.read_only && site.answers());
    assert_eq!(pod.store.state().await.records, 1, "nothing was written that was not acknowledged");

    grant(&pod.file, 7, 5_000);
    pod.lease.look().unwrap();
    site.put(vec![record(2, 10)]).await.unwrap();
    site.write_slot(slot, content).await.unwrap();
    assert!(!site.state().await.read_only);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_moved_is_followed_and_its_earlier_incarnation_is_refused_for_good() {
    let (fleet, dir) = (Fleet::new(), TempDir::new().unwrap());
    let (before, after) = (leased(&fleet, dir.path(), 7).await, leased(&fleet, dir.path(), 8).await);
    let places = Places::at(dir.path(), &before, 7);
    let site = places.open(&fleet, &before).await;
    site.put(vec![record(1, 100)]).await.unwrap();
    site.put(vec![record(2, 100)]).await.unwrap();

    // The replacement takes over while the earlier one still runs: the second
    // record is put again, to the earlier one until the later one is known.
    places.moved(&after, Some(8));
    until(async || site.put(vec![record(2, 100)]).await.is_ok() && after.store.state().await.records == 1)
        .await;
    assert_eq!(before.store.state().await.records, 2);

    // Somebody's view goes back: the earlier one is not believed, even read.
    places.moved(&before, Some(7));
    until(async || site.put(vec![record(3, 100)]).await == Err(SiteError::Untrusted)).await;
    assert_eq!(site.get(record(1, 100).id()).await, Err(SiteError::Untrusted));
    let earlier = PodRefusal::EarlierIncarnation { found: 7, known: 8 };
    assert!(fleet.seen.refusals().iter().any(|(_, refusal)| *refusal == earlier));
    assert_eq!(before.store.state().await.records, 2);

    // And it knows: whoever asks it now, it writes nothing any more.
    let other = fleet.open(before.store.description().clone(), before.running.address).await;
    assert_eq!(other.put(vec![record(4, 100)]).await, Err(SiteError::NoLease));
    assert_eq!(other.get(record(1, 100).id()).await, Ok(record(1, 100)));
    places.moved(&after, None);
    until(async || site.put(vec![record(5, 100)]).await.is_ok()).await;
    assert_eq!(site.get(record(2, 100).id()).await, Ok(record(2, 100)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_without_a_lease_is_not_taken_for_one_whose_incarnations_are_counted() {
    let (fleet, dir) = (Fleet::new(), TempDir::new().unwrap());
    let mut pod = leased(&fleet, dir.path(), 7).await;
    pod.running = fleet.serve(Arc::clone(&pod.store) as Arc<dyn Site>).await;
    let places = Places::at(dir.path(), &pod, 7);
    let site = places.open(&fleet, &pod).await;
    assert!(!site.answers());
    assert!(site.put(vec![record(1, 100)]).await.is_err());
    assert_eq!(pod.store.state().await.records, 0);
    places.moved(&pod, None);
    let fresh = places.open(&fleet, &pod).await;
    fresh.put(vec![record(1, 100)]).await.unwrap();
}
