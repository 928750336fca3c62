//! Who gives way so that pods of a higher priority fit that fit nowhere: as low in priority as it can be, as few
//! as it can be, holding as little as it can be; and never a pod of a set that the ledger of shards does not let go.
//! A plan and nothing else: whoever carries it out asks the ledger again.

mod choice;
mod together;
mod yielding;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coffer_model::Country;
use serde::{Deserialize, Serialize};

use crate::around::{Around, shunning};
use crate::assign::{Candidate, Problem};
use crate::decide::View;
use crate::explain::Relaxed;
use crate::filter::obstacles;
use crate::{Cluster, Costs, Node, NodeName, Pod, PodId, PodTerm, Resources, Runner, SiteSet, decide};
use choice::{Chosen, Yields, choose};
use together::Together;
pub use yielding::{Whole, Yielding};

/// Plans that are tried where victims that may go one by one may not go together.
const ATTEMPTS_MAX: u32 = 256;
/// Countries of which it is tried to leave them alone, where the countries may differ by only so much.
const OPTIONAL_MAX: usize = 6;
/// Steps of one plan in all: nodes that are looked at, choices on them, candidates of an assignment. Beyond these
/// the best so far stands, and of what was not looked into yet only what has to be is.
const STEPS_MAX: u64 = 200_000;
/// Victims of one plan: it has to be written down as one line.
const VICTIMS_MAX: usize = 500;

/// Somebody who gives way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Victim {
    /// Who.
    pub runner: Runner,
    /// From where.
    pub node: NodeName,
    /// His priority.
    pub priority: i32,
    /// What lies there and has to move first.
    pub held: u64,
}

/// The room that is kept for a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The pod's number in its set.
    pub ordinal: u32,
    /// Where.
    pub node: NodeName,
    /// How much.
    pub needs: Resources,
    /// The pod's priority: one that is higher may take the room all the same.
    pub priority: i32,
}

/// How a set that fits nowhere gets its room.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preemption {
    /// The format of the record: 2.
    pub format: u32,
    /// The room that is kept, by number.
    pub claims: Vec<Claim>,
    /// Who gives way; nobody where enough end already.
    pub victims: BTreeSet<Victim>,
}

impl Preemption {
    /// The format that it is recorded in.
    pub(crate) const FORMAT: u32 = 2;
}

/// A plan, and from what it is made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The plan.
    pub preemption: Preemption,
    /// Who could give way, as it is recorded.
    pub yielding: Yielding,
}

impl Way {
    /// Plans; what is recorded is short, however many could have given way.
    pub(crate) fn find(cluster: &Cluster, set: &SiteSet, costs: &Costs, yielding: Yielding) -> Option<Self> {
        let preemption = preempt(cluster, set, costs, &yielding)?;
        if yielding.is_little() {
            return Some(Self { preemption, yielding });
        }
        let yielding = yielding.for_plan(cluster, &preemption);
        // As good, and perhaps another one of those: this is the one that is carried out.
        let preemption = preempt(cluster, set, costs, &yielding)?;
        Some(Self { preemption, yielding })
    }
}

/// Steps that are left.
struct Steps(Cell<u64>);

impl Steps {
    /// Whether so many are left, which are taken then.
    fn take(&self, count: u64) -> bool {
        let left = self.0.get();
        self.0.set(left.saturating_sub(count));
        left >= count
    }

    fn are_left(&self) -> bool {
        self.0.get() > 0
    }
}

