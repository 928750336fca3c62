//! The liveness phase: faults end, every site that is not destroyed is back,
//! the service starts. Everything acknowledged must be readable, the catalogue
//! rebuilt from the sites must say the same, the log must only have grown, and
//! the disks may hold nothing that is not theirs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use coffer_model::ObjectKey;
use tokio::time::sleep;

use super::director::{come_back, restart};
use super::lawful::is_lawful;
use super::merkle::{leaf_hash, tree_hash};
use super::register::{Register, Value};
use super::siege::silence;
use super::stage::{Loss, Stage};
use super::trial::stand_trial;
use super::workload::{Contents, Seen, Tenant, Worker};

/// After which every fault of the director has come and gone.
const LATEST: Duration = Duration::from_secs(65);

/// What each key holds in the end, tenant by tenant.
pub(crate) type Settled = Vec<BTreeMap<ObjectKey, Value>>;

/// Ends the storm and checks what is left of it.
pub(crate) async fn finale(stage: &Arc<Stage>, tenants: &[Arc<Tenant>], contents: &Arc<Contents>) -> Settled {
    calm(stage).await;
    let loss = if super::catalogues::come_back(stage) { Loss::Newest } else { Loss::Nothing };
    if loss == Loss::Newest {
        stage.trace.fault("service crash, catalogues come back old", "");
    }
    if stage.trace.is_violated() || !started(stage, loss).await {
        return Vec::new();
    }
    // What was still under way arrives.
    sleep(Duration::from_secs(60)).await;
    let workers: Vec<Worker> =
        tenants.iter().filter_map(|tenant| Worker::new(stage, tenant, contents, 900)).collect();
    let settled = read_all(stage, &workers).await;
    for worker in &workers {
        worker.list().await;
        worker.look_at_buckets().await;
        worker.checkpoint().await;
    }
    if stage.trace.is_violated() {
        return settled;
    }
    stand_trial(stage, &workers).await;
    if stage.trace.is_violated() {
        return settled;
    }
    // A change of unknown outcome settles at a start, unless the catalogue that
    // knew of it was lost, or a holder whose word a deletion needs is gone for good.
    let whole = stage.machines().iter().all(|machine| !machine.is_destroyed());
    let lossless = stage.losses() == 0 && whole;
    let unsure: Vec<BTreeSet<ObjectKey>> =
        workers.iter().map(|worker| worker.unsure_keys(lossless)).collect();
    let loss = if stage.chance.permille(400) { Loss::Everything } else { Loss::Catalogues };
    let loss = if loss == Loss::Everything && !stage.refresh_kit().await { Loss::Catalogues } else { loss };
    let all = loss == Loss::Everything;
    stage.trace.fault(if all { "everything lost in the end" } else { "catalogues lost in the end" }, "");
    if stage.chance.permille(500) {
        for machine in
            stage.machines().iter().filter(|machine| machine.is_expendable() && !machine.is_destroyed())
        {
            stage.trace.fault("site destroyed", machine.name());
            machine.destroy(&stage.chance);
        }
    }
    if !rebuilt(stage, loss).await {
        return settled;
    }
    stage.trace.operation("rebuild", "ok");
    let again = read_all(stage, &workers).await;
    compare(stage, &workers, &unsure, &settled, &again);
    for worker in &workers {
        worker.list().await;
        if worker.tenant.estate.is_some() {
            worker.look_at_buckets().await;
        } else {
            relieve(stage, worker).await;
            check_log(stage, worker).await;
        }
    }
    check_disks(stage);
    settled
}

async fn calm(stage: &Arc<Stage>) {
    stage.trace.note("the storm is over", "");
    stage.weather.set_calm(true);
    // What struck last has its time, too.
    sleep(LATEST).await;
    for machine in stage.machines() {
        machine.cut_off(false);
        machine.stall(None);
        machine.lie(false);
        machine.forget(false);
        machine.storage.set_full(false);
        // Off and on, so that a disk whose fsync failed takes writes again.
        if !machine.is_destroyed() {
            machine.crash(&stage.chance);
            come_back(stage, &machine).await;
        }
    }
}

/// Starts without catalogues; some sites may be silent at first.
async fn rebuilt(stage: &Arc<Stage>, loss: Loss) -> bool {
    if stage.chance.permille(600) {
        silence(stage, &stage.chance);
    }
    started(stage, loss).await
}

async fn started(stage: &Arc<Stage>, loss: Loss) -> bool {
    stage.crash(loss).await;
    if restart(stage, 5).await {
        return true;
    }
    stage
        .trace
        .violated("liveness", format!("with {loss:?} lost and all sites back, the service does not start"));
    false
}

