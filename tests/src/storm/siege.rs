//! Faults that are aimed: all sites of a tenant but a few are cut off while
//! something is deleted, and exactly those are what a rebuild has later;
//! sites fall silent while a catalogue is rebuilt from them.

use std::sync::Arc;
use std::time::Duration;

use coffer_model::ObjectKey;
use tokio::time::sleep;

use super::chance::Chance;
use super::director::service_crash;
use super::lawful::is_lawful;
use super::machine::Machine;
use super::stage::{Loss, Stage};
use super::workload::{Contents, Tenant, Worker};

/// The number of the worker who is besieged.
const BESIEGED: u64 = 700;

/// Puts, is cut off from all but about as many sites as a deletion takes,
/// deletes; the sites come back and the catalogue is lost.
pub(crate) async fn siege(
    stage: &Arc<Stage>,
    chance: &Chance,
    tenants: &[Arc<Tenant>],
    contents: &Arc<Contents>,
) {
    let Some(tenant) = chance.pick(tenants) else { return };
    let Some(mut worker) = Worker::new(stage, tenant, contents, BESIEGED) else { return };
    // Another one each time: contents must not repeat.
    worker.chance = Chance::new(stage.seed, &format!("besieged {}", stage.clock.elapsed_ms()));
    let name = format!("the-name-of-{}-{BESIEGED}-{}", tenant.owner, chance.below(2));
    let Ok(key) = ObjectKey::new(name.into_bytes()) else { return };
    let length = if chance.permille(500) { 1000 } else { 70_000 };
    worker.put_content(key.clone(), length).await;
    let geometry = tenant.policy.geometry;
    let spared = geometry.m() + chance.index(3);
    let besieged = all_but(stage, chance, spared, |machine| is_lawful(&tenant.policy, &machine.description));
    stage.trace.fault("siege", &format!("of tenant {}, {spared} sites spared", tenant.owner));
    besieged.iter().for_each(|machine| machine.cut_off(true));
    worker.delete_key(key.clone()).await;
    sleep(chance.up_to(Duration::from_secs(3))).await;
    besieged.iter().for_each(|machine| machine.cut_off(false));
    if chance.permille(600) {
        let loss = if chance.permille(300) { Loss::Everything } else { Loss::Catalogues };
        service_crash(stage, loss, Duration::from_millis(500), Duration::ZERO).await;
    }
    worker.read_and_judge(&key).await;
}

/// Running machines of a kind that can be reached, but for so many.
fn all_but(
    stage: &Stage,
    chance: &Chance,
    spared: usize,
    of: impl Fn(&Machine) -> bool,
) -> Vec<Arc<Machine>> {
    let mut machines = stage.machines();
    machines.retain(|machine| machine.is_reachable() && of(machine));
    for _ in 0..spared.min(machines.len()) {
        machines.remove(chance.index(machines.len()));
    }
    machines
}

/// From some moment of the next fraction of a second on, and for some
/// seconds, all sites but a few answer nobody.
pub(crate) fn silence(stage: &Arc<Stage>, chance: &Chance) {
    let silent = all_but(stage, chance, 1 + chance.index(4), |_| true);
    let begins = chance.up_to(Duration::from_millis(160));
    let lasts = chance.between(Duration::from_secs(1), Duration::from_secs(7));
    let stage = Arc::clone(stage);
    tokio::spawn(async move {
        sleep(begins).await;
        stage.trace.fault("sites fall silent during a start", &format!("{} of them", silent.len()));
        silent.iter().for_each(|machine| machine.cut_off(true));
        sleep(lasts).await;
        silent.iter().for_each(|machine| machine.cut_off(false));
    });
}
