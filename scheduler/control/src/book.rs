//! What the fleet is, at this moment, as the decisions see it: nodes, pods and
//! sets as they were last seen, and the placement ledger that every change of it
//! and every decision enters.
//!
//! A pod's room on its node, and with it the disk that holds its shards, stays its own for as long as its
//! site is a member of its set, whether a pod object exists or not, and afterwards until its bytes are removed.
//! So a pod that comes again finds its bytes, and nobody takes their room meanwhile.

mod crowded;
mod deciding;
mod foreign;
mod giving_way;
mod nodes;
mod priorities;
mod relisting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use coffer_model::Clock;
use coffer_scheduler::{
    ClusterError, Costs, Ledger, Line, Managed, NeighbourName, Node, NodeName, Pod, PodId, SetName, SiteSet,
    Traits,
};

use crate::attestation::AttestationError;
use crate::translate::{Phase, SeenPod, SeenSet, Whose};

use deciding::Refused;
pub use deciding::{Binding, Verdict};
use foreign::Foreign;
pub(crate) use giving_way::Evicted;
use giving_way::GivingWay;
pub(crate) use nodes::{Discards, SeenNode};
use priorities::Priorities;

/// Why the book and what it was told do not fit: a fault of ours. The book is
/// then thrown away and made anew from the API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the book of placements does not fit what was seen: {0}")]
pub struct BookError(#[from] ClusterError);

/// How things stand with the nodes and pods of one set.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Nodes that an operator wants empty.
    pub drained: BTreeSet<NodeName>,
    /// Nodes that were silent for longer than the set's grace.
    pub lost: BTreeSet<NodeName>,
    /// Those of them that are not waited for any more.
    pub given_up: BTreeSet<NodeName>,
    /// Pods whose node is attested in another country than the one in which they came there.
    pub abroad: BTreeSet<PodId>,
    /// Pods that give way to others of a higher priority.
    pub preempted: BTreeSet<PodId>,
    /// Pods of the set that do not serve: told to end, or not ready yet.
    pub restarting: BTreeSet<PodId>,
}

/// The book.
pub struct Book {
    clock: Arc<dyn Clock>,
    revoked: BTreeSet<String>,
    costs: Costs,
    ledger: Ledger,
    /// Lines of the ledger that are not written down yet.
    lines: Vec<String>,
    nodes: BTreeMap<NodeName, SeenNode>,
    /// Those of them that an operator wants empty.
    drained: BTreeSet<NodeName>,
    /// Pods of others, and which of them are on a node, whether that is known or not.
    foreign: BTreeMap<NeighbourName, Foreign>,
    foreign_on: BTreeMap<NodeName, BTreeSet<NeighbourName>>,
    sets: BTreeMap<SetName, SeenSet>,
    pods: BTreeMap<PodId, SeenPod>,
    /// Bound in the ledger, and not seen bound yet.
    on_the_way: BTreeSet<PodId>,
    /// Sets of which something is to be bound, perhaps.
    waiting: BTreeSet<SetName>,
    /// Sets whose bindings were refused, and for how long they wait.
    refused: BTreeMap<SetName, Refused>,
    /// Sets that could not be placed, at this many changes of the book, and why.
    stuck: BTreeMap<SetName, (u64, String)>,
    changes: u64,
    giving_way: GivingWay,
    /// Of all pods that there are.
    priorities: Priorities,
}

impl Book {
    /// An empty one.
    pub fn new(clock: Arc<dyn Clock>, costs: Costs) -> Self {
        Self {
            clock,
            revoked: BTreeSet::new(),
            costs,
            ledger: Ledger::new(),
            lines: Vec::new(),
            nodes: BTreeMap::new(),
            drained: BTreeSet::new(),
            foreign: BTreeMap::new(),
            foreign_on: BTreeMap::new(),
            sets: BTreeMap::new(),
            pods: BTreeMap::new(),
            on_the_way: BTreeSet::new(),
            waiting: BTreeSet::new(),
            refused: BTreeMap::new(),
            stuck: BTreeMap::new(),
            changes: 0,
            giving_way: GivingWay::default(),
            priorities: Priorities::default(),
        }
    }

    /// The ledger, and in it the snapshot.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The prices of placing.
    pub fn costs(&self) -> &Costs {
        &self.costs
    }

