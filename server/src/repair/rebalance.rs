//! Levelling, when an operator asks for it: shards move to the sites that lack most,
//! one shard of a version at a time, by the steps of repair. Each version is whole at
//! every moment: its new shard is read back before its manifest names it, and the old
//! one goes last. A crash leaves a version as it was, or moved; what lies beside is
//! found and removed by the next repair.

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_model::{Outcome, RecordId, SiteId, TenantId};
use coffer_regions::{Action, Load, Loads, ShardMove};
use futures::StreamExt as _;

use super::execute::{Done, Shards, StepError, act};
use super::pace::{Foreground, Pace};
use super::{RepairError, RepairRun, keep_reason};
use crate::inventory::{Census, Superseded, walk};
use crate::service::Service;

/// Moves of one round.
const MOVES_MAX: usize = 1 << 14;
/// Versions under way at once: each has a shard of a stripe in memory.
const AT_ONCE: usize = 8;

/// A site, with what it holds and what would be its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteShare {
    /// Its name.
    pub name: String,
    /// What it holds, and its share.
    pub load: Load,
    /// Bytes that the moves bring.
    pub receives: u64,
    /// Bytes that they take away.
    pub gives: u64,
}

/// What moves, and what it costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rebalance {
    /// The sites as they were found, in the order of the topology.
    pub sites: Vec<SiteShare>,
    /// Bytes that have to move at the least for every site to hold its share.
    pub missing: u64,
    /// Bytes of versions so small that they stay where they are.
    pub dear: u64,
    /// Shards that move.
    pub moves: u64,
    /// Their bytes: each is read once and written once.
    pub bytes: u64,
    /// Bytes of manifest records that are written beside them.
    pub records: u64,
    /// Of the moves, those that were done and those that were not, so far.
    pub done: u64,
    /// Those that were not; the versions are as they were.
    pub failed: u64,
    /// Why, for the first few.
    pub reasons: Vec<String>,
    /// Bytes that sites acknowledged: shards and manifest records.
    pub bytes_written: u64,
}

impl Service {
    /// What a levelling would move now. Sites and catalogues are only read.
    ///
    /// # Errors
    /// [`RepairError`].
    pub async fn plan_rebalance(&self) -> Result<Rebalance, RepairError> {
        Ok(self.levelling(u64::MAX, None).await?.0)
    }

    /// Levels, in rounds of the budget, until nothing more can be levelled or done.
    ///
    /// # Errors
    /// [`RepairError`]; what was moved stays moved.
    pub async fn rebalance(
        &self,
        run: RepairRun,
        told: &(dyn Fn(&Rebalance) + Sync),
    ) -> Result<Rebalance, RepairError> {
        let pace = Pace::new(Some(&self.foreground), run.bytes_per_second, run.yields);
        let mut whole: Option<Rebalance> = None;
        loop {
            let before = whole.as_ref().map_or(0, |sums| sums.done);
            tokio::select! {
                biased;
                () = self.watch.until_leaving() => return Err(RepairError::Stopped),
                ended = self.level_once(run.budget.bytes, &pace, &mut whole, told) => ended?,
            }
            if let Some(sums) = whole.as_ref().filter(|sums| sums.done == before) {
                return Ok(sums.clone());
            }
        }
    }

    /// One round; `whole` are the sums of all of them.
    async fn level_once(
        &self,
        bytes_max: u64,
        pace: &Pace<'_>,
        whole: &mut Option<Rebalance>,
        told: &(dyn Fn(&Rebalance) + Sync),
    ) -> Result<(), RepairError> {
        // Neither a round of repair nor another levelling meanwhile: to them a copy is a stray.
        let _turn = self.repairs.turn.lock().await;
        let (plan, moves) = self.levelling(bytes_max, pace.gives_way_to()).await?;
        let sums = whole.get_or_insert_with(|| plan.without_moves());
        sums.add(&plan);
        told(sums);
        self.move_all(moves, pace, sums, told).await
    }

    /// Two looks at everything; the moves of a round of about so many bytes.
    async fn levelling(
        &self,
        bytes_max: u64,
        foreground: Option<Arc<Foreground>>,
    ) -> Result<(Rebalance, Vec<ShardMove>), RepairError> {
        let tenants = self.all_tenants();
        let nothing = Superseded::new();
        let mut census = Census::new(self).without_quarantined(self).giving_way(foreground);
        let mut loads = Loads::default();
        walk(self, &tenants, &mut census, &nothing, |census, found| {
            loads.add(&found.inventory, &census.sites);
        })
        .await?;
        let mut level = loads.level();
        let (mut moves, mut bytes) = (Vec::new(), 0_u64);
        walk(self, &tenants, &mut census, &nothing, |census, found| {
            if moves.len() >= MOVES_MAX || bytes >= bytes_max {
                return;
            }
            if let Some(one) = level.choose(&found.inventory, &census.sites) {
                bytes = bytes.saturating_add(one.bytes);
                moves.push(one);
            }
        })
        .await?;
        let sum = |of: &dyn Fn(&ShardMove) -> bool| moves.iter().filter(|m| of(m)).map(|m| m.bytes).sum();
        let share = |site: &coffer_model::SiteDescription| SiteShare {
            name: site.name.clone(),
            load: loads.of(site.id),
            receives: sum(&|one| one.to == site.id),
            gives: sum(&|one| one.from == site.id),
        };
        let plan = Rebalance {
            sites: self.sites.topology().sites.iter().map(share).collect(),
            missing: loads.missing(),
            dear: loads.dear(),
            moves: moves.len() as u64,
            bytes,
            records: moves.iter().map(|one| one.records).sum(),
            ..Rebalance::default()
        };
        Ok((plan, moves))
    }

