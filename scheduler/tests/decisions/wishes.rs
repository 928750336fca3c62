//! Random affinities, and what they mean, said once more: over lists of everything that runs, pod by pod.

use std::collections::{BTreeMap, BTreeSet};

use coffer_scheduler::{
    Affinity, Cluster, Neighbour, NeighbourName, Node, NodeTerm, Operator, Pod, PodId, PodTerm, Preferred,
    Requirement, Resources, Runner, SiteSet, Space, Topology, Traits,
};

use crate::instance::Chance;

fn texts(values: &[&str]) -> BTreeSet<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

pub(crate) fn requirement(key: &str, is: Operator) -> Requirement {
    Requirement { key: key.to_owned(), is }
}

/// Labels that nodes give themselves, a forged one among them.
pub(crate) fn label_node(chance: &mut Chance, node: &mut Node) {
    if !chance.one_in(4) {
        node.labels.insert("rack".to_owned(), format!("r{}", chance.below(3)));
    }
    if !chance.one_in(4) {
        node.labels.insert("size".to_owned(), chance.pick(&["1", "2", "3", "big"]).to_string());
    }
    if chance.one_in(6) {
        node.labels.insert("topology.kubernetes.io/region".to_owned(), "DE".to_owned());
    }
}

fn on_nodes(chance: &mut Chance) -> NodeTerm {
    let all = [
        requirement("rack", Operator::In(texts(&["r0", "r1"]))),
        requirement("rack", Operator::NotIn(texts(&["r2"]))),
        requirement("rack", Operator::Exists),
        requirement("size", Operator::DoesNotExist),
        requirement("size", Operator::Gt(1)),
        requirement("size", Operator::Lt(3)),
        requirement("topology.kubernetes.io/region", Operator::In(texts(&["DE", "CH"]))),
        requirement("topology.kubernetes.io/zone", Operator::NotIn(texts(&["DE-0", "FR-1"]))),
    ];
    let mut term = NodeTerm { labels: vec![chance.pick(&all).clone()], names: Vec::new() };
    if chance.one_in(3) {
        term.labels.push(chance.pick(&all).clone());
    }
    if chance.one_in(5) {
        term.names.push(Operator::NotIn(texts(&["n0", "n2"])));
    }
    term
}

fn topology(chance: &mut Chance) -> Topology {
    let all =
        [Topology::Node, Topology::Node, Topology::Domain, Topology::Country, Topology::Label("rack".into())];
    chance.pick(&all).clone()
}

/// Some of those that run elsewhere.
fn on_pods(chance: &mut Chance) -> PodTerm {
    let selector = [
        vec![requirement("app", Operator::In(texts(&["db"])))],
        vec![requirement("app", Operator::Exists)],
        vec![requirement("app", Operator::NotIn(texts(&["web"]))), requirement("app", Operator::Exists)],
    ];
    let spaces = [
        vec![Space::Fleet],
        vec![Space::Named("shop".into())],
        vec![Space::Fleet, Space::Named("shop".into())],
    ];
    let (selector, spaces) = (chance.pick(&selector).clone(), chance.pick(&spaces).clone());
    PodTerm { topology: topology(chance), spaces: spaces.into_iter().collect(), selector }
}

/// Whom somebody else does not want near.
fn shuns(chance: &mut Chance) -> PodTerm {
    let selector = [
        vec![requirement("fleet.coffer/site-set", Operator::In(texts(&["set"])))],
        vec![requirement("fleet.coffer/ordinal", Operator::In(texts(&["0", "2"])))],
        vec![requirement("color", Operator::In(texts(&["red"])))],
        vec![requirement("app", Operator::Exists)],
    ];
    let selector = chance.pick(&selector).clone();
    PodTerm { topology: topology(chance), spaces: [Space::Fleet].into(), selector }
}

pub(crate) fn affinity(chance: &mut Chance) -> Option<Box<Affinity>> {
    let mut one = Affinity::default();
    let weight = |chance: &mut Chance| 1 + u32::try_from(chance.below(100)).unwrap();
    if chance.one_in(3) {
        one.nodes = (0..=chance.below(2)).map(|_| on_nodes(chance)).collect();
    }
    if chance.one_in(3) {
        one.prefers_nodes = vec![Preferred { weight: weight(chance), term: on_nodes(chance) }];
    }
    if chance.one_in(5) {
        one.near = vec![on_pods(chance)];
    }
    if chance.one_in(3) {
        one.apart = vec![on_pods(chance)];
    }
    if chance.one_in(3) {
        one.prefers_near = vec![Preferred { weight: weight(chance), term: on_pods(chance) }];
    }
    if chance.one_in(3) {
        one.prefers_apart = vec![Preferred { weight: weight(chance), term: on_pods(chance) }];
    }
    (one != Affinity::default()).then(|| Box::new(one))
}

