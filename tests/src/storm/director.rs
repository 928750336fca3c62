//! The director of a storm: one large fault after the other, each in its time,
//! and what must be true right after it.

use std::sync::Arc;
use std::time::Duration;

use coffer_model::RecordId;
use coffer_regions::RecordKind;
use tokio::time::{Instant, sleep};

use super::chance::Chance;
use super::machine::Machine;
use super::replaced::replace_some_day;
use super::siege::{siege, silence};
use super::stage::{Loss, Stage};
use super::workload::{Contents, Tenant};

/// Strikes until the plan's blows are over.
pub(crate) async fn direct(stage: Arc<Stage>, tenants: &[Arc<Tenant>], contents: &Arc<Contents>) {
    let chance = Chance::new(stage.seed, "director");
    for _ in 0..stage.plan.blows {
        sleep(chance.between(Duration::from_millis(200), Duration::from_secs(5))).await;
        if stage.trace.is_violated() {
            return;
        }
        super::catalogues::copy_now_and_then(&stage);
        if chance.permille(80) {
            siege(&stage, &chance, tenants, contents).await;
        } else {
            strike(&stage, &chance).await;
        }
    }
}

async fn strike(stage: &Arc<Stage>, chance: &Chance) {
    let machines = stage.machines();
    let Some(machine) = chance.pick(&machines) else { return };
    let bad: Vec<Arc<Machine>> = machines.iter().filter(|machine| machine.is_expendable()).cloned().collect();
    let later = || chance.between(Duration::from_millis(300), Duration::from_secs(30));
    match chance.below(100) {
        0..=13 => power_cut(stage, std::slice::from_ref(machine), later()),
        14..=19 => power_cut(stage, &machines, later()),
        20..=27 => {
            stage.trace.fault("site cut off", machine.name());
            machine.cut_off(true);
            after(later(), machine, |machine| machine.cut_off(false));
        }
        28..=33 => {
            stage.trace.fault("site stalled", machine.name());
            machine.stall(Some(Instant::now() + later()));
        }
        34..=38 => {
            stage.trace.fault("site full", machine.name());
            machine.storage.set_full(true);
            after(later(), machine, |machine| machine.storage.set_full(false));
        }
        39..=43 => {
            stage.trace.fault("fsync fails", machine.name());
            machine.storage.fail_syncs();
            let (stage, machine) = (Arc::clone(stage), Arc::clone(machine));
            let (cut, back) = (later(), later());
            tokio::spawn(async move {
                sleep(cut).await;
                power_cut(&stage, &[machine], back);
            });
        }
        44..=61 => {
            if let Some(machine) = chance.pick(&bad) {
                betray(stage, chance, machine);
            }
        }
        62..=67 => {
            stage.trace.fault("wires cut", "");
            stage.cut_wires();
        }
        68..=71 => {
            stage.trace.fault("wires stalled", "");
            stage.weather.stall_wires(Instant::now() + later());
        }
        72..=77 => {
            let skew = i64::try_from(chance.below(7_200_000)).unwrap_or(0) - 3_600_000;
            stage.trace.fault("clock jumps", &format!("{skew} ms"));
            stage.clock.jump(skew);
        }
        _ => {
            let loss = match chance.below(10) {
                0..=4 => Loss::Nothing,
                5..=6 => Loss::OneCatalogue,
                7..=8 => Loss::Catalogues,
                _ => Loss::Everything,
            };
            let custodians_away = if chance.permille(300) { later() } else { Duration::ZERO };
            service_crash(stage, loss, later() / 10, custodians_away).await;
        }
    }
}

fn after(delay: Duration, machine: &Arc<Machine>, then: fn(&Machine)) {
    let machine = Arc::clone(machine);
    tokio::spawn(async move {
        sleep(delay).await;
        then(&machine);
    });
}

fn power_cut(stage: &Arc<Stage>, machines: &[Arc<Machine>], back_after: Duration) {
    let kind = if machines.len() > 1 { "power cut everywhere" } else { "power cut" };
    stage.trace.fault(kind, machines.first().map_or("", |machine| machine.name()));
    for machine in machines {
        let chance = Chance::new(stage.seed, &format!("cut {} {}", machine.name(), stage.clock.elapsed_ms()));
        machine.storage.power_fails_soon(&chance);
        let (stage, machine) = (Arc::clone(stage), Arc::clone(machine));
        tokio::spawn(async move {
            sleep(chance.up_to(Duration::from_millis(400))).await;
            machine.crash(&chance);
            sleep(back_after).await;
            come_back(&stage, &machine).await;
        });
    }
}

