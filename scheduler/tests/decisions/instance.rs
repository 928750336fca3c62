//! Random clusters and sets from a seed, and a slow and obvious way to place
//! them: every assignment of pods to nodes, with rules of its own.

use std::collections::{BTreeMap, BTreeSet};

use coffer_model::{Country, FailureDomain, Jurisdiction, Tier};
use coffer_scheduler::{
    Attestation, Cluster, Effect, Home, Node, NodeName, Pod, PodId, Residency, Resources, SiteSet, Spread,
    Taint, Toleration, Traits,
};

use crate::wishes::{affinity, demands_met, label_node, populate};

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): good enough to vary tests.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(from.len() as u64)).unwrap()]
    }
}

pub(crate) const COUNTRIES: [&str; 4] = ["DE", "FR", "CH", "US"];

pub(crate) fn node(name: &str, country: &str, domain: &str, disk: u64) -> Node {
    Node {
        name: name.parse().unwrap(),
        total: Resources { cpu_millis: 4000, memory_bytes: 1 << 30, disk_bytes: disk, iops: 1000 },
        attested: Some(Attestation {
            country: country.parse().unwrap(),
            domain: FailureDomain(domain.to_owned()),
            tier: Tier::III,
        }),
        labels: BTreeMap::new(),
        taints: BTreeSet::new(),
        cordoned: false,
        ready: true,
    }
}

pub(crate) fn pod(ordinal: u32, disk: u64) -> Pod {
    let needs = Resources { cpu_millis: 100, memory_bytes: 1 << 20, disk_bytes: disk, iops: 10 };
    Pod::plain(ordinal, needs)
}

pub(crate) fn set(pods: Vec<Pod>) -> SiteSet {
    let residency = Residency { allow: Vec::new(), deny: Vec::new(), tier_min: Tier::I };
    SiteSet { name: "set".parse().unwrap(), residency, spread: Spread::default(), pods }
}

/// A cluster of up to `nodes` nodes and a set of up to `pods` pods, in which everything that can keep
/// a pod from a node occurs.
pub(crate) fn random(seed: u64, nodes: u64, pods: u64) -> (Cluster, SiteSet) {
    let mut chance = Chance(seed);
    let mut cluster = Cluster::new();
    let count = 1 + chance.below(nodes);
    for n in 0..count {
        let country = *chance.pick(&COUNTRIES);
        let domain = format!("{country}-{}", chance.below(3));
        let mut node = node(&format!("n{n}"), country, &domain, 100 + chance.below(100));
        node.cordoned = chance.one_in(8);
        node.ready = !chance.one_in(8);
        if chance.one_in(12) {
            node.attested = None;
        } else if let Some(attested) = &mut node.attested {
            attested.tier = *chance.pick(&[Tier::II, Tier::III, Tier::IV]);
        }
        if chance.one_in(3) {
            node.labels.insert("disk".to_owned(), "nvme".to_owned());
        }
        label_node(&mut chance, &mut node);
        if chance.one_in(6) {
            let effect = *chance.pick(&[Effect::NoSchedule, Effect::NoExecute]);
            node.taints.insert(Taint { key: "old".to_owned(), value: String::new(), effect });
        }
        cluster.put_node(node);
    }
    let count = 1 + chance.below(pods);
    let pods = (0..u32::try_from(count).unwrap()).map(|n| random_pod(&mut chance, n, &cluster)).collect();
    let mut set = set(pods);
    if chance.one_in(2) {
        let allow = [&["EU"][..], &["DE", "FR"], &["EEA", "CH"], &["US", "CH", "FR"]];
        set.residency.allow = chance.pick(&allow).iter().map(|one| one.parse().unwrap()).collect();
    }
    if chance.one_in(4) {
        let denied: Jurisdiction = chance.pick(&COUNTRIES).parse().unwrap();
        set.residency.deny.push(denied);
    }
    set.residency.tier_min = *chance.pick(&[Tier::I, Tier::II, Tier::III]);
    set.spread = Spread {
        per_domain: 1 + u32::from(chance.one_in(3)),
        per_country: chance.one_in(3).then(|| 1 + u32::from(chance.one_in(2))),
        country_skew: chance.one_in(3).then(|| 1 + u32::from(chance.one_in(3))),
    };
    // Half of the instances wish nothing, so that what there was before is tested as often.
    if chance.one_in(2) {
        populate(&mut chance, &mut cluster);
        let wanted = affinity(&mut chance);
        for pod in &mut set.pods {
            pod.affinity = wanted.clone().filter(|_| !chance.one_in(5));
            if chance.one_in(4) {
                pod.labels.insert("color".to_owned(), "red".to_owned());
            }
        }
    }
    bind_some(&mut chance, &mut cluster, &set);
    (cluster, set)
}

