//! All pods of a set at once: which node each gets, exactly, at the least
//! cost. The network runs pod → node → failure domain → country → sink; what a
//! node, a domain and a country may take are the capacities of its arcs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coffer_model::{Country, FailureDomain};

use crate::flow::{ArcId, Network};
use crate::{NodeName, Spread};

/// A node that one pod may have.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) node: NodeName,
    pub(crate) place: Place,
    pub(crate) cost: i128,
}

/// Where a node stands, as far as spreading is concerned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// `None`: not attested, which only a question of the kind "what if" meets.
    pub(crate) country: Option<Country>,
    pub(crate) domain: FailureDomain,
}

/// What is to be solved.
pub(crate) struct Problem {
    /// For each pod the nodes that it may have. Pods that are alike share one list.
    pub(crate) candidates: Vec<Arc<[Candidate]>>,
    pub(crate) spread: Spread,
    /// Where pods of the set run already.
    pub(crate) already: Vec<(NodeName, Place)>,
}

/// A node for each pod, in the order of the problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) nodes: Vec<NodeName>,
    pub(crate) cost: i128,
}

impl Problem {
    /// The cheapest assignment that keeps to the spread; `None` if there is none.
    pub(crate) fn solve(&self) -> Option<Assignment> {
        let Some(skew) = self.spread.country_skew else { return self.solve_between(&BTreeMap::new()) };
        let countries = self.countries();
        let already = self.already_in_countries();
        let attempts = (0..=self.share(countries.len())).filter_map(|least| {
            let mut bounds = BTreeMap::new();
            for country in &countries {
                let held = already.get(country).copied().unwrap_or(0);
                // One that has too many already takes none, and holds up nobody.
                let most = least.saturating_add(skew).saturating_sub(held);
                bounds.insert(*country, (least.saturating_sub(held), most));
            }
            self.solve_between(&bounds)
        });
        // Of equal costs the first, so that the answer does not depend on chance.
        attempts.reduce(|best, other| if other.cost < best.cost { other } else { best })
    }

    /// What it takes to solve it, in arcs that are looked at for a pod.
    pub(crate) fn steps(&self) -> u64 {
        let pods = u64::try_from(self.candidates.len()).unwrap_or(u64::MAX);
        let arcs: usize = self.candidates.iter().map(|one| one.len()).sum();
        let of_one = pods.saturating_mul(u64::try_from(arcs).unwrap_or(u64::MAX));
        let Some(_) = self.spread.country_skew else { return of_one };
        of_one.saturating_mul(u64::from(self.share(self.countries().len())).saturating_add(1))
    }

    /// The least count of pods in a country is no higher.
    fn share(&self, countries: usize) -> u32 {
        let held: u32 = self.already_in_countries().values().sum();
        let all = u32::try_from(self.candidates.len()).unwrap_or(u32::MAX).saturating_add(held);
        all.div_ceil(u32::try_from(countries).unwrap_or(u32::MAX).max(1))
    }

    /// Countries that could take a pod, or have one.
    fn countries(&self) -> BTreeSet<Country> {
        let could =
            self.candidates.iter().flat_map(|one| one.iter()).filter_map(|candidate| candidate.place.country);
        could.chain(self.already.iter().filter_map(|(_, place)| place.country)).collect()
    }

    fn already_in_countries(&self) -> BTreeMap<Country, u32> {
        let mut counts = BTreeMap::new();
        for country in self.already.iter().filter_map(|(_, place)| place.country) {
            *counts.entry(country).or_default() += 1;
        }
        counts
    }

    /// The cheapest assignment with so many new pods in each country; a country
    /// that is not in `bounds` may have as many as the set's own bound lets it.
    fn solve_between(&self, bounds: &BTreeMap<Country, (u32, u32)>) -> Option<Assignment> {
        let mut build = Build::new(self, bounds);
        let arcs: Vec<Vec<(ArcId, &Candidate)>> =
            self.candidates.iter().map(|candidates| build.pod(candidates)).collect();
        let wanted = u32::try_from(self.candidates.len()).ok()?;
        let (sent, _) = build.network.send(build.source, build.sink, wanted);
        let owed = build.least.iter().any(|(arc, least)| build.network.flow(*arc) < *least);
        if sent < wanted || owed {
            return None;
        }
        let mut assignment = Assignment { nodes: Vec::new(), cost: 0 };
        for arcs in &arcs {
            let (_, chosen) = arcs.iter().find(|(arc, _)| build.network.flow(*arc) == 1)?;
            assignment.nodes.push(chosen.node.clone());
            assignment.cost += chosen.cost;
        }
        Some(assignment)
    }
}