/// Somebody else's pod.
pub(crate) fn neighbour(chance: &mut Chance, n: u64, node: &Node) -> Neighbour {
    let space = if chance.one_in(2) { Space::Fleet } else { Space::Named("shop".to_owned()) };
    Neighbour {
        name: NeighbourName { space, name: format!("other-{n}") },
        node: node.name.clone(),
        needs: Resources { cpu_millis: 10, disk_bytes: chance.below(40), ..Resources::default() },
        traits: traits(chance),
    }
}

fn traits(chance: &mut Chance) -> Traits {
    let labels = [("app".to_owned(), chance.pick(&["db", "web"]).to_string())].into();
    let apart = if chance.one_in(3) { vec![shuns(chance)] } else { Vec::new() };
    Traits { labels, apart, priority: 0 }
}

/// Pods of another set and of others, here and there.
pub(crate) fn populate(chance: &mut Chance, cluster: &mut Cluster) {
    let nodes: Vec<Node> = cluster.nodes().map(|(node, _)| node.clone()).collect();
    for n in 0..chance.below(4) {
        let node = chance.pick(&nodes).clone();
        let one = neighbour(chance, n, &node);
        cluster.put_neighbour(one).unwrap();
    }
    for ordinal in 0..u32::try_from(chance.below(3)).unwrap() {
        let id = PodId { set: "elder".parse().unwrap(), ordinal };
        let needs = Resources { disk_bytes: chance.below(30), ..Resources::default() };
        let (traits, node) = (traits(chance), chance.pick(&nodes).name.clone());
        let _ = cluster.bind_as(id, needs, traits, &node);
    }
}

/// Everything that runs and is none of the set's: its namespace, its labels, whom it shuns, its node.
struct Runs<'a> {
    space: Space,
    labels: BTreeMap<String, String>,
    traits: &'a Traits,
    node: &'a Node,
}

fn labels_of(id: &PodId, more: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut labels = more.clone();
    labels.insert("fleet.coffer/site-set".into(), id.set.to_string());
    labels.insert("fleet.coffer/ordinal".into(), id.ordinal.to_string());
    labels.insert("fleet.coffer/site".into(), id.to_string());
    labels
}

fn everybody<'a>(cluster: &'a Cluster, set: &SiteSet) -> Vec<Runs<'a>> {
    let mut all = Vec::new();
    for (id, _) in cluster.bound().filter(|(id, _)| id.set != set.name) {
        let (traits, node) = (cluster.traits(id).unwrap(), cluster.node_of(id).unwrap());
        all.push(Runs { space: Space::Fleet, labels: labels_of(id, &traits.labels), traits, node });
    }
    for (node, _) in cluster.nodes() {
        for one in cluster.neighbours_on(&node.name) {
            let labels = one.traits.labels.clone();
            all.push(Runs { space: one.name.space.clone(), labels, traits: &one.traits, node });
        }
    }
    all
}

fn holds(is: &Operator, value: Option<&String>) -> bool {
    match (is, value) {
        (Operator::In(list), Some(value)) => list.contains(value),
        (Operator::NotIn(list), Some(value)) => !list.contains(value),
        (Operator::Exists, Some(_)) | (Operator::DoesNotExist | Operator::NotIn(_), None) => true,
        (Operator::Gt(bound), Some(value)) => value.parse::<i64>().is_ok_and(|number| number > *bound),
        (Operator::Lt(bound), Some(value)) => value.parse::<i64>().is_ok_and(|number| number < *bound),
        _ => false,
    }
}

fn means(term: &PodTerm, space: &Space, labels: &BTreeMap<String, String>) -> bool {
    term.spaces.contains(space) && term.selector.iter().all(|one| holds(&one.is, labels.get(&one.key)))
}

fn same_place(topology: &Topology, a: &Node, b: &Node) -> bool {
    let both = |of: fn(&coffer_scheduler::Attestation) -> String| match (&a.attested, &b.attested) {
        (Some(a), Some(b)) => of(a) == of(b),
        _ => false,
    };
    match topology {
        Topology::Node => a.name == b.name,
        Topology::Country => both(|one| one.country.to_string()),
        Topology::Domain => both(|one| format!("{} {}", one.country, one.domain.0)),
        Topology::Label(key) => a.labels.contains_key(key) && a.labels.get(key) == b.labels.get(key),
    }
}

