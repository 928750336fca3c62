//! A list that is whole: what the book holds beside it is no more.

use std::collections::BTreeSet;

use coffer_scheduler::{NodeName, SetName};

use super::{Book, BookError};

impl Book {
    /// These are all nodes.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn keep_nodes(&mut self, names: &BTreeSet<NodeName>) -> Result<(), BookError> {
        let gone: Vec<NodeName> = self.nodes.keys().filter(|name| !names.contains(name)).cloned().collect();
        gone.iter().try_for_each(|name| self.lose_node(name))
    }

    /// These are the uids of all pods.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn keep_pods(&mut self, uids: &BTreeSet<String>) -> Result<(), BookError> {
        let gone: Vec<_> = self.pods.values().filter(|pod| !uids.contains(&pod.uid)).cloned().collect();
        gone.iter().try_for_each(|pod| self.lose_pod(pod))?;
        let foreign: Vec<_> = self
            .foreign
            .iter()
            .filter(|(_, one)| !uids.contains(&one.uid))
            .map(|(name, _)| name.clone())
            .collect();
        foreign.into_iter().try_for_each(|name| self.see_foreign(name, None))
    }

    /// These are all sets.
    ///
    /// # Errors
    /// [`BookError`].
    pub fn keep_sets(&mut self, names: &BTreeSet<SetName>) -> Result<(), BookError> {
        let gone: Vec<SetName> = self.sets.keys().filter(|name| !names.contains(name)).cloned().collect();
        gone.iter().try_for_each(|name| self.lose_set(name))
    }
}
