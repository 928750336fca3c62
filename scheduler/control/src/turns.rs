//! A control plane that takes one turn at a time: everything is listed, placed
//! and looked at once. For storms under a seed, in which nothing may depend on
//! when a watch delivers.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;

use crate::book::Book;
use crate::install::install;
use crate::resources::SiteSet;
use crate::revocations::revocations;
use crate::run::{Control, ControlError};
use crate::schedule::{Scheduler, order};
use crate::sets::{Sets, look_and_tell};
use crate::watching::{Change, node_changes, pod_changes, set_changes};

/// A control plane between two turns.
pub struct Turns {
    client: Client,
    namespace: String,
    scheduler: Scheduler,
    sets: Arc<Sets>,
}

impl Turns {
    /// Of a control plane that leads already, or that nobody else competes with.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn new(control: Control) -> Result<Self, ControlError> {
        install(&control.client, &control.namespace).await?;
        let (seen, saw) = watch::channel(true);
        let (scheduler, sets) = control.assemble(seen, saw).await?;
        Ok(Self { client: control.client, namespace: control.namespace, scheduler, sets: Arc::new(sets) })
    }

    /// What is known after the last turn.
    pub fn book(&self) -> &Mutex<Book> {
        &self.sets.book
    }

    /// One turn; sets that could not be looked at are left for the next one.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn turn(&mut self) -> Result<(), ControlError> {
        let all = ListParams::default();
        let nodes = Api::<Node>::all(self.client.clone()).list(&all).await?.items;
        let pods = Api::<Pod>::all(self.client.clone()).list(&all).await?.items;
        let sets = Api::<SiteSet>::namespaced(self.client.clone(), &self.namespace).list(&all).await?.items;
        let revoked = revocations(&self.client, &self.namespace).await?;
        let mut changes = vec![Change::Revocations(revoked.into_keys().collect())];
        changes.extend(nodes.iter().flat_map(|node| node_changes(node, &self.sets.control.trusted)));
        changes.push(Change::Nodes(nodes.iter().filter_map(|node| node.name_any().parse().ok()).collect()));
        changes.extend(pods.iter().flat_map(|pod| pod_changes(pod, &self.namespace)));
        changes.push(Change::Pods(pods.iter().filter_map(ResourceExt::uid).collect::<BTreeSet<_>>()));
        changes.extend(sets.iter().flat_map(set_changes));
        changes.push(Change::Sets(sets.iter().filter_map(|set| set.name_any().parse().ok()).collect()));
        changes.sort_by_key(order);
        for change in changes {
            self.scheduler.take(change).await?;
        }
        self.scheduler.locked(Book::time_passes)?;
        while self.scheduler.round().await? {}
        for set in sets {
            // What is refused, or cannot be had now, is in the set's status and events.
            drop(look_and_tell(Arc::new(set), Arc::clone(&self.sets)).await);
        }
        Ok(())
    }
}
