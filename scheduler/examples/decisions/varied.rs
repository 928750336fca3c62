//! A fleet under way in which no two decisions are alike: nodes come, change and go, and there are many of them or
//! few; sets differ in size, needs, residency, spread, affinities, priority and prices; pods return to their disks,
//! or move where those are not to be had; whoever fits nowhere has others give way.

use std::collections::{BTreeMap, BTreeSet};

use coffer_scheduler::{Cluster, Home, Ledger, Line, Neighbour, NodeName, PodId, Runner, SiteSet, Yielding};

use crate::shapes::{Chance, costs, neighbour, node, set};

/// How many nodes there are, one after the other: each for a tenth of the decisions.
const SIZES: [u64; 10] = [60, 12, 150, 25, 90, 8, 200, 40, 15, 110];

/// What a ledger has.
pub(crate) type Counts = BTreeMap<&'static str, u64>;

struct Fleet<'a> {
    ledger: Ledger,
    chance: Chance,
    running: Vec<SiteSet>,
    next: u64,
    counts: Counts,
    written: &'a mut dyn FnMut(String),
}

/// Writes a ledger with so many decisions that placed pods; its end, and what is in it.
pub(crate) fn write(decisions: u64, written: &mut dyn FnMut(String)) -> (String, Counts) {
    let (ledger, chance) = (Ledger::new(), Chance(decisions));
    let mut fleet = Fleet { ledger, chance, running: Vec::new(), next: 0, counts: Counts::new(), written };
    while fleet.count("placed") < decisions {
        let size = SIZES[usize::try_from(fleet.count("placed") * 10 / decisions).unwrap()];
        fleet.resize(size);
        for _ in 0..fleet.chance.below(3) {
            fleet.happen();
        }
        if fleet.chance.one_in(3) && !fleet.running.is_empty() {
            fleet.replace_a_pod();
        } else {
            let wanted = set(&mut fleet.chance, fleet.next, fleet.ledger.cluster());
            fleet.next += 1;
            fleet.decide(wanted);
        }
        while fleet.running.len() as u64 > size / 3 {
            fleet.end_a_set();
        }
    }
    (fleet.ledger.end(), fleet.counts)
}

