//! One set in front of the book: the pods that it lacks get their nodes, all or
//! none, and the decision enters the ledger.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coffer_scheduler::{
    Effect, Explanation, Fleet, Line, Managed, NodeName, PodId, Resources, SetName, SiteSet, explain, staying,
};

use super::{Book, BookError, Standing};
use crate::translate::Phase;

/// A pod that is to be bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Which site it is.
    pub pod: PodId,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Its node.
    pub node: NodeName,
    /// What it needs.
    pub needs: Resources,
    /// The line of the ledger that says so; `None`: it returns to where its bytes are.
    pub line: Option<u64>,
}

/// A set whose bindings were refused: each refusal in a row doubles its wait, because each attempt is two lines
/// of the ledger for every pod.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Refused {
    times: u32,
    until: Duration,
}

impl Refused {
    const WAIT: Duration = Duration::from_millis(500);
    const WAIT_MAX: Duration = Duration::from_secs(60);

    pub(super) fn is_over(&self, now: Duration) -> bool {
        self.until <= now
    }

    fn again(self, now: Duration) -> Self {
        let wait = Self::WAIT.saturating_mul(1_u32.checked_shl(self.times).unwrap_or(u32::MAX));
        Self { times: self.times.saturating_add(1), until: now.saturating_add(wait.min(Self::WAIT_MAX)) }
    }
}

/// What was decided over a set.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// There is nothing to bind, or not everything that is to be placed together is there yet.
    Nothing,
    /// These pods get their nodes.
    Bind(Vec<Binding>),
    /// They cannot all be placed.
    Unplaceable(Box<Explanation>),
}

impl Book {
    /// Sets of which something is to be decided, perhaps; each is asked for once.
    pub fn take_waiting(&mut self, most: usize) -> Vec<SetName> {
        let mut taken = Vec::new();
        // What is kept for somebody is kept before others are looked at.
        taken.extend(self.waiting.iter().filter(|name| self.giving_way.returns(name)).take(most).cloned());
        taken.iter().for_each(|name| _ = self.waiting.remove(name));
        while taken.len() < most
            && let Some(name) = self.waiting.pop_first()
        {
            taken.push(name);
        }
        taken
    }