    /// A set as it was last seen.
    pub fn set(&self, name: &SetName) -> Option<&SeenSet> {
        self.sets.get(name)
    }

    /// A pod as it was last seen.
    pub fn pod(&self, id: &PodId) -> Option<&SeenPod> {
        self.pods.get(id)
    }

    /// The pods of a set that serve: ready, and so is their node. A silent node's pods say that they are
    /// ready for as long as nobody takes it back.
    pub fn serving(&self, set: &SetName) -> BTreeSet<PodId> {
        self.pods_of(set).filter(|(_, pod)| self.serves(pod)).map(|(id, _)| id.clone()).collect()
    }

    fn serves(&self, pod: &SeenPod) -> bool {
        let node = pod.node.as_ref().and_then(|name| self.ledger.cluster().node(name));
        pod.ready && node.is_some_and(|node| node.ready)
    }

    /// The sites of all other sets whose pods do not serve.
    pub fn away(&self, set: &SetName) -> BTreeSet<PodId> {
        let others = self.sets.iter().filter(|(name, _)| *name != set);
        let silent = others.flat_map(|(name, seen)| {
            let sites = seen.members.iter().map(|ordinal| PodId { set: name.clone(), ordinal: *ordinal });
            sites.filter(|id| !self.pods.get(id).is_some_and(|pod| self.serves(pod)))
        });
        silent.collect()
    }

    /// The pods of a set that there are.
    pub fn pods_of(&self, set: &SetName) -> impl Iterator<Item = (&PodId, &SeenPod)> {
        let first = PodId { set: set.clone(), ordinal: 0 };
        let last = PodId { set: set.clone(), ordinal: u32::MAX };
        self.pods.range(first..=last)
    }

    /// Why nothing says where a node stands; `None` if something does.
    pub fn unattested(&self, name: &NodeName) -> Option<AttestationError> {
        let seen = self.nodes.get(name)?;
        self.attested(seen).err()
    }

