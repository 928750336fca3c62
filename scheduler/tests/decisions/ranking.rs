//! Decisions from kept rankings, against decisions that look at every node: a
//! ledger ranks nodes while it is made, and its replay looks at all of them.

use std::collections::BTreeSet;

use coffer_model::{FailureDomain, Tier};
use coffer_scheduler::{
    Affinity, Attestation, Costs, Effect, Ledger, Line, NodeName, Operator, Pod, PodId, PodTerm, SiteSet,
    Space, Taint, Toleration, Topology,
};

use crate::instance::{COUNTRIES, Chance, node, pod, set};
use crate::wishes::{affinity, label_node, neighbour, requirement};

struct World {
    ledger: Ledger,
    lines: Vec<String>,
    chance: Chance,
    running: Vec<(SiteSet, Vec<PodId>)>,
    placed: usize,
    /// Pods keep off the nodes of others of their colour.
    keeps_off: bool,
}

impl World {
    fn change(&mut self, what: Line) {
        self.lines.extend(self.ledger.change(what));
    }

    fn name(&mut self) -> NodeName {
        format!("n{}", self.chance.below(40)).parse().unwrap()
    }

    /// A node comes, changes in any of the ways that matter, or goes.
    fn touch_a_node(&mut self) {
        let name = self.name();
        if self.chance.one_in(12) {
            return self.change(Line::NodeGone(name));
        }
        let country = *self.chance.pick(&COUNTRIES);
        let domain = format!("d{}", self.chance.below(12));
        let mut node = node(name.as_str(), country, &domain, 300 + 100 * self.chance.below(4));
        node.cordoned = self.chance.one_in(10);
        node.ready = !self.chance.one_in(10);
        if self.chance.one_in(10) {
            node.attested = None;
        } else if self.chance.one_in(4) {
            let domain = FailureDomain(domain);
            node.attested = Some(Attestation { country: country.parse().unwrap(), domain, tier: Tier::II });
        }
        if self.chance.one_in(3) {
            node.labels.insert("disk".to_owned(), "nvme".to_owned());
        }
        label_node(&mut self.chance, &mut node);
        if self.chance.one_in(6) {
            let taint = Taint { key: "old".to_owned(), value: String::new(), effect: Effect::NoSchedule };
            node.taints.insert(taint);
        }
        self.change(Line::Node(Box::new(node)));
    }

    /// A pod of somebody else comes, changes or goes; now and then one that shuns ours.
    fn touch_a_neighbour(&mut self) {
        let nodes: Vec<_> = self.ledger.cluster().nodes().map(|(node, _)| node.clone()).collect();
        let n = self.chance.below(6);
        if nodes.is_empty() {
            return;
        }
        let node = self.chance.pick(&nodes).clone();
        let one = neighbour(&mut self.chance, n, &node);
        if self.chance.one_in(3) {
            return self.change(Line::NeighbourGone(one.name));
        }
        self.change(Line::Neighbour(Box::new(one)));
    }

    /// Few shapes, so that most decisions find a ranking; some sets have two.
    fn a_set(&mut self, n: u64) -> SiteSet {
        let shape = |chance: &mut Chance, ordinal: u32| -> Pod {
            let mut pod = pod(ordinal, 20 + 20 * chance.below(2));
            if chance.one_in(3) {
                pod.tolerations.push(Toleration { key: "old".to_owned(), value: None, effect: None });
            }
            if chance.one_in(4) {
                pod.affinity = affinity(chance);
            }
            if chance.one_in(5) {
                pod.selector.insert("disk".to_owned(), "nvme".to_owned());
            }
            pod
        };
        let mut chance = Chance(self.chance.below(5));
        let pods = 1 + u32::try_from(self.chance.below(5)).unwrap();
        let mut made = set((0..pods).map(|ordinal| shape(&mut chance, ordinal)).collect());
        if self.keeps_off {
            let colour = *self.chance.pick(&["db", "web"]);
            made.pods.iter_mut().for_each(|pod| keep_off(pod, colour));
        }
        made.name = format!("set-{n}").parse().unwrap();
        if self.chance.one_in(2) {
            made.residency.allow = vec!["EU".parse().unwrap()];
            made.residency.tier_min = Tier::III;
        }
        made.spread.per_domain = 1 + u32::from(self.chance.one_in(3));
        made.spread.country_skew = self.chance.one_in(2).then_some(2);
        made
    }