/// Plans who gives way for the pods of `set` that run nowhere; `None` where they fit without that, where nobody that
/// may be taken makes room enough, or where one of them waits for room whatever its priority.
pub fn preempt(cluster: &Cluster, set: &SiteSet, costs: &Costs, yielding: &Yielding) -> Option<Preemption> {
    let view = View { cluster, set, costs, relaxed: Relaxed::default() };
    let pods = view.unbound();
    if pods.is_empty() || pods.iter().any(|pod| pod.waits) || decide(cluster, set, costs).is_ok() {
        return None;
    }
    let search = Search::new(&view, &pods, yielding);
    // Nobody at first; then the lowest priority of all that suffice. What suffices does so with more, too.
    if let Some(plan) = search.within(None) {
        return Some(plan);
    }
    let limits: Vec<i32> = search.priorities.iter().copied().collect();
    let mut best = search.within(Some(*limits.last()?))?;
    let (mut below, mut enough) = (0, limits.len() - 1);
    while below < enough {
        let middle = usize::midpoint(below, enough);
        match limits.get(middle).and_then(|limit| search.within(Some(*limit))) {
            Some(plan) => (best, enough) = (plan, middle),
            None => below = middle + 1,
        }
    }
    (best.victims.len() <= VICTIMS_MAX).then_some(best)
}

/// Whether what is kept for pods of a set is room for them still, once `gone` have gone. It is not where the node has
/// died, or may not be had any more, or where a higher priority has taken it.
pub fn is_room(cluster: &Cluster, set: &SiteSet, claims: &[Claim], gone: &BTreeSet<Runner>) -> bool {
    claims.iter().all(|claim| {
        let pod = set.pods.iter().find(|pod| pod.ordinal == claim.ordinal);
        let (Some(pod), Some(node)) = (pod, cluster.node(&claim.node)) else { return false };
        let around = Around::of(cluster, &set.name, pod);
        let mut others = obstacles(pod, &set.residency, node, &ALL).chain(around.obstacles(node));
        let same = (pod.needs, pod.priority) == (claim.needs, claim.priority);
        same && others.next().is_none()
            && cluster
                .takings(&set.name, pod.priority, &node.name, |one| gone.contains(one))
                .has_room_for(&pod.needs)
    })
}

/// As if there were room for everything.
const ALL: Resources =
    Resources { cpu_millis: u64::MAX, memory_bytes: u64::MAX, disk_bytes: u64::MAX, iops: u64::MAX };

/// Pods that are alike, those who run around included.
struct Class<'a> {
    pod: &'a Pod,
    shunning: Vec<&'a PodTerm>,
    around: Around<'a>,
    /// The only node that they may have.
    kept: Option<&'a NodeName>,
}

impl Class<'_> {
    fn is_of(&self, pod: &Pod, shunning: &[&PodTerm], kept: Option<&NodeName>) -> bool {
        let alike = self.pod.is_like(pod) && self.pod.priority == pod.priority;
        alike && self.shunning == shunning && self.kept == kept
    }
}

/// Nodes that pods of a class may have, and who gives way there.
struct Choices<'a> {
    best: Vec<Candidate>,
    on: BTreeMap<&'a NodeName, Chosen>,
}

impl Choices<'_> {
    fn outside(&self, countries: &BTreeSet<Country>) -> Arc<[Candidate]> {
        let outside =
            |one: &&Candidate| one.place.country.is_none_or(|country| !countries.contains(&country));
        self.best.iter().filter(outside).cloned().collect()
    }
}

/// Only countries count for the skew that could take a pod: one where somebody has to give way for that counts only
/// if he does. So every choice of such countries that are left alone is one to try.
fn uncounted(set: &SiteSet, chosen: &[Choices<'_>]) -> Vec<BTreeSet<Country>> {
    let mut all = vec![BTreeSet::new()];
    if set.spread.country_skew.is_none() {
        return all;
    }
    let mut cheapest: BTreeMap<Country, i128> = BTreeMap::new();
    for one in chosen.iter().flat_map(|one| &one.best) {
        if let Some(country) = one.place.country {
            let known = cheapest.entry(country).or_insert(one.cost);
            *known = one.cost.min(*known);
        }
    }
    let optional = cheapest.into_iter().filter(|(_, cost)| *cost > 0).map(|(country, _)| country);
    for country in optional.take(OPTIONAL_MAX) {
        let more: Vec<BTreeSet<Country>> =
            all.iter().map(|some| some.iter().copied().chain([country]).collect()).collect();
        all.extend(more);
    }
    all
}

struct Search<'a> {
    view: &'a View<'a>,
    pods: &'a [&'a Pod],
    yielding: &'a Yielding,
    together: Together,
    classes: Vec<Class<'a>>,
    /// Of which of them each of the pods is.
    class_of: Vec<usize>,
    steps: Steps,
    /// Everybody who could give way for one of the pods at least, by node.
    could: BTreeMap<&'a NodeName, Vec<Yields>>,
    /// Their priorities, the lowest first.
    priorities: BTreeSet<i32>,
}

