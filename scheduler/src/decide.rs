//! The decision over one site set: every pod that runs nowhere gets its node,
//! all of them or none. Every legal node is considered; none is sampled.

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_model::{Country, FailureDomain};
use serde::{Deserialize, Serialize};

use crate::around::{Around, shunning};
use crate::assign::{Assignment, Candidate, Place, Problem};
use crate::explain::Relaxed;
use crate::feasible::{Feasible, Legal, Price, policy, price};
use crate::{Cluster, Costs, Node, NodeName, Pod, PodTerm, Resources, SetName, SiteSet};

/// A pod and the node that it gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placed {
    /// The pod's number in its set.
    pub ordinal: u32,
    /// Its node.
    pub node: NodeName,
    /// Bytes that have to be copied there.
    pub moved_bytes: u64,
    /// Nodes that were legal for it, leaving aside the others of its set.
    pub legal: u64,
    /// What it costs there; not in records of format 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
}

/// What was decided over a set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// The format of the record: 3; 2 knows no affinities, 1 has neither policy, nor prices, nor what there was to
    /// choose from.
    #[serde(default = "first_format", skip_serializing_if = "is_first_format")]
    pub format: u32,
    /// The set.
    pub set: SetName,
    /// Revision of the snapshot.
    pub revision: u64,
    /// Digest of what had to be kept to: BLAKE3 of residency, spread and prices as JSON, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub policy: String,
    /// What there was to choose from, once for pods that are alike.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub feasible: Vec<Feasible>,
    /// The pods that got a node, by number.
    pub placed: Vec<Placed>,
}

/// The format that decisions are recorded in now.
const FORMAT: u32 = 3;

fn first_format() -> u32 {
    1
}

fn is_first_format(format: &u32) -> bool {
    *format == first_format()
}

impl Decision {
    /// The same decision as a record of that format has it; `None` of a format that is not known.
    pub(crate) fn in_format(mut self, format: u32) -> Option<Self> {
        match format {
            FORMAT => {}
            // Where nobody wished anything they say the same.
            2 => self.format = 2,
            1 => {
                (self.format, self.policy) = (1, String::new());
                self.feasible.clear();
                self.placed.iter_mut().for_each(|placed| placed.price = None);
            }
            _ => return None,
        }
        Some(self)
    }
}

/// There is no legal placement of all pods together; [`crate::explain`] says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pods of the set cannot all be placed")]
pub struct Unplaceable;

/// Decides where the pods of `set` go that are bound to no node.
///
/// # Errors
/// [`Unplaceable`]: then none of them is placed.
pub fn decide(cluster: &Cluster, set: &SiteSet, costs: &Costs) -> Result<Decision, Unplaceable> {
    let view = View { cluster, set, costs, relaxed: Relaxed::default() };
    let (pods, feasible, problem) = view.problem();
    let Assignment { nodes, .. } = problem.solve().ok_or(Unplaceable)?;
    let placed = |(pod, node): (&&Pod, NodeName)| {
        let of_pod = feasible.iter().find(|one| one.pods.contains(&pod.ordinal));
        let at = cluster.node(&node);
        let room = at.map_or(0, |at| costs.room(&pod.needs, &at.total, &view.free(pod, at)));
        let wishes = at.map_or(0, |at| view.wishes(pod, at));
        let (room, moving, wishes) = (price(room), price(costs.moving(pod, &node)), price(wishes));
        let price = Price { room, moving, wishes };
        Placed {
            ordinal: pod.ordinal,
            moved_bytes: pod.moved_to(&node),
            legal: of_pod.map_or(0, |one| one.count),
            price: Some(price),
            node,
        }
    };
    let mut placed: Vec<Placed> = pods.iter().zip(nodes).map(placed).collect();
    placed.sort_by_key(|placed| placed.ordinal);
    let (set_name, revision) = (set.name.clone(), cluster.revision());
    Ok(Decision { format: FORMAT, set: set_name, revision, policy: policy(set, costs), feasible, placed })
}

/// A set in front of a snapshot, with constraints that are left aside.
pub(crate) struct View<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) set: &'a SiteSet,
    pub(crate) costs: &'a Costs,
    pub(crate) relaxed: Relaxed,
}

