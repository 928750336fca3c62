//! What Kubernetes has of its own and the controllers of the fleet rely on:
//! garbage collection by owner, silent nodes, disruption budgets, the end of namespaces, expiry of
//! events and finished pods, endpoints of services. Only the embedded
//! home starts it; on a real cluster all of this is there already.
//!
//! Everything is level-triggered: each look compares what is with what should be
//! and acts on the difference; whatever fails is found again by the next.

pub mod budgets;
mod deeds;
mod endings;
pub mod endpoints;
pub mod garbage;
pub mod nodes;
mod sight;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use coffer_model::{Clock, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff;
use kube::Client;

/// How long everything may take.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How often everything is looked at without anything having changed. A node
    /// is found silent this much later than it could be.
    pub period: Duration,
    /// How long changes are gathered before they are looked at.
    pub gather: Duration,
    /// After how much silence a node without a lease counts as lost.
    pub node_patience: Duration,
    /// How long a pod that says nothing of it tolerates that its node is lost.
    pub default_toleration: Duration,
    /// How long a Node object must be gone before pods that ran there are forgotten.
    pub gone_node: Duration,
    /// For how long an eviction that was granted counts against its budget while
    /// the pod has not been deleted.
    pub granted: Duration,
    /// How long an event is kept after it last happened.
    pub event_life: Duration,
    /// How many finished pods are kept; the oldest go first.
    pub finished_pods: usize,
}

impl Default for Settings {
    /// As Kubernetes has them.
    fn default() -> Self {
        Self {
            period: Duration::from_secs(1),
            gather: Duration::from_millis(100),
            node_patience: Duration::from_secs(40),
            default_toleration: Duration::from_secs(300),
            gone_node: Duration::from_secs(40),
            granted: Duration::from_secs(120),
            event_life: Duration::from_secs(3600),
            finished_pods: 12_500,
        }
    }
}

/// A moment by both clocks.
#[derive(Clone, Debug, PartialEq)]
pub struct Moment {
    /// By the clock that never goes back; for measuring.
    pub steady: Duration,
    /// By the wall clock; for what others read.
    pub wall: Time,
}

impl Moment {
    /// Now.
    #[must_use]
    pub fn of(clock: &dyn Clock) -> Self {
        Self { steady: clock.monotonic(), wall: time(clock.now()) }
    }
}

/// The same moment in the type of the API, in whole seconds as it prints there.
fn time(moment: Timestamp) -> Time {
    let seconds = i64::try_from(moment.0 / 1_000_000_000).unwrap_or(i64::MAX);
    Time(jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX))
}

/// Something that did not work and will be tried again.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// A watch broke; it is begun anew.
    #[error("a watch of the platform controllers broke: {0}")]
    Watch(#[from] kube::runtime::watcher::Error),
    /// The kinds could not be listed.
    #[error("the kinds of the API could not be listed: {0}")]
    Discovery(#[source] kube::Error),
    /// A request was refused or failed.
    #[error("{deed} of {object} failed: {source}")]
    Request {
        /// What was to be done.
        deed: &'static str,
        /// To which object.
        object: String,
        /// Why it was not.
        #[source]
        source: kube::Error,
    },
}

/// Who is told of faults.
pub type Told = Arc<dyn Fn(Fault) + Send + Sync>;

/// Runs all platform controllers until `shutdown` is done.
pub async fn run(
    client: Client,
    clock: Arc<dyn Clock>,
    settings: Settings,
    told: Told,
    shutdown: impl Future<Output = ()>,
) {
    let controllers = async {
        tokio::join!(
            sight::run(&client, &clock, &settings, &told),
            garbage::run(&client, &settings, &told),
            endings::run(&client, &clock, &settings, &told),
        )
    };
    tokio::select! {
        () = shutdown => {}
        _ = controllers => {}
    }
}
