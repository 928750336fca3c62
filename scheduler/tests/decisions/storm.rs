//! Random storms over a fleet: nodes die, return, are drained, relabelled and
//! fill up, sets grow, shrink and roll out, while plans are carried out bit by
//! bit. Judged by counts of its own: no voluntary act breaks the loss budget, no
//! node is over-committed, nothing new goes where it may not, what stands where
//! it may not goes as soon as it can be spared, and at the end all is as wanted.

use std::collections::{BTreeMap, BTreeSet};

use coffer_model::{FailureDomain, Tier};
use coffer_scheduler::{
    Attestation, Cluster, Costs, Fleet, Managed, Node, NodeName, PodId, Resources, ShardGroup, SiteSet, Step,
    Why, plan,
};

use crate::instance::{Chance, node, pod, set};

const HOME: [&str; 3] = ["DE", "FR", "NL"];
const NEEDED: usize = 4;
const SHARDS: usize = 6;

/// Objects with their shards, as a data plane would keep them.
struct World {
    chance: Chance,
    cluster: Cluster,
    sets: Vec<Managed>,
    drained: BTreeSet<NodeName>,
    preempted: BTreeSet<PodId>,
    lost: BTreeSet<NodeName>,
    given_up: BTreeSet<NodeName>,
    restarting: BTreeSet<PodId>,
    /// Each object: the pods that should hold a shard, and whether it is there.
    objects: Vec<BTreeMap<PodId, bool>>,
    counts: BTreeMap<&'static str, u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut cluster = Cluster::new();
        for n in 0..15 {
            let country = HOME[n % 3];
            cluster.put_node(node(&format!("n{n}"), country, &format!("d{n}"), 1000));
        }
        let spread = coffer_scheduler::Spread { per_domain: 1, per_country: None, country_skew: Some(2) };
        let template = pod(0, 300);
        let mut wanted: SiteSet = set(Vec::new());
        wanted.residency.allow = vec!["EU".parse().unwrap()];
        wanted.spread = spread;
        let managed = Managed { set: wanted, size: 7, template, version: 1, running: BTreeMap::new() };
        let mut world = Self {
            chance: Chance(seed),
            cluster,
            sets: vec![managed],
            drained: BTreeSet::new(),
            preempted: BTreeSet::new(),
            lost: BTreeSet::new(),
            given_up: BTreeSet::new(),
            restarting: BTreeSet::new(),
            objects: Vec::new(),
            counts: BTreeMap::new(),
        };
        world.settle("founding");
        for _ in 0..12 {
            world.put();
        }
        world
    }

    fn serves(&self, pod: &PodId) -> bool {
        let node = self.cluster.node_of(pod);
        !self.restarting.contains(pod) && node.is_some_and(|node| node.ready)
    }

    fn readable(&self, object: &BTreeMap<PodId, bool>) -> BTreeSet<PodId> {
        object.iter().filter(|(pod, there)| **there && self.serves(pod)).map(|(pod, _)| pod.clone()).collect()
    }

    /// Pods that may take a shard now: they serve, and stand where they may.
    fn takers(&self) -> Vec<PodId> {
        let managed = &self.sets[0];
        let ids = managed.set.pods.iter().map(|pod| managed.set.id(pod));
        ids.filter(|id| self.serves(id) && self.is_legal(id)).collect()
    }

    fn is_legal(&self, pod: &PodId) -> bool {
        let attested = self.cluster.node_of(pod).and_then(|node| node.attested.as_ref());
        attested.is_some_and(|attested| HOME.contains(&attested.country.as_str()))
    }

    /// A new object, if there are enough pods for it.
    fn put(&mut self) {
        let mut takers = self.takers();
        if takers.len() >= SHARDS {
            while takers.len() > SHARDS {
                takers.remove(usize::try_from(self.chance.below(takers.len() as u64)).unwrap());
            }
            self.objects.push(takers.into_iter().map(|pod| (pod, true)).collect());
        }
    }

    /// What repair does in a moment: some shards that are missing, or lie on pods that go, move
    /// to pods that stay, as long as enough others can be read.
    fn repair(&mut self, going: &BTreeSet<PodId>, all: bool) {
        let takers: Vec<PodId> = self.takers().into_iter().filter(|pod| !going.contains(pod)).collect();
        for index in 0..self.objects.len() {
            if !all && self.chance.one_in(2) {
                continue;
            }
            let readable = self.readable(&self.objects[index]);
            if readable.len() < NEEDED {
                continue;
            }
            let bad = |(pod, there): (&PodId, &bool)| !there || going.contains(pod);
            let from =
                self.objects[index].iter().find(|(pod, there)| bad((pod, there))).map(|(pod, _)| pod.clone());
            let Some(from) = from else { continue };
            let stays = takers.contains(&from);
            let to = takers.iter().find(|pod| !self.objects[index].contains_key(pod));
            match to {
                _ if stays => drop(self.objects[index].insert(from, true)),
                Some(to) => {
                    self.objects[index].remove(&from);
                    self.objects[index].insert(to.clone(), true);
                }
                None => {}
            }
        }
    }

    fn groups(&self) -> Vec<ShardGroup> {
        let group = |object| ShardGroup { needed: 4, readable: self.readable(object), objects: 1 };
        self.objects.iter().map(group).collect()
    }

    fn plan(&self) -> Vec<Step> {
        let mut held: BTreeMap<PodId, u64> = BTreeMap::new();
        self.objects
            .iter()
            .flat_map(BTreeMap::keys)
            .for_each(|pod| *held.entry(pod.clone()).or_default() += 1);
        plan(&Fleet {
            cluster: &self.cluster,
            sets: &self.sets,
            drained: &self.drained,
            lost: &self.lost,
            given_up: &self.given_up,
            abroad: &BTreeSet::new(),
            preempted: &self.preempted,
            groups: &self.groups(),
            held: &held,
            restarting: &self.restarting,
            costs: &Costs::default(),
        })
    }

    /// Carries out a plan: all of it, or what chance lets through.
    fn carry_out(&mut self, all: bool, when: &str) -> usize {
        let steps = self.plan();
        let mut going = BTreeSet::new();
        let mut done = 0;
        for step in steps {
            if !all && self.chance.one_in(3) {
                continue;
            }
            if let Step::Evacuate(pod, _) = &step {
                going.insert(pod.clone());
            }
            done += usize::from(!matches!(step, Step::Wait(..) | Step::Await(_) | Step::Unplaceable(..)));
            self.step(step, when);
        }
        self.repair(&going, all);
        done
    }

    fn step(&mut self, step: Step, when: &str) {
        match step {
            Step::Join(id, pod) => {
                let managed = &mut self.sets[0];
                assert_eq!(managed.set.id(&pod), id);
                assert!(managed.set.pods.iter().all(|other| other.ordinal != pod.ordinal), "{when}");
                managed.running.insert(pod.ordinal, managed.version);
                managed.set.pods.push(*pod);
                self.count("joined");
            }
            Step::Bind(decision) => {
                for placed in decision.placed {
                    let id = PodId { set: self.sets[0].set.name.clone(), ordinal: placed.ordinal };
                    let needs = self.sets[0].template.needs;
                    self.cluster.bind(id.clone(), needs, &placed.node).unwrap();
                    let node = self.cluster.node(&placed.node).unwrap();
                    assert!(self.is_legal(&id) && node.ready && !node.cordoned, "{when}: {id} on {node:?}");
                    self.count("bound");
                }
            }
            Step::Leave(id, why) => self.leave(&id, why, when),
            Step::Restart(id, version) => {
                self.must_be_spare(&id, NEEDED + 1, when);
                self.sets[0].running.insert(id.ordinal, version);
                self.restarting.insert(id);
                self.count("restarted");
            }
            Step::Evacuate(..) => self.count("evacuated"),
            Step::Wait(..) => self.count("waited"),
            Step::Await(_) => self.count("awaited"),
            Step::Unplaceable(..) => self.count("unplaceable"),
        }
    }

    fn leave(&mut self, id: &PodId, why: Why, when: &str) {
        match why {
            // By force of law: nothing may be lost by it.
            Why::OutOfPlace => self.must_be_spare(id, NEEDED, when),
            Why::NodeLost => {}
            Why::Drained | Why::Preempted | Why::ScaledDown | Why::Unbalanced => {
                self.must_be_spare(id, NEEDED + 1, when)
            }
        }
        let holders = self.objects.iter_mut().filter_map(|object| object.get_mut(id));
        holders.for_each(|there| *there = false);
        // One that joined and got no node yet is bound to none.
        let _ = self.cluster.unbind(id);
        self.restarting.remove(id);
        self.sets[0].set.pods.retain(|pod| pod.ordinal != id.ordinal);
        self.sets[0].running.remove(&id.ordinal);
        self.count("left");
    }

    /// Every object that has a readable shard on this pod has so many others.
    fn must_be_spare(&self, id: &PodId, left: usize, when: &str) {
        for object in &self.objects {
            let mut readable = self.readable(object);
            if readable.remove(id) {
                assert!(readable.len() >= left, "{when}: {id} goes and leaves {} shards", readable.len());
            }
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn any_node(&mut self) -> Node {
        let names: Vec<NodeName> = self.cluster.nodes().map(|(node, _)| node.name.clone()).collect();
        let name = self.chance.pick(&names).clone();
        self.cluster.node(&name).unwrap().clone()
    }

    /// Objects that would be lost, or stay unreadable, are beyond what the storm may do: the budget
    /// of losses is two at a time.
    fn may_fail(&self, name: &NodeName) -> bool {
        let there: Vec<&PodId> = self.cluster.pods_on(name).collect();
        let left = |object| self.readable(object).iter().filter(|pod| !there.contains(pod)).count();
        self.objects.iter().all(|object| left(object) >= NEEDED)
    }

    fn happen(&mut self) {
        let mut node = self.any_node();
        let name = node.name.clone();
        match self.chance.below(12) {
            0 | 1 if self.may_fail(&name) => node.ready = false,
            2 if self.lost.contains(&name) => drop(self.given_up.insert(name)),
            2 if !node.ready => drop(self.lost.insert(name)),
            3 | 4 => {
                node.ready = true;
                self.lost.remove(&name);
                self.given_up.remove(&name);
            }
            5 => {
                node.cordoned = true;
                self.drained.insert(name);
            }
            6 => {
                node.cordoned = false;
                self.drained.remove(&name);
            }
            7 => relabel(&mut node, if self.chance.one_in(3) { "US" } else { HOME[n_of(&name) % 3] }),
            8 => node.attested = None,
            9 => relabel(&mut node, HOME[n_of(&name) % 3]),
            10 => self.sets[0].size = 6 + usize::try_from(self.chance.below(4)).unwrap(),
            _ => match self.chance.below(6) {
                0 => self.sets[0].version += 1,
                1 => node.total.disk_bytes = 100 + self.chance.below(900),
                2 => self.put(),
                3 => self.preempted.extend(self.cluster.pods_on(&name).cloned()),
                4 => self.preempted.clear(),
                _ => self.serve_again(),
            },
        }
        self.cluster.put_node(node);
    }

    /// Restarts end.
    fn serve_again(&mut self) {
        self.restarting.clear();
    }

    /// What has to hold at every moment.
    fn look(&self, when: &str) {
        for (node, _) in self.cluster.nodes() {
            let mut used = Resources::default();
            self.cluster.pods_on(&node.name).for_each(|_| used = used.plus(&self.sets[0].template.needs));
            let shrunk = node.total.disk_bytes < 1000;
            assert!(shrunk || used.lacking(&node.total).next().is_none(), "{when}: {}", node.name);
        }
        for object in &self.objects {
            assert_eq!(object.len(), SHARDS, "{when}");
        }
        // What stands where it may not and can be spared is told to go at once.
        let steps = self.plan();
        for (pod, _) in self.cluster.bound().filter(|(pod, _)| !self.is_legal(pod)) {
            let spare = |object: &&BTreeMap<PodId, bool>| {
                let readable = self.readable(object);
                !readable.contains(pod) || readable.len() > NEEDED
            };
            let told = steps.contains(&Step::Leave(pod.clone(), Why::OutOfPlace));
            let alone = self.cluster.bound().filter(|(pod, _)| !self.is_legal(pod)).count() == 1;
            assert!(
                told || !alone || !self.objects.iter().all(|object| spare(&object)),
                "{when}: {pod} stays"
            );
        }
    }

    /// Until nothing is left to do.
    fn settle(&mut self, when: &str) {
        for _ in 0..400 {
            self.serve_again();
            let whole = self.objects.iter().all(|object| self.readable(object).len() == SHARDS);
            if self.carry_out(true, when) == 0 && whole {
                return;
            }
        }
        unreachable!("{when}: the fleet does not settle: {:?}", self.plan());
    }

    fn calm(&mut self) {
        let nodes: Vec<Node> = self.cluster.nodes().map(|(node, _)| node.clone()).collect();
        for mut node in nodes {
            let country = HOME[n_of(&node.name) % 3];
            relabel(&mut node, country);
            (node.ready, node.cordoned, node.total.disk_bytes) = (true, false, 1000);
            self.cluster.put_node(node);
        }
        self.drained.clear();
        self.preempted.clear();
        self.lost.clear();
        self.given_up.clear();
    }
}

fn n_of(name: &NodeName) -> usize {
    name.as_str()[1..].parse().unwrap()
}

fn relabel(node: &mut Node, country: &str) {
    node.attested = Some(Attestation {
        country: country.parse().unwrap(),
        domain: FailureDomain(format!("d{}", n_of(&node.name))),
        tier: Tier::III,
    });
}

/// One storm; what was done in it.
fn storm(seed: u64, steps: u64) -> BTreeMap<&'static str, u64> {
    let mut world = World::new(seed);
    for step in 0..steps {
        let when = format!("seed {seed}, step {step}");
        world.happen();
        world.look(&when);
        world.carry_out(false, &when);
        world.look(&when);
    }
    world.calm();
    let when = format!("seed {seed}, after the storm");
    world.settle(&when);
    let managed = &world.sets[0];
    assert_eq!(managed.set.pods.len(), managed.size, "{when}: {:?}", world.plan());
    assert!(
        managed.running.values().all(|version| *version == managed.version),
        "{when}: {:?}",
        world.plan()
    );
    assert_eq!(world.takers().len(), managed.size, "{when}");
    assert!(world.objects.iter().all(|object| world.readable(object).len() == SHARDS), "{when}");
    world.counts
}

