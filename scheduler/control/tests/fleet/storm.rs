//! Random storms through the embedded API, under a seed: nodes die, return, are
//! drained, relabelled and fill up, sets grow, shrink and roll out, and others
//! give way to one of a higher priority. Judged by counts of the test's own over
//! what the API says.

mod higher;

use std::collections::{BTreeMap, BTreeSet};

use coffer_control::{Control, translate};
use coffer_scheduler::PodId;
use kube::ResourceExt;

use crate::world::{DISK, NEEDED, SHARDS, World, home, id, is_ready, name};

const NODES: usize = 12;

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): good enough to vary tests.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % end as u64).unwrap()
    }
}

struct Storm {
    world: World,
    chance: Chance,
    replicas: usize,
    version: u64,
    /// Whether a set of a higher priority takes part.
    priorities: bool,
    counts: BTreeMap<&'static str, u64>,
    /// Nodes that were cut off: nobody hears them, and what runs there goes on.
    cut_off: BTreeSet<usize>,
    /// For how many turns in a row a pod that could be spared stood where it may not.
    outside: BTreeMap<PodId, u32>,
    /// Pods that are wanted of the set of a higher priority, and for how long room is kept for them.
    ruby: usize,
    great: bool,
    kept: higher::Kept,
    /// Pods of somebody else that there ever were.
    others: u64,
    /// Lines of the ledger so far.
    lines: u64,
}

/// Turns that a pod may stand where it may not, once it can be spared: it is seen, told to end, and ends. `DECISIONS.md`
/// of the scheduler says what that is in seconds.
const TURNS_OUTSIDE: u32 = 4;

/// Steps until the storm has its strength, where sites have to give way.
const RISES: u64 = 30;

impl Storm {
    async fn new(seed: u64) -> Self {
        let preempts = with_priorities(seed);
        let mut world = World::with(NODES, |control| Control { preempts, ..control }).await;
        world.set(7, 1).await;
        for _ in 0..10 {
            world.turn().await;
        }
        let (outside, counts, cut_off) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let kept = higher::Kept::new();
        let lines = world.turns.book().lock().unwrap().ledger().lines();
        let chance = Chance(seed);
        let (replicas, version) = (7, 1);
        let mut storm = Self {
            world,
            chance,
            replicas,
            version,
            priorities: preempts,
            counts,
            cut_off,
            outside,
            ruby: 0,
            great: false,
            kept,
            others: 0,
            lines,
        };
        for _ in 0..8 {
            storm.put().await;
        }
        assert_eq!(storm.world.objects.0.lock().unwrap().len(), 8);
        storm
    }

    /// Pods that may take a shard: they serve, stand where they may, and are not on their way out.
    async fn takers(&self) -> BTreeSet<PodId> {
        let (serving, outside) = (self.world.serving().await, self.world.out_of_place().await);
        let status = self.world.sets().get("gold").await.unwrap().status.unwrap_or_default();
        let stays = |id: &&PodId| {
            id.set.as_str() == "gold"
                && status.members.iter().any(|member| member.ordinal == id.ordinal && member.leaves.is_none())
        };
        serving.difference(&outside).filter(stays).cloned().collect()
    }

    async fn put(&mut self) {
        let mut takers: Vec<PodId> = self.takers().await.into_iter().collect();
        while takers.len() > SHARDS {
            takers.remove(self.chance.below(takers.len()));
        }
        if takers.len() == SHARDS {
            let object = takers.into_iter().map(|pod| (pod, true)).collect();
            self.world.objects.0.lock().unwrap().push(object);
        }
    }

    /// What repair does in a turn: of every object one shard that is missing, or lies where it is to go from.
    async fn repair(&self) {
        let (takers, serving) = (self.takers().await, self.world.serving().await);
        let readable = self.world.objects.readable(&serving);
        let mut objects = self.world.objects.0.lock().unwrap();
        for (object, readable) in objects.iter_mut().zip(readable) {
            if readable.len() < NEEDED {
                continue;
            }
            let bad = |(pod, there): &(&PodId, &bool)| !**there || !takers.contains(*pod);
            let Some(from) = object.iter().find(bad).map(|(pod, _)| pod.clone()) else { continue };
            if takers.contains(&from) {
                object.insert(from, true);
            } else if let Some(to) = takers.iter().find(|pod| !object.contains_key(*pod)) {
                object.remove(&from);
                object.insert(to.clone(), true);
            }
        }
    }