fn fits(term: &NodeTerm, node: &Node) -> bool {
    let value = |key: &str| match key {
        "topology.kubernetes.io/region" => node.attested.as_ref().map(|one| one.country.to_string()),
        "topology.kubernetes.io/zone" => node.attested.as_ref().map(|one| one.domain.0.clone()),
        key => node.labels.get(key).cloned(),
    };
    term.labels.iter().all(|one| holds(&one.is, value(&one.key).as_ref()))
        && term.names.iter().all(|is| holds(is, Some(&node.name.to_string())))
}

/// Whether everything that a pod and those around it demand lets it run on a node.
pub(crate) fn demands_met(cluster: &Cluster, set: &SiteSet, pod: &Pod, node: &Node) -> bool {
    let all = everybody(cluster, set);
    let own = labels_of(&set.id(pod), &pod.labels);
    let shunned = all.iter().any(|other| {
        let mut terms = other.traits.apart.iter();
        terms.any(|term| means(term, &Space::Fleet, &own) && same_place(&term.topology, node, other.node))
    });
    let Some(affinity) = &pod.affinity else { return !shunned };
    let is_there = |term: &PodTerm| {
        let mut others = all.iter().filter(|other| means(term, &other.space, &other.labels));
        others.any(|other| same_place(&term.topology, node, other.node))
    };
    !shunned
        && (affinity.nodes.is_empty() || affinity.nodes.iter().any(|term| fits(term, node)))
        && affinity.near.iter().all(is_there)
        && !affinity.apart.iter().any(is_there)
}

/// Weights of the wishes that a node does not fulfil.
pub(crate) fn missed(cluster: &Cluster, set: &SiteSet, pod: &Pod, node: &Node) -> u64 {
    let Some(affinity) = &pod.affinity else { return 0 };
    let all = everybody(cluster, set);
    let is_there = |term: &PodTerm| {
        let mut others = all.iter().filter(|other| means(term, &other.space, &other.labels));
        others.any(|other| same_place(&term.topology, node, other.node))
    };
    let nodes = affinity.prefers_nodes.iter().filter(|one| !fits(&one.term, node)).map(|one| one.weight);
    let near = affinity.prefers_near.iter().filter(|one| !is_there(&one.term)).map(|one| one.weight);
    let apart = affinity.prefers_apart.iter().filter(|one| is_there(&one.term)).map(|one| one.weight);
    nodes.chain(near).chain(apart).map(u64::from).sum()
}

/// Whether somebody else wants a pod of the set not near.
pub(crate) fn shuns_set(one: &Neighbour, set: &SiteSet) -> bool {
    let mut pods = set.pods.iter().map(|pod| labels_of(&set.id(pod), &pod.labels));
    pods.any(|labels| one.traits.apart.iter().any(|term| means(term, &Space::Fleet, &labels)))
}

/// The same without anybody who shuns another.
pub(crate) fn without_shunning(cluster: &mut Cluster) {
    let bound: Vec<PodId> = cluster.bound().map(|(id, _)| id.clone()).collect();
    for id in bound {
        let traits = cluster.traits(&id).unwrap().clone();
        cluster.set_traits(&id, Traits { apart: Vec::new(), ..traits }).unwrap();
    }
    let nodes: Vec<_> = cluster.nodes().map(|(node, _)| node.name.clone()).collect();
    for node in nodes {
        let all: Vec<Neighbour> = cluster.neighbours_on(&node).cloned().collect();
        for mut one in all {
            one.traits.apart.clear();
            cluster.put_neighbour(one).unwrap();
        }
    }
}

/// Whether a pod of a set shuns others: nobody is advised to take that away.
pub(crate) fn a_set_shuns(cluster: &Cluster) -> bool {
    cluster.bound().any(|(id, _)| !cluster.traits(id).unwrap().apart.is_empty())
}

/// What keeps away whom others shun, by name.
pub(crate) fn shunned_by(all: &[coffer_scheduler::Obstacle]) -> BTreeSet<Runner> {
    let by = all.iter().filter_map(|one| match one {
        coffer_scheduler::Obstacle::Shunned(by) => Some(by.clone()),
        _ => None,
    });
    by.collect()
}