/// Starts a machine, which must still have all that it acknowledged.
pub(crate) async fn come_back(stage: &Stage, machine: &Machine) {
    if machine.is_destroyed() || machine.is_running() {
        return;
    }
    if !machine.start() {
        if !machine.is_expendable() {
            stage.trace.violated("durability", format!("{} does not start again", machine.name()));
        }
        return;
    }
    stage.trace.note(&format!("{} is back", machine.name()), "");
    if machine.is_expendable() {
        return;
    }
    // What is acknowledged or deleted while this looks is not asked for.
    let before = stage.ledger.held(machine.description.id);
    let gone = stage.ledger.gone(machine.description.id);
    let Some(listed) = everything(machine).await else { return };
    let still_gone = stage.ledger.gone(machine.description.id);
    if let Some(id) = gone.iter().find(|id| still_gone.contains(*id) && listed.contains(*id)) {
        let finding = format!("{} acknowledged that {id} is deleted and has it again", machine.name());
        stage.trace.violated("durability", finding);
    }
    let after = stage.ledger.held(machine.description.id);
    let lost = before.iter().find(|(id, digest)| after.get(*id) == Some(*digest) && !listed.contains(*id));
    if let Some((id, _)) = lost {
        let finding =
            format!("{} acknowledged {id} and does not have it after its power cut", machine.name());
        stage.trace.violated("durability", finding);
    }
}

async fn everything(machine: &Machine) -> Option<std::collections::BTreeSet<RecordId>> {
    let (site, _) = machine.reach()?;
    let mut all = std::collections::BTreeSet::new();
    for kind in RecordKind::ALL {
        let listed = site.list(kind, None, usize::MAX).await.ok()?;
        all.extend(listed.iter().map(|line| line.id));
    }
    Some(all)
}

/// What only a site of the loss budget does.
fn betray(stage: &Arc<Stage>, chance: &Chance, machine: &Arc<Machine>) {
    match chance.below(10) {
        0..=1 => {
            stage.trace.fault("site lies", machine.name());
            machine.lie(true);
            let until = chance.between(Duration::from_secs(1), Duration::from_secs(40));
            after(until, machine, |machine| machine.lie(false));
        }
        2 => {
            stage.trace.fault("site forgets", machine.name());
            machine.forget(true);
            let until = chance.between(Duration::from_secs(1), Duration::from_secs(40));
            after(until, machine, |machine| machine.forget(false));
        }
        3..=5 => {
            stage.trace.fault("bits flip on disk", machine.name());
            for _ in 0..1 + chance.below(6) {
                machine.storage.rot(chance);
            }
        }
        6 => {
            stage.trace.fault("image taken", machine.name());
            machine.storage.take_image();
        }
        7..=8 => {
            machine.crash(chance);
            if machine.storage.return_to_image() {
                stage.trace.fault("comes back old", machine.name());
            }
            stage.ledger.forget(machine.description.id);
            machine.start();
        }
        _ => {
            stage.trace.fault("site destroyed", machine.name());
            machine.destroy(chance);
            replace_some_day(stage, machine);
        }
    }
}

/// The service dies, and is started again until it runs.
pub(crate) async fn service_crash(stage: &Arc<Stage>, loss: Loss, down: Duration, custodians_away: Duration) {
    if !stage.is_up() {
        return;
    }
    let loss = if loss == Loss::Everything && !stage.refresh_kit().await { Loss::Catalogues } else { loss };
    let loss = if loss == Loss::Nothing && super::catalogues::come_back(stage) { Loss::Newest } else { loss };
    let kind = match loss {
        Loss::Nothing => "service crash",
        Loss::Newest => "service crash, catalogues come back old",
        Loss::OneCatalogue => "service crash, one catalogue lost",
        Loss::Catalogues => "service crash, catalogues lost",
        Loss::Everything => "service crash, all but the sites lost",
    };
    stage.trace.fault(kind, "");
    stage.crash(loss).await;
    if !custodians_away.is_zero() {
        stage.trace.fault("custodians away", "");
    }
    sleep(down + custodians_away).await;
    if loss != Loss::Nothing && stage.chance.permille(300) {
        silence(stage, &stage.chance);
    }
    restart(stage, 20).await;
}

/// Whether the service runs again, after at most so many attempts.
pub(crate) async fn restart(stage: &Arc<Stage>, attempts: u32) -> bool {
    for _ in 0..attempts {
        match stage.open().await {
            Ok(()) => {
                stage.trace.note("the service is back", "");
                stage.trace.operation("service start", "ok");
                return true;
            }
            Err(reason) => {
                stage.trace.note("the service does not start", &reason);
                stage.trace.operation("service start", "refused");
            }
        }
        sleep(Duration::from_secs(4)).await;
    }
    false
}