    async fn may_fail(&self, n: usize) -> bool {
        let mut serving = self.world.serving().await;
        for pod in self.world.all_pods().await {
            if pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) == Some(name(n)) {
                serving.retain(|other| Some(other) != id(&pod).as_ref());
            }
        }
        self.world.objects.readable(&serving).iter().all(|readable| readable.len() >= NEEDED)
    }

    async fn happen(&mut self) {
        let n = self.chance.below(NODES);
        match self.chance.below(20) {
            0 | 1 if self.may_fail(n).await => self.did("died", self.world.ready(n, false)).await,
            2..=4 => self.did("returned", self.world.ready(n, true)).await,
            5 => self.did("drained", self.world.drain(n, true)).await,
            6 => self.did("undrained", self.world.drain(n, false)).await,
            7 => {
                let country = if self.chance.below(3) == 0 { "US" } else { home(n) };
                self.did("relabelled", self.world.attest(n, Some(country))).await;
            }
            8 if self.chance.below(2) == 0 => self.did("unattested", self.world.attest(n, None)).await,
            8 | 9 => self.did("attested", self.world.attest(n, Some(home(n)))).await,
            10 => {
                self.replicas = 6 + self.chance.below(4);
                self.did("resized", self.world.set(self.replicas, self.version)).await;
            }
            12 | 13 if self.priorities => self.higher_set().await,
            14..=17 => self.somebody_comes(n).await,
            18 if self.chance.below(2) == 0 => self.somebody_goes().await,
            _ => match self.chance.below(4) {
                0 => {
                    self.version += 1;
                    self.did("rolled out", self.world.set(self.replicas, self.version)).await;
                }
                1 => {
                    let disk = 100 + self.chance.below(900) as u64;
                    self.did("filled up", self.world.disk(n, disk)).await;
                }
                _ => self.put().await,
            },
        }
    }

    /// Now and then a node is cut off, whatever lies there: its pods go on, and nobody is told that they ended.
    async fn cut_off(&mut self) {
        let n = self.chance.below(NODES);
        let nodes = self.world.all_nodes().await;
        self.cut_off.retain(|n| !is_ready(&nodes[&name(*n)]));
        if self.chance.below(10) == 0 && is_ready(&nodes[&name(n)]) {
            self.cut_off.insert(n);
            self.world.ready(n, false).await;
            *self.counts.entry("cut off").or_default() += 1;
        }
    }

    /// A pod that runs on where nobody is heard is never taken for ended.
    fn nobody_is_forgotten(
        &self,
        before: &[k8s_openapi::api::core::v1::Pod],
        after: &[k8s_openapi::api::core::v1::Pod],
        when: &str,
    ) {
        let there = |pod: &&k8s_openapi::api::core::v1::Pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
            node.is_some_and(|node| self.cut_off.iter().any(|n| name(*n) == *node))
        };
        for pod in before.iter().filter(there) {
            let is_there = after.iter().any(|other| other.uid() == pod.uid());
            assert!(is_there, "{when}: {} is gone, and nobody saw it end", pod.name_any());
        }
    }

    async fn did(&self, _: &'static str, what: impl Future<Output = ()>) {
        what.await;
    }

    /// One turn of the control plane, judged.
    async fn turn(&mut self, when: &str) {
        let before = self.world.all_pods().await;
        let (serving, outside) = (self.world.serving().await, self.world.out_of_place().await);
        let spare = self.spare_outside().await;
        self.world.turns.turn().await.unwrap();
        let after = self.world.all_pods().await;
        self.nobody_is_forgotten(&before, &after, when);
        let ending =
            |pod: &&k8s_openapi::api::core::v1::Pod| translate::pod(pod).phase == translate::Phase::Ending;
        let already: BTreeSet<Option<String>> = before.iter().filter(ending).map(ResourceExt::uid).collect();
        // Those that were told to end in this turn, in whatever order: all of them together are judged.
        let told = after.iter().filter(ending).filter(|pod| !already.contains(&pod.uid()));
        let told: BTreeSet<PodId> = told.filter_map(id).collect();
        self.budget_holds(&serving, &outside, &told, when);
        *self.counts.entry("told to end").or_default() += told.len() as u64;
        let new = after.iter().filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()));
        for pod in new {
            let was = before.iter().find(|other| other.uid() == pod.uid());
            if was.is_none_or(|was| was.spec.as_ref().is_none_or(|spec| spec.node_name.is_none())) {
                self.is_legal(pod, when).await;
                *self.counts.entry("bound").or_default() += 1;
            }
        }
        self.world.nothing_is_over_committed(when).await;
        self.plans_end(&before, when).await;
        self.world.kubelet().await;
        self.forget_those_that_left().await;
        self.repair().await;
        self.nobody_stays_outside(&spare, when).await;
        self.world.clock.forward(std::time::Duration::from_secs(1));
    }

    fn budget_holds(
        &self,
        serving: &BTreeSet<PodId>,
        outside: &BTreeSet<PodId>,
        told: &BTreeSet<PodId>,
        when: &str,
    ) {
        let left: BTreeSet<PodId> = serving.difference(told).cloned().collect();
        let (before, after) = (self.world.objects.readable(serving), self.world.objects.readable(&left));
        for (before, after) in before.iter().zip(&after) {
            if before.len() == after.len() {
                continue;
            }
            // By force of law one shard fewer may be left.
            let forced = before.difference(after).all(|pod| outside.contains(pod));
            let least = if forced { NEEDED } else { NEEDED + 1 };
            assert!(
                after.len() >= least,
                "{when}: {told:?} go, and leave {} shards of {before:?}",
                after.len()
            );
        }
    }

    async fn is_legal(&self, pod: &k8s_openapi::api::core::v1::Pod, when: &str) {
        let node = pod.spec.as_ref().unwrap().node_name.clone().unwrap();
        let node = self.world.nodes().get(&node).await.unwrap();
        let wrong = self.world.out_of_place().await.contains(&id(pod).unwrap());
        let cordoned = node.spec.as_ref().and_then(|spec| spec.unschedulable).unwrap_or(false);
        assert!(!wrong && is_ready(&node) && !cordoned, "{when}: {} on {node:?}", pod.name_any());
    }

    /// What was on a pod that is no member any more is gone with it.
    async fn forget_those_that_left(&self) {
        let status = self.world.sets().get("gold").await.unwrap().status.unwrap_or_default();
        let members: BTreeSet<u32> = status.members.iter().map(|member| member.ordinal).collect();
        let mut objects = self.world.objects.0.lock().unwrap();
        for object in objects.iter_mut() {
            object
                .iter_mut()
                .filter(|(pod, _)| !members.contains(&pod.ordinal))
                .for_each(|(_, there)| *there = false);
        }
    }

    /// The pods that stand where they may not and can be spared now.
    async fn spare_outside(&self) -> BTreeSet<PodId> {
        let (serving, mut outside) = (self.world.serving().await, self.world.out_of_place().await);
        // Everything can be read without them, so that it does not matter in which order they go.
        let readable = self.world.objects.readable(&serving);
        if readable.iter().any(|object| object.difference(&outside).count() < NEEDED) {
            return BTreeSet::new();
        }
        // On a node that does not report nobody can end it.
        let nodes = self.world.all_nodes().await;
        let pods = self.world.all_pods().await;
        let reports = |pod: &&k8s_openapi::api::core::v1::Pod| {
            pod.spec
                .as_ref()
                .and_then(|spec| spec.node_name.as_ref())
                .is_some_and(|node| is_ready(&nodes[node]))
        };
        let reporting: BTreeSet<PodId> = pods.iter().filter(reports).filter_map(id).collect();
        outside.retain(|id| reporting.contains(id));
        outside
    }

    /// `spare` could be spared when the turn began, before which faults struck.
    async fn nobody_stays_outside(&mut self, spare: &BTreeSet<PodId>, when: &str) {
        let mut still = BTreeMap::new();
        for id in self.spare_outside().await.intersection(spare) {
            let turns = self.outside.get(id).copied().unwrap_or(0) + 1;
            assert!(turns <= TURNS_OUTSIDE, "{when}: {id} stays outside for {turns} turns");
            still.insert(id.clone(), turns);
        }
        self.outside = still;
    }

    /// Everything is put right, and all becomes as it was wanted.
    async fn calm(&mut self, when: &str) {
        for n in 0..NODES {
            self.world.ready(n, true).await;
            self.world.drain(n, false).await;
            self.world.attest(n, Some(home(n))).await;
            self.world.disk(n, DISK).await;
        }
        self.others_leave().await;
        for _ in 0..300 {
            self.turn(when).await;
            if self.is_as_wanted().await && self.ruby_is_as_wanted().await {
                assert!(self.kept.is_empty(), "{when}: room is kept, and nobody waits");
                return;
            }
        }
        let status = self.world.sets().get("gold").await.unwrap().status;
        unreachable!("{when}: the fleet does not settle: {status:#?}");
    }

    async fn is_as_wanted(&self) -> bool {
        let takers = self.takers().await;
        let readable = self.world.objects.readable(&takers);
        let mut pods = self.world.all_pods().await;
        pods.retain(|pod| pod.name_any().starts_with("gold-"));
        let version = Some(vec![self.version.to_string()]);
        pods.len() == self.replicas
            && takers.len() == self.replicas
            && pods.iter().all(|pod| pod.spec.as_ref().unwrap().containers[0].args == version)
            && readable.iter().all(|object| object.len() == SHARDS)
    }
}

