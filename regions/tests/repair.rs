//! Plans of repair, carried out on a model that keeps only who holds what:
//! they make whole what can be made whole, never take away what they do not
//! replace, never leave the jurisdictions, and move no byte that need not.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly, in its helpers too")]

use std::collections::{BTreeMap, BTreeSet};

use coffer_model::{
    FailureDomain, RecordId, ResidencyPolicy, SiteDescription, SiteId, TenantId, Tier, Topology, VersionId,
};
use coffer_regions::{
    Action, Coding, PlanBuilder, RepairSite, SiteTable, Standing, Step, Stray, Trouble, VersionInventory,
    VersionPlan, plan_version, satisfiable,
};
use proptest::prelude::*;

mod policies;

use policies::policy;

const COUNTRIES: [&str; 4] = ["DE", "FR", "CH", "US"];

fn id(number: usize) -> SiteId {
    SiteId::from_bytes([u8::try_from(number).unwrap() + 1; 16])
}

fn site(number: usize, country: usize, domain: u8, standing: Standing, alive: bool) -> RepairSite {
    let site = SiteDescription {
        id: id(number),
        name: format!("s{number}"),
        country: COUNTRIES[country].parse().unwrap(),
        domain: FailureDomain(format!("d{domain}")),
        tier: Tier::III,
    };
    RepairSite { site, standing, alive }
}

/// Who holds what of one version: the truth that an inventory describes.
#[derive(Clone, Debug)]
struct World {
    sites: Vec<RepairSite>,
    policy: ResidencyPolicy,
    layout: Vec<SiteId>,
    coding: Coding,
    /// Number of the manifest record; a new one for each new manifest.
    record: u8,
    shards: BTreeMap<(u32, u8), BTreeSet<SiteId>>,
    copies: BTreeMap<u8, BTreeSet<SiteId>>,
}

fn record_id(number: u8) -> RecordId {
    RecordId::from_bytes([number; 16])
}

fn shard_id(stripe: u32, index: u8) -> RecordId {
    let mut bytes = [0xee; 16];
    bytes[0] = u8::try_from(stripe).unwrap();
    bytes[1] = index;
    RecordId::from_bytes(bytes)
}

impl World {
    /// Everything where it belongs, over these sites.
    fn whole(sites: Vec<RepairSite>, policy: ResidencyPolicy, layout: Vec<SiteId>, stripes: u32) -> Self {
        let (geometry, stripe_bytes) = (policy.geometry, 4000);
        let coding = match stripes {
            0 => Coding::Whole,
            _ => Coding::Striped {
                geometry,
                stripe_bytes,
                sealed_size: u64::from(stripe_bytes) * u64::from(stripes) - 7,
            },
        };
        let mut world = Self {
            sites,
            policy,
            layout: layout.clone(),
            coding,
            record: 1,
            shards: BTreeMap::new(),
            copies: BTreeMap::from([(1, layout.iter().copied().collect())]),
        };
        for stripe in 0..stripes {
            for (index, site) in (0..).zip(&layout) {
                world.shards.insert((stripe, index), BTreeSet::from([*site]));
            }
        }
        world
    }

    fn counts(&self, id: SiteId) -> bool {
        let site = self.sites.iter().find(|site| site.site.id == id).unwrap();
        site.alive && matches!(site.standing, Standing::Active | Standing::Draining)
    }

    fn shown(&self, at: &BTreeSet<SiteId>) -> Vec<SiteId> {
        at.iter().copied().filter(|id| self.counts(*id)).collect()
    }

    fn width(&self) -> u8 {
        u8::try_from(self.layout.len()).unwrap()
    }

    fn found(&self) -> VersionInventory {
        let mut odd = BTreeMap::new();
        let mut strays = Vec::new();
        for stripe in 0..self.coding.stripes() {
            let holdings: Vec<Vec<SiteId>> =
                (0..self.width()).map(|index| self.shown(&self.shards[&(stripe, index)])).collect();
            let usual = |(at, home): (&Vec<SiteId>, &SiteId)| {
                if self.counts(*home) { *at == [*home] } else { at.is_empty() }
            };
            if !holdings.iter().zip(&self.layout).all(usual) {
                for (index, (at, home)) in (0..).zip(holdings.iter().zip(&self.layout)) {
                    strays.extend(at.iter().filter(|site| *site != home).map(|site| Stray {
                        record: shard_id(stripe, index),
                        site: *site,
                        shard: Some((stripe, index)),
                    }));
                }
                odd.insert(stripe, holdings);
            }
        }
        let copies = self.shown(&self.copies[&self.record]);
        for (number, holders) in &self.copies {
            let own = |site: &SiteId| *number == self.record && self.layout.contains(site);
            let elsewhere = self.shown(holders).into_iter().filter(|site| !own(site));
            strays.extend(elsewhere.map(|site| Stray { record: record_id(*number), site, shard: None }));
        }
        VersionInventory {
            tenant: TenantId::from_bytes([9; 16]),
            version: VersionId::from_bytes([7; 16]),
            hidden: false,
            policy: self.policy.clone(),
            sites: self.layout.clone(),
            coding: self.coding,
            odd,
            copies,
            record_bytes: 500,
            strays,
        }
    }