/// Reads every key of every tenant; all of them must be readable.
pub(crate) async fn read_all(stage: &Arc<Stage>, workers: &[Worker]) -> Settled {
    let mut settled = Vec::new();
    for worker in workers {
        let keys: Vec<ObjectKey> = worker.tenant.registers().keys().cloned().collect();
        let mut values = BTreeMap::new();
        for key in keys {
            let seen = worker.read_whole(&key).await;
            let may_be_lost = |register: &Register| register.is_weak() || register.owes_nothing();
            let weak = worker.tenant.registers().get(&key).is_some_and(may_be_lost);
            match seen {
                Seen::Value(value, version) => {
                    let (before, possible) = {
                        let mut registers = worker.tenant.registers();
                        let register = registers.entry(key.clone()).or_default();
                        (register.possible(), register.read_by_writer(value, version))
                    };
                    if !possible {
                        let finding = format!(
                            "tenant {}: {key:?} holds {value:?} in the end; possible: {before:?}",
                            worker.tenant.owner
                        );
                        stage.trace.violated("registers", finding);
                    }
                    values.insert(key, value);
                }
                Seen::Nothing if weak => {}
                Seen::Nothing | Seen::Wrong => {
                    let finding = format!(
                        "tenant {}: {key:?} cannot be read in the end: {seen:?}",
                        worker.tenant.owner
                    );
                    stage.trace.violated("liveness", finding);
                }
            }
        }
        settled.push(values);
    }
    settled
}

fn compare(
    stage: &Stage,
    workers: &[Worker],
    unsure: &[BTreeSet<ObjectKey>],
    settled: &Settled,
    again: &Settled,
) {
    for (((worker, unsure), before), after) in workers.iter().zip(unsure).zip(settled).zip(again) {
        for (key, value) in before {
            let weak = worker.tenant.registers().get(key).is_some_and(|register| register.is_weak());
            if !weak && !unsure.contains(key) && after.get(key) != Some(value) {
                let finding = format!(
                    "tenant {}: {key:?} held {value:?} and holds {:?} after a rebuild",
                    worker.tenant.owner,
                    after.get(key)
                );
                stage.trace.violated("rebuild", finding);
            }
        }
    }
}

/// A checkpoint is signed only once its leaves are on more sites than may be
/// lost. Where the loss left no more than that (two of four, coded 2+2), the
/// service has to refuse, and a site has to join before it can sign again.
async fn relieve(stage: &Stage, worker: &Worker) {
    let policy = &worker.tenant.policy;
    let mut left = stage.machines();
    left.retain(|machine| !machine.is_destroyed() && is_lawful(policy, &machine.description));
    let (left, needed) = (left.len(), policy.geometry.m() + 1);
    if left >= needed {
        return;
    }
    let signed = worker.tenant.watch.lock().await.advance(&worker.client).await;
    if let Ok(checkpoint) = signed {
        let finding = format!(
            "tenant {}: a checkpoint of {} leaves was signed with {left} sites of {needed}",
            worker.tenant.owner, checkpoint.size
        );
        return stage.trace.violated("log", finding);
    }
    stage.trace.operation("checkpoint", "refused with too few sites left");
    let Some(service) = stage.service() else { return };
    let (name, file) = stage.plan.relief();
    match service.add_site(&file, Some(name)).await {
        Ok(_) => stage.trace.fault("site joined", name),
        Err(error) => {
            stage.trace.violated("liveness", format!("with {left} sites left, none can join: {error}"));
        }
    }
}

/// Every checkpoint that was ever signed is a prefix of the log as it is now.
async fn check_log(stage: &Stage, worker: &Worker) {
    let mut watch = worker.tenant.watch.lock().await;
    let checkpoint = match watch.advance(&worker.client).await {
        Ok(checkpoint) => checkpoint,
        Err(error) => {
            return stage.trace.violated(
                "log",
                format!("tenant {}: no checkpoint in the end: {error}", worker.tenant.owner),
            );
        }
    };
    let mut hashes = Vec::new();
    for index in 0..checkpoint.size {
        match watch.leaf(&worker.client, index, &checkpoint).await {
            Ok(proof) => hashes.push(leaf_hash(&proof.leaf)),
            Err(error) => {
                return stage
                    .trace
                    .violated("log", format!("tenant {}: leaf {index}: {error}", worker.tenant.owner));
            }
        }
    }
    let mut seen = worker.tenant.checkpoints.lock().unwrap_or_else(PoisonError::into_inner).clone();
    seen.push((checkpoint.size, checkpoint.root.0));
    for (size, root) in seen {
        let prefix = usize::try_from(size).ok().and_then(|size| hashes.get(..size));
        if prefix.map(tree_hash) != Some(root) {
            let finding = format!(
                "tenant {}: the log of {} leaves does not extend the checkpoint of {size}",
                worker.tenant.owner,
                hashes.len()
            );
            stage.trace.violated("log", finding);
        }
    }
}

/// Nothing of a tenant's words and no key on any disk, live or dead.
fn check_disks(stage: &Stage) {
    use super::chance::SeededEntropy;
    SeededEntropy::keys(&stage.entropy).iter().for_each(|key| stage.patterns.add(key, "a key"));
    for machine in stage.machines() {
        for (file, bytes) in machine.storage.raw() {
            if let Some(found) = stage.patterns.find(&bytes) {
                stage.trace.violated("secrets", format!("{found} of {file} at {}", machine.name()));
            }
        }
    }
}