impl Fleet<'_> {
    fn count(&self, what: &'static str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    fn note(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    fn change(&mut self, what: Line) {
        let line = self.ledger.change(what).unwrap();
        (self.written)(line);
    }

    fn names(&self) -> Vec<NodeName> {
        self.ledger.cluster().nodes().map(|(node, _)| node.name.clone()).collect()
    }

    /// So many nodes, and not one more.
    fn resize(&mut self, size: u64) {
        let mut names = self.names();
        for n in (0..size).filter(|_| (names.len() as u64) < size) {
            let node = node(&mut self.chance, n);
            if !names.contains(&node.name) {
                self.change(Line::Node(Box::new(node)));
            }
        }
        while names.len() as u64 > size {
            let gone = names.remove(self.chance.index(names.len()));
            self.change(Line::NodeGone(gone));
        }
        self.forget_sets_that_run_nowhere();
    }

    fn forget_sets_that_run_nowhere(&mut self) {
        let cluster = self.ledger.cluster();
        let runs = |set: &SiteSet| set.pods.iter().any(|pod| cluster.node_of(&set.id(pod)).is_some());
        self.running.retain(runs);
    }

    /// Something changes that a decision has to mind.
    fn happen(&mut self) {
        let names = self.names();
        let at = self.chance.pick(&names).clone();
        match self.chance.below(6) {
            0 | 1 => {
                let n = at.as_str()[5..].parse().unwrap();
                let node = node(&mut self.chance, n);
                self.change(Line::Node(Box::new(node)));
            }
            2 => {
                let one = neighbour(&mut self.chance, &at);
                self.change(Line::Neighbour(Box::new(one)));
            }
            3 => {
                let others: Vec<Neighbour> = self.ledger.cluster().neighbours_on(&at).cloned().collect();
                others.into_iter().for_each(|one| self.change(Line::NeighbourGone(one.name)));
            }
            4 => self.relabel_a_pod(),
            _ if self.running.len() > 1 => self.end_a_set(),
            _ => {}
        }
    }

    /// A pod that runs gets other labels than it was placed with.
    fn relabel_a_pod(&mut self) {
        let bound = bound(self.ledger.cluster());
        if let Some(pod) = bound.keys().nth(self.chance.index(bound.len().max(1))) {
            let mut traits = self.ledger.cluster().traits(pod).unwrap().clone();
            let app = *self.chance.pick(&["db", "web", "mail"]);
            traits.labels.insert("app".to_owned(), app.to_owned());
            self.change(Line::Traits { pod: pod.clone(), traits });
        }
    }

    /// A pod of a set ends, and returns to its disk if that may be had.
    fn replace_a_pod(&mut self) {
        let mut wanted = self.running.swap_remove(self.chance.index(self.running.len()));
        let bound = bound(self.ledger.cluster());
        let ends = self.chance.index(wanted.pods.len());
        let name = wanted.name.clone();
        for (number, pod) in wanted.pods.iter_mut().enumerate() {
            let id = PodId { set: name.clone(), ordinal: pod.ordinal };
            if let Some(node) = bound.get(&id).filter(|_| number == ends) {
                pod.home = Some(Home { node: node.clone(), bytes: 1 + self.chance.below(1 << 40) });
                self.change(Line::Released(id));
            }
        }
        self.decide(wanted);
    }

    fn end_a_set(&mut self) {
        let gone = self.running.remove(0);
        let bound = bound(self.ledger.cluster());
        let pods = gone.pods.iter().map(|pod| gone.id(pod)).filter(|id| bound.contains_key(id));
        pods.for_each(|id| self.change(Line::Released(id)));
    }

    fn decide(&mut self, wanted: SiteSet) {
        let costs = costs(&mut self.chance);
        let (decision, line) = self.ledger.decide(wanted.clone(), costs).unwrap();
        (self.written)(line);
        if let Some(decision) = decision {
            // One over a set that runs whole says nothing.
            self.note(if decision.placed.is_empty() { "placed nothing" } else { "placed" });
            self.running.push(wanted);
        } else {
            self.note("not placed");
            self.give_way(wanted);
        }
    }

    /// Others give way to a set that fits nowhere, and it is decided over once more; or they do not.
    fn give_way(&mut self, wanted: SiteSet) {
        let lower = |id: &&PodId| self.ledger.cluster().traits(id).is_some_and(|one| one.priority < 5);
        let bound = bound(self.ledger.cluster());
        let sites = bound.keys().filter(lower).filter(|id| id.set != wanted.name);
        let yielding =
            Yielding { sites: sites.take(12).map(|id| (id.clone(), 0)).collect(), ..Yielding::default() };
        let costs = costs(&mut self.chance);
        let Some((preemption, line)) = self.ledger.preempt(&wanted, &costs, yielding).unwrap() else {
            return self.give_up(wanted);
        };
        (self.written)(line);
        self.note("gave way");
        if self.chance.one_in(3) {
            self.change(Line::Unclaimed(wanted.name.clone()));
            return self.give_up(wanted);
        }
        for victim in preemption.victims {
            match victim.runner {
                Runner::Pod(id) => self.change(Line::Released(id)),
                Runner::Neighbour(name) => self.change(Line::NeighbourGone(name)),
            }
        }
        let (decision, line) = self.ledger.decide(wanted.clone(), costs).unwrap();
        (self.written)(line);
        assert!(decision.is_some(), "others gave way to {} in vain", wanted.name);
        self.note("placed");
        self.running.push(wanted);
    }

    /// What ran of it ends.
    fn give_up(&mut self, wanted: SiteSet) {
        let bound = bound(self.ledger.cluster());
        let runs = wanted.pods.iter().map(|pod| wanted.id(pod)).filter(|id| bound.contains_key(id));
        runs.for_each(|id| self.change(Line::Released(id)));
    }
}

fn bound(cluster: &Cluster) -> BTreeMap<PodId, NodeName> {
    cluster.bound().map(|(pod, node)| (pod.clone(), node.clone())).collect()
}

/// What is in a ledger, in a line.
pub(crate) fn said(counts: &Counts) -> String {
    let all: BTreeSet<String> = counts.iter().map(|(what, count)| format!("{count} {what}")).collect();
    all.into_iter().collect::<Vec<_>>().join(", ")
}