    fn plan(&self) -> VersionPlan {
        plan_version(&self.found(), &SiteTable::new(&self.sites))
    }

    /// Different shards of a stripe that answer, or copies of a small version.
    fn have(&self) -> Vec<usize> {
        if self.coding == Coding::Whole {
            // More copies than were promised are nobody's gain.
            return vec![self.shown(&self.copies[&self.record]).len().min(self.layout.len())];
        }
        let shown = |stripe, index| !self.shown(&self.shards[&(stripe, index)]).is_empty();
        (0..self.coding.stripes())
            .map(|stripe| (0..self.width()).filter(|index| shown(stripe, *index)).count())
            .collect()
    }

    fn need(&self) -> usize {
        if self.coding == Coding::Whole { 1 } else { self.policy.geometry.k() }
    }

    /// A target is legal, takes data, and shares no failure domain with where
    /// another shard of the version is to stay.
    fn check_target(&self, to: SiteId) {
        let site = self.sites.iter().find(|site| site.site.id == to).unwrap();
        assert!(site.alive && site.standing == Standing::Active, "{to} takes nothing");
        assert!(self.policy.admits(&site.site), "{to} is outside");
    }

    /// Whether the policy does not admit that site.
    fn is_outside(&self, id: SiteId) -> bool {
        let site = self.sites.iter().find(|site| site.site.id == id).unwrap();
        !self.policy.admits(&site.site)
    }

    /// What is lacking at home is at silent sites that may come back, and no
    /// more than may be lost.
    fn may_be_waited_for_without_strays(&self, at_home: impl Iterator<Item = bool>) -> bool {
        let lacking: Vec<SiteId> =
            self.layout.iter().zip(at_home).filter(|(_, there)| !there).map(|(id, _)| *id).collect();
        let may_return = |id: &SiteId| {
            let site = self.sites.iter().find(|site| site.site.id == *id).unwrap();
            !site.counts() && site.standing != Standing::Retired
        };
        lacking.iter().all(may_return) && self.layout.len() - lacking.len() >= self.need()
    }

    fn act(&mut self, step: &Step) {
        match &step.action {
            Action::Stripe { stripe, reads, writes } => {
                for (index, from) in reads {
                    assert!(self.shards[&(*stripe, *index)].contains(from), "a read of what is not there");
                    assert!(self.counts(*from));
                }
                let distinct: BTreeSet<u8> = reads.iter().map(|(index, _)| *index).collect();
                for (index, to) in writes {
                    self.check_target(*to);
                    assert!(distinct.contains(index) || distinct.len() >= self.policy.geometry.k());
                    assert!(
                        self.shards.get_mut(&(*stripe, *index)).unwrap().insert(*to),
                        "written where it was"
                    );
                }
            }
            Action::Copies { from, to } => {
                assert!(from.iter().any(|site| self.copies[&self.record].contains(site)));
                to.iter().for_each(|site| self.check_target(*site));
                self.copies.get_mut(&self.record).unwrap().extend(to);
            }
            Action::Manifest { from, sites } => {
                assert!(self.coding != Coding::Whole || !from.is_empty());
                for (stripe, index) in self.shards.keys() {
                    let site = sites[usize::from(*index)];
                    let stays = self.layout[usize::from(*index)] == site;
                    assert!(stays || self.shards[&(*stripe, *index)].contains(&site), "not there yet");
                }
                self.record += 1;
                let takers: BTreeSet<SiteId> = sites
                    .iter()
                    .filter(|id| self.sites.iter().any(|s| s.site.id == **id && s.takes(&self.policy)))
                    .copied()
                    .collect();
                self.copies.insert(self.record, takers);
                self.layout.clone_from(sites);
            }
            Action::Remove(stray) => match stray.shard {
                Some(shard) => {
                    let there = |index| {
                        let home = self.layout[usize::from(index)];
                        self.counts(home) && self.shards[&(shard.0, index)].contains(&home)
                    };
                    let waits = self.may_be_waited_for_without_strays((0..self.width()).map(there));
                    assert!(there(shard.1) || self.is_outside(stray.site) && waits, "not replaced");
                    assert_ne!(stray.site, self.layout[usize::from(shard.1)], "not from its home");
                    self.shards.get_mut(&shard).unwrap().remove(&stray.site);
                }
                None => {
                    let number = stray.record.as_bytes()[0];
                    assert!(number != self.record || !self.layout.contains(&stray.site));
                    let holders = &self.copies[&self.record];
                    let there = |home: &SiteId| self.counts(*home) && holders.contains(home);
                    let waits = self.may_be_waited_for_without_strays(self.layout.iter().map(there));
                    let all = self.layout.iter().all(there);
                    assert!(all || self.is_outside(stray.site) && waits, "not replaced");
                    self.copies.get_mut(&number).unwrap().remove(&stray.site);
                }
            },
        }
    }

