//! What sites that have left leave behind: bytes on a disk, and the secret with
//! their key. Both go when the ledger of shards has taken the site off for good,
//! and not before; until then, and until whoever has the disk says that the bytes are gone, their room is kept.
//!
//! The intent is in the set's status before anybody is told of it. Telling, removing and confirming can all be
//! done twice, so that a crash between them is made good by the next look.

use std::collections::{BTreeMap, BTreeSet};

use coffer_scheduler::PodId;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::pods::data_path;
use super::{Look, SetError};
use crate::names::{DISCARD, ours};
use crate::resources::Departed;
use crate::shards::Shards;

impl Look<'_> {
    /// A member is none any more. What it leaves is removed once it is retired.
    pub(super) fn depart(&mut self, ordinal: u32, retired: bool) {
        let member = self.status.members.iter().position(|member| member.ordinal == ordinal);
        let Some(member) = member.map(|index| self.status.members.remove(index)) else { return };
        // One that never had a node has left nothing.
        if let Some(node) = member.node {
            self.status.departed.push(Departed { ordinal, node, retired });
        }
    }

    /// Those that had to leave before they were empty, and are now: the ledger of shards is asked whether they
    /// are off for good. Of one that it does not list nothing is known, and nothing is removed.
    pub(super) async fn retire(&mut self, shards: &Shards) {
        for index in 0..self.status.departed.len() {
            let Some(site) = self.status.departed.get(index).filter(|site| !site.retired) else { continue };
            let id = self.id(site.ordinal);
            let retired =
                shards.held.get(&id) == Some(&0) && self.sets.control.shards.leave(&id).await.is_ok();
            if let Some(site) = self.status.departed.get_mut(index) {
                site.retired = retired;
            }
        }
    }

    /// Tells whoever has the disks what to remove, and strikes off what is gone.
    pub(super) async fn discard(&mut self) -> Result<(), SetError> {
        // Only what is written down: this look may fail before it writes.
        let due: Vec<Departed> =
            self.object.status.iter().flat_map(|status| &status.departed).cloned().collect();
        let due = due.into_iter().filter(|site| site.retired && !self.pods.contains_key(&site.ordinal));
        let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for site in due {
            let id = self.id(site.ordinal);
            let secret = self.delete_named::<Secret>(&format!("{id}-certificate")).await?;
            if self.bytes_are_gone(&id, &site.node).await? && secret {
                self.status.departed.retain(|one| one.ordinal != site.ordinal);
            } else {
                wanted.entry(site.node).or_default().insert(data_path(&id));
            }
        }
        let of_set = self.name.to_string();
        let wrong = self.sets.locked(|book| {
            let nodes = book.discards().map(|(node, discards)| {
                let told = discards.told.get(&of_set).cloned().unwrap_or_default();
                (node.to_string(), told)
            });
            let nodes = nodes.map(|(node, told)| (wanted.remove(&node).unwrap_or_default(), node, told));
            nodes.filter(|(wanted, _, told)| wanted != told).collect::<Vec<_>>()
        });
        self.busy |= !wrong.is_empty();
        for (wanted, node, _) in wrong {
            self.tell_node(&node, &wanted).await?;
        }
        Ok(())
    }

    /// A claim is the cluster's to remove; a directory is its node's, which says so.
    async fn bytes_are_gone(&self, id: &PodId, node: &str) -> Result<bool, SetError> {
        if self.object.spec.template.storage_class.is_some() {
            return self.delete_named::<PersistentVolumeClaim>(&format!("data-{id}")).await;
        }
        let path = data_path(id);
        Ok(self.sets.locked(|book| {
            let said = book.discards().find(|(name, _)| name.as_str() == node);
            said.is_some_and(|(_, discards)| discards.done.contains(&path))
        }))
    }

    /// Deletes an object; whether it is gone.
    async fn delete_named<K>(&self, name: &str) -> Result<bool, SetError>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let api: Api<K> = Api::namespaced(self.sets.control.client.clone(), &self.namespace);
        match api.delete(name, &DeleteParams::default()).await {
            // What has to wait for something is gone later.
            Ok(either) => Ok(either.is_right()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    async fn tell_node(&self, node: &str, paths: &BTreeSet<String>) -> Result<(), SetError> {
        let list: Vec<&str> = paths.iter().map(String::as_str).collect();
        let list = (!list.is_empty()).then(|| list.join(","));
        let patch = json!({ "metadata": { "annotations": { format!("{DISCARD}{}", self.name): list } } });
        let nodes: Api<Node> = Api::all(self.sets.control.client.clone());
        match nodes.patch(node, &ours(), &Patch::Merge(&patch)).await {
            Ok(_) => Ok(()),
            // A node that is gone by now is told when it comes again.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether bytes of former sites lie on a node that there is.
    pub(super) fn leaves_bytes(&self) -> bool {
        self.sets.locked(|book| {
            let there = |name: &str| book.discards().any(|(node, _)| node.as_str() == name);
            self.status.departed.iter().any(|site| there(&site.node))
        })
    }
}