async fn storm(seed: u64, steps: u64) -> BTreeMap<&'static str, u64> {
    let mut storm = Storm::new(seed).await;
    if storm.priorities {
        let place = home(storm.chance.below(NODES));
        storm.ruby_comes(3, true, place).await;
    }
    for step in 0..steps {
        let when = format!("seed {seed}, step {step}");
        // It comes to a fleet at rest, in which data can move: less happens at first.
        if !storm.priorities || step >= RISES || step % 3 == 0 {
            storm.happen().await;
            storm.cut_off().await;
        }
        storm.turn(&when).await;
    }
    let when = format!("seed {seed}, after the storm");
    storm.calm(&when).await;
    storm.ledger_replays(&when).await;
    storm.counts
}

/// Whether a set of a higher priority takes part: in two of three seeds, so that a fleet in which nobody gives way is
/// tried as well; `COFFER_STORM_PRIORITIES=1` in all, `0` in none.
fn with_priorities(seed: u64) -> bool {
    match std::env::var_os("COFFER_STORM_PRIORITIES") {
        Some(wish) => wish == "1",
        None => seed % 3 < 2,
    }
}

/// `COFFER_STORM=SEEDS:STEPS` for longer ones; `FROM..TO:STEPS` for some seeds.
#[tokio::test(flavor = "multi_thread")]
async fn a_storm_through_the_api_breaks_no_budget_and_ends_as_it_was_wanted() {
    let wish = std::env::var_os("COFFER_STORM").map(|text| text.into_string().unwrap());
    let (seeds, steps) = match wish.as_deref().and_then(|text| text.split_once(':')) {
        Some((seeds, steps)) => {
            let (from, to) = seeds.split_once("..").unwrap_or(("0", seeds));
            (from.parse().unwrap()..to.parse().unwrap(), steps.parse().unwrap())
        }
        None => (0..3, 100),
    };
    let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in seeds.clone() {
        for (what, count) in storm(seed, steps).await {
            *sums.entry(what).or_default() += count;
        }
    }
    println!("{sums:?}");
    assert!(sums["bound"] > 20 && sums["told to end"] > 5, "{sums:?}");
    assert!(sums["cut off"] > 5, "{sums:?}");
    if seeds.clone().any(with_priorities) {
        assert!(sums["plans"] > 0 && sums["turns of sites that gave way"] > 0, "{sums:?}");
        // A single storm may have nobody in the way but sites.
        assert!(seeds.count() == 1 || sums["evicted"] > 0, "{sums:?}");
    } else {
        assert!(!sums.contains_key("plans") || sums["plans"] == 0, "nobody gives way unasked: {sums:?}");
    }
}