impl<'a> View<'a> {
    /// The pods to place, what there is to choose from, and the problem.
    pub(crate) fn problem(&self) -> (Vec<&'a Pod>, Vec<Feasible>, Problem) {
        let pods = self.unbound();
        let mut classes: Vec<Class<'_>> = Vec::new();
        let mut candidates = Vec::with_capacity(pods.len());
        let keeps = self.cluster.keeps_room();
        for pod in &pods {
            let shunning = shunning(self.cluster, &self.set.name, pod);
            // What is kept for somebody is a hindrance or not by the priority.
            let same = |one: &Class<'_>| !keeps || one.pod.priority == pod.priority;
            let known =
                classes.iter().position(|one| one.pod.is_like(pod) && same(one) && one.shunning == shunning);
            let index = known.unwrap_or_else(|| {
                let around = Around::of(self.cluster, &self.set.name, pod);
                let (best, legal) = self.best_nodes(pod, &around, pods.len());
                let (best, feasible) = (best.into(), legal.into_feasible(Vec::new()));
                classes.push(Class { pod, shunning, around, best, feasible });
                classes.len() - 1
            });
            if let Some(class) = classes.get_mut(index) {
                candidates.push(self.with_home(pod, class));
                class.feasible.pods.push(pod.ordinal);
            }
        }
        let feasible = classes.into_iter().map(|class| class.feasible).collect();
        (pods, feasible, Problem { candidates, ..self.bare_problem() })
    }

    /// The problem without pods.
    pub(crate) fn bare_problem(&self) -> Problem {
        let spread = self.relaxed.spread(self.set.spread, self.set.pods.len());
        Problem { candidates: Vec::new(), spread, already: self.already() }
    }

    /// What is free on a node for a pod of the set.
    pub(crate) fn free(&self, pod: &Pod, node: &Node) -> Resources {
        self.cluster.free_for(&self.set.name, pod.priority, &node.name)
    }

    /// The price of all wishes of a pod that a node does not fulfil.
    fn wishes(&self, pod: &Pod, node: &Node) -> i128 {
        let Some(affinity) = &pod.affinity else { return 0 };
        let of_nodes = affinity.missed(node, self.costs);
        if affinity.prefers_near.is_empty() && affinity.prefers_apart.is_empty() {
            return of_nodes;
        }
        of_nodes + Around::of(self.cluster, &self.set.name, pod).missed(node, self.costs)
    }

    /// Whether a pod may run on a node, leaving aside the others of its set; if so, what the node costs.
    fn cost(&self, pod: &Pod, around: &Around<'_>, node: &Node, free: &Resources) -> Option<i128> {
        let may = self.relaxed.may_run(pod, &self.set.residency, around, node, free);
        may.then(|| self.costs.of_node(pod, node, free) + around.missed(node, self.costs))
    }

