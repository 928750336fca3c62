//! Who gives way so that pods of a higher priority fit that fit nowhere: as low in priority as it can be, as few
//! as it can be, holding as little as it can be; and never a pod of a set that the ledger of shards does not let go.
//! A plan and nothing else: whoever carries it out asks the ledger again.

mod choice;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coffer_model::Country;
use serde::{Deserialize, Serialize};

use crate::around::{Around, shunning};
use crate::assign::{Candidate, Problem};
use crate::decide::View;
use crate::explain::Relaxed;
use crate::filter::obstacles;
use crate::{
    Budget, Cluster, Costs, Node, NodeName, Pod, PodId, PodTerm, Resources, Runner, ShardGroup, SiteSet,
    decide,
};
use choice::{Chosen, Yields, choose};

/// Plans that are tried where victims that may go one by one may not go together.
const ATTEMPTS_MAX: u32 = 256;
/// Countries of which it is tried to leave them alone, where the countries may differ by only so much.
const OPTIONAL_MAX: usize = 6;

/// Who could give way, beside pods of others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Yielding {
    /// Pods of sets that could, and how much lies on each that would have to move first; nobody else of a set is taken.
    #[serde(with = "pairs")]
    pub sites: BTreeMap<PodId, u64>,
    /// Where shards can be read now, as far as it concerns these.
    pub groups: Vec<ShardGroup>,
    /// Pods of others that end already: their room comes by itself.
    pub ending: BTreeSet<Runner>,
    /// Pods of others that are not asked, because they did not go when they were.
    pub spared: BTreeSet<Runner>,
}

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
    /// The format of the record: 1.
    pub format: u32,
    /// The room that is kept, by number.
    pub claims: Vec<Claim>,
    /// Who gives way; nobody where enough end already.
    pub victims: BTreeSet<Victim>,
}

impl Preemption {
    /// The format that it is recorded in.
    pub(crate) const FORMAT: u32 = 1;
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
    // Nobody at first; then those of the lowest priority, and so on.
    let limits = std::iter::once(None).chain(search.priorities.iter().map(|one| Some(*one)));
    limits.into_iter().find_map(|limit| search.within(limit))
}

/// Pods that are alike, those who run around included.
struct Class<'a> {
    pod: &'a Pod,
    shunning: Vec<&'a PodTerm>,
    around: Around<'a>,
}

impl Class<'_> {
    fn is_of(&self, view: &View<'_>, pod: &Pod) -> bool {
        let shunning = shunning(view.cluster, &view.set.name, pod);
        self.pod.is_like(pod) && self.pod.priority == pod.priority && self.shunning == shunning
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
    budget: Budget,
    classes: Vec<Class<'a>>,
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
        let mut classes: Vec<Class<'_>> = Vec::new();
        for pod in pods {
            if !classes.iter().any(|one| one.is_of(view, pod)) {
                let shunning = shunning(view.cluster, &view.set.name, pod);
                let around = Around::of(view.cluster, &view.set.name, pod);
                classes.push(Class { pod, shunning, around });
            }
        }
        let budget = Budget::new(yielding.groups.clone());
        let highest = pods.iter().map(|pod| pod.priority).max().unwrap_or(i32::MIN);
        let nodes = view.cluster.nodes().map(|(node, _)| &node.name);
        let could: BTreeMap<&NodeName, Vec<Yields>> = nodes
            .map(|name| (name, yielding.on(view.cluster, view.set, name, &budget, highest)))
            .filter(|(_, all)| !all.is_empty())
            .collect();
        let priorities = could.values().flatten().map(|one| one.victim.priority).collect();
        Self { view, pods, yielding, budget, classes, could, priorities }
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
        let plan = self.solve(limit, banned)?;
        if known.is_some_and(|known| plan.cost >= known) {
            return None;
        }
        let sites = plan.victims.iter().filter_map(|victim| match &victim.runner {
            Runner::Pod(id) => Some(id.clone()),
            Runner::Neighbour(_) => None,
        });
        let sites: BTreeSet<PodId> = sites.collect();
        if self.budget.clone().allow(&sites).is_ok() {
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
        let plans = uncounted(self.view.set, &chosen).into_iter().filter_map(|without| {
            let left: Vec<Arc<[Candidate]>> = chosen.iter().map(|one| one.outside(&without)).collect();
            let of = |pod: &Pod| self.classes.iter().position(|class| class.is_of(self.view, pod));
            let candidates = self.pods.iter().map(|pod| left.get(of(pod)?).cloned());
            let candidates: Option<Vec<_>> = candidates.collect();
            let problem = Problem { candidates: candidates?, ..self.view.bare_problem() };
            let assignment = problem.solve()?;
            let mut victims = BTreeSet::new();
            for (pod, node) in self.pods.iter().zip(&assignment.nodes) {
                let who = chosen.get(of(pod)?)?.on.get(node)?;
                victims.extend(who.victims.iter().cloned());
            }
            Some(Plan { cost: assignment.cost, nodes: assignment.nodes, victims })
        });
        plans.reduce(|best, other| if other.cost < best.cost { other } else { best })
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
        let all =
            Resources { cpu_millis: u64::MAX, memory_bytes: u64::MAX, disk_bytes: u64::MAX, iops: u64::MAX };
        let mut others = obstacles(pod, &view.set.residency, node, &all).chain(class.around.obstacles(node));
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
        let room = |gone: &BTreeSet<&Runner>| {
            let stays = |runner: &Runner| !gone.contains(runner) && !self.yielding.ending.contains(runner);
            view.cluster.room_without(&view.set.name, pod.priority, &node.name, stays)
        };
        choose(&pod.needs, &could, &self.priorities, room)
    }
}

impl Yielding {
    /// Who could give way on a node for a pod of this priority. What lies on a pod of a set must be readable, or it
    /// cannot move; and the ledger must let the pod go.
    fn on(
        &self,
        cluster: &Cluster,
        set: &SiteSet,
        name: &NodeName,
        budget: &Budget,
        priority: i32,
    ) -> Vec<Yields> {
        let readable = |id: &PodId| self.groups.iter().any(|group| group.readable.contains(id));
        let may_go = |id: &PodId| budget.clone().allow(&BTreeSet::from([id.clone()])).is_ok();
        let pods = cluster.tenants_on(name).filter_map(|(id, needs, traits)| {
            let held = *self.sites.get(id)?;
            let may = id.set != set.name && (held == 0 || readable(id)) && may_go(id);
            let victim = || Victim {
                runner: Runner::Pod(id.clone()),
                node: name.clone(),
                priority: traits.priority,
                held,
            };
            may.then(|| Yields { victim: victim(), needs })
        });
        let others = cluster.neighbours_on(name).map(|one| Yields {
            victim: Victim {
                runner: Runner::Neighbour(one.name.clone()),
                node: name.clone(),
                priority: one.traits.priority,
                held: 0,
            },
            needs: one.needs,
        });
        let others = others.filter(|one| {
            !self.ending.contains(&one.victim.runner) && !self.spared.contains(&one.victim.runner)
        });
        pods.chain(others).filter(|one| one.victim.priority < priority).collect()
    }
}

/// A map whose keys are structures, as pairs: JSON's keys are texts.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::PodId;

    pub(super) fn serialize<S: Serializer>(map: &BTreeMap<PodId, u64>, to: S) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<PodId, u64>, D::Error> {
        Ok(Vec::<(PodId, u64)>::deserialize(from)?.into_iter().collect())
    }
}
