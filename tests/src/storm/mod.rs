//! The storm: the whole system under one seed in one thread. Client, gRPC,
//! service, SQLCipher and site code are the real ones; time, chance, disks and
//! networks are simulated. Checkers that share no code with the product watch.
//!
//! A seed is a deployment, tenants, work and faults. The safety phase strikes
//! while tenants work; the liveness phase ends all faults and demands that
//! everything acknowledged is there.

mod catalogues;
mod chance;
mod director;
mod directory;
mod estate;
mod finale;
mod growth;
mod keeper;
mod lawful;
mod ledger;
mod link;
mod machine;
mod memory;
mod merkle;
mod plan;
mod quorum;
mod register;
mod replaced;
mod report;
mod secrets;
mod setting;
mod siege;
mod stage;
mod trace;
mod trial;
mod weather;
mod wire;
mod workload;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

pub use report::{Arguments, USAGE, run};
pub use trace::{Counts, Violation};

use finale::{Settled, finale};
use stage::Stage;
use trace::Trace;
use workload::{Contents, Tenant, Worker};

/// What one seed came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// The first promise that did not hold.
    pub violation: Option<Violation>,
    /// Faults by kind.
    pub faults: Counts,
    /// Operations by kind and how they ended.
    pub operations: Counts,
    /// Events of the trace.
    pub events: u64,
    /// Digest of the trace: every event with its virtual time.
    pub trace: String,
    /// Digest of what every key holds in the end.
    pub state: String,
    /// The last events.
    pub recent: Vec<String>,
}

/// Virtual time after which the safety phase is cut short.
const LONGEST: Duration = Duration::from_secs(3600);

/// Runs one seed. `scratch` is a directory for its catalogues and disks, best
/// in memory; a loud run prints every event.
pub fn storm(seed: u64, scratch: &Path, loud: bool) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let Ok(runtime) = runtime else { return broken(seed, "no runtime") };
    let Ok(dir) = tempfile::Builder::new().prefix("storm").tempdir_in(scratch) else {
        return broken(seed, "no scratch directory");
    };
    runtime.block_on(async move {
        let trace = Arc::new(Trace::start(loud));
        let settled = perform(seed, dir, &trace).await;
        Outcome {
            seed,
            violation: trace.violation(),
            faults: trace.faults(),
            operations: trace.operations(),
            events: trace.events(),
            trace: trace.digest(),
            state: blake3::hash(format!("{settled:?}").as_bytes()).to_hex().to_string(),
            recent: trace.recent(),
        }
    })
}

fn broken(seed: u64, finding: &str) -> Outcome {
    Outcome {
        seed,
        violation: Some(Violation { checker: "harness", finding: finding.to_owned() }),
        faults: Counts::new(),
        operations: Counts::new(),
        events: 0,
        trace: String::new(),
        state: String::new(),
        recent: Vec::new(),
    }
}

async fn perform(seed: u64, dir: tempfile::TempDir, trace: &Arc<Trace>) -> Settled {
    // Most seeds run the real sites; some run the stand-in in memory, whose
    // calls of one site overlap.
    let memory = chance::Chance::new(seed, "disks").permille(200);
    let disks = Box::new(move |path: &Path, site: &coffer_model::SiteDescription| {
        if memory {
            Box::new(memory::MemoryDisk::new(site.clone())) as Box<dyn machine::Storage>
        } else {
            Box::new(directory::DirectoryDisk::new(path, site.clone()))
        }
    });
    let Some((stage, operator)) = Stage::found(seed, dir, disks, Arc::clone(trace)).await else {
        trace.violated("harness", "the deployment cannot be founded".to_owned());
        return Vec::new();
    };
    let contents = Arc::new(Contents::default());
    let Some(tenants) = setting::set(&stage, &operator, &contents).await else {
        trace.violated("harness", "the tenants cannot be made".to_owned());
        return Vec::new();
    };
    if trace.is_violated() {
        return Vec::new();
    }
    storm_breaks(&stage, &tenants, &contents).await;
    finale(&stage, &tenants, &contents).await
}

/// The safety phase.
async fn storm_breaks(stage: &Arc<Stage>, tenants: &[Arc<Tenant>], contents: &Arc<Contents>) {
    stage.weather.set_calm(false);
    let mut work = tokio::task::JoinSet::new();
    for tenant in tenants {
        let numbers = if tenant.estate.is_some() { 600..601 } else { 0..stage.plan.workers };
        for number in numbers {
            if let Some(worker) = Worker::new(stage, tenant, contents, number) {
                work.spawn(worker.work());
            }
        }
    }
    let work = async { while work.join_next().await.is_some() {} };
    let blows = director::direct(Arc::clone(stage), tenants, contents);
    let keeper = keeper::keep(Arc::clone(stage));
    let growth = growth::grow(Arc::clone(stage), tenants, contents);
    let all = futures::future::join4(blows, keeper, growth, work);
    if timeout(LONGEST, all).await.is_err() {
        stage.trace.operation("safety phase", "cut short");
    }
}