/// Dearer than any assignment, so that what a country must have comes first.
const OWED: i128 = -(1 << 110);

/// A network while it grows.
struct Build<'a> {
    problem: &'a Problem,
    bounds: &'a BTreeMap<Country, (u32, u32)>,
    network: Network,
    source: usize,
    sink: usize,
    nodes: BTreeMap<&'a NodeName, usize>,
    domains: BTreeMap<&'a Place, usize>,
    countries: BTreeMap<Country, usize>,
    /// Arcs that must be full.
    least: Vec<(ArcId, u32)>,
    /// The list of the last pod, and the vertices of its nodes.
    last: Option<(&'a Arc<[Candidate]>, Vec<usize>)>,
}

impl<'a> Build<'a> {
    fn new(problem: &'a Problem, bounds: &'a BTreeMap<Country, (u32, u32)>) -> Self {
        let mut network = Network::default();
        let (source, sink) = (network.vertex(), network.vertex());
        let mut build = Self {
            problem,
            bounds,
            network,
            source,
            sink,
            nodes: BTreeMap::new(),
            domains: BTreeMap::new(),
            countries: BTreeMap::new(),
            least: Vec::new(),
            last: None,
        };
        // Countries that must take pods are there whether anything leads to them or not.
        for country in bounds.keys() {
            build.country(*country);
        }
        build
    }

    fn pod(&mut self, candidates: &'a Arc<[Candidate]>) -> Vec<(ArcId, &'a Candidate)> {
        let pod = self.network.vertex();
        self.network.arc(self.source, pod, 1, 0);
        if !self.last.as_ref().is_some_and(|(list, _)| Arc::ptr_eq(list, candidates)) {
            let vertices = candidates.iter().map(|candidate| self.node(candidate)).collect();
            self.last = Some((candidates, vertices));
        }
        let vertices = self.last.iter().flat_map(|(_, vertices)| vertices);
        let to = candidates.iter().zip(vertices);
        to.map(|(candidate, node)| (self.network.arc(pod, *node, 1, candidate.cost), candidate)).collect()
    }

    fn node(&mut self, candidate: &'a Candidate) -> usize {
        if let Some(vertex) = self.nodes.get(&candidate.node) {
            return *vertex;
        }
        let domain = self.domain(&candidate.place);
        let vertex = self.network.vertex();
        // Two pods of a set never share a node.
        let taken = self.problem.already.iter().any(|(node, _)| *node == candidate.node);
        self.network.arc(vertex, domain, u32::from(!taken), 0);
        self.nodes.insert(&candidate.node, vertex);
        vertex
    }

    fn domain(&mut self, place: &'a Place) -> usize {
        if let Some(vertex) = self.domains.get(place) {
            return *vertex;
        }
        let next = place.country.map_or(self.sink, |country| self.country(country));
        let vertex = self.network.vertex();
        let held = self.problem.already.iter().filter(|(_, other)| other == place).count();
        let held = u32::try_from(held).unwrap_or(u32::MAX);
        self.network.arc(vertex, next, self.problem.spread.per_domain.saturating_sub(held), 0);
        self.domains.insert(place, vertex);
        vertex
    }

    fn country(&mut self, country: Country) -> usize {
        if let Some(vertex) = self.countries.get(&country) {
            return *vertex;
        }
        let vertex = self.network.vertex();
        let already = self.problem.already.iter().filter(|(_, place)| place.country == Some(country));
        let held = u32::try_from(already.count()).unwrap_or(u32::MAX);
        let own = self.problem.spread.per_country.map_or(u32::MAX, |most| most.saturating_sub(held));
        let (least, most) = self.bounds.get(&country).copied().unwrap_or((0, u32::MAX));
        let most = most.min(own);
        let owed = self.network.arc(vertex, self.sink, least.min(most), OWED);
        self.least.push((owed, least));
        self.network.arc(vertex, self.sink, most.saturating_sub(least), 0);
        self.countries.insert(country, vertex);
        vertex
    }
}