    /// Decides over one set.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn decide(&mut self, name: &SetName) -> Result<Verdict, BookError> {
        let Some(managed) = self.managed(name) else { return Ok(Verdict::Nothing) };
        let unbound = |(id, pod): (&PodId, &crate::translate::SeenPod)| {
            let waits = pod.phase == Phase::Alive && pod.node.is_none() && !self.on_the_way.contains(id);
            waits.then(|| id.clone())
        };
        let unbound: BTreeSet<PodId> = self.pods_of(name).filter_map(unbound).collect();
        if unbound.is_empty() {
            self.refused.remove(name);
            self.forget_claims(name)?;
            return Ok(Verdict::Nothing);
        }
        if self.refused.get(name).is_some_and(|one| !one.is_over(self.clock.monotonic())) {
            return Ok(Verdict::Nothing);
        }
        let mut bindings = self.returns(&managed, &unbound);
        // Placed together: while some are still to come, how the fleet stands need not be asked.
        if managed.set.pods.len() < managed.size {
            return Ok(self.bound(bindings));
        }
        let standing = self.standing(name);
        let staying = self.staying(&managed, &standing);
        let has_node = |id: &PodId| self.ledger.cluster().node_of(id).is_some();
        let new = staying.pods.iter().any(|pod| !has_node(&staying.id(pod)));
        if new && staying.pods.len() >= managed.size {
            if self.stuck.get(name).is_some_and(|(changes, _)| *changes == self.changes) {
                return Ok(self.bound(bindings));
            }
            match self.place(staying)? {
                Verdict::Bind(new) => bindings.extend(new),
                other if bindings.is_empty() => return Ok(other),
                _ => {}
            }
        }
        Ok(self.bound(bindings))
    }

    fn bound(&mut self, bindings: Vec<Binding>) -> Verdict {
        self.on_the_way.extend(bindings.iter().map(|binding| binding.pod.clone()));
        if bindings.is_empty() { Verdict::Nothing } else { Verdict::Bind(bindings) }
    }

    pub(super) fn staying(&self, managed: &Managed, standing: &Standing) -> SiteSet {
        let fleet = Fleet {
            cluster: self.ledger.cluster(),
            sets: &[],
            drained: &standing.drained,
            lost: &standing.lost,
            given_up: &standing.given_up,
            abroad: &standing.abroad,
            preempted: &standing.preempted,
            groups: &[],
            held: &BTreeMap::new(),
            restarting: &standing.restarting,
            costs: &self.costs,
        };
        staying(&fleet, managed)
    }

    /// Pods whose room is kept go back to it, as soon as their node takes them and nobody else has filled it.
    fn returns(&self, managed: &Managed, unbound: &BTreeSet<PodId>) -> Vec<Binding> {
        let back = |id: &PodId| {
            let node = self.ledger.cluster().node_of(id)?;
            let pod = self.pods.get(id)?;
            let legal = node.attested.as_ref().is_some_and(|stands| managed.set.residency.admits(stands));
            let mut driven = node.taints.iter().filter(|taint| taint.effect == Effect::NoExecute);
            let driven = driven.any(|taint| !pod.pod.tolerates(taint));
            let takes =
                node.ready && !node.cordoned && legal && !driven && !self.is_crowded_out(id, pod, node);
            takes.then(|| self.binding(id, &node.name, None)).flatten()
        };
        unbound.iter().filter_map(back).collect()
    }

    fn binding(&self, id: &PodId, node: &NodeName, line: Option<u64>) -> Option<Binding> {
        let pod = self.pods.get(id)?;
        Some(Binding {
            pod: id.clone(),
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            node: node.clone(),
            needs: pod.pod.needs,
            line,
        })
    }

    fn place(&mut self, staying: SiteSet) -> Result<Verdict, BookError> {
        let name = staying.name.clone();
        let Some(decision) = self.ledger.propose(&staying, &self.costs) else {
            if self.make_way(&staying)? {
                return Ok(Verdict::Nothing);
            }
            let Some(why) = explain(self.ledger.cluster(), &staying, &self.costs) else {
                return Ok(Verdict::Nothing);
            };
            let text = crate::events::explanation(&why);
            let known = self.stuck.insert(name, (self.changes, text.clone()));
            // The same answer is neither written down nor told again, however much changes elsewhere.
            if known.is_some_and(|(_, known)| known == text) {
                return Ok(Verdict::Nothing);
            }
            self.lines.push(self.ledger.record(staying, self.costs, None)?);
            return Ok(Verdict::Unplaceable(Box::new(why)));
        };
        let number = self.ledger.lines();
        self.lines.push(self.ledger.record(staying, self.costs, Some(decision.clone()))?);
        self.changes += 1;
        self.has_its_room(&name);
        self.stuck.remove(&name);
        let id = |ordinal| PodId { set: decision.set.clone(), ordinal };
        let placed = decision.placed.iter();
        let bindings = placed.filter_map(|one| self.binding(&id(one.ordinal), &one.node, Some(number)));
        Ok(Verdict::Bind(bindings.collect()))
    }

    /// Takes note that a binding was refused. One that was newly decided is taken back; the room of one that
    /// only returns stays its own.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn was_refused(&mut self, binding: &Binding) -> Result<(), BookError> {
        let now = self.clock.monotonic();
        let one = self.refused.entry(binding.pod.set.clone()).or_default();
        // Once for all pods of a batch.
        if one.is_over(now) {
            *one = one.again(now);
        }
        self.on_the_way.remove(&binding.pod);
        if binding.line.is_some() && self.ledger.cluster().node_of(&binding.pod).is_some() {
            self.change(Line::Released(binding.pod.clone()))?;
        }
        Ok(())
    }
}