    fn decide(&mut self, wanted: SiteSet) {
        let (decision, line) = self.ledger.decide(wanted.clone(), Costs::default()).unwrap();
        self.lines.push(line);
        if decision.is_some() {
            self.placed += 1;
            let pods = wanted.pods.iter().map(|pod| wanted.id(pod)).collect();
            self.running.push((wanted, pods));
        }
    }

    /// One pod of a set ends, and the set is decided over again: its other nodes are taken.
    fn replace_a_pod(&mut self) {
        if self.running.is_empty() {
            return;
        }
        let at = usize::try_from(self.chance.below(self.running.len() as u64)).unwrap();
        let (wanted, pods) = self.running.swap_remove(at);
        let bound: BTreeSet<PodId> = self.ledger.cluster().bound().map(|(pod, _)| pod.clone()).collect();
        for pod in pods.iter().filter(|pod| bound.contains(pod)).take(1) {
            self.change(Line::Released(pod.clone()));
        }
        self.decide(wanted);
    }

    /// A whole set ends.
    fn end_a_set(&mut self) {
        let bound: BTreeSet<PodId> = self.ledger.cluster().bound().map(|(pod, _)| pod.clone()).collect();
        let (_, pods) = self.running.remove(0);
        pods.into_iter().filter(|pod| bound.contains(pod)).for_each(|pod| self.change(Line::Released(pod)));
    }
}

/// Its pods are of one colour, and near none of that colour who are not of the set, as far as a node is near; what they
/// wish of nodes stays.
fn keep_off(pod: &mut Pod, colour: &str) {
    let colours = [colour.to_owned()].into();
    let selector = vec![requirement("app", Operator::In(colours))];
    let spaces = [Space::Fleet, Space::Named("shop".to_owned())].into();
    let known = pod.affinity.take().unwrap_or_default();
    pod.labels.insert("app".to_owned(), colour.to_owned());
    pod.affinity = Some(Box::new(Affinity {
        nodes: known.nodes,
        prefers_nodes: known.prefers_nodes,
        apart: vec![PodTerm { topology: Topology::Node, spaces, selector }],
        ..Affinity::default()
    }));
}

#[test]
fn a_ranking_leads_to_the_decisions_that_a_look_at_every_node_leads_to() {
    ranks_as_a_look_at_every_node(false);
}

#[test]
fn pods_that_keep_off_the_nodes_of_others_are_ranked_as_a_look_at_every_node_finds() {
    ranks_as_a_look_at_every_node(true);
}

fn ranks_as_a_look_at_every_node(keeps_off: bool) {
    let mut placed = 0;
    for seed in 0..12 {
        let (ledger, chance) = (Ledger::new(), Chance(seed));
        let (lines, running) = (Vec::new(), Vec::new());
        let mut world = World { ledger, lines, chance, running, placed: 0, keeps_off };
        for n in 0..400 {
            match world.chance.below(6) {
                0 | 1 => world.touch_a_node(),
                5 => world.touch_a_neighbour(),
                2 => world.replace_a_pod(),
                _ => {
                    let wanted = world.a_set(n);
                    world.decide(wanted);
                }
            }
            if world.running.len() > 12 {
                world.end_a_set();
            }
        }
        let again = Ledger::replay(world.lines.iter().map(String::as_str), Some(&world.ledger.end()));
        assert!(again.unwrap().cluster().bound().eq(world.ledger.cluster().bound()), "seed {seed}");
        placed += world.placed;
    }
    assert!(placed > 600, "{placed}");
}