    async fn move_all(
        &self,
        moves: Vec<ShardMove>,
        pace: &Pace<'_>,
        sums: &mut Rebalance,
        told: &(dyn Fn(&Rebalance) + Sync),
    ) -> Result<(), RepairError> {
        let mut by_tenant: BTreeMap<TenantId, (u64, Done)> = BTreeMap::new();
        moves.iter().for_each(|one| by_tenant.entry(one.tenant).or_default().0 += 1);
        for (tenant, (count, _)) in &by_tenant {
            self.note_repair(*tenant, format!("{count} shards level sites"), Outcome::Intent).await?;
        }
        let acts = moves.into_iter().map(|one| async move {
            let done = self.carry(&one, pace).await;
            (one, done)
        });
        let mut acts = futures::stream::iter(acts).buffered(AT_ONCE);
        while let Some((one, (done, ended))) = acts.next().await {
            sums.bytes_written += done.bytes_written;
            if let Some((_, all)) = by_tenant.get_mut(&one.tenant) {
                all.add(&done);
            }
            match ended {
                Ok(()) => sums.done += 1,
                Err(failure) => {
                    sums.failed += 1;
                    keep_reason(&mut sums.reasons, format!("{}: {failure}", one.version));
                }
            }
            told(sums);
        }
        for (tenant, (count, done)) in by_tenant {
            let outcome = if done.moved == 0 { Outcome::Failed } else { Outcome::Done };
            self.note_repair(tenant, format!("{done} of {count} shards that level sites"), outcome).await?;
        }
        Ok(())
    }

    /// One shard of one version, with what was done whether all of it was or not.
    async fn carry(&self, one: &ShardMove, pace: &Pace<'_>) -> (Done, Result<(), StepError>) {
        let mut done = Done::default();
        let ended = self.steps_of(one, pace, &mut done).await;
        (done, ended)
    }

    async fn steps_of(&self, one: &ShardMove, pace: &Pace<'_>, done: &mut Done) -> Result<(), StepError> {
        let tenant = self.tenant(one.tenant).ok_or(StepError::Stale)?;
        let row = tenant.catalog.version(one.version).await?.ok_or(StepError::Stale)?;
        let shards = Shards::of(&row.manifest.layout)?.ok_or(StepError::Stale)?;
        // Planned over the layout that it still has.
        let planned = |(at, (new, now)): (usize, (&SiteId, &SiteId))| match at == usize::from(one.index) {
            true => *now == one.from,
            false => new == now,
        };
        if shards.sites.len() != one.sites().len()
            || !one.sites().iter().zip(shards.sites).enumerate().all(planned)
        {
            return Err(StepError::Stale);
        }
        let ids: Vec<RecordId> = (0..one.stripes()).map(|stripe| shards.id(stripe, one.index)).collect();
        let each = one.bytes.saturating_mul(2) / u64::from(one.stripes()).max(1);
        for action in one.actions(&ids) {
            let moves = match &action {
                Action::Stripe { .. } => each,
                Action::Copies { .. } | Action::Manifest { .. } => one.records,
                Action::Remove(_) => 0,
            };
            let turn = pace.turn(moves).await;
            let acted = act(self, one.tenant, one.version, &action).await;
            pace.end(turn).await;
            done.add(&acted?);
        }
        Ok(())
    }
}

impl Rebalance {
    /// As things were found, before anything moves.
    fn without_moves(&self) -> Self {
        let still = |site: &SiteShare| SiteShare { receives: 0, gives: 0, ..site.clone() };
        let sites = self.sites.iter().map(still).collect();
        Self { sites, moves: 0, bytes: 0, records: 0, ..self.clone() }
    }

    /// A round more: what it will move.
    fn add(&mut self, round: &Self) {
        self.moves += round.moves;
        self.bytes += round.bytes;
        self.records += round.records;
        for site in &round.sites {
            if let Some(known) = self.sites.iter_mut().find(|known| known.name == site.name) {
                known.receives += site.receives;
                known.gives += site.gives;
            }
        }
    }
}
