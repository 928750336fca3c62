//! What is to be done next for the fleet to become what is wanted: pods join
//! and get nodes, data moves, and only then pods leave. One look at everything,
//! a list of steps; the controllers carry them out and look again.
//!
//! A pod is taken down by choice only if the ledger of shards allows it. A pod
//! on a lost node is not taken down by choice: it only leaves the list, once its
//! shards were rebuilt elsewhere.

mod leaving;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::explain::explain;
use crate::{
    Budget, BudgetError, Cluster, Costs, Decision, Explanation, NodeName, Pod, PodId, ShardGroup, SiteSet,
    decide,
};
use leaving::{Leaving, leaving};

/// A site set with what is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Managed {
    /// The set with the pods that it has now, those that are to go among them.
    pub set: SiteSet,
    /// How many pods are wanted.
    pub size: usize,
    /// What a new pod is like; its number is given when it joins.
    pub template: Pod,
    /// The version of the software that is wanted.
    pub version: u64,
    /// The version that each pod runs.
    pub running: BTreeMap<u32, u64>,
}

/// Everything that a plan depends on.
pub struct Fleet<'a> {
    /// Nodes and bindings.
    pub cluster: &'a Cluster,
    /// The sets.
    pub sets: &'a [Managed],
    /// Nodes that an operator wants empty.
    pub drained: &'a BTreeSet<NodeName>,
    /// Nodes that were silent for longer than their grace period: others take the place of their pods.
    pub lost: &'a BTreeSet<NodeName>,
    /// Those of them that are not waited for any more: what lies there is rebuilt elsewhere.
    pub given_up: &'a BTreeSet<NodeName>,
    /// Pods whose nodes changed country under them: a site stands where it came to be, for life.
    pub abroad: &'a BTreeSet<PodId>,
    /// Pods that give way to others of a higher priority.
    pub preempted: &'a BTreeSet<PodId>,
    /// Where shards can be read now.
    pub groups: &'a [ShardGroup],
    /// How many shards should lie on each pod, readable or not.
    pub held: &'a BTreeMap<PodId, u64>,
    /// Pods that were restarted and do not serve yet.
    pub restarting: &'a BTreeSet<PodId>,
    /// Prices of placing.
    pub costs: &'a Costs,
}

/// Why a pod has to go; who goes first, first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// Its node is not, or not any more, where the set may stand or where it stood when the pod came, or
    /// nothing attests where it is.
    OutOfPlace,
    /// Its node is lost.
    NodeLost,
    /// Its node is to be empty, or bears a taint that no pod may run under.
    Drained,
    /// It gives way to a pod of a higher priority.
    Preempted,
    /// There are more pods than are wanted.
    ScaledDown,
    /// Its country has too many of the set's pods, and another could have it.
    Unbalanced,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A new pod joins a set; it gets its node in a later plan.
    Join(PodId, Box<Pod>),
    /// Pods get their nodes.
    Bind(Decision),
    /// Pods of a set get no nodes, and why.
    Unplaceable(crate::SetName, Box<Explanation>),
    /// A pod's node is lost, and may come back with what lies there: nothing is copied meanwhile.
    Await(PodId),
    /// The shards that lie on a pod are to lie elsewhere: on pods of the set that stay.
    Evacuate(PodId, Why),
    /// A pod that holds nothing goes, but after another: nothing is to come there meanwhile.
    Queue(PodId, Why),
    /// A pod is taken down and forgotten.
    Leave(PodId, Why),
    /// A pod is taken down and started with the wanted version, on its node.
    Restart(PodId, u64),
    /// A pod would be taken down if that left enough shards.
    Wait(PodId, BudgetError),
}

/// What to do next.
pub fn plan(fleet: &Fleet<'_>) -> Vec<Step> {
    let mut budget = Budget::new(fleet.groups.to_vec());
    let mut steps = Vec::new();
    for managed in fleet.sets {
        let leaving = leaving(fleet, managed);
        steps.extend(joins(managed, &leaving));
        steps.extend(binds(fleet, managed, &leaving));
        steps.extend(leaves(fleet, managed, &leaving, &mut budget));
        steps.extend(restarts(fleet, managed, &leaving, &mut budget));
    }
    steps
}

