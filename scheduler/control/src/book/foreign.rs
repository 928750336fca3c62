//! Pods of others: they take room, may be wanted near or not near, and may have to give way.

use coffer_scheduler::{Line, Neighbour, NeighbourName, NodeName, Traits};

use super::{Book, BookError};
use crate::translate::{Phase, SeenPod};

/// A pod of somebody else that runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Foreign {
    pub(crate) uid: String,
    pub(crate) namespace: String,
    /// It is a site of another fleet, or of none: it would come back to its disk.
    pub(crate) is_site: bool,
    /// It was told to end.
    pub(crate) ends: bool,
    pub(crate) neighbour: Neighbour,
}

pub(super) fn name(seen: &SeenPod) -> NeighbourName {
    NeighbourName { space: seen.space.clone(), name: seen.name.clone() }
}

/// What matters of it, if it is on a node and did not end.
pub(super) fn running(seen: SeenPod) -> Option<Foreign> {
    let (name, traits) = (name(&seen), Traits::of(&seen.pod));
    let node = seen.node.filter(|_| seen.phase != Phase::Ended)?;
    let neighbour = Neighbour { name, node, needs: seen.pod.needs, traits };
    let (ends, is_site) = (seen.phase == Phase::Ending, seen.is_site);
    Some(Foreign { uid: seen.uid, namespace: seen.namespace, is_site, ends, neighbour })
}

impl Book {
    /// A pod of somebody else as it is now; `None`: it runs nowhere.
    pub(super) fn see_foreign(&mut self, name: NeighbourName, now: Option<Foreign>) -> Result<(), BookError> {
        let before = self.foreign.remove(&name);
        if let Some(before) = &before {
            self.priorities.goes(before.neighbour.traits.priority);
        }
        let moved = |one: &&Foreign| now.as_ref().is_none_or(|now| now.neighbour.node != one.neighbour.node);
        if let Some(left) = before.as_ref().filter(moved) {
            let node = left.neighbour.node.clone();
            if let Some(all) = self.foreign_on.get_mut(&node) {
                all.remove(&name);
                if all.is_empty() {
                    self.foreign_on.remove(&node);
                }
            }
            if self.knows(&node, &name) {
                self.change(Line::NeighbourGone(name.clone()))?;
            }
        }
        if let Some(before) = before.as_ref().filter(|before| now.as_ref() != Some(*before)) {
            self.somebody_left(&before.neighbour.node);
        }
        let Some(now) = now else { return Ok(()) };
        let neighbour = now.neighbour.clone();
        let is_news = before.as_ref().is_none_or(|before| before.neighbour != neighbour);
        self.foreign_on.entry(neighbour.node.clone()).or_default().insert(name.clone());
        self.priorities.comes(now.neighbour.traits.priority);
        self.foreign.insert(name, now);
        if is_news && self.ledger.cluster().node(&neighbour.node).is_some() {
            self.change(Line::Neighbour(Box::new(neighbour)))?;
        }
        Ok(())
    }

    /// Enters those who were on a node before the node was known.
    pub(super) fn meet_neighbours(&mut self, node: &NodeName) -> Result<(), BookError> {
        let all = self.foreign_on.get(node).into_iter().flatten();
        let new = all.filter(|name| !self.knows(node, name)).filter_map(|name| self.foreign.get(name));
        let new: Vec<Neighbour> = new.map(|one| one.neighbour.clone()).collect();
        new.into_iter().try_for_each(|one| self.change(Line::Neighbour(Box::new(one))))
    }

    fn knows(&self, node: &NodeName, name: &NeighbourName) -> bool {
        self.ledger.cluster().neighbour(name).is_some_and(|known| known.node == *node)
    }
}
