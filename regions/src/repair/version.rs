//! The steps of one version: stripes first, then its manifest, then what lies
//! where it should not.

use coffer_model::SiteId;

use super::target::{self, Target};
use super::{
    Action, Coding, Holdings, SiteTable, Standing, Step, Stray, Trouble, VersionInventory, VersionPlan,
};

pub(super) fn plan(found: &VersionInventory, sites: &SiteTable<'_>) -> VersionPlan {
    let target = target::choose(found, sites);
    let moves = target.sites != found.sites;
    let mut planner = Planner { found, sites, target, plan: VersionPlan::default(), complete: true };
    planner.plan.redundancy = usize::MAX;
    planner.stripes(moves);
    planner.manifest(moves);
    if !moves {
        planner.strays();
    }
    planner.waits();
    planner.plan.out_of_place = found.strays.len() as u64 + planner.illegal();
    planner.plan
}

struct Planner<'a> {
    found: &'a VersionInventory,
    sites: &'a SiteTable<'a>,
    target: Target,
    plan: VersionPlan,
    /// Whether every shard lies where the target wants it.
    complete: bool,
}

impl Planner<'_> {
    /// Every stripe that may need something.
    fn stripes(&mut self, moves: bool) {
        let Coding::Striped { geometry, .. } = self.found.coding else { return };
        let k = geometry.k();
        let usual = self.usual();
        // The stripes that are as usual are all alike: one is looked at for all.
        let all = self.found.coding.stripes();
        let alike = all as usize > self.found.odd.len();
        let usual_needs = alike && (moves || !self.lacks(&usual).is_empty());
        if alike {
            let first = (0..all).find(|stripe| !self.found.odd.contains_key(stripe));
            self.judge(first, &usual, k);
        }
        if usual_needs {
            let found = self.found;
            for stripe in 0..all {
                self.stripe(stripe, found.odd.get(&stripe).unwrap_or(&usual), k);
            }
        } else {
            for (stripe, holdings) in &self.found.odd {
                self.stripe(*stripe, holdings, k);
            }
        }
    }

    /// Each shard at its own site, where that one counts.
    fn usual(&self) -> Holdings {
        let at_home = |id: &SiteId| if self.sites.counts(*id) { vec![*id] } else { Vec::new() };
        self.found.sites.iter().map(at_home).collect()
    }

    /// How many losses what is held survives; a trouble if it is too little.
    fn judge(&mut self, stripe: Option<u32>, holdings: &Holdings, need: usize) -> bool {
        let have = holdings.iter().filter(|at| !at.is_empty()).count();
        self.plan.redundancy = self.plan.redundancy.min(have.saturating_sub(need));
        if have >= need {
            return true;
        }
        let silent = holdings.iter().zip(&self.found.sites);
        let silent = silent.filter(|(at, home)| at.is_empty() && self.sites.may_return(**home)).count();
        self.too_little(stripe, have, need, have + silent >= need);
        false
    }

    /// Told once for a version, for its first stripe.
    fn too_little(&mut self, stripe: Option<u32>, have: usize, need: usize, may_return: bool) {
        self.complete = false;
        let trouble = if may_return {
            Trouble::Silent { stripe, have, need }
        } else {
            Trouble::BeyondRepair { stripe, have, need }
        };
        let beyond = |trouble: &Trouble| matches!(trouble, Trouble::BeyondRepair { .. });
        let told = self
            .plan
            .troubles
            .iter()
            .position(|known| matches!(known, Trouble::Silent { .. } | Trouble::BeyondRepair { .. }));
        match told.and_then(|at| self.plan.troubles.get_mut(at)) {
            Some(known) if beyond(&trouble) && !beyond(known) => *known = trouble,
            Some(_) => {}
            None => self.plan.troubles.push(trouble),
        }
    }

    /// The shards that the target wants and does not have, and can get now.
    fn lacks(&self, holdings: &Holdings) -> Vec<(u8, SiteId)> {
        let wanted = (0_u8..).zip(self.target.sites.iter().zip(holdings));
        wanted
            .filter(|(_, (site, at))| self.takes(**site) && !at.contains(site))
            .map(|(index, (site, _))| (index, *site))
            .collect()
    }

    fn takes(&self, id: SiteId) -> bool {
        self.sites.get(id).is_some_and(|site| site.takes(&self.found.policy))
    }

    /// One stripe: the fewest reads from which all that is lacking follows.
    fn stripe(&mut self, stripe: u32, holdings: &Holdings, k: usize) {
        if !self.judge(Some(stripe), holdings, k) {
            return;
        }
        let arrived = |(site, at): (&SiteId, &Vec<SiteId>)| at.contains(site) || !self.takes(*site);
        self.complete &= self.target.sites.iter().zip(holdings).all(arrived);
        let writes = self.lacks(holdings);
        if writes.is_empty() {
            return;
        }
        let source = |index: u8| {
            let at = holdings.get(usize::from(index))?;
            // Whoever stays is asked before whoever is being emptied.
            let active = |id: &&SiteId| self.sites.get(**id).is_some_and(|s| s.standing == Standing::Active);
            at.iter().find(active).or_else(|| at.first()).map(|id| (index, *id))
        };
        let mut reads: Vec<(u8, SiteId)> = writes.iter().filter_map(|(index, _)| source(*index)).collect();
        if reads.len() < writes.len() {
            let others = (0_u8..).zip(holdings).filter_map(|(index, _)| source(index));
            for read in others {
                if reads.len() >= k {
                    break;
                }
                if !reads.contains(&read) {
                    reads.push(read);
                }
            }
        }
        let have = holdings.iter().filter(|at| !at.is_empty()).count();
        let bytes = self.found.coding.shard_bytes(stripe) * (reads.len() + writes.len()) as u64;
        self.step(have - k, bytes, Action::Stripe { stripe, reads, writes });
    }

    /// The copies of the manifest record, or a new one for a new layout.
    fn manifest(&mut self, moves: bool) {
        let found = self.found;
        let have = found.copies.len();
        let small = found.coding == Coding::Whole;
        if small {
            self.plan.redundancy = self.plan.redundancy.min(have.saturating_sub(1));
        }
        if have == 0 && small {
            let returns = found.sites.iter().any(|id| self.sites.may_return(*id));
            self.too_little(None, 0, 1, returns);
            return;
        }
        let receivers = self.target.sites.iter().filter(|id| self.takes(**id));
        let receivers: Vec<SiteId> = receivers.copied().collect();
        // A new record counts instead of the old one, so it must not have fewer holders.
        let enough = receivers.len() >= have.min(found.sites.len()).max(1);
        let redundancy = have.saturating_sub(1);
        let due = if moves { self.complete } else { have == 0 };
        if due && enough {
            let reads = u64::from(small);
            let bytes = found.record_bytes * (reads + receivers.len() as u64);
            let sites = self.target.sites.clone();
            self.step(redundancy, bytes, Action::Manifest { from: found.copies.clone(), sites });
            return;
        }
        // Of a layout that is about to change only what stays is completed.
        let stays = |id: &SiteId| found.sites.contains(id) && !found.copies.contains(id);
        let to: Vec<SiteId> = receivers.into_iter().filter(stays).collect();
        if have > 0 && !to.is_empty() {
            let bytes = found.record_bytes * (1 + to.len() as u64);
            self.step(redundancy, bytes, Action::Copies { from: found.copies.clone(), to });
        }
    }

    /// What lies elsewhere goes when what it stands for is at home, or as good as.
    fn strays(&mut self) {
        let found = self.found;
        for stray in found.strays.iter().filter(|stray| self.sites.counts(stray.site)) {
            let lacking = self.lacking_at_home(stray);
            if lacking.is_empty() {
                self.step(usize::MAX, 0, Action::Remove(*stray));
            } else if self.goes_without(stray, &lacking) {
                // The shards at all other homes are read back.
                let one =
                    stray.shard.map_or(found.record_bytes, |(stripe, _)| found.coding.shard_bytes(stripe));
                let bytes = one * (found.sites.len() - lacking.len()) as u64;
                self.step(usize::MAX, bytes, Action::Remove(*stray));
            }
        }
    }

    /// The homes that do not have what a stray is kept for; none if its own has it.
    fn lacking_at_home(&self, stray: &Stray) -> Vec<SiteId> {
        let homes = &self.found.sites;
        // A copy elsewhere is one more than was promised; it goes when
        // none of the promised ones is missing.
        let Some((stripe, index)) = stray.shard else {
            return homes.iter().filter(|id| !self.found.copies.contains(id)).copied().collect();
        };
        let odd = self.found.odd.get(&stripe);
        // As usual: each shard at its own site, where that one counts.
        let has = |index: usize, home: &SiteId| match odd {
            Some(holdings) => holdings.get(index).is_some_and(|at| at.contains(home)),
            None => self.sites.counts(*home),
        };
        let own = usize::from(index);
        if homes.get(own).is_some_and(|home| has(own, home)) {
            return Vec::new();
        }
        homes.iter().enumerate().filter(|(index, home)| !has(*index, home)).map(|(_, id)| *id).collect()
    }

    /// What the policy does not admit where it lies does not wait for homes
    /// that do not answer, for they may never again: it goes as soon as no
    /// more of them lack what it stands for than may be lost, and all of them
    /// may come back with it.
    fn goes_without(&self, stray: &Stray, lacking: &[SiteId]) -> bool {
        let outside = self.sites.get(stray.site).is_some_and(|s| !self.found.policy.admits(&s.site));
        let few = lacking.len() <= self.found.promised();
        outside && few && lacking.iter().all(|id| self.sites.may_return(*id))
    }

    /// Records at sites of the layout that the policy no longer admits.
    fn illegal(&self) -> u64 {
        let found = self.found;
        let illegal = |id: &SiteId| self.sites.get(*id).is_some_and(|s| !found.policy.admits(&s.site));
        let copies = found.copies.iter().filter(|id| found.sites.contains(id) && illegal(id)).count() as u64;
        let shards = |holdings: &Holdings| {
            let homes = found.sites.iter().zip(holdings);
            homes.filter(|(home, at)| illegal(home) && at.contains(home)).count() as u64
        };
        let alike = u64::from(found.coding.stripes()).saturating_sub(found.odd.len() as u64);
        copies + alike * shards(&self.usual()) + found.odd.values().map(shards).sum::<u64>()
    }

    fn waits(&mut self) {
        let silent = self.target.sites.iter().filter(|id| !self.sites.counts(**id));
        let silent: Vec<SiteId> = silent.copied().collect();
        if !silent.is_empty() {
            self.plan.troubles.push(Trouble::Waits { sites: silent });
        }
        if !self.target.stuck.is_empty() {
            let sites = std::mem::take(&mut self.target.stuck);
            self.plan.troubles.push(Trouble::NoPlace { sites });
        }
    }

    fn step(&mut self, redundancy: usize, bytes: u64, action: Action) {
        let Self { found, .. } = self;
        let (tenant, version, hidden) = (found.tenant, found.version, found.hidden);
        self.plan.steps.push(Step { tenant, version, redundancy, bytes, action, hidden });
    }
}
