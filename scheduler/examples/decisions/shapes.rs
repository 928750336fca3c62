//! Nodes, sets and neighbours of every shape, by chance under a seed.

use std::collections::BTreeSet;

use coffer_model::{FailureDomain, Tier};
use coffer_scheduler::{
    Affinity, Attestation, Cluster, Costs, Effect, Home, LABEL_SET, Neighbour, NeighbourName, Node, NodeName,
    NodeTerm, Operator, Pod, PodTerm, Preferred, Requirement, Residency, Resources, SiteSet, Space, Spread,
    Taint, Toleration, Topology, Traits,
};

use crate::COUNTRIES;

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): good enough to vary.
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn index(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).unwrap()
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    fn small(&mut self, end: u32) -> u32 {
        u32::try_from(self.below(u64::from(end))).unwrap()
    }
}

/// Node `n` as it is this time.
pub(crate) fn node(chance: &mut Chance, n: u64) -> Node {
    let country = match chance.one_in(12) {
        true => *chance.pick(&COUNTRIES),
        false => COUNTRIES[usize::try_from(n % 8).unwrap()],
    };
    let size = *chance.pick(&[1, 1, 2, 4]);
    let mut node = Node {
        name: format!("node-{n}").parse().unwrap(),
        total: Resources {
            cpu_millis: 8_000 * size,
            memory_bytes: (32 << 30) * size,
            disk_bytes: (2 << 40) * size,
            iops: 20_000 * size,
        },
        attested: (!chance.one_in(20)).then(|| Attestation {
            country: country.parse().unwrap(),
            domain: FailureDomain(format!("{country}-{}", n / 24)),
            tier: *chance.pick(&[Tier::II, Tier::III, Tier::III, Tier::IV]),
        }),
        labels: [("rack".to_owned(), format!("r{}", n % 5)), ("size".to_owned(), size.to_string())].into(),
        taints: BTreeSet::new(),
        cordoned: chance.one_in(15),
        ready: !chance.one_in(15),
    };
    if chance.one_in(2) {
        node.labels.insert("disk".to_owned(), "nvme".to_owned());
    }
    if chance.one_in(8) {
        let effect = *chance.pick(&[Effect::NoSchedule, Effect::NoExecute]);
        node.taints.insert(Taint { key: "old".to_owned(), value: String::new(), effect });
    }
    node
}

fn one_of(key: &str, values: &[&str]) -> Requirement {
    Requirement {
        key: key.to_owned(),
        is: Operator::In(values.iter().map(|one| (*one).to_owned()).collect()),
    }
}

fn on_nodes(chance: &mut Chance) -> NodeTerm {
    let all = [
        one_of("rack", &["r0", "r1", "r2"]),
        one_of("disk", &["nvme"]),
        Requirement { key: "size".to_owned(), is: Operator::Gt(1) },
        Requirement { key: "disk".to_owned(), is: Operator::DoesNotExist },
        one_of("topology.kubernetes.io/region", &["DE", "FR", "NL", "CH"]),
    ];
    NodeTerm { labels: vec![chance.pick(&all).clone()], names: Vec::new() }
}

fn on_pods(chance: &mut Chance) -> PodTerm {
    let topologies =
        [Topology::Node, Topology::Domain, Topology::Country, Topology::Label("rack".to_owned())];
    let selector = [
        one_of("app", &["db"]),
        one_of("app", &["web", "mail"]),
        Requirement { key: LABEL_SET.to_owned(), is: Operator::Exists },
        Requirement { key: "app".to_owned(), is: Operator::NotIn(["db".to_owned()].into()) },
    ];
    let spaces = [vec![Space::Fleet], vec![Space::Fleet, Space::Named("shop".to_owned())]];
    PodTerm {
        topology: chance.pick(&topologies).clone(),
        spaces: chance.pick(&spaces).iter().cloned().collect(),
        selector: vec![chance.pick(&selector).clone()],
    }
}

fn affinity(chance: &mut Chance) -> Affinity {
    let weight = |chance: &mut Chance| 1 + chance.small(100);
    let mut one = Affinity::default();
    if chance.one_in(3) {
        one.nodes = (0..=chance.below(2)).map(|_| on_nodes(chance)).collect();
    }
    if chance.one_in(2) {
        one.prefers_nodes = vec![Preferred { weight: weight(chance), term: on_nodes(chance) }];
    }
    if chance.one_in(6) {
        one.near = vec![on_pods(chance)];
    }
    if chance.one_in(3) {
        // On nodes or by racks, or whole countries would be closed to everybody.
        let narrow = [Topology::Node, Topology::Label("rack".to_owned())];
        one.apart = vec![PodTerm { topology: chance.pick(&narrow).clone(), ..on_pods(chance) }];
    }
    if chance.one_in(3) {
        one.prefers_near = vec![Preferred { weight: weight(chance), term: on_pods(chance) }];
    }
    if chance.one_in(3) {
        one.prefers_apart = vec![Preferred { weight: weight(chance), term: on_pods(chance) }];
    }
    one
}

