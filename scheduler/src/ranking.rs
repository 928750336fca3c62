//! What the nodes cost for pods of one shape, kept up to date while nodes and
//! pods come and go: a decision looks at those that it can need, and not at
//! every node again. Every legal node is ranked, none is sampled; the answer is
//! that of looking at all of them, which a replay of the ledger does. Pods that keep off the nodes of others are ranked
//! as if these were not there, and the nodes are left out when it is read. Shapes that mind otherwise which pods run around
//! are not ranked: each binding would change what many nodes are to them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use coffer_model::{Country, FailureDomain};

use crate::assign::{Candidate, Place};
use crate::feasible::{Legal, NAMED_MAX, Names};
use crate::filter::obstacles;
use crate::{Affinity, Costs, Node, NodeName, Pod, Residency, Resources};

/// Shapes that are ranked at a time: each costs a step for every change of a node.
const KEPT_MAX: usize = 6;
/// Shapes that are remembered: one is ranked when it comes for the second time, so that many that
/// come in turn do not push each other out with a pass over all nodes for each.
const SEEN_MAX: usize = 6;

/// All that decides where a pod may run and at what price, but for where its shards lie.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shape {
    /// Its number is 0; it has no home, nothing by which others know it, and minds no pods.
    pod: Pod,
    residency: Residency,
    costs: Costs,
}

impl Shape {
    fn of(pod: &Pod, residency: &Residency, costs: &Costs) -> Self {
        let like = pod.clone();
        let of_nodes = like.affinity.map(|one| {
            let Affinity { nodes, prefers_nodes, .. } = *one;
            Box::new(Affinity { nodes, prefers_nodes, ..Affinity::default() })
        });
        let pod = Pod {
            selector: like.selector,
            tolerations: like.tolerations,
            affinity: of_nodes.filter(|one| **one != Affinity::default()),
            ..Pod::plain(0, like.needs)
        };
        Self { pod, residency: residency.clone(), costs: *costs }
    }

    fn is_of(&self, pod: &Pod, residency: &Residency, costs: &Costs) -> bool {
        self.costs == *costs && self.pod.is_like_but_for_pods(pod) && self.residency == *residency
    }