    /// The fewest reads for the writes of a step, by trying all.
    fn fewest_reads(&self, stripe: u32, writes: &[(u8, SiteId)]) -> usize {
        let there: Vec<u8> = (0..self.width())
            .filter(|index| !self.shown(&self.shards[&(stripe, *index)]).is_empty())
            .collect();
        let subsets = 0_u32..1 << there.len();
        let suffices = |set: &u32| {
            let read: Vec<u8> =
                there.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1).map(|(_, i)| *i).collect();
            writes.iter().all(|(index, _)| read.contains(index)) || {
                let enough = read.len() >= self.policy.geometry.k();
                // What is there is copied, never computed: the copy costs no more.
                enough && writes.iter().all(|(index, _)| read.contains(index) || !there.contains(index))
            }
        };
        subsets.filter(suffices).map(|set| set.count_ones() as usize).min().unwrap()
    }

    /// Rounds of planning and acting until nothing is left to do.
    fn repair(&mut self) -> (Vec<Step>, VersionPlan) {
        let mut done = Vec::new();
        for _ in 0..12 {
            let plan = self.plan();
            if plan.steps.is_empty() {
                return (done, plan);
            }
            for step in &plan.steps {
                let before = self.have();
                if let Action::Stripe { stripe, reads, writes } = &step.action {
                    assert_eq!(reads.len(), self.fewest_reads(*stripe, writes), "{step:?}");
                }
                self.act(step);
                let after = self.have();
                // What must not be there may go before its home answers again.
                let outside = matches!(step.action, Action::Remove(stray) if self.is_outside(stray.site));
                let enough = |after: &usize| outside && *after >= self.need();
                let kept = before.iter().zip(&after).all(|(before, after)| after >= before || enough(after));
                assert!(kept, "{step:?} left less than there was: {before:?} {after:?}");
            }
            done.extend(plan.steps);
        }
        panic!("there is always something left to do: {:?}", self.plan().steps);
    }
}

