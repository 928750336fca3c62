//! Two control planes of one fleet: one leads, the other waits, and takes over
//! where the first one ends, whatever became of it.

use std::sync::Arc;
use std::time::Duration;

use coffer_control::{Control, ControlError, Leadership, Tenure};
use coffer_custody::SystemClock;
use coffer_model::Clock;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::world::{World, control};

/// As short as the story allows; longer than what a busy machine may keep a process waiting.
const LEASE: Duration = Duration::from_secs(10);
/// How long anything may take before a test fails. Nothing takes so long when all is well.
const PATIENCE: Duration = Duration::from_secs(180);

/// Waits for something that comes about.
async fn patiently<T>(what: &str, waiting: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| unreachable!("within {PATIENCE:?} it did not happen: {what}"))
}

struct Planes {
    world: World,
    running: Vec<JoinHandle<Result<(), ControlError>>>,
}

impl Planes {
    async fn begin() -> Self {
        let world = World::new(9).await;
        world.set(6, 1).await;
        Self { world, running: Vec::new() }
    }

    /// Runs a control plane of this name.
    fn start(&mut self, holder: &str) {
        // Leases are a matter of real time.
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let control = control(&self.world.home, clock, self.world.objects.clone());
        let control = Control { holder: holder.to_owned(), lease: LEASE, ..control };
        self.running.push(tokio::spawn(control.run()));
    }

    /// Ends the first one, as a process that is killed.
    fn kill_the_first(&mut self) {
        self.running.remove(0).abort();
    }

    /// Nothing is waited for that nobody will bring about.
    async fn all_run(&mut self) {
        if let Some(ended) = self.running.iter().position(JoinHandle::is_finished) {
            unreachable!("a control plane ended: {:?}", self.running.remove(ended).await);
        }
    }

    async fn holder(&self) -> Option<String> {
        let lease = self.world.api::<Lease>().get_opt("coffer-control").await.unwrap()?;
        lease.spec?.holder_identity
    }

    async fn until_led_by(&mut self, holder: &str) {
        let waiting = async {
            while self.holder().await.as_deref() != Some(holder) {
                self.all_run().await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        patiently(&format!("{holder} leads"), waiting).await;
    }

    async fn until_pods(&mut self, count: usize) {
        let waiting = async {
            loop {
                self.world.kubelet().await;
                let pods = self.world.serving().await;
                if pods.len() == count {
                    return;
                }
                self.all_run().await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        patiently(&format!("{count} pods serve"), waiting).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_control_plane_waits_and_takes_over_when_the_first_one_is_gone() {
    let mut planes = Planes::begin().await;
    planes.start("first");
    planes.until_led_by("first").await;
    planes.start("second");
    planes.until_pods(6).await;
    assert_eq!(planes.holder().await.as_deref(), Some("first"));
    planes.kill_the_first();
    planes.until_led_by("second").await;
    planes.world.set(7, 1).await;
    planes.until_pods(7).await;
    planes.all_run().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_that_finds_another_in_its_place_ends() {
    let mut planes = Planes::begin().await;
    planes.start("first");
    planes.until_led_by("first").await;
    planes.until_pods(6).await;
    let robbed = json!({ "spec": { "holderIdentity": "second" } });
    let leases = planes.world.api::<Lease>();
    leases.patch("coffer-control", &PatchParams::default(), &Patch::Merge(&robbed)).await.unwrap();
    assert!(matches!(planes.running.remove(0).await.unwrap(), Err(ControlError::Replaced)));
}

/// Somebody who wants a lease, and keeps it while it is his.
struct Wants {
    tenure: Arc<Tenure>,
    keeping: JoinHandle<()>,
}

impl Wants {
    fn start(world: &World, holder: &str) -> Self {
        let leadership = Leadership {
            namespace: world.home.namespace.clone(),
            name: "owner".to_owned(),
            holder: holder.to_owned(),
            lasts: LEASE,
        };
        let at = Some(format!("https://{holder}.example:7420"));
        let client = world.home.client.clone();
        let tenure = Tenure::new(client, leadership, at, Arc::new(SystemClock));
        let kept = Arc::clone(&tenure);
        let keeping = tokio::spawn(async move { kept.keep(|error| unreachable!("{error}")).await });
        Self { tenure, keeping }
    }

    async fn until(&self, what: &str, holds: impl Fn(&Tenure) -> bool) {
        let waiting = async {
            while !holds(&self.tenure) {
                assert!(!self.keeping.is_finished());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        patiently(what, waiting).await;
    }

    async fn acquired_after(&self, epoch: u64) -> u64 {
        patiently("it has the lease", self.tenure.acquired_after(epoch)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_changes_hands_has_another_epoch_and_who_had_it_holds_nothing_and_knows_where_it_is() {
    let world = World::new(1).await;
    let first = Wants::start(&world, "first");
    let began = first.acquired_after(0).await;
    let second = Wants::start(&world, "second");
    second
        .until("it knows the first", |second| {
            second.elsewhere().as_deref() == Some("https://first.example:7420")
        })
        .await;
    assert_eq!((second.tenure.held(), first.tenure.elsewhere()), (None, None));
    // As a process that is stopped for a while: it renews nothing, and is asked nothing.
    first.keeping.abort();
    let next = second.acquired_after(0).await;
    assert!(next > began);
    assert_eq!(first.tenure.held(), None, "the other one begins only when this one has ended");
    // It wakes up, and waits for its turn.
    let first = Wants::start(&world, "first");
    first
        .until("it knows the second", |first| {
            first.elsewhere().as_deref() == Some("https://second.example:7420")
        })
        .await;
    assert_eq!(first.tenure.held(), None);
    // Who gives up is not waited for, and does not come back as who it was.
    second.keeping.abort();
    second.tenure.give_up().await.unwrap();
    assert_eq!(second.tenure.held(), None);
    let last = first.acquired_after(0).await;
    assert!(last > next);
    second.tenure.give_up().await.unwrap();
    first.until("it still has it", |first| first.held() == Some(last)).await;
    first.keeping.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_was_deleted_gives_no_epoch_again() {
    let world = World::new(1).await;
    let first = Wants::start(&world, "first");
    let began = first.acquired_after(0).await;
    first.keeping.abort();
    world.api::<Lease>().delete("owner", &DeleteParams::default()).await.unwrap();
    // Seconds are the grain of what a new lease counts from.
    let second = || SystemClock.now().0 / 1_000_000_000;
    let deleted = second();
    while second() == deleted {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let second = Wants::start(&world, "second");
    assert!(second.acquired_after(0).await > began);
    second.keeping.abort();
}