/// The set without the pods that have to go: what is placed together.
pub fn staying(fleet: &Fleet<'_>, managed: &Managed) -> SiteSet {
    without(managed, &leaving(fleet, managed))
}

fn without(managed: &Managed, leaving: &Leaving) -> SiteSet {
    let mut staying = managed.set.clone();
    staying.pods.retain(|pod| !leaving.contains(pod));
    staying
}

/// As many new pods as are missing beside those that go.
fn joins(managed: &Managed, leaving: &Leaving) -> Vec<Step> {
    let stay = managed.set.pods.iter().filter(|pod| !leaving.contains(pod)).count();
    let next = managed.set.pods.iter().map(|pod| pod.ordinal + 1).max().unwrap_or(0);
    let ordinals = (next..).take(managed.size.saturating_sub(stay));
    ordinals
        .map(|ordinal| {
            let pod = Pod { ordinal, ..managed.template.clone() };
            Step::Join(managed.set.id(&pod), Box::new(pod))
        })
        .collect()
}

/// Nodes for the pods that stay and have none. Those that go do not count for
/// the spread where they stood; they hold their node's room until they are gone.
fn binds(fleet: &Fleet<'_>, managed: &Managed, leaving: &Leaving) -> Option<Step> {
    let staying = without(managed, leaving);
    if staying.pods.iter().all(|pod| fleet.cluster.node_of(&staying.id(pod)).is_some()) {
        return None;
    }
    match decide(fleet.cluster, &staying, fleet.costs) {
        Ok(decision) => Some(Step::Bind(decision)),
        Err(_) => explain(fleet.cluster, &staying, fleet.costs)
            .map(|explanation| Step::Unplaceable(staying.name.clone(), Box::new(explanation))),
    }
}

/// Data moves before its pod does.
fn leaves(fleet: &Fleet<'_>, managed: &Managed, leaving: &Leaving, budget: &mut Budget) -> Vec<Step> {
    let mut steps = Vec::new();
    // One after the other, in the order of the choice: then each state on the way is legal.
    let mut chosen = false;
    for (ordinal, why) in leaving.iter() {
        let id = PodId { set: managed.set.name.clone(), ordinal };
        let holds = fleet.held.get(&id).copied().unwrap_or(0) > 0;
        let waits = why == Why::ScaledDown && std::mem::replace(&mut chosen, true);
        if !holds {
            steps.push(if waits { Step::Queue(id, why) } else { Step::Leave(id, why) });
            continue;
        }
        if why == Why::NodeLost && is_awaited(fleet, &id) {
            steps.push(Step::Await(id));
            continue;
        }
        steps.push(Step::Evacuate(id.clone(), why));
        // Where it may not stand, it goes as soon as what it holds can be rebuilt without it.
        if why == Why::OutOfPlace && budget.spare(&id) {
            steps.push(Step::Leave(id, why));
        }
    }
    steps
}

/// Whether a lost node may still come back with what lies there: a reboot costs no copy. Whoever wants the node
/// empty does not wait for it.
fn is_awaited(fleet: &Fleet<'_>, id: &PodId) -> bool {
    let ended = |node: &NodeName| fleet.given_up.contains(node) || fleet.drained.contains(node);
    fleet.cluster.node_of(id).is_some_and(|node| !ended(&node.name))
}

/// One after the other, as the ledger allows.
fn restarts(fleet: &Fleet<'_>, managed: &Managed, leaving: &Leaving, budget: &mut Budget) -> Vec<Step> {
    if managed.set.pods.iter().any(|pod| fleet.restarting.contains(&managed.set.id(pod))) {
        return Vec::new();
    }
    let is_old = |pod: &&Pod| {
        let runs = managed.running.get(&pod.ordinal);
        runs.is_some_and(|version| *version != managed.version) && !leaving.contains(pod)
    };
    let old = managed.set.pods.iter().filter(is_old).map(|pod| managed.set.id(pod));
    let mut waits = Vec::new();
    for id in old.filter(|id| fleet.cluster.node_of(id).is_some()) {
        match budget.allow(&BTreeSet::from([id.clone()])) {
            Ok(()) => return vec![Step::Restart(id, managed.version)],
            Err(why) => waits.push(Step::Wait(id, why)),
        }
    }
    waits
}