    pub(crate) fn unbound(&self) -> Vec<&'a Pod> {
        let mut pods: Vec<&Pod> = self.set.pods.iter().collect();
        pods.retain(|pod| self.cluster.node_of(&self.set.id(pod)).is_none());
        pods.sort_by_key(|pod| pod.ordinal);
        pods
    }

    fn already(&self) -> Vec<(NodeName, Place)> {
        let bound = self.set.pods.iter().filter_map(|pod| self.cluster.node_of(&self.set.id(pod)));
        bound.map(|node| (node.name.clone(), place(node))).collect()
    }

    /// Of the legal nodes those that a best placement of `pods` pods can need. And which are legal.
    fn best_nodes(&self, pod: &Pod, around: &Around<'_>, pods: usize) -> (Vec<Candidate>, Legal) {
        let kept = self.cluster.has_claims_below(&self.set.name, pod.priority);
        if self.relaxed.is_empty()
            && !kept
            && let Some(ranking) = self.cluster.ranking(pod, &self.set.residency, self.costs)
            && let Some(barred) = around.barred()
        {
            let (taken, most_nodes, most_domains) = self.needed(pods);
            let mut gone = barred.clone();
            gone.extend(taken.iter().map(NodeName::as_str));
            return (ranking.best(&gone, most_nodes, most_domains), ranking.legal(&barred));
        }
        self.scan(pods, |node, free| {
            let kept = kept.then(|| self.free(pod, node));
            self.cost(pod, around, node, kept.as_ref().unwrap_or(free))
        })
    }

    /// Which nodes are taken, and how many of a domain and domains of a country can be needed.
    fn needed(&self, pods: usize) -> (Vec<NodeName>, usize, usize) {
        let spread = self.relaxed.spread(self.set.spread, self.set.pods.len());
        let in_domain = usize::try_from(spread.per_domain).unwrap_or(pods).min(pods).max(1);
        let taken: Vec<NodeName> = self.already().into_iter().map(|(node, _)| node).collect();
        let (most_nodes, most_domains) = (in_domain + taken.len(), pods + taken.len());
        (taken, most_nodes, most_domains)
    }

    /// Of the nodes that have a cost those that a cheapest placement can need: in each failure
    /// domain the cheapest that it may take, and in each country the domains with the cheapest nodes.
    /// Whoever stood on another could change to a free one of these, and pay less. And which have one.
    pub(crate) fn scan(
        &self,
        pods: usize,
        mut cost: impl FnMut(&Node, &Resources) -> Option<i128>,
    ) -> (Vec<Candidate>, Legal) {
        let (taken, most_nodes, most_domains) = self.needed(pods);
        // Of each domain the cheapest nodes so far, cheapest first.
        let mut found: BTreeMap<PlaceRef<'_>, Priced<'_>> = BTreeMap::new();
        let mut legal = Legal::default();
        for (node, free) in self.cluster.nodes() {
            let Some(cost) = cost(node, &free) else { continue };
            legal.add(&node.name, cost);
            if taken.contains(&node.name) {
                continue;
            }
            let best = found.entry(place_ref(node)).or_default();
            // Nodes come by name, so that of equal ones the first stays first.
            let at = best.partition_point(|(known, _)| *known <= cost);
            if at < most_nodes {
                best.truncate(most_nodes - 1);
                best.insert(at, (cost, node));
            }
        }
        (cheapest_domains(found, most_domains), legal)
    }

    /// The candidates of one pod: moving has its price, and its own disk is always among them.
    fn with_home(&self, pod: &Pod, class: &Class<'_>) -> Arc<[Candidate]> {
        let Some(home) = &pod.home else { return Arc::clone(&class.best) };
        let mut candidates = class.best.to_vec();
        candidates.retain(|candidate| candidate.node != home.node);
        candidates.iter_mut().for_each(|candidate| candidate.cost += self.costs.moving(pod, &candidate.node));
        if let Some(node) = self.cluster.node(&home.node)
            && let Some(cost) = self.cost(pod, &class.around, node, &self.free(pod, node))
        {
            candidates.push(Candidate { node: home.node.clone(), place: place(node), cost });
        }
        candidates.into()
    }
}

/// Pods that are alike, as far as nodes are concerned.
struct Class<'a> {
    pod: &'a Pod,
    /// Terms by which others want none of them near.
    shunning: Vec<&'a PodTerm>,
    around: Around<'a>,
    best: Arc<[Candidate]>,
    feasible: Feasible,
}

/// A country and a failure domain, the name of the node where nothing attests one.
type PlaceRef<'a> = (Option<Country>, &'a str);

/// Nodes with what they cost, cheapest first.
type Priced<'a> = Vec<(i128, &'a Node)>;

fn place_ref(node: &Node) -> PlaceRef<'_> {
    match &node.attested {
        Some(attested) => (Some(attested.country), &attested.domain.0),
        None => (None, node.name.as_str()),
    }
}

/// In each country the nodes of the domains with the cheapest ones, so many domains at most.
fn cheapest_domains(found: BTreeMap<PlaceRef<'_>, Priced<'_>>, most: usize) -> Vec<Candidate> {
    let mut countries: BTreeMap<Option<Country>, Vec<Priced<'_>>> = BTreeMap::new();
    for ((country, _), nodes) in found {
        countries.entry(country).or_default().push(nodes);
    }
    let mut candidates = Vec::new();
    for mut domains in countries.into_values() {
        domains.sort_by_key(|nodes| nodes.first().map(|(cost, _)| *cost));
        domains.truncate(most);
        for (cost, node) in domains.into_iter().flatten() {
            candidates.push(Candidate { node: node.name.clone(), place: place(node), cost });
        }
    }
    candidates
}

/// Where a node stands; one without an attestation fails alone, as far as anybody knows.
pub(crate) fn place(node: &Node) -> Place {
    match &node.attested {
        Some(attested) => Place { country: Some(attested.country), domain: attested.domain.clone() },
        None => Place { country: None, domain: FailureDomain(node.name.to_string()) },
    }
}