fn worlds() -> impl Strategy<Value = World> {
    let standings = prop_oneof![
        6 => Just(Standing::Active),
        1 => Just(Standing::Draining),
        1 => Just(Standing::Quarantined),
        1 => Just(Standing::Retired)
    ];
    let one = (0..4_usize, 0..9_u8, standings, prop::bool::weighted(0.85));
    let sites = prop::collection::vec(one, 5..12);
    let policies = prop::sample::select(vec![vec![], vec!["EU"], vec!["EU", "CH"], vec!["DE", "US"]]);
    let damage = prop::collection::vec((0..4_u32, 0..6_u8, 0..12_usize, any::<bool>()), 0..14);
    let copies = prop::collection::vec((0..12_usize, any::<bool>()), 0..6);
    (sites, policies, 1..4_u8, 1..3_u8, 0..4_u32, damage, copies, any::<prop::sample::Index>()).prop_map(
        |(sites, allow, k, m, stripes, damage, copies, first)| {
            let sites: Vec<RepairSite> = (0..)
                .zip(sites)
                .map(|(n, (country, domain, standing, alive))| site(n, country, domain, standing, alive))
                .collect();
            let policy = policy(k, m, &allow);
            let width = if stripes == 0 { usize::from(m) + 1 } else { usize::from(k + m) };
            // Any layout of different sites: what an older policy made of it.
            let start = first.index(sites.len());
            let layout = (0..width).map(|n| id((start + n) % sites.len())).collect();
            let mut world = World::whole(sites, policy, layout, stripes);
            for (stripe, index, site, stray) in damage {
                let site = id(site % world.sites.len());
                if let Some(at) = world.shards.get_mut(&(stripe, index)) {
                    if stray {
                        at.insert(site);
                    } else {
                        at.remove(&site);
                    }
                }
            }
            for (site, stray) in copies {
                let site = id(site % world.sites.len());
                let holders = world.copies.get_mut(&1).unwrap();
                if stray {
                    holders.insert(site);
                } else {
                    holders.remove(&site);
                }
            }
            world
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(3000) })]

    #[test]
    fn whatever_was_lost_a_plan_ends_loses_nothing_stays_inside_and_reads_the_fewest_bytes(
        mut world in worlds()
    ) {
        let before = world.clone();
        world.repair();
        // What a naive look says could be made whole is whole.
        let readable = before.have().iter().all(|have| *have >= before.need());
        let all_answer = before.sites.iter().all(RepairSite::counts);
        let active: Vec<SiteDescription> = before.sites.iter()
            .filter(|site| site.standing == Standing::Active).map(|site| site.site.clone()).collect();
        let topology = Topology { sites: active };
        if readable && all_answer && satisfiable(&topology, &before.policy).is_ok() {
            let plan = world.plan();
            prop_assert_eq!(plan.troubles, vec![]);
            prop_assert_eq!(plan.out_of_place, 0);
            let domains: BTreeSet<_> = world.layout.iter()
                .map(|id| world.sites.iter().find(|site| site.site.id == *id).unwrap())
                .inspect(|site| assert!(site.takes(&world.policy), "{} takes nothing", site.site.name))
                .map(|site| site.site.domain.clone()).collect();
            prop_assert_eq!(domains.len(), world.layout.len());
            for ((_, index), at) in &world.shards {
                prop_assert_eq!(at, &BTreeSet::from([world.layout[usize::from(*index)]]));
            }
            prop_assert_eq!(&world.copies[&world.record], &world.layout.iter().copied().collect());
            let old = world.copies.iter().filter(|(number, _)| **number != world.record);
            prop_assert!(old.into_iter().all(|(_, holders)| holders.is_empty()));
        }
    }

    #[test]
    fn a_stripe_is_touched_once_however_many_of_its_shards_must_go_elsewhere(mut world in worlds()) {
        for site in &mut world.sites {
            site.alive = true;
            if site.standing != Standing::Draining {
                site.standing = Standing::Active;
            }
        }
        let active: Vec<SiteDescription> = world.sites.iter()
            .filter(|site| site.standing == Standing::Active).map(|site| site.site.clone()).collect();
        let possible = satisfiable(&Topology { sites: active }, &world.policy).is_ok();
        let (done, _) = if possible { world.repair() } else { (Vec::new(), VersionPlan::default()) };
        let mut touched = BTreeSet::new();
        for step in done {
            if let Action::Stripe { stripe, .. } = step.action {
                prop_assert!(touched.insert(stripe), "stripe {} was written twice", stripe);
            }
        }
    }

    #[test]
    fn what_lies_outside_goes_though_as_many_sites_are_silent_as_may_be_lost_and_stays_if_more_are(
        (k, m, stripes) in (1..4_u8, 1..3_u8, 0..4_u32),
        strays in prop::collection::vec((0..4_u32, 0..6_u8, 0..3_usize), 0..8),
        copies in prop::collection::vec((any::<bool>(), 0..3_usize), 0..4),
        silent in prop::collection::btree_set(0..5_usize, 0..4),
    ) {
        let width = if stripes == 0 { usize::from(m) + 1 } else { usize::from(k + m) };
        let mut sites: Vec<RepairSite> = (0..width).map(active).collect();
        let outside: Vec<SiteId> = (width..width + 3).map(id).collect();
        sites.extend((width..).take(3).map(|n| site(n, 3, u8::try_from(n).unwrap(), Standing::Active, true)));
        let layout: Vec<SiteId> = (0..width).map(id).collect();
        let mut world = World::whole(sites, policy(k, m, &["EU"]), layout, stripes);
        world.record = 2;
        world.copies.insert(2, world.copies[&1].clone());
        world.copies.insert(1, BTreeSet::new());
        for (stripe, index, at) in strays {
            if let Some(holders) = world.shards.get_mut(&(stripe, index)) {
                holders.insert(outside[at]);
            }
        }
        for (old, at) in copies {
            world.copies.get_mut(&if old { 1 } else { 2 }).unwrap().insert(outside[at]);
        }
        let silent: Vec<usize> = silent.into_iter().filter(|n| *n < width).collect();
        silent.iter().for_each(|n| world.sites[*n].alive = false);
        let before = world.clone();
        let (_, plan) = world.repair();
        let shown = |world: &World| {
            let holders = world.shards.values().chain(world.copies.values());
            holders.flatten().filter(|at| outside.contains(at)).count()
        };
        if silent.len() <= usize::from(m) {
            prop_assert_eq!(plan.out_of_place, 0);
            prop_assert_eq!(shown(&world), 0);
        } else {
            let kept = before.have().iter().zip(world.have()).all(|(before, after)| *before <= after);
            prop_assert!(kept, "what was needed has gone");
            prop_assert_eq!(&world.copies, &before.copies);
        }
        let inside = |world: &World| {
            let holders = world.shards.values().chain(world.copies.values());
            holders.flatten().filter(|at| !outside.contains(at)).count()
        };
        prop_assert_eq!(inside(&world), inside(&before));
    }

    #[test]
    fn what_is_beyond_repair_is_named_and_not_tried(mut world in worlds()) {
        let short = world.have().iter().any(|have| *have < world.need());
        let silent = |id: &SiteId| world.sites.iter()
            .any(|site| site.site.id == *id && !site.counts() && site.standing != Standing::Retired);
        let hope = world.layout.iter().any(silent);
        let (_, plan) = world.repair();
        let beyond = plan.troubles.iter().any(|t| matches!(t, Trouble::BeyondRepair { .. }));
        let waits = plan.troubles.iter().any(|t| matches!(t, Trouble::Silent { .. }));
        prop_assert!(!short || beyond || waits);
        prop_assert!(short || !(beyond || waits), "{:?}", plan.troubles);
        prop_assert!(!short || hope || beyond);
    }
}

