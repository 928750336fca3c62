//! Random storms over a fleet: nodes die, are cut off, return, are drained, relabelled and
//! fill up, pods of others come and go, sets grow, shrink and roll out, while plans are carried out bit by
//! bit. Judged by counts of its own: no voluntary act breaks the loss budget, no object is lost, no
//! node is over-committed, nothing new goes where it may not, each pod that stands where
//! it may not goes as soon as it can be spared, and at the end all is as wanted.

use std::collections::{BTreeMap, BTreeSet};

use coffer_model::{FailureDomain, Tier};
use coffer_scheduler::{
    Attestation, Cluster, Costs, Decision, Fleet, Managed, Neighbour, NeighbourName, Node, NodeName, PodId,
    Resource, Resources, Runner, ShardGroup, SiteSet, Step, Traits, Why, Yielding, plan, preempt, staying,
};

use crate::instance::{Chance, node, pod, set};
use crate::others::{HOT, PRIORITY, other, wishes};

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
    /// Nodes that the control plane does not hear, and whose pods serve all the same.
    cut_off: BTreeSet<NodeName>,
    /// What was taken of each node at the last look.
    used: BTreeMap<NodeName, Resources>,
    /// Each object: the pods that should hold a shard, and whether it is there.
    objects: Vec<BTreeMap<PodId, bool>>,
    counts: BTreeMap<&'static str, u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut cluster = Cluster::new();
        for n in 0..15 {
            let country = HOME[n % 3];
            let mut node = node(&format!("n{n}"), country, &format!("d{n}"), 1000);
            node.labels.insert("rack".to_owned(), format!("r{}", n % 4));
            cluster.put_node(node);
        }
        let spread = coffer_scheduler::Spread { per_domain: 1, per_country: None, country_skew: Some(2) };
        let mut template = pod(0, 300);
        (template.priority, template.affinity) = (PRIORITY, Some(Box::new(wishes())));
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
            cut_off: BTreeSet::new(),
            used: BTreeMap::new(),
            objects: Vec::new(),
            counts: BTreeMap::new(),
        };
        world.settle("founding");
        for _ in 0..12 {
            world.put();
        }
        world.look("founding");
        world
    }

    fn serves(&self, pod: &PodId) -> bool {
        let node = self.cluster.node_of(pod);
        !self.restarting.contains(pod) && node.is_some_and(|node| node.ready)
    }

    fn is_cut_off(&self, pod: &PodId) -> bool {
        self.cluster.node_of(pod).is_some_and(|node| self.cut_off.contains(&node.name))
    }

    /// What can be read, whether the control plane knows it or not.
    fn is_there(&self, object: &BTreeMap<PodId, bool>) -> BTreeSet<PodId> {
        let serves = |pod: &PodId| {
            let node = self.cluster.node_of(pod);
            let answers = |node: &Node| node.ready || self.cut_off.contains(&node.name);
            !self.restarting.contains(pod) && node.is_some_and(answers)
        };
        object.iter().filter(|(pod, there)| **there && serves(pod)).map(|(pod, _)| pod.clone()).collect()
    }

    /// The same as far as it is known.
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
            // Reads go past the control plane.
            if self.is_there(&self.objects[index]).len() < NEEDED {
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
        self.with_fleet(plan)
    }

    fn with_fleet<T>(&self, ask: impl FnOnce(&Fleet<'_>) -> T) -> T {
        let mut held: BTreeMap<PodId, u64> = BTreeMap::new();
        self.objects
            .iter()
            .flat_map(BTreeMap::keys)
            .for_each(|pod| *held.entry(pod.clone()).or_default() += 1);
        ask(&Fleet {
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
            if let Step::Evacuate(pod, _) | Step::Queue(pod, _) = &step {
                going.insert(pod.clone());
            }
            let waits =
                matches!(step, Step::Wait(..) | Step::Await(_) | Step::Queue(..) | Step::Unplaceable(..));
            done += usize::from(!waits);
            let before = self.counts.get("gave way").copied();
            self.step(step, when);
            done += usize::from(self.counts.get("gave way").copied() != before);
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
            Step::Bind(decision) => self.bind(&decision, when),
            Step::Leave(id, why) => self.leave(&id, why, when),
            // Nobody there hears it.
            Step::Restart(id, _) if self.is_cut_off(&id) => self.count("not heard"),
            Step::Restart(id, version) => {
                self.must_be_spare(&id, NEEDED + 1, when);
                self.sets[0].running.insert(id.ordinal, version);
                self.restarting.insert(id);
                self.count("restarted");
            }
            Step::Evacuate(..) => self.count("evacuated"),
            Step::Queue(..) => self.count("queued"),
            Step::Wait(..) => self.count("waited"),
            Step::Await(_) => self.count("awaited"),
            Step::Unplaceable(..) => {
                self.count("unplaceable");
                self.make_room(when);
            }
        }
    }

    fn bind(&mut self, decision: &Decision, when: &str) {
        for placed in &decision.placed {
            let set = &self.sets[0].set;
            let pod = set.pods.iter().find(|pod| pod.ordinal == placed.ordinal).unwrap();
            let id = set.id(pod);
            self.cluster.bind_as(id.clone(), pod.needs, Traits::of(pod), &placed.node).unwrap();
            let node = self.cluster.node(&placed.node).unwrap();
            assert!(self.is_legal(&id) && node.ready && !node.cordoned, "{when}: {id} on {node:?}");
            assert_ne!(node.labels["rack"], HOT, "{when}: {id} on {node:?}");
            let avoided = |one: &Neighbour| one.traits.labels["app"] == "db" || !one.traits.apart.is_empty();
            assert!(!self.cluster.neighbours_on(&node.name).any(avoided), "{when}: {id} on {node:?}");
            let used = self.used_on(node);
            assert!(used.lacking(&node.total).next().is_none(), "{when}: {id} fills {node:?}");
            self.count("bound");
        }
    }

    /// Pods of others with a lower priority give way to one that fits nowhere.
    fn make_room(&mut self, when: &str) {
        let set = self.with_fleet(|fleet| staying(fleet, &self.sets[0]));
        let plan = preempt(&self.cluster, &set, &Costs::default(), &Yielding::default());
        for victim in plan.into_iter().flat_map(|plan| plan.victims) {
            let Runner::Neighbour(name) = &victim.runner else { unreachable!("{when}: {victim:?}") };
            let found = self.cluster.neighbour(name).unwrap();
            assert!(found.traits.priority < PRIORITY, "{when}: {victim:?}");
            self.cluster.remove_neighbour(name);
            self.count("gave way");
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
        let left = |object| self.is_there(object).iter().filter(|pod| !there.contains(pod)).count();
        self.objects.iter().all(|object| left(object) >= NEEDED)
    }

    fn happen(&mut self) {
        let mut node = self.any_node();
        let name = node.name.clone();
        match self.chance.below(15) {
            0 | 1 if self.may_fail(&name) => {
                node.ready = false;
                self.cut_off.remove(&name);
            }
            2 if self.lost.contains(&name) => drop(self.given_up.insert(name)),
            2 if !node.ready => drop(self.lost.insert(name)),
            3 | 4 => {
                node.ready = true;
                self.lost.remove(&name);
                self.given_up.remove(&name);
                self.cut_off.remove(&name);
            }
            12 | 14 => self.others(&node),
            // One that is dead already stays so.
            13 if node.ready => {
                node.ready = false;
                self.cut_off.insert(name);
                self.count("cut off");
            }
            5 => {
                node.cordoned = true;
                self.drained.insert(name);
            }
            6 => {
                node.cordoned = false;
                self.drained.remove(&name);
            }
            7 => {
                relabel(&mut node, if self.chance.one_in(3) { "US" } else { HOME[n_of(&name) % 3] });
                let rack = *self.chance.pick(&["r0", "r1", HOT]);
                node.labels.insert("rack".to_owned(), rack.to_owned());
            }
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

    /// Pods of somebody else come to a node, as many as have room there; or all of them go.
    fn others(&mut self, node: &Node) {
        let there: Vec<NeighbourName> =
            self.cluster.neighbours_on(&node.name).map(|one| one.name.clone()).collect();
        if self.chance.one_in(3) {
            there.iter().for_each(|name| _ = self.cluster.remove_neighbour(name));
            return;
        }
        for _ in 0..1 + self.chance.below(2) {
            let one = other(&mut self.chance, node);
            if self.cluster.neighbour(&one.name).is_none()
                && one.needs.lacking(&self.cluster.room(&node.name)).next().is_none()
            {
                self.cluster.put_neighbour(one).unwrap();
                self.count("others came");
            }
        }
    }

    /// What is taken of a node, counted once more.
    fn used_on(&self, node: &Node) -> Resources {
        let pods = self.cluster.pods_on(&node.name).map(|_| self.sets[0].template.needs);
        let others = self.cluster.neighbours_on(&node.name).map(|one| one.needs);
        pods.chain(others).fold(Resources::default(), |sum, needs| sum.plus(&needs))
    }

    /// What has to hold at every moment.
    fn look(&mut self, when: &str) {
        let mut all = BTreeMap::new();
        for (node, _) in self.cluster.nodes() {
            let (used, before) = (self.used_on(node), self.used.get(&node.name).copied().unwrap_or_default());
            // A node that has shrunk below what runs there takes no more of what it lacks.
            let fits = |kind: &Resource| used.of(*kind) <= node.total.of(*kind).max(before.of(*kind));
            assert!(Resource::ALL.iter().all(fits), "{when}: {used:?} on {node:?}, before {before:?}");
            all.insert(node.name.clone(), used);
        }
        self.used = all;
        for object in &self.objects {
            assert_eq!(object.len(), SHARDS, "{when}");
            assert!(self.is_there(object).len() >= NEEDED, "{when}: an object cannot be read: {object:?}");
        }
        self.nobody_stays_outside(when);
    }

    /// Each pod that stands where it may not is told to go, or something could not be read without it and without
    /// those that are told before it.
    fn nobody_stays_outside(&self, when: &str) {
        let steps = self.plan();
        let set = &self.sets[0].set;
        let bound = set.pods.iter().map(|pod| set.id(pod)).filter(|id| self.cluster.node_of(id).is_some());
        let mut going = BTreeSet::new();
        for pod in bound.filter(|id| !self.is_legal(id)) {
            if steps.contains(&Step::Leave(pod.clone(), Why::OutOfPlace)) {
                going.insert(pod);
                continue;
            }
            let left = |object: &BTreeMap<PodId, bool>| {
                let stays = |other: &&PodId| **other != pod && !going.contains(*other);
                self.readable(object).iter().filter(stays).count()
            };
            let needed = self.objects.iter().any(|object| left(object) < NEEDED);
            assert!(needed, "{when}: {pod} stays, {going:?} go");
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
            node.labels.insert("rack".to_owned(), "r0".to_owned());
            // Those that do not give way, or that may not be beside them.
            let others: Vec<Neighbour> = self.cluster.neighbours_on(&node.name).cloned().collect();
            for one in others {
                let stays = one.traits.priority < PRIORITY
                    && one.traits.apart.is_empty()
                    && one.traits.labels["app"] != "db";
                if !stays {
                    self.cluster.remove_neighbour(&one.name);
                }
            }
            (node.ready, node.cordoned, node.total.disk_bytes) = (true, false, 1000);
            self.cluster.put_node(node);
        }
        self.drained.clear();
        self.preempted.clear();
        self.lost.clear();
        self.given_up.clear();
        self.cut_off.clear();
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

/// `COFFER_STORM=SEEDS:STEPS` for longer ones.
#[test]
fn a_storm_never_breaks_the_loss_budget_and_ends_as_it_was_wanted() {
    let wish = std::env::var_os("COFFER_STORM").map(|text| text.into_string().unwrap());
    let (seeds, steps) = match wish.as_deref().and_then(|text| text.split_once(':')) {
        Some((seeds, steps)) => (seeds.parse().unwrap(), steps.parse().unwrap()),
        None => (30, 100),
    };
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..seeds {
        for (what, count) in storm(seed, steps) {
            *sums.entry(what).or_default() += count;
        }
    }
    eprintln!("{seeds} storms of {steps} steps: {sums:?}");
    let all = [
        "joined",
        "bound",
        "left",
        "restarted",
        "evacuated",
        "queued",
        "waited",
        "awaited",
        "unplaceable",
        "others came",
        "gave way",
        "cut off",
    ];
    for what in all {
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
