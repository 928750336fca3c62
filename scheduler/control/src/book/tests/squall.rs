//! Whatever comes, goes, dies and refuses, under a seed: deciding never goes on for ever, no plan lasts longer than it
//! may, nobody of the same priority or above is told to end, and the ledger is made again from what it says.

use super::giving_way::id;
use super::*;

const NODES: usize = 5;
const SETS: [(&str, i32); 3] = [("amber", 5), ("jade", 5), ("ruby", 9)];

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): good enough to vary tests.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }
}

struct Squall {
    world: World,
    chance: Chance,
    others: BTreeMap<String, SeenPod>,
    dead: BTreeSet<usize>,
    /// Since when room is kept for a set by the same plan.
    kept: BTreeMap<&'static str, (Vec<coffer_scheduler::Claim>, u64)>,
}

impl Squall {
    fn new(seed: u64) -> Self {
        let mut world = World::of_nodes(NODES);
        for (set, priority) in SETS {
            world.great_set(set, 2, &[0, 1], |_| ());
            (0..2).for_each(|ordinal| drop(world.great_pod(set, ordinal, priority, None)));
        }
        let (others, dead, kept) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Self { world, chance: Chance(seed), others, dead, kept }
    }

    fn pick(&mut self) -> Option<SeenPod> {
        let count = self.others.len() as u64;
        let at = (count > 0).then(|| usize::try_from(self.chance.below(count)).unwrap())?;
        self.others.values().nth(at).cloned()
    }

    fn see(&mut self, pod: SeenPod) {
        self.world.book.see_pod(pod.clone()).unwrap();
        self.others.insert(pod.name.clone(), pod);
    }

    fn goes(&mut self, pod: &SeenPod) {
        self.world.book.lose_pod(pod).unwrap();
        self.others.remove(&pod.name);
    }

    fn happen(&mut self) {
        let n = usize::try_from(self.chance.below(NODES as u64)).unwrap();
        let (set, priority) = SETS[n % SETS.len()];
        match self.chance.below(12) {
            // Another scheduler knows nothing of what is kept, and of a pod that comes again under its name.
            0..=3 => {
                let name = format!("o{}", self.chance.below(8));
                if !self.others.contains_key(&name) {
                    let mut pod = self.world.other(&name, &format!("n{n}"), Phase::Alive);
                    pod.pod.priority = i32::try_from(self.chance.below(7)).unwrap();
                    self.see(pod);
                }
            }
            4 => self.pick().into_iter().for_each(|pod| self.goes(&pod)),
            5 => self.pick().into_iter().for_each(|pod| self.see(SeenPod { phase: Phase::Ending, ..pod })),
            6 if self.chance.below(3) == 0 => {
                self.dead.insert(n);
                let silent = |node: &mut Value| node["status"]["conditions"][0]["status"] = json!("Unknown");
                self.world.node(n, "DE", silent);
            }
            7 => {
                self.dead.remove(&n);
                self.world.node(n, "DE", |_| ());
            }
            // A pod of a set ends, and another one is wanted elsewhere in its place.
            8 => {
                let gone = id(set, u32::try_from(self.chance.below(2)).unwrap());
                if let Some(pod) = self.world.book.pod(&gone).cloned() {
                    self.world.book.lose_pod(&pod).unwrap();
                    self.world.great_set(set, 2, &[], |_| ());
                    self.world.great_set(set, 2, &[0, 1], |_| ());
                    self.world.great_pod(set, gone.ordinal, priority, None);
                }
            }
            _ => {}
        }
    }

    /// What is told to end ends after a while, or refuses.
    fn evict(&mut self) {
        for (set, priority) in SETS {
            for one in self.world.book.evicted_for(&set.parse().unwrap()) {
                let there = &self.others[&one.victim.name];
                assert!(there.uid == one.uid && there.pod.priority < priority, "{there:?} for {set}");
                let pod = there.clone();
                match self.chance.below(4) {
                    0 => self.world.book.does_not_go(one.victim),
                    1 => {}
                    _ => self.see(SeenPod { phase: Phase::Ending, ..pod }),
                }
            }
        }
        let ending: Vec<SeenPod> =
            self.others.values().filter(|pod| pod.phase == Phase::Ending).cloned().collect();
        for pod in ending {
            let n: usize = pod.node.as_ref().unwrap().as_str()[1..].parse().unwrap();
            if !self.dead.contains(&n) && self.chance.below(3) == 0 {
                self.goes(&pod);
            }
        }
    }

    fn no_plan_lasts(&mut self, now: u64) {
        for (set, _) in SETS {
            let claims = self.world.book.ledger().cluster().claims(&set.parse().unwrap()).to_vec();
            match self.kept.get(set) {
                Some((known, since)) if *known == claims => {
                    assert!(claims.is_empty() || now - since < 3 * 600, "{set}: {claims:?}");
                }
                _ => _ = self.kept.insert(set, (claims, now)),
            }
        }
    }

    fn calm(&mut self) {
        for n in 0..NODES {
            self.world.node(n, "DE", |_| ());
        }
        // One more, so that there is room for all of them.
        self.world.node(NODES, "DE", |_| ());
        let all: Vec<SeenPod> = self.others.values().cloned().collect();
        all.iter().for_each(|pod| self.goes(pod));
        for _ in 0..3 {
            self.world.pass(1);
        }
        for (set, _) in SETS {
            assert_eq!(self.world.claims(set), 0, "{set}");
            for ordinal in 0..2 {
                let node = self.world.book.ledger().cluster().node_of(&id(set, ordinal));
                assert!(node.is_some(), "{set}-{ordinal} has no node");
            }
        }
    }
}

#[test]
fn whatever_comes_and_goes_every_plan_ends_and_nobody_goes_who_need_not() {
    let (mut plans, mut victims) = (0, 0);
    for seed in 0..40 {
        let mut squall = Squall::new(seed);
        for step in 0..300 {
            squall.happen();
            squall.evict();
            // Sometimes nothing happens for long.
            let seconds = if squall.chance.below(40) == 0 { 700 } else { 1 };
            squall.world.pass(seconds);
            squall.no_plan_lasts(step);
        }
        squall.calm();
        squall.world.replays();
        plans += squall.world.plans();
        victims += squall.world.lines.iter().filter(|line| line.contains("\"victims\":[{")).count();
        // Three sets, and a plan each few seconds at most.
        assert!(squall.world.plans() < 600, "seed {seed}: {} plans", squall.world.plans());
    }
    assert!(plans > 200 && victims > 150, "{plans} plans, {victims} with victims");
}