fn active(number: usize) -> RepairSite {
    site(number, number % 2, u8::try_from(number).unwrap(), Standing::Active, true)
}

fn six() -> World {
    let sites: Vec<RepairSite> = (0..6).map(active).collect();
    World::whole(sites, policy(4, 2, &[]), (0..6).map(id).collect(), 3)
}

#[test]
fn a_whole_version_needs_nothing() {
    let plan = six().plan();
    assert_eq!((plan.steps, plan.troubles, plan.redundancy), (vec![], vec![], 2));
}

#[test]
fn a_site_that_is_silent_is_waited_for_and_a_retired_one_is_not() {
    let mut world = six();
    world.sites.push(active(6));
    world.sites[2].alive = false;
    let plan = world.plan();
    assert_eq!((plan.steps, plan.troubles), (vec![], vec![Trouble::Waits { sites: vec![id(2)] }]));
    world.sites[2].standing = Standing::Retired;
    world.repair();
    assert_eq!(world.layout[2], id(6), "the spare site has the place of the retired one");
}

#[test]
fn nothing_is_written_to_a_site_outside_even_if_the_layout_still_names_it() {
    let mut world = six();
    world.policy = policy(4, 2, &["DE"]);
    world.shards.get_mut(&(0, 1)).unwrap().clear();
    let plan = world.plan();
    assert_eq!(plan.steps, vec![], "site 1 stands in FR, and nobody else is free");
    assert!(matches!(&plan.troubles[..], [Trouble::NoPlace { sites }] if sites.len() == 3));
    assert_eq!(plan.out_of_place, 3 * 3 + 3 - 1, "three sites, three stripes, three copies, one lost");
}

#[test]
fn the_version_that_can_lose_least_is_repaired_first_and_the_budget_cuts_the_rest() {
    let step = |version: u8, lost: &[u8]| {
        let mut world = six();
        for index in lost {
            world.shards.get_mut(&(0, *index)).unwrap().clear();
        }
        let mut found = world.found();
        found.version = VersionId::from_bytes([version; 16]);
        let plan = plan_version(&found, &SiteTable::new(&world.sites));
        (found, plan)
    };
    let mut builder = PlanBuilder::new(1, 2);
    for (version, lost) in [(1, &[0][..]), (2, &[0, 5]), (3, &[3])] {
        let (found, plan) = step(version, lost);
        builder.add(&found, plan);
    }
    let plan = builder.finish();
    assert_eq!(plan.steps.len(), 1, "one step, however dear");
    assert_eq!((plan.steps[0].version, plan.steps[0].redundancy), (VersionId::from_bytes([2; 16]), 0));
    assert_eq!((plan.later_steps, plan.versions_short), (2, 3));
    let text = plan.steps[0].describe(&|id| format!("s{}", id.as_bytes()[0] - 1));
    assert_eq!(text, "stripe 0: rebuild shard 0 to s0, rebuild shard 5 to s5, from s1, s2, s3, s4");
}