fn random_pod(chance: &mut Chance, ordinal: u32, cluster: &Cluster) -> Pod {
    let mut pod = pod(ordinal, 60 + chance.below(60));
    if chance.one_in(4) {
        pod.selector.insert("disk".to_owned(), "nvme".to_owned());
    }
    if chance.one_in(3) {
        pod.tolerations.push(Toleration { key: "old".to_owned(), value: None, effect: None });
    }
    let names: Vec<_> = cluster.nodes().map(|(node, _)| node.name.clone()).collect();
    if chance.one_in(2) {
        pod.home = Some(Home { node: chance.pick(&names).clone(), bytes: chance.below(1000) });
    }
    pod
}

/// Some pods run already, wherever there is room.
fn bind_some(chance: &mut Chance, cluster: &mut Cluster, set: &SiteSet) {
    for pod in &set.pods {
        let names: Vec<_> = cluster.nodes().map(|(node, _)| node.name.clone()).collect();
        if chance.one_in(5) {
            let _ = cluster.bind_as(set.id(pod), pod.needs, Traits::of(pod), chance.pick(&names));
        }
    }
}

/// Whether a node stands where pods of the set may; of one that nobody attests it is said.
pub(crate) fn stands_well(set: &SiteSet, node: &Node, unattested: bool) -> bool {
    let Some(attested) = &node.attested else { return unattested };
    let listed = |list: &[Jurisdiction]| list.iter().any(|one| one.contains(attested.country));
    (set.residency.allow.is_empty() || listed(&set.residency.allow))
        && !listed(&set.residency.deny)
        && attested.tier >= set.residency.tier_min
}

/// Whether a pod may run on a node, said once more.
fn allowed(cluster: &Cluster, set: &SiteSet, pod: &Pod, node: &Node, unattested: bool) -> bool {
    let free = cluster.free(&node.name);
    let tolerated = |taint: &Taint| pod.tolerations.iter().any(|toleration| toleration.covers(taint));
    node.ready
        && !node.cordoned
        && stands_well(set, node, unattested)
        && pod.selector.iter().all(|pair| node.labels.get_key_value(pair.0) == Some(pair))
        && node.taints.iter().all(tolerated)
        && free.cpu_millis >= pod.needs.cpu_millis
        && free.memory_bytes >= pod.needs.memory_bytes
        && free.disk_bytes >= pod.needs.disk_bytes
        && free.iops >= pod.needs.iops
        && demands_met(cluster, set, pod, node)
}

/// Thousandths of the scarcest resource once a pod runs on a node.
pub(crate) fn fullness(cluster: &Cluster, pod: &Pod, node: &Node) -> u64 {
    let (free, needs, all) = (cluster.free(&node.name), pod.needs, node.total);
    let of =
        |free: u64, needs: u64, all: u64| 1000 - ((free - needs) * 1000).checked_div(all).unwrap_or(1000);
    let kinds = [
        of(free.cpu_millis, needs.cpu_millis, all.cpu_millis),
        of(free.memory_bytes, needs.memory_bytes, all.memory_bytes),
        of(free.disk_bytes, needs.disk_bytes, all.disk_bytes),
        of(free.iops, needs.iops, all.iops),
    ];
    kinds.into_iter().max().unwrap()
}

/// Bytes that the best legal placement moves, by trying every one; `None` if there is none.
pub(crate) fn least_moved(cluster: &Cluster, set: &SiteSet) -> Option<u64> {
    least_cost(cluster, set, &|pod, node| pod.moved_to(&node.name))
}

/// What the cheapest legal placement costs.
pub(crate) fn least_cost(cluster: &Cluster, set: &SiteSet, cost: Price<'_>) -> Option<u64> {
    let (oracle, pods, mut chosen) = Oracle::of(cluster, set, false);
    Oracle { cost: Some(cost), ..oracle }.best(&pods, &mut chosen)
}

/// Whether there is any legal placement. Nodes that nobody attests are in no country, and fail alone; pods may be on
/// them only if that is said.
pub(crate) fn is_placeable(cluster: &Cluster, set: &SiteSet, unattested: bool) -> bool {
    let (oracle, pods, mut chosen) = Oracle::of(cluster, set, unattested);
    oracle.best(&pods, &mut chosen).is_some()
}