    /// Where the node stands and what it costs; `None` where such a pod may not run.
    fn rated(&self, node: &Node, free: &Resources) -> Option<Rated> {
        let stands = node.attested.as_ref()?;
        let legal = obstacles(&self.pod, &self.residency, node, free).next().is_none();
        legal.then(|| Rated {
            country: stands.country,
            domain: stands.domain.clone(),
            cost: self.costs.of_node(&self.pod, node, free),
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rated {
    country: Country,
    domain: FailureDomain,
    cost: i128,
}

/// The domains of one country.
#[derive(Debug, Default)]
struct Domains {
    /// By the cost of the cheapest node of each.
    by_cost: BTreeSet<(i128, FailureDomain)>,
    /// The nodes of each, cheapest first, those that cost the same by name.
    nodes: BTreeMap<FailureDomain, BTreeSet<(i128, NodeName)>>,
}

impl Domains {
    /// Changes the nodes of a domain, and its place among the others.
    fn change(&mut self, domain: &FailureDomain, change: impl FnOnce(&mut BTreeSet<(i128, NodeName)>)) {
        let nodes = self.nodes.entry(domain.clone()).or_default();
        let cheapest = |nodes: &BTreeSet<(i128, NodeName)>| nodes.first().map(|(cost, _)| *cost);
        let before = cheapest(nodes);
        change(nodes);
        let after = cheapest(nodes);
        if nodes.is_empty() {
            self.nodes.remove(domain);
        }
        if before != after {
            before.into_iter().for_each(|cost| _ = self.by_cost.remove(&(cost, domain.clone())));
            after.into_iter().for_each(|cost| _ = self.by_cost.insert((cost, domain.clone())));
        }
    }
}

/// The nodes where pods of one shape may run.
#[derive(Debug)]
pub(crate) struct Ranking {
    shape: Shape,
    rated: BTreeMap<NodeName, Rated>,
    names: Names,
    /// All of them, cheapest first.
    by_cost: BTreeSet<(i128, NodeName)>,
    countries: BTreeMap<Country, Domains>,
}

impl Ranking {
    fn new<'a>(shape: Shape, nodes: impl Iterator<Item = (&'a Node, Resources)>) -> Self {
        let mut ranking = Self {
            shape,
            rated: BTreeMap::new(),
            names: Names::default(),
            by_cost: BTreeSet::new(),
            countries: BTreeMap::new(),
        };
        nodes.for_each(|(node, free)| ranking.rate(node, &free));
        ranking
    }

    /// What there is to choose from, beside the nodes that are barred.
    pub(crate) fn legal(&self, barred: &BTreeSet<&str>) -> Legal {
        let mut count = self.rated.len();
        let mut names = self.names;
        // Both come by name.
        let mut rated = self.rated.keys().peekable();
        for one in barred {
            while rated.next_if(|name| name.as_str() < *one).is_some() {}
            if let Some(name) = rated.next_if(|name| name.as_str() == *one) {
                count = count.saturating_sub(1);
                names.take(name);
            }
        }
        let legal = self.by_cost.iter().filter(|(_, name)| !barred.contains(name.as_str()));
        let cheapest = legal.take(NAMED_MAX).cloned().collect();
        Legal { count: u64::try_from(count).unwrap_or(u64::MAX), names, cheapest }
    }

    /// Of each country the `most_domains` domains with the cheapest nodes, of each domain the
    /// `most_nodes` cheapest, as if those that are gone were not there.
    pub(crate) fn best(
        &self,
        gone: &BTreeSet<&str>,
        most_nodes: usize,
        most_domains: usize,
    ) -> Vec<Candidate> {
        let free = |(_, name): &&(i128, NodeName)| !gone.contains(name.as_str());
        let mut candidates = Vec::new();
        for (country, domains) in &self.countries {
            // By what each costs without them, which is no less than what it is listed by.
            let mut best: BTreeSet<(i128, &FailureDomain)> = BTreeSet::new();
            for (least, domain) in &domains.by_cost {
                if best.len() >= most_domains && best.last().is_some_and(|last| *last < (*least, domain)) {
                    break;
                }
                let cheapest = domains.nodes.get(domain).and_then(|nodes| nodes.iter().find(free));
                best.extend(cheapest.map(|(cost, _)| (*cost, domain)));
                if best.len() > most_domains {
                    best.pop_last();
                }
            }
            for (_, domain) in best {
                let nodes = domains.nodes.get(domain).into_iter().flatten().filter(free).take(most_nodes);
                candidates.extend(nodes.map(|(cost, name)| Candidate {
                    node: name.clone(),
                    place: Place { country: Some(*country), domain: domain.clone() },
                    cost: *cost,
                }));
            }
        }
        candidates
    }

    fn rate(&mut self, node: &Node, free: &Resources) {
        self.enter(&node.name, self.shape.rated(node, free));
    }

    fn enter(&mut self, name: &NodeName, now: Option<Rated>) {
        if self.rated.get(name) == now.as_ref() {
            return;
        }
        if let Some(before) = self.rated.remove(name) {
            self.by_cost.remove(&(before.cost, name.clone()));
            if now.is_none() {
                self.names.take(name);
            }
            if let Some(domains) = self.countries.get_mut(&before.country) {
                domains.change(&before.domain, |nodes| _ = nodes.remove(&(before.cost, name.clone())));
                if domains.nodes.is_empty() {
                    self.countries.remove(&before.country);
                }
            }
        } else if now.is_some() {
            self.names.add(name);
        }
        if let Some(now) = now {
            self.by_cost.insert((now.cost, name.clone()));
            let domains = self.countries.entry(now.country).or_default();
            domains.change(&now.domain, |nodes| _ = nodes.insert((now.cost, name.clone())));
            self.rated.insert(name.clone(), now);
        }
    }
}

/// The rankings of a cluster. A copy has none: whoever copies a cluster tries something out on it, once.
#[derive(Debug, Default)]
pub(crate) struct Rankings {
    /// The last one was asked for last.
    kept: Vec<Ranking>,
    seen: VecDeque<Shape>,
}

impl Clone for Rankings {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Rankings {
    /// The ranking for such pods, if there is one.
    pub(crate) fn get(&self, pod: &Pod, residency: &Residency, costs: &Costs) -> Option<&Ranking> {
        self.kept.iter().rev().find(|ranking| ranking.shape.is_of(pod, residency, costs))
    }

    /// Takes note that such pods are to be placed; ranks `nodes` for them if they come again.
    pub(crate) fn note<'a, N: Iterator<Item = (&'a Node, Resources)>>(
        &mut self,
        pod: &Pod,
        residency: &Residency,
        costs: &Costs,
        nodes: impl FnOnce() -> N,
    ) {
        if let Some(at) = self.kept.iter().position(|ranking| ranking.shape.is_of(pod, residency, costs)) {
            let asked = self.kept.remove(at);
            self.kept.push(asked);
            return;
        }
        match self.seen.iter().position(|shape| shape.is_of(pod, residency, costs)) {
            Some(at) => {
                if self.kept.len() >= KEPT_MAX {
                    self.kept.remove(0);
                }
                self.kept.extend(self.seen.remove(at).map(|shape| Ranking::new(shape, nodes())));
            }
            None => {
                self.seen.truncate(SEEN_MAX - 1);
                self.seen.push_front(Shape::of(pod, residency, costs));
            }
        }
    }

    /// A node came, or it or what is free there is not what it was.
    pub(crate) fn rate(&mut self, node: &Node, free: &Resources) {
        self.kept.iter_mut().for_each(|ranking| ranking.rate(node, free));
    }

    /// A node is gone.
    pub(crate) fn forget(&mut self, name: &NodeName) {
        self.kept.iter_mut().for_each(|ranking| ranking.enter(name, None));
    }
}