/// Somebody else's pod.
pub(crate) fn neighbour(chance: &mut Chance, node: &NodeName) -> Neighbour {
    let space = if chance.one_in(2) { Space::Fleet } else { Space::Named("shop".to_owned()) };
    let app = *chance.pick(&["db", "web", "mail"]);
    let apart = PodTerm {
        topology: Topology::Node,
        spaces: [Space::Fleet].into(),
        selector: vec![one_of("app", &["web"])],
    };
    Neighbour {
        name: NeighbourName { space, name: format!("other-{}", chance.below(40)) },
        node: node.clone(),
        needs: Resources {
            cpu_millis: 500 * chance.below(6),
            disk_bytes: (256 << 30) * chance.below(5),
            ..Resources::default()
        },
        traits: Traits {
            labels: [("app".to_owned(), app.to_owned())].into(),
            apart: if chance.one_in(4) { vec![apart] } else { Vec::new() },
            priority: *chance.pick(&[-1, 0, 3, 200]),
        },
    }
}

fn needs(chance: &mut Chance) -> Resources {
    Resources {
        cpu_millis: 250 + 250 * chance.below(6),
        memory_bytes: (1 + chance.below(8)) << 30,
        disk_bytes: (64 << 30) * (1 + chance.below(16)),
        iops: 100 * (1 + chance.below(20)),
    }
}

/// A set that was never there before.
pub(crate) fn set(chance: &mut Chance, n: u64, cluster: &Cluster) -> SiteSet {
    let nodes: Vec<NodeName> = cluster.nodes().map(|(node, _)| node.name.clone()).collect();
    let like = Pod {
        priority: *chance.pick(&[0, 0, 5, 100]),
        affinity: chance.one_in(3).then(|| Box::new(affinity(chance))),
        ..Pod::plain(0, needs(chance))
    };
    let alike = chance.one_in(2);
    let pods = (0..1 + chance.small(9)).map(|ordinal| {
        let mut pod = Pod { ordinal, ..like.clone() };
        if !alike {
            pod.needs = needs(chance);
        }
        if chance.one_in(8) {
            pod.selector.insert("disk".to_owned(), "nvme".to_owned());
        }
        if chance.one_in(3) {
            pod.tolerations.push(Toleration { key: "old".to_owned(), value: None, effect: None });
        }
        if chance.one_in(2) {
            pod.labels.insert("app".to_owned(), (*chance.pick(&["db", "web"])).to_owned());
        }
        if chance.one_in(5) {
            // Where it was before anybody wrote a ledger.
            pod.home = Some(Home { node: chance.pick(&nodes).clone(), bytes: chance.below(1 << 40) });
        }
        pod
    });
    let pods = pods.collect();
    let allow: [&[&str]; 6] = [&[], &[], &["EU"], &["DE", "FR", "NL"], &["EEA", "CH"], &["US", "JP"]];
    let deny: [&[&str]; 5] = [&[], &[], &[], &["FR"], &["US"]];
    let parsed = |codes: &[&str]| codes.iter().map(|one| one.parse().unwrap()).collect();
    SiteSet {
        name: format!("set-{n}").parse().unwrap(),
        residency: Residency {
            allow: parsed(chance.pick::<&[&str]>(&allow)),
            deny: parsed(chance.pick::<&[&str]>(&deny)),
            tier_min: *chance.pick(&[Tier::I, Tier::II, Tier::III]),
        },
        spread: Spread {
            per_domain: 1 + chance.small(3),
            per_country: chance.one_in(3).then(|| 2 + chance.small(3)),
            country_skew: chance.one_in(3).then(|| 1 + chance.small(3)),
        },
        pods,
    }
}

/// The usual prices, or others.
pub(crate) fn costs(chance: &mut Chance) -> Costs {
    let usual = Costs::default();
    let all =
        [usual, usual, Costs { per_mille_full: 7, ..usual }, Costs { byte_moved: 1, per_mille_full: 0 }];
    *chance.pick(&all)
}
