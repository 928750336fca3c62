//! Sites join, are drained, levelled and retired, while tenants work and faults strike. What leaves is wiped at
//! once: what was left there is gone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use coffer_model::{ObjectKey, SiteId};
use coffer_server::{RepairRun, Service};
use tokio::time::{sleep, timeout};

use super::chance::Chance;
use super::keeper::{done, repair};
use super::machine::Machine;
use super::plan::NEWCOMERS;
use super::stage::Stage;
use super::workload::{Contents, Tenant, Worker};

/// How long one step may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// The number of the worker who stores what is worth a move.
const STORING: u64 = 650;
/// Objects whose shards are worth a move: as many as give a new site a shard.
const LARGE: u64 = 4;
const LARGE_BYTES: usize = 500_000;

/// What is under way.
struct Growth<'a> {
    stage: &'a Arc<Stage>,
    tenants: &'a [Arc<Tenant>],
    contents: &'a Contents,
    chance: Chance,
    /// Which newcomer is the first.
    first: usize,
    /// Sites that joined, or tried to.
    newcomers: usize,
    /// Sites that are being emptied.
    draining: BTreeSet<String>,
}

/// Does so many steps as the plan has.
pub(crate) async fn grow(stage: Arc<Stage>, tenants: &[Arc<Tenant>], contents: &Arc<Contents>) {
    if stage.plan.growth == 0 {
        return;
    }
    let chance = Chance::new(stage.seed, "growth");
    store(&stage, &chance, tenants, contents).await;
    let (first, newcomers, draining) = (chance.index(NEWCOMERS), 0, BTreeSet::new());
    let mut growth = Growth { stage: &stage, tenants, contents, chance, first, newcomers, draining };
    for step in 0..stage.plan.growth {
        let pause = growth.chance.between(Duration::from_millis(300), Duration::from_secs(6));
        sleep(pause).await;
        if stage.trace.is_violated() {
            return;
        }
        let Some(service) = running(&stage).await else { continue };
        match growth.chance.below(100) {
            _ if step == 0 => growth.join(&service).await,
            0..=14 => growth.join(&service).await,
            15..=49 => growth.level(&service).await,
            50..=69 => growth.drain(&service).await,
            _ => growth.retire(&service).await,
        }
    }
}

/// The service, which may be down for a while.
async fn running(stage: &Stage) -> Option<Arc<Service>> {
    for _ in 0..10 {
        if let Some(service) = stage.service() {
            return Some(service);
        }
        sleep(Duration::from_secs(3)).await;
    }
    None
}

/// Stores what levelling would move; the other objects are too small for that.
async fn store(stage: &Arc<Stage>, chance: &Chance, tenants: &[Arc<Tenant>], contents: &Arc<Contents>) {
    let Some(tenant) = chance.pick(tenants) else { return };
    let Some(worker) = Worker::new(stage, tenant, contents, STORING) else { return };
    for n in 0..LARGE {
        let name = format!("the-name-of-{}-{STORING}-{n}", tenant.owner);
        let Ok(key) = ObjectKey::new(name.into_bytes()) else { return };
        worker.put_content(key, LARGE_BYTES).await;
    }
}

impl Growth<'_> {
    async fn join(&mut self, service: &Service) {
        let number = self.first + self.newcomers;
        let Some((name, file)) = self.stage.plan.newcomer(number) else { return };
        // A name is used once, whatever comes of it.
        self.newcomers += 1;
        if self.newcomers > NEWCOMERS {
            return;
        }
        let joined = timeout(PATIENCE, service.add_site(&file, Some(name))).await;
        let joined = matches!(joined, Ok(Ok(_)));
        if joined {
            self.stage.trace.fault("site joined", name);
        }
        done(self.stage, "join", joined);
    }

    async fn level(&self, service: &Service) {
        let before = self.stage.ledger.stored().shards;
        let run = RepairRun { bytes_per_second: None, ..RepairRun::default() };
        let levelled = timeout(PATIENCE, service.rebalance(run, &|_| ())).await;
        let took = self.stage.ledger.stored().shards - before;
        let Ok(Ok(sums)) = levelled else { return done(self.stage, "levelling", false) };
        if sums.done > 0 {
            self.stage.trace.fault("sites levelled", "");
        }
        let said = format!("levelling: {} of {} moves done, {} failed", sums.done, sums.moves, sums.failed);
        self.stage.trace.note(&said, &sums.reasons.join("; "));
        done(self.stage, "levelling", true);
        if sums.done > took {
            let finding =
                format!("a levelling counts {} shards as moved and machines took {took}", sums.done);
            self.stage.trace.violated("repair", finding);
        }
    }

    async fn drain(&mut self, service: &Service) {
        let mut machines = self.stage.machines();
        machines.retain(|machine| !machine.is_retired());
        let Some(machine) = self.chance.pick(&machines) else { return };
        let drained = timeout(PATIENCE, service.drain_site(machine.name(), false)).await;
        let drained = matches!(drained, Ok(Ok(_)));
        if drained {
            self.stage.trace.fault("site drained", machine.name());
            self.draining.insert(machine.name().to_owned());
        }
        done(self.stage, "drain", drained);
    }

    /// Whom the service lets go is gone at once, with all that it had.
    async fn retire(&mut self, service: &Service) {
        if self.draining.is_empty() {
            self.drain(service).await;
        }
        if self.chance.permille(500) {
            // So that something is ever empty: copies, new manifests, removals.
            for _ in 0..3 {
                repair(self.stage, service).await;
            }
        }
        let draining: Vec<String> = self.draining.iter().cloned().collect();
        let Some(name) = self.chance.pick(&draining) else { return };
        let machines = self.stage.machines();
        let Some(machine) = machines.iter().find(|machine| machine.name() == name) else { return };
        let retired = timeout(PATIENCE, service.retire_site(name)).await;
        let retired = matches!(retired, Ok(Ok(_)));
        if retired {
            self.stage.trace.fault("site retired", name);
            self.draining.remove(name);
            self.check_left(machine, &machines);
            machine.retire(&self.chance);
            self.stage.ledger.forget(machine.description.id);
        }
        done(self.stage, "retirement", retired);
    }

    /// What stands with its whole redundancy has it without whoever left. Sites
    /// of the loss budget may have lost what they had.
    fn check_left(&self, gone: &Machine, machines: &[Arc<Machine>]) {
        let (name, gone) = (gone.name(), gone.description.id);
        for tenant in self.tenants {
            for (_, register) in tenant.registers().iter() {
                let Some((number, version)) = register.standing() else { continue };
                let geometry = tenant.policy.geometry;
                let striped = self.contents.body(number).len() > 64 << 10;
                let whole = if striped { geometry.n() } else { geometry.m() + 1 };
                let acknowledged = self.stage.ledger.manifest_holders(version).len() >= whole;
                let left = self.stage.ledger.manifests_lie_at(version);
                if !acknowledged || !left.contains(&gone) {
                    continue;
                }
                let may_have_lost = |id: SiteId| id != gone && !left.contains(&id);
                let excused =
                    machines.iter().filter(|m| m.is_expendable() && may_have_lost(m.description.id));
                if left.len() - 1 + excused.count() < whole {
                    let finding = format!(
                        "{} was let go with one of the {whole} places of {version} of tenant {}",
                        name, tenant.owner
                    );
                    self.stage.trace.violated("retirement", finding);
                }
            }
        }
    }
}
