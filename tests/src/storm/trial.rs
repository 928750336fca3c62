//! In the calm, before the end: the sites of the loss budget lie in every
//! answer, and everything is read; then they lose some of what they have and
//! forget what repair gives them for it; then repair has nothing left to do,
//! and everything is read without as many sites as a loss may take.

use std::collections::BTreeSet;
use std::sync::Arc;

use coffer_model::RecordId;
use coffer_regions::{RecordKind, Trouble, Troubled};
use coffer_server::RepairReport;

use super::chance::Chance;
use super::keeper::repair;
use super::machine::Machine;
use super::stage::Stage;
use super::workload::{Tenant, Worker};

/// Rounds after which repair must have nothing left to do.
const ROUNDS: u32 = 12;

/// Repairs, reads and repairs among liars, then repairs in peace.
pub(crate) async fn stand_trial(stage: &Arc<Stage>, workers: &[Worker]) {
    let chance = Chance::new(stage.seed, "trial");
    if let Some(service) = stage.service() {
        for machine in stage.machines() {
            // One that is not drained says so.
            let _ = service.drain_site(machine.name(), true).await;
        }
    }
    // What was rolled forward from one copy has to have its redundancy first.
    if repaired(stage).await.is_none() {
        return;
    }
    let mut liars = stage.machines();
    liars.retain(|machine| machine.is_expendable() && !machine.is_destroyed());
    if !liars.is_empty() {
        stage.trace.fault("all that may lie do nothing else", &format!("{} sites", liars.len()));
        stage.weather.set_liars(true);
        for machine in &liars {
            // So that there is something to write anew.
            for _ in 0..8 {
                machine.storage.rot(&chance);
            }
            machine.lie(true);
        }
        for _ in 0..2 {
            super::finale::read_all(stage, workers).await;
        }
        if let Some(service) = stage.service() {
            repair(stage, &service).await;
        }
        liars.iter().for_each(|machine| machine.lie(false));
        stage.weather.set_liars(false);
    }
    if !liars.is_empty() {
        forgotten(stage, &chance, &liars).await;
    }
    let Some(report) = repaired(stage).await else { return };
    let stuck = |troubled: &Troubled| matches!(troubled.trouble, Trouble::NoPlace { .. });
    if !report.plan.troubled.iter().any(stuck) {
        workers.iter().for_each(Worker::check_places);
    }
    if report.plan.versions_short == 0 && report.plan.troubled.is_empty() {
        lose(stage, &chance, workers).await;
    }
}

/// Records of each kind that a site loses.
const LOST: usize = 3;

/// Sites lose records, and acknowledge the repair of them without storing
/// anything: a round that counts any of it as written is caught by the keeper.
async fn forgotten(stage: &Arc<Stage>, chance: &Chance, machines: &[Arc<Machine>]) {
    for machine in machines {
        let Some((site, _)) = machine.reach() else { continue };
        for kind in [RecordKind::Shard, RecordKind::Manifest, RecordKind::Tombstone] {
            let Ok(listed) = site.list(kind, None, usize::MAX).await else { continue };
            let some = (0..LOST).filter_map(|_| chance.pick(&listed)).map(|line| line.id);
            let some: Vec<RecordId> = some.collect::<BTreeSet<_>>().into_iter().collect();
            stage.trace.fault("records lost behind the back", machine.name());
            let id = machine.description.id;
            stage.ledger.deletion_begins(id, &some);
            let gone = site.delete(some.clone()).await.is_ok();
            stage.ledger.deletion_ends(id, &some, gone);
        }
        machine.forget(true);
    }
    if let Some(service) = stage.service() {
        repair(stage, &service).await;
    }
    machines.iter().for_each(|machine| machine.forget(false));
}

/// Scrubs, and repairs until nothing is left to do.
async fn repaired(stage: &Arc<Stage>) -> Option<RepairReport> {
    let service = stage.service()?;
    // What rotted is not missed before somebody reads it.
    if service.scrub_once(u64::MAX).await.is_err() {
        stage.trace.violated("liveness", "with all sites back, a scrub fails".to_owned());
        return None;
    }
    for _ in 0..ROUNDS {
        if stage.trace.is_violated() {
            return None;
        }
        let report = repair(stage, &service).await;
        if let Some(report) = report.filter(RepairReport::is_over) {
            return Some(report);
        }
    }
    let finding = format!("with all sites back, repair is not done after {ROUNDS} rounds");
    stage.trace.violated("liveness", finding);
    None
}

/// What is whole survives as many losses as were promised, whichever they are.
async fn lose(stage: &Arc<Stage>, chance: &Chance, workers: &[Worker]) {
    let mut lost: Vec<Arc<Machine>> = Vec::new();
    let mut machines = stage.machines();
    machines.retain(|machine| machine.is_reachable());
    while !machines.is_empty() {
        let machine = machines.remove(chance.index(machines.len()));
        let with = || lost.iter().chain([&machine]);
        let survives = |tenant: &Tenant| {
            let geometry = tenant.policy.geometry;
            with().filter(|machine| tenant.policy.admits(&machine.description)).count() <= geometry.m()
        };
        if workers.iter().all(|worker| survives(&worker.tenant)) {
            lost.push(machine);
        }
    }
    let names: Vec<&str> = lost.iter().map(|machine| machine.name()).collect();
    stage.trace.fault("as many sites cut off as may be lost", &names.join(" "));
    lost.iter().for_each(|machine| machine.cut_off(true));
    super::finale::read_all(stage, workers).await;
    lost.iter().for_each(|machine| machine.cut_off(false));
}