/// Whether the pods that run nowhere may run on these nodes, in the order of their numbers.
pub(crate) fn is_legal(cluster: &Cluster, set: &SiteSet, on: &[NodeName]) -> bool {
    let (oracle, pods, mut chosen) = Oracle::of(cluster, set, false);
    for (pod, name) in pods.iter().zip(on) {
        let node = cluster.node(name).unwrap();
        if chosen.iter().any(|other| other.name == *name) || !allowed(cluster, set, pod, node, false) {
            return false;
        }
        chosen.push(node);
    }
    pods.len() == on.len() && oracle.is_spread(&chosen)
}

/// What a pod costs on a node.
type Price<'a> = &'a dyn Fn(&Pod, &Node) -> u64;

struct Oracle<'a> {
    cluster: &'a Cluster,
    set: &'a SiteSet,
    unattested: bool,
    all: Vec<&'a Node>,
    /// Countries among which the skew counts.
    could: BTreeSet<Country>,
    before: usize,
    /// `None`: any placement will do.
    cost: Option<Price<'a>>,
}

impl<'a> Oracle<'a> {
    /// With the pods that run nowhere, and the nodes of the others.
    fn of(cluster: &'a Cluster, set: &'a SiteSet, unattested: bool) -> (Self, Vec<&'a Pod>, Vec<&'a Node>) {
        let all: Vec<&Node> = cluster.nodes().map(|(node, _)| node).collect();
        let mut chosen: Vec<&Node> = Vec::new();
        let (mut pods, mut could): (Vec<&Pod>, BTreeSet<Country>) = (Vec::new(), BTreeSet::new());
        for pod in &set.pods {
            match cluster.node_of(&set.id(pod)) {
                Some(node) => chosen.push(node),
                None => pods.push(pod),
            }
        }
        let taken: Vec<_> = chosen.iter().map(|node| node.name.clone()).collect();
        for node in &all {
            let fits = |pod: &&Pod| allowed(cluster, set, pod, node, unattested);
            let usable = !taken.contains(&node.name) && pods.iter().any(fits);
            if usable || taken.contains(&node.name) {
                could.extend(node.attested.as_ref().map(|attested| attested.country));
            }
        }
        let before = chosen.len();
        (Self { cluster, set, unattested, all, could, before, cost: None }, pods, chosen)
    }

    fn best(&self, pods: &[&Pod], chosen: &mut Vec<&'a Node>) -> Option<u64> {
        let Some((pod, rest)) = pods.split_first() else { return self.is_spread(chosen).then_some(0) };
        let mut best = None;
        for node in &self.all {
            if chosen.iter().any(|other| other.name == node.name)
                || !allowed(self.cluster, self.set, pod, node, self.unattested)
            {
                continue;
            }
            chosen.push(node);
            if let Some(moved) = self.best(rest, chosen) {
                let Some(cost) = self.cost else { return Some(0) };
                let own = cost(pod, node);
                best = Some(best.map_or(moved + own, |known: u64| known.min(moved + own)));
            }
            chosen.pop();
        }
        best
    }

    /// Bounds bind new pods; what runs already is not the placement's doing.
    fn is_spread(&self, chosen: &[&Node]) -> bool {
        let spread = self.set.spread;
        let new = &chosen[self.before..];
        let place = |node: &&Node| match &node.attested {
            Some(one) => (Some(one.country), one.domain.clone()),
            None => (None, FailureDomain(node.name.to_string())),
        };
        let in_domain = |node: &&Node| chosen.iter().filter(|other| place(other) == place(node)).count();
        let country = |node: &&Node| node.attested.as_ref().map(|one| one.country);
        let in_country = |of: Country| chosen.iter().filter(|node| country(node) == Some(of)).count();
        let within = |bound: Option<u32>, count: usize| bound.is_none_or(|most| count <= most as usize);
        let fewest = self.could.iter().map(|one| in_country(*one)).min().unwrap_or(0);
        new.iter().all(|node| in_domain(node) <= spread.per_domain as usize)
            && new.iter().filter_map(country).all(|country| {
                within(spread.per_country, in_country(country))
                    && within(spread.country_skew, in_country(country) - fewest)
            })
    }
}

/// Binds what was decided.
pub(crate) fn bind(cluster: &mut Cluster, set: &SiteSet, decision: &coffer_scheduler::Decision) {
    for placed in &decision.placed {
        let pod = set.pods.iter().find(|pod| pod.ordinal == placed.ordinal).unwrap();
        let id = PodId { set: set.name.clone(), ordinal: placed.ordinal };
        cluster.bind(id, pod.needs, &placed.node).unwrap();
    }
}