/// A plan, and what it costs.
struct Plan {
    cost: i128,
    nodes: Vec<NodeName>,
    victims: BTreeSet<Victim>,
}

impl<'a> Search<'a> {
    fn new(view: &'a View<'a>, pods: &'a [&'a Pod], yielding: &'a Yielding) -> Self {
        let (mut classes, mut class_of): (Vec<Class<'_>>, Vec<usize>) = Default::default();
        for pod in pods {
            let shunning = shunning(view.cluster, &view.set.name, pod);
            let kept = yielding.kept.get(&pod.ordinal);
            let known = classes.iter().position(|one| one.is_of(pod, &shunning, kept));
            class_of.push(known.unwrap_or(classes.len()));
            if known.is_none() {
                let around = Around::of(view.cluster, &view.set.name, pod);
                classes.push(Class { pod, shunning, around, kept });
            }
        }
        let together = Together::of(yielding);
        let highest = pods.iter().map(|pod| pod.priority).max().unwrap_or(i32::MIN);
        let nodes = view.cluster.nodes().map(|(node, _)| &node.name);
        let could: BTreeMap<&NodeName, Vec<Yields>> = nodes
            .map(|name| (name, yielding.on(view.cluster, view.set, name, &together, highest)))
            .filter(|(_, all)| !all.is_empty())
            .collect();
        let priorities = could.values().flatten().map(|one| one.victim.priority).collect();
        let steps = Steps(Cell::new(STEPS_MAX));
        Self { view, pods, yielding, together, classes, class_of, steps, could, priorities }
    }

    /// The best plan whose victims have at most this priority; `None`: without any.
    fn within(&self, limit: Option<i32>) -> Option<Preemption> {
        let mut attempts = ATTEMPTS_MAX;
        let plan = self.best(limit, &mut BTreeSet::new(), None, &mut attempts)?;
        let claim = |(pod, node): (&&Pod, NodeName)| Claim {
            ordinal: pod.ordinal,
            node,
            needs: pod.needs,
            priority: pod.priority,
        };
        let claims = self.pods.iter().zip(plan.nodes).map(claim).collect();
        Some(Preemption { format: Preemption::FORMAT, claims, victims: plan.victims })
    }

    /// The cheapest plan without those in `banned`. Where its victims may not go together, one of them stays, each in
    /// turn; what costs as much as is known already is not looked into.
    fn best(
        &self,
        limit: Option<i32>,
        banned: &mut BTreeSet<Runner>,
        known: Option<i128>,
        attempts: &mut u32,
    ) -> Option<Plan> {
        *attempts = attempts.checked_sub(1)?;
        if !banned.is_empty() && !self.steps.are_left() {
            return None;
        }
        let plan = self.solve(limit, banned)?;
        if known.is_some_and(|known| plan.cost >= known) {
            return None;
        }
        let sites = plan.victims.iter().filter_map(|victim| match &victim.runner {
            Runner::Pod(id) => Some(id.clone()),
            Runner::Neighbour(_) => None,
        });
        let sites: BTreeSet<PodId> = sites.collect();
        if self.together.may_all_go(&sites) {
            return Some(plan);
        }
        let (mut best, mut known): (Option<Plan>, _) = (None, known);
        for id in sites {
            let runner = Runner::Pod(id);
            banned.insert(runner.clone());
            if let Some(other) = self.best(limit, banned, known, attempts) {
                known = Some(other.cost);
                best = Some(other);
            }
            banned.remove(&runner);
        }
        best
    }