    /// Every node as it was last seen.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.ledger.cluster().nodes().map(|(node, _)| node)
    }

    pub(crate) fn change(&mut self, what: Line) -> Result<(), BookError> {
        let line = self.ledger.change(what)?;
        self.lines.push(line);
        self.changes += 1;
        // What did not fit before fits perhaps now.
        self.waiting.extend(self.stuck.keys().cloned());
        self.waiting.extend(self.giving_way.waiting().cloned());
        Ok(())
    }

    /// Takes a pod as it is now.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn see_pod(&mut self, seen: SeenPod) -> Result<(), BookError> {
        match seen.whose.clone() {
            Whose::Ours(id) => {
                // Its labels did not say so before, perhaps.
                self.see_foreign(foreign::name(&seen), None)?;
                self.see_ours(id, seen)
            }
            Whose::Foreign | Whose::Refused(_) => {
                self.is_ours_no_more(&seen)?;
                let name = foreign::name(&seen);
                self.see_foreign(name, foreign::running(seen))
            }
        }
    }

    /// Takes note that a pod is no more.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn lose_pod(&mut self, seen: &SeenPod) -> Result<(), BookError> {
        let Whose::Ours(id) = &seen.whose else {
            self.is_ours_no_more(seen)?;
            return self.see_foreign(foreign::name(seen), None);
        };
        // What is gone is perhaps the one before.
        if self.pods.get(id).is_none_or(|known| known.uid == seen.uid) {
            self.forget_pod(id)?;
        }
        Ok(())
    }

    fn forget_pod(&mut self, id: &PodId) -> Result<(), BookError> {
        if let Some(gone) = self.pods.remove(id) {
            self.priorities.goes(gone.pod.priority);
        }
        self.on_the_way.remove(id);
        self.waiting.insert(id.set.clone());
        if let Some(node) = self.ledger.cluster().node_of(id).map(|node| node.name.clone()) {
            self.somebody_left(&node);
        }
        self.release_unless_member(id)
    }

    /// A pod of a set whose labels or scheduler are others by now is one of somebody else, and one pod still.
    fn is_ours_no_more(&mut self, seen: &SeenPod) -> Result<(), BookError> {
        let Some((set, ordinal)) = seen.name.rsplit_once('-') else { return Ok(()) };
        let (Ok(set), Ok(ordinal)) = (set.parse(), ordinal.parse()) else { return Ok(()) };
        let id = PodId { set, ordinal };
        let same = |known: &SeenPod| known.uid == seen.uid && known.namespace == seen.namespace;
        if self.pods.get(&id).is_some_and(same) { self.forget_pod(&id) } else { Ok(()) }
    }

    fn see_ours(&mut self, id: PodId, seen: SeenPod) -> Result<(), BookError> {
        if seen.phase == Phase::Ended {
            return self.lose_pod(&seen);
        }
        self.waiting.insert(id.set.clone());
        let held = self.ledger.cluster().node_of(&id).map(|node| node.name.clone());
        match (&seen.node, held) {
            (Some(node), Some(held)) if *node == held => {
                self.on_the_way.remove(&id);
                self.refused.remove(&id.set);
                self.is_like(&id, &seen)?;
            }
            (Some(node), held) => {
                if held.is_some() {
                    self.change(Line::Released(id.clone()))?;
                }
                self.on_the_way.remove(&id);
                self.found(&id, &seen.pod, node)?;
            }
            // Its room is kept, or it has none yet.
            (None, _) => {}
        }
        self.giving_way.meets_pod(&id, &seen);
        self.priorities.comes(seen.pod.priority);
        if let Some(before) = self.pods.insert(id, seen) {
            self.priorities.goes(before.pod.priority);
        }
        Ok(())
    }

    /// Enters a pod that runs somewhere already. What does not fit is held as far as there is room: then
    /// nothing is free there, which is the truth.
    fn found(&mut self, id: &PodId, pod: &Pod, node: &NodeName) -> Result<(), BookError> {
        if self.ledger.cluster().node(node).is_none() {
            self.change(Line::Node(Box::new(nodes::gone(node))))?;
        }
        let free = self.ledger.cluster().room(node);
        let needs = pod.needs;
        let needs = if needs.lacking(&free).next().is_none() { needs } else { nodes::at_most(needs, &free) };
        let traits = Traits::of(pod);
        self.change(Line::Bound { pod: id.clone(), needs, node: node.clone(), traits })
    }

    /// What others have to know of a pod may change while it runs.
    fn is_like(&mut self, id: &PodId, seen: &SeenPod) -> Result<(), BookError> {
        let traits = Traits::of(&seen.pod);
        let known = self.ledger.cluster().traits(id);
        if known.is_some_and(|known| *known != traits) {
            self.change(Line::Traits { pod: id.clone(), traits })?;
        }
        Ok(())
    }

    fn release_unless_member(&mut self, id: &PodId) -> Result<(), BookError> {
        let member = self.sets.get(&id.set).is_some_and(|set| set.is_on_disk(id.ordinal));
        let held = self.ledger.cluster().node_of(id).map(|node| node.name.clone());
        match held {
            Some(node) if !member && !self.pods.contains_key(id) => {
                self.change(Line::Released(id.clone()))?;
                self.forget_if_gone(&node)
            }
            _ => Ok(()),
        }
    }

    /// Takes a set as it is now. `homes` are the nodes of its members.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn see_set(&mut self, seen: SeenSet, homes: &BTreeMap<u32, NodeName>) -> Result<(), BookError> {
        let name = seen.name.clone();
        let template = seen.template.clone();
        let before = self.sets.insert(name.clone(), seen.clone());
        self.giving_way.meets_set(before.as_ref(), &seen, self.clock.monotonic());
        if before.as_ref().is_some_and(|before| *before == seen) {
            return Ok(());
        }
        self.stuck.remove(&name);
        self.refused.remove(&name);
        self.waiting.insert(name.clone());
        // Members whose pods are not there keep the room that their shards take.
        for (ordinal, node) in homes.iter().filter(|(ordinal, _)| seen.is_on_disk(**ordinal)) {
            let id = PodId { set: name.clone(), ordinal: *ordinal };
            if self.ledger.cluster().node_of(&id).is_none() && !self.pods.contains_key(&id) {
                self.found(&id, &template, node)?;
            }
        }
        let left = before.iter().flat_map(SeenSet::on_disks);
        let left: Vec<u32> = left.filter(|ordinal| !seen.is_on_disk(*ordinal)).collect();
        left.into_iter()
            .try_for_each(|ordinal| self.release_unless_member(&PodId { set: name.clone(), ordinal }))
    }

    /// Takes note that a set is no more.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn lose_set(&mut self, name: &SetName) -> Result<(), BookError> {
        let Some(before) = self.sets.remove(name) else { return Ok(()) };
        self.forget_claims(name)?;
        self.giving_way.loses_set(name);
        self.stuck.remove(name);
        self.refused.remove(name);
        let ids = before.on_disks().map(|ordinal| PodId { set: name.clone(), ordinal });
        let ids: Vec<PodId> = ids.collect();
        ids.into_iter().try_for_each(|id| self.release_unless_member(&id))
    }

    /// The set as the plans see it: its members and its pods, those that were told to end and are no
    /// members any more left aside.
    pub fn managed(&self, name: &SetName) -> Option<Managed> {
        let seen = self.sets.get(name)?;
        let mut pods: BTreeMap<u32, Pod> = BTreeMap::new();
        let mut running = BTreeMap::new();
        for ordinal in &seen.members {
            let id = PodId { set: name.clone(), ordinal: *ordinal };
            // A member without a pod and without a home is yet to be made.
            if self.ledger.cluster().node_of(&id).is_some() || self.pods.contains_key(&id) {
                pods.insert(*ordinal, Pod { ordinal: *ordinal, ..seen.template.clone() });
            }
        }
        for (id, pod) in self.pods_of(name) {
            if pod.phase == Phase::Alive || seen.members.contains(&id.ordinal) {
                pods.insert(id.ordinal, pod.pod.clone());
            }
            if pod.phase == Phase::Alive {
                running.insert(id.ordinal, pod.version.unwrap_or(seen.version));
            }
        }
        let set = SiteSet {
            name: name.clone(),
            residency: seen.residency.clone(),
            spread: seen.spread,
            pods: pods.into_values().collect(),
        };
        let (size, template) = (seen.replicas, seen.template.clone());
        Some(Managed { set, size, template, version: seen.version, running })
    }

    /// How things stand for a set.
    pub fn standing(&self, name: &SetName) -> Standing {
        let Some(set) = self.sets.get(name) else { return Standing::default() };
        let grace = Duration::from_secs(u64::from(set.grace_seconds));
        let patience = Duration::from_secs(u64::from(set.rebuild_after_seconds)).max(grace);
        let serving = self.serving(name);
        let mut standing = Standing { preempted: self.gives_way(name), ..Standing::default() };
        let mut deserted: BTreeSet<&NodeName> = BTreeSet::new();
        for ordinal in &set.members {
            let id = PodId { set: name.clone(), ordinal: *ordinal };
            if !serving.contains(&id) {
                standing.restarting.insert(id.clone());
            }
            let Some(node) = self.ledger.cluster().node_of(&id) else { continue };
            if !self.pods.contains_key(&id) {
                deserted.insert(&node.name);
            }
            let stands = node.attested.as_ref().map(|stands| stands.country);
            if let (Some(now), Some(came)) = (stands, set.countries.get(ordinal))
                && now != *came
            {
                standing.abroad.insert(id.clone());
            }
            if self.is_lost(&node.name, grace) {
                standing.lost.insert(node.name.clone());
            }
            if self.is_lost(&node.name, patience) {
                standing.given_up.insert(node.name.clone());
            }
        }
        // Whoever cordons a node and takes its pods away wants it empty.
        let cordoned = |name: &&&NodeName| self.nodes.get(**name).is_some_and(|seen| seen.base.cordoned);
        standing
            .drained
            .extend(self.drained.iter().chain(deserted.iter().filter(cordoned).copied()).cloned());
        standing
    }

    /// Why the set could not be placed when it was last tried, for people; `None` if it could, or was not tried.
    pub fn why_not(&self, name: &SetName) -> Option<String> {
        if let Some(crowded) = self.crowded_out(name) {
            return Some(crowded);
        }
        let why = self.stuck.get(name).map(|(_, why)| why.clone());
        match (self.waits_for(name), why) {
            // It waits for nobody, and there are the scheduler's reasons.
            (Some(waits), Some(why)) => Some(format!("{waits}; {why}")),
            (waits, why) => waits.or(why),
        }
    }

    /// Lines that are to be written down: the number of the first, the lines.
    pub fn take_lines(&mut self) -> Option<(u64, Vec<String>)> {
        if self.lines.is_empty() {
            return None;
        }
        let lines = std::mem::take(&mut self.lines);
        let count = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        Some((self.ledger.lines().saturating_sub(count), lines))
    }
}

#[cfg(test)]
mod tests;