#[test]
fn a_storm_never_breaks_the_loss_budget_and_ends_as_it_was_wanted() {
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    // 3,000 steps; 10,000 were run with the first 100 seeds.
    for seed in 0..30 {
        for (what, count) in storm(seed, 100) {
            *sums.entry(what).or_default() += count;
        }
    }
    for what in ["joined", "bound", "left", "restarted", "evacuated", "waited", "awaited", "unplaceable"] {
        assert!(sums.contains_key(what), "no step of the kind {what} in all storms: {sums:?}");
    }
}

#[test]
fn ten_pods_become_three_and_every_state_on_the_way_is_legal() {
    let mut world = World::new(7);
    world.sets[0].set.spread.country_skew = Some(1);
    world.objects.clear();
    world.sets[0].size = 10;
    world.settle("ten");
    world.sets[0].size = 3;
    let countries = |world: &World| {
        let mut counts: BTreeMap<&str, u32> = HOME.map(|country| (country, 0)).into();
        for (pod, _) in world.cluster.bound() {
            let country = world.cluster.node_of(pod).unwrap().attested.as_ref().unwrap().country;
            *counts.get_mut(country.as_str()).unwrap() += 1;
        }
        counts
    };
    loop {
        let steps = world.plan();
        let Some(step) = steps.into_iter().next() else { break };
        world.step(step, "shrinking");
        let counts = countries(&world);
        assert!(counts.values().max().unwrap() - counts.values().min().unwrap() <= 1, "{counts:?}");
    }
    assert_eq!(countries(&world), HOME.map(|country| (country, 1)).into());
}
