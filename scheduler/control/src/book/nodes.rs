//! Nodes in the book: what the API says of them, what their attestation says at
//! this moment, and what others take of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use coffer_scheduler::{Attestation, Line, Node, NodeName, Resource, Resources};

use super::{Book, BookError};
use crate::attestation::{AttestationError, Verified};
use crate::names::{DISCARD, DISCARDED};

/// A node as it was last seen.
#[derive(Clone, Debug)]
pub(crate) struct SeenNode {
    /// What the API says, without a place.
    pub(crate) base: Node,
    /// Its statement, with the signature checked.
    pub(crate) statement: Result<Verified, AttestationError>,
    /// An operator wants it empty.
    pub(crate) drain: bool,
    /// What is to be removed from its disk, and what is.
    pub(crate) discards: Discards,
    /// Since when it is not ready, on the monotonic clock. The book fills it in.
    pub(crate) silent_since: Option<Duration>,
}

/// Directories of sites that have left for good: those that a node was told to remove, by their sets, and those
/// that it says are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Discards {
    pub(crate) told: BTreeMap<String, BTreeSet<String>>,
    pub(crate) done: BTreeSet<String>,
}

impl Discards {
    pub(crate) fn of(annotations: Option<&BTreeMap<String, String>>) -> Self {
        let list = |text: &String| text.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect();
        let told = annotations.into_iter().flatten();
        let told = told.filter_map(|(key, text)| Some((key.strip_prefix(DISCARD)?.to_owned(), list(text))));
        let done = annotations.and_then(|all| all.get(DISCARDED)).map(list).unwrap_or_default();
        Self { told: told.collect(), done }
    }
}

/// A node that is named, and that nobody knows.
pub(super) fn gone(name: &NodeName) -> Node {
    Node {
        name: name.clone(),
        total: Resources::default(),
        attested: None,
        labels: BTreeMap::new(),
        taints: BTreeSet::new(),
        cordoned: false,
        ready: false,
    }
}

/// Of each kind no more than there is.
pub(super) fn at_most(needs: Resources, free: &Resources) -> Resources {
    let mut held = needs;
    for resource in Resource::ALL {
        *held.of_mut(resource) = needs.of(resource).min(free.of(resource));
    }
    held
}

impl Book {
    /// Takes a node as it is now.
    ///
    /// # Errors
    /// [`BookError`].
    pub(crate) fn see_node(&mut self, mut seen: SeenNode) -> Result<(), BookError> {
        let name = seen.base.name.clone();
        let before = self.nodes.get(&name).and_then(|before| before.silent_since);
        seen.silent_since = (!seen.base.ready).then(|| before.unwrap_or_else(|| self.clock.monotonic()));
        if seen.drain {
            self.drained.insert(name.clone());
        } else {
            self.drained.remove(&name);
        }
        self.nodes.insert(name.clone(), seen);
        self.refresh(&name)
    }

    /// Takes note that a node is no more. While sites have their bytes there it
    /// stays in the book, as one that nothing is known of.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn lose_node(&mut self, name: &NodeName) -> Result<(), BookError> {
        self.nodes.remove(name);
        self.drained.remove(name);
        if self.ledger.cluster().node(name).is_none() {
            return Ok(());
        }
        self.change(Line::Node(Box::new(gone(name))))?;
        self.forget_if_gone(name)
    }

    pub(super) fn forget_if_gone(&mut self, name: &NodeName) -> Result<(), BookError> {
        let empty = self.ledger.cluster().pods_on(name).next().is_none();
        if empty && !self.nodes.contains_key(name) {
            self.change(Line::NodeGone(name.clone()))?;
        }
        Ok(())
    }

    /// Takes the revoked attestations as they are now.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn see_revocations(&mut self, revoked: BTreeSet<String>) -> Result<(), BookError> {
        self.revoked = revoked;
        self.time_passes()
    }

    /// Attestations begin and end.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn time_passes(&mut self) -> Result<(), BookError> {
        let now = self.clock.monotonic();
        self.waiting
            .extend(self.refused.iter().filter(|(_, one)| one.is_over(now)).map(|(set, _)| set.clone()));
        self.plans_grow_old(now)?;
        // What else there is to a node changes only when it is seen.
        let before = |name: &NodeName| self.ledger.cluster().node(name).map(|node| node.attested.as_ref());
        let other =
            |(name, seen): &(&NodeName, &SeenNode)| before(name) != Some(self.attested(seen).ok().as_ref());
        let names: Vec<NodeName> = self.nodes.iter().filter(other).map(|(name, _)| name.clone()).collect();
        names.iter().try_for_each(|name| self.refresh(name))
    }

    pub(super) fn attested(&self, seen: &SeenNode) -> Result<Attestation, AttestationError> {
        let revoked = |id: &str| self.revoked.contains(id);
        seen.statement.as_ref().map_err(Clone::clone)?.at(self.clock.now(), &revoked)
    }

    /// Enters a node in the ledger, if it is not what it was there.
    pub(super) fn refresh(&mut self, name: &NodeName) -> Result<(), BookError> {
        let Some(seen) = self.nodes.get(name) else { return Ok(()) };
        let mut node = seen.base.clone();
        node.attested = self.attested(seen).ok();
        if self.ledger.cluster().node(name) == Some(&node) {
            return Ok(());
        }
        self.waiting.extend(self.ledger.cluster().pods_on(name).map(|pod| pod.set.clone()));
        self.change(Line::Node(Box::new(node)))?;
        self.meet_neighbours(name)
    }

    /// What each node that there is was told to remove, and has removed.
    pub(crate) fn discards(&self) -> impl Iterator<Item = (&NodeName, &Discards)> {
        self.nodes.iter().map(|(name, seen)| (name, &seen.discards))
    }

    /// Whether a node was silent for longer than `grace`, or is no more.
    pub(super) fn is_lost(&self, name: &NodeName, grace: Duration) -> bool {
        let Some(seen) = self.nodes.get(name) else { return true };
        let silent = |since: Duration| self.clock.monotonic().saturating_sub(since) >= grace;
        seen.silent_since.is_some_and(silent)
    }
}
