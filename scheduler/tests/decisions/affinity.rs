//! Affinities as filters and as prices, one by one; all of them at random are in the placements and explanations.

use coffer_scheduler::{
    Affinity, Cluster, Constraint, Costs, NeighbourName, NodeTerm, Operator, PodTerm, Preferred, Repair,
    Resources, Runner, Space, Topology, Traits, decide, explain, may_run,
};

use crate::instance::{Chance, fullness, least_cost, node, pod, random, set};
use crate::wishes::{missed, neighbour, requirement, shunned_by};

fn one_of(values: &[&str]) -> Operator {
    Operator::In(values.iter().map(|value| (*value).to_owned()).collect())
}

fn pods(topology: Topology, app: &str) -> PodTerm {
    let selector = vec![requirement("app", one_of(&[app]))];
    PodTerm { topology, spaces: [Space::Fleet].into(), selector }
}

fn four_nodes() -> Cluster {
    let mut cluster = Cluster::new();
    for (name, country, domain) in [("a", "DE", "d"), ("b", "DE", "e"), ("c", "FR", "d"), ("d", "FR", "f")] {
        cluster.put_node(node(name, country, domain, 1000));
    }
    cluster
}

/// Somebody's pod with a label and a demand of its own.
fn put(cluster: &mut Cluster, at: &str, app: &str, apart: Vec<PodTerm>) {
    let mut one = neighbour(&mut Chance(1), 0, cluster.node(&at.parse().unwrap()).unwrap());
    one.name = NeighbourName { space: Space::Fleet, name: format!("{app}-{at}") };
    one.traits = Traits { labels: [("app".to_owned(), app.to_owned())].into(), apart, priority: 0 };
    cluster.put_neighbour(one).unwrap();
}

fn placed(cluster: &Cluster, affinity: Affinity) -> Option<String> {
    let mut one = pod(0, 10);
    one.affinity = Some(Box::new(affinity));
    let decision = decide(cluster, &set(vec![one]), &Costs::default()).ok()?;
    Some(decision.placed[0].node.to_string())
}

#[test]
fn a_domain_of_one_name_in_two_countries_is_two_places() {
    let mut cluster = four_nodes();
    put(&mut cluster, "c", "db", Vec::new());
    let near = Affinity { near: vec![pods(Topology::Domain, "db")], ..Affinity::default() };
    assert_eq!(placed(&cluster, near).as_deref(), Some("c"), "not a, whose domain is called alike");
    let apart = Affinity { apart: vec![pods(Topology::Country, "db")], ..Affinity::default() };
    assert_eq!(placed(&cluster, apart).as_deref(), Some("a"));
}

#[test]
fn a_node_that_labels_itself_into_another_place_is_not_believed() {
    let mut cluster = four_nodes();
    let mut forged = cluster.node(&"a".parse().unwrap()).unwrap().clone();
    forged.labels.insert("topology.kubernetes.io/region".to_owned(), "FR".to_owned());
    forged.labels.insert("topology.kubernetes.io/zone".to_owned(), "f".to_owned());
    cluster.put_node(forged);
    let in_france = NodeTerm {
        labels: vec![
            requirement("topology.kubernetes.io/region", one_of(&["FR"])),
            requirement("topology.kubernetes.io/zone", one_of(&["f"])),
        ],
        names: Vec::new(),
    };
    let affinity = Affinity { nodes: vec![in_france], ..Affinity::default() };
    assert_eq!(placed(&cluster, affinity).as_deref(), Some("d"));
    put(&mut cluster, "a", "db", Vec::new());
    let region = Topology::from("topology.kubernetes.io/region");
    let near = Affinity { near: vec![pods(region, "db")], ..Affinity::default() };
    assert!(matches!(placed(&cluster, near).as_deref(), Some("a" | "b")), "where it is attested to be");
}