    /// The cheapest plan, whatever may go together. On each node at most one of the set's pods is put, so that who
    /// gives way there is a question for that node and pod alone, and the assignment of pods is exact.
    fn solve(&self, limit: Option<i32>, banned: &BTreeSet<Runner>) -> Option<Plan> {
        let chosen: Vec<Choices<'_>> =
            self.classes.iter().map(|one| self.choices(one, limit, banned)).collect();
        let mut best: Option<Plan> = None;
        for (number, without) in uncounted(self.view.set, &chosen).into_iter().enumerate() {
            if number > 0 && !self.steps.are_left() {
                break;
            }
            let plan = self.assigned(&chosen, &without);
            if let Some(plan) = plan.filter(|plan| best.as_ref().is_none_or(|best| plan.cost < best.cost)) {
                best = Some(plan);
            }
        }
        best
    }

    /// The cheapest plan that leaves countries alone.
    fn assigned(&self, chosen: &[Choices<'_>], without: &BTreeSet<Country>) -> Option<Plan> {
        let left: Vec<Arc<[Candidate]>> = chosen.iter().map(|one| one.outside(without)).collect();
        let candidates = self.class_of.iter().map(|class| left.get(*class).cloned());
        let candidates: Vec<_> = candidates.collect::<Option<_>>()?;
        let count: usize = candidates.iter().map(|one| one.len()).sum();
        self.steps.take(u64::try_from(count).unwrap_or(u64::MAX));
        let problem = Problem { candidates, ..self.view.bare_problem() };
        let assignment = problem.solve()?;
        let mut victims = BTreeSet::new();
        for (class, node) in self.class_of.iter().zip(&assignment.nodes) {
            let who = chosen.get(*class)?.on.get(node)?;
            victims.extend(who.victims.iter().cloned());
        }
        Some(Plan { cost: assignment.cost, nodes: assignment.nodes, victims })
    }

    fn choices(&self, class: &Class<'_>, limit: Option<i32>, banned: &BTreeSet<Runner>) -> Choices<'_> {
        let mut on: BTreeMap<&NodeName, Chosen> = BTreeMap::new();
        let (best, _) = self.view.scan(self.pods.len(), |node, _| {
            let who = self.on_node(class, node, limit, banned)?;
            let cost = who.cost;
            // A name that outlives the look at the node.
            if let Some(node) = self.view.cluster.node(&node.name) {
                on.insert(&node.name, who);
            }
            Some(cost)
        });
        Choices { best, on }
    }

    /// Who gives way on a node for such a pod; `None` where that does not help.
    fn on_node(
        &self,
        class: &Class<'_>,
        node: &Node,
        limit: Option<i32>,
        banned: &BTreeSet<Runner>,
    ) -> Option<Chosen> {
        let (view, pod) = (self.view, class.pod);
        if class.kept.is_some_and(|kept| *kept != node.name) {
            return None;
        }
        self.steps.take(1);
        let mut others = obstacles(pod, &view.set.residency, node, &ALL).chain(class.around.obstacles(node));
        if others.next().is_some() || pod.needs.lacking(&node.total).next().is_some() {
            return None;
        }
        let near = pod.affinity.iter().flat_map(|affinity| &affinity.near);
        let near: Vec<&PodTerm> = near.collect();
        let may = |one: &&Yields| {
            let low = limit.is_some_and(|limit| one.victim.priority <= limit);
            low && one.victim.priority < pod.priority
                && !banned.contains(&one.victim.runner)
                // Whom the pod has to be near to stays.
                && !near.iter().any(|term| view.cluster.is_meant(term, &one.victim.runner))
        };
        let could = self.could.get(&node.name).into_iter().flatten();
        let could: Vec<&Yields> = could.filter(may).collect();
        let ends = |runner: &Runner| self.yielding.ending.contains(runner);
        let takings = view.cluster.takings(&view.set.name, pod.priority, &node.name, ends);
        choose(&pod.needs, &could, &self.priorities, &takings, &self.steps)
    }
}
