//! The probes of a container that runs, side by side, and their verdict.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::sync::watch;

use super::Context;
use super::health::{self, Tally, Timing};
use super::record::PodRecord;
use crate::clock;
use crate::runtime::ContainerId;

/// What the probes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// It has started: liveness and readiness are looked at from now on.
    pub started: bool,
    /// It may be asked.
    pub ready: bool,
    /// It need not be started again.
    pub alive: bool,
}

/// The probes as a future that never ends, and where their verdict is found.
pub(crate) fn begin(
    context: &Arc<Context>,
    record: &PodRecord,
    id: ContainerId,
    started_unix_ms: u64,
) -> (impl Future<Output = ()> + use<>, watch::Receiver<Verdict>) {
    let spec = record.pod.spec.as_ref();
    let container = spec.and_then(|spec| spec.containers.first()).cloned().unwrap_or_default();
    let started = container.startup_probe.is_none();
    let ready = started && container.readiness_probe.is_none();
    let (verdict, seen) = watch::channel(Verdict { started, ready, alive: true });
    let address = super::describe::pod_address(context, record);
    let bench = Bench { context: Arc::clone(context), id, address, container, started_unix_ms };
    (run(bench, verdict), seen)
}

struct Bench {
    context: Arc<Context>,
    id: ContainerId,
    address: String,
    container: Container,
    started_unix_ms: u64,
}

async fn run(bench: Bench, verdict: watch::Sender<Verdict>) {
    if let Some(probe) = bench.container.startup_probe.clone() {
        let start = |tally: &Tally, decided: bool| {
            let failed = decided && !tally.good;
            verdict.send_if_modified(|verdict| {
                verdict.started = tally.good;
                verdict.ready = tally.good && bench.container.readiness_probe.is_none();
                verdict.alive = !failed;
                tally.good || failed
            });
            tally.good || failed
        };
        bench.repeat(&probe, false, start).await;
    }
    let readiness = async {
        if let Some(probe) = &bench.container.readiness_probe {
            let ready = |tally: &Tally, decided: bool| {
                verdict.send_if_modified(|verdict| {
                    let changed = decided && verdict.ready != tally.good;
                    verdict.ready = tally.good;
                    changed
                });
                false
            };
            bench.repeat(probe, false, ready).await;
        }
    };
    let liveness = async {
        if let Some(probe) = &bench.container.liveness_probe {
            let alive = |tally: &Tally, _: bool| {
                verdict.send_if_modified(|verdict| {
                    std::mem::replace(&mut verdict.alive, tally.good) != tally.good
                });
                false
            };
            bench.repeat(probe, true, alive).await;
        }
    };
    tokio::join!(readiness, liveness);
    std::future::pending::<()>().await;
}

impl Bench {
    /// Carries out a probe again and again, until `seen` says that it is enough.
    async fn repeat(&self, probe: &Probe, good: bool, mut seen: impl FnMut(&Tally, bool) -> bool) {
        let timing = Timing::of(probe);
        let ran = clock::millis(clock::wall()).saturating_sub(self.started_unix_ms);
        tokio::time::sleep(timing.delay.saturating_sub(Duration::from_millis(ran))).await;
        let mut tally = Tally::new(good);
        loop {
            let port_named = |name: &str| {
                let ports = self.container.ports.iter().flatten();
                let port = ports.into_iter().find(|port| port.name.as_deref() == Some(name))?.container_port;
                u16::try_from(port).ok()
            };
            let runtime = &*self.context.runtime;
            let result = health::once(probe, runtime, &self.id, &self.address, port_named).await;
            let decided = tally.count(result.is_ok(), &timing);
            if seen(&tally, decided) {
                return;
            }
            tokio::time::sleep(timing.period).await;
        }
    }
}