#[test]
fn whoever_shuns_a_pod_keeps_it_away_though_the_pod_itself_wishes_nothing() {
    let mut cluster = four_nodes();
    let own = requirement("fleet.coffer/site-set", one_of(&["set"]));
    let shuns = PodTerm { topology: Topology::Country, spaces: [Space::Fleet].into(), selector: vec![own] };
    put(&mut cluster, "b", "db", vec![shuns]);
    let one = set(vec![pod(0, 10)]);
    let decision = decide(&cluster, &one, &Costs::default()).unwrap();
    assert_eq!((decision.placed[0].node.as_str(), decision.placed[0].legal), ("c", 2));
    let all = may_run(&cluster, &one, &one.pods[0], cluster.node(&"a".parse().unwrap()).unwrap());
    let name = NeighbourName { space: Space::Fleet, name: "db-b".to_owned() };
    assert_eq!(shunned_by(&all), [Runner::Neighbour(name.clone())].into());
    // Two cannot both be in France, whose domains take one each; moving the one away is cheaper than a node.
    let mut four = set((0..3).map(|n| pod(n, 10)).collect());
    four.spread.per_domain = 1;
    let why = explain(&cluster, &four, &Costs::default()).unwrap();
    assert_eq!(why.conflict, [Constraint::PodAntiAffinity].into());
    assert_eq!(why.repairs, [Repair::MoveAway(name.clone())]);
    cluster.remove_neighbour(&name);
    assert!(decide(&cluster, &four, &Costs::default()).is_ok());
}

#[test]
fn what_a_set_demands_of_its_nodes_is_waived_only_where_no_node_can_be_had() {
    let cluster = four_nodes();
    let mut one = pod(0, 10);
    let nowhere = NodeTerm { labels: Vec::new(), names: vec![one_of(&["elsewhere"])] };
    one.affinity = Some(Box::new(Affinity { nodes: vec![nowhere], ..Affinity::default() }));
    let why = explain(&cluster, &set(vec![one.clone()]), &Costs::default()).unwrap();
    assert_eq!(why.repairs, [Repair::Waive(Constraint::NodeAffinity)]);
    let fast = NodeTerm { labels: vec![requirement("disk", one_of(&["fast"]))], names: Vec::new() };
    one.affinity = Some(Box::new(Affinity { nodes: vec![fast], ..Affinity::default() }));
    let why = explain(&cluster, &set(vec![one]), &Costs::default()).unwrap();
    assert_eq!(why.conflict, [Constraint::NodeAffinity].into());
    assert!(matches!(why.repairs[..], [Repair::AddNode { .. }]), "{why:?}");
}

#[test]
fn a_wish_is_worth_its_weight_in_hundredths_of_a_full_node() {
    let mut cluster = four_nodes();
    let (id, full) = (
        coffer_scheduler::PodId { set: "elder".parse().unwrap(), ordinal: 0 },
        Resources { disk_bytes: 300, ..Resources::default() },
    );
    let there = "d".parse().unwrap();
    cluster.bind(id, full, &there).unwrap();
    let wish = |weight| {
        let term = NodeTerm { labels: Vec::new(), names: vec![one_of(&["d"])] };
        let prefers_nodes = vec![Preferred { weight, term }];
        placed(&cluster, Affinity { prefers_nodes, ..Affinity::default() })
    };
    assert_eq!(wish(28).as_deref(), Some("a"), "28.5 per cent fuller for a wish of 28");
    assert_eq!(wish(29).as_deref(), Some("d"));
}

#[test]
fn wishes_and_room_together_cost_no_more_than_the_cheapest_of_all_placements() {
    let costs = Costs { byte_moved: 3, per_mille_full: 1 };
    let (mut seen, mut with_wishes) = (0, 0);
    for seed in 0..1200 {
        let (cluster, set) = random(seed, 6, 4);
        let price = |pod: &coffer_scheduler::Pod, node: &coffer_scheduler::Node| {
            let wishes = 10 * missed(&cluster, &set, pod, node);
            3 * pod.moved_to(&node.name) + fullness(&cluster, pod, node) + wishes
        };
        let least = least_cost(&cluster, &set, &price);
        let decided = decide(&cluster, &set, &costs).ok();
        let paid = decided.map(|decision| {
            let prices = decision.placed.iter().map(|placed| placed.price.unwrap());
            with_wishes += prices.clone().filter(|price| price.wishes > 0).count();
            prices.map(|price| price.room + price.moving + price.wishes).sum::<u64>()
        });
        assert_eq!(paid, least, "seed {seed}: {set:?}");
        seen += usize::from(least.is_some());
    }
    assert!(seen > 200 && with_wishes > 50, "{seen} {with_wishes}");
}

#[test]
fn a_policy_with_affinities_has_another_digest() {
    let cluster = four_nodes();
    let digest = |affinity: Option<Affinity>| {
        let mut one = pod(0, 10);
        one.affinity = affinity.map(Box::new);
        decide(&cluster, &set(vec![one]), &Costs::default()).unwrap().policy
    };
    let apart = |app: &str| Affinity { apart: vec![pods(Topology::Node, app)], ..Affinity::default() };
    let all = [digest(None), digest(Some(apart("x"))), digest(Some(apart("y")))];
    assert_eq!(all.iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
}
