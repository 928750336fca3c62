//! The loss budget as a PodDisruptionBudget: whoever evicts, `kubectl drain` too,
//! is held to what the ledger of shards says.

use coffer_scheduler::ShardGroup;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::Patch;
use kube::{Api, Resource as _};
use serde_json::json;

use super::discovery::apply;
use super::{Look, SetError};
use crate::names::LABEL_SET;
use crate::shards::Shards;
use crate::translate;

/// Annotation of a budget: what a refused eviction tells.
const REASON: &str = "fleet.coffer/budget-reason";

/// How many pods, whichever they are, may be missing beside those that are missing now, so
/// that every object still has k + 1 readable shards.
fn may_lose(groups: &[ShardGroup], ready: u32) -> u32 {
    let spare = |group: &ShardGroup| {
        let readable = u32::try_from(group.readable.len()).unwrap_or(u32::MAX);
        readable.saturating_sub(group.needed.saturating_add(1))
    };
    groups.iter().map(spare).min().unwrap_or(ready).min(ready)
}

impl Look<'_> {
    /// Notes how many pods may be lost by choice: none while one has to go whose shards are missed.
    pub(super) fn allow(&mut self, shards: &Shards, one_has_to_go: bool) {
        let ready = self.ready();
        self.status.may_lose = if one_has_to_go { 0 } else { may_lose(&shards.groups, ready) };
    }

    /// Whether the budget gives no pod away, and has given none away that serves in what we see. Nobody is given a
    /// pod by a budget either whose newest wish was not counted yet, and by ours nobody is when it was. So we do not
    /// wait for the count: with each pod that comes or goes the wish changes.
    pub(super) async fn is_shut(&self) -> Result<bool, SetError> {
        let Some(budget) = self.budgets().get_opt(&self.name.to_string()).await? else { return Ok(false) };
        let Some(status) = budget.status else { return Ok(false) };
        let counted = status.observed_generation >= budget.metadata.generation;
        let gives = counted && status.disruptions_allowed != 0;
        let healthy = status.current_healthy;
        let given = status.disrupted_pods.is_some_and(|pods| !pods.is_empty());
        // Those that this look has taken down are counted still, or are not any more.
        let left = self.pods.iter().filter(|(ordinal, _)| !self.touched.contains(ordinal));
        let left = left.filter(|(_, pod)| translate::pod(pod).ready).count();
        Ok(!gives && !given && usize::try_from(healthy).is_ok_and(|healthy| healthy >= left))
    }

    fn budgets(&self) -> Api<PodDisruptionBudget> {
        Api::namespaced(self.sets.control.client.clone(), &self.namespace)
    }

    /// What would be lost, for whoever is refused.
    fn reason(&self) -> String {
        let known = self.status.conditions.iter().find(|one| one.type_ == "ShardsKnown");
        match known.filter(|one| one.status == "False") {
            Some(silent) => silent.message.clone(),
            None => format!(
                "{} of {} pods may be missing by choice now; with more, objects would be left with fewer than {} readable shards",
                self.status.may_lose,
                self.ready(),
                self.object.spec.data_shards.saturating_add(1)
            ),
        }
    }

    pub(super) fn ready(&self) -> u32 {
        let ready = self.pods.values().filter(|pod| translate::pod(pod).ready).count();
        u32::try_from(ready).unwrap_or(u32::MAX)
    }

    /// The budget by what was just noted; before anything that may fail, and before anything is taken down.
    pub(super) async fn keep_budget(&self) -> Result<(), SetError> {
        let api = self.budgets();
        let name = self.name.to_string();
        let least = i64::from(self.ready().saturating_sub(self.status.may_lose));
        let reason = self.reason();
        // The number alone would keep a reason that spoke of more pods than serve now.
        let as_it_is = |budget: PodDisruptionBudget| {
            let told = budget.metadata.annotations.and_then(|all| all.get(REASON).cloned());
            let known = budget.spec.and_then(|spec| spec.min_available);
            told.as_ref() == Some(&reason) && serde_json::to_value(known).ok() == Some(json!(least))
        };
        if api.get_opt(&name).await?.is_some_and(as_it_is) {
            return Ok(());
        }
        let budget = json!({
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {
                "name": name,
                "labels": { LABEL_SET: name },
                "annotations": { REASON: reason },
                "ownerReferences": self.object.controller_owner_ref(&()).into_iter().collect::<Vec<_>>(),
            },
            "spec": {
                "minAvailable": least,
                "selector": { "matchLabels": { LABEL_SET: name } },
                // A pod that does not serve holds nothing that could be read.
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            },
        });
        api.patch(&name, &apply(), &Patch::Apply(&budget)).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use coffer_scheduler::PodId;

    use super::*;

    fn group(readable: u32) -> ShardGroup {
        let pods = (0..readable).map(|ordinal| PodId { set: "set".parse().unwrap(), ordinal });
        ShardGroup { needed: 4, readable: pods.collect(), objects: 1 }
    }

    #[test]
    fn the_worst_object_says_how_many_pods_may_be_lost() {
        assert_eq!(may_lose(&[group(6), group(6)], 6), 1);
        assert_eq!(may_lose(&[group(6), group(5)], 6), 0);
        assert_eq!(may_lose(&[group(3)], 6), 0);
        assert_eq!(may_lose(&[], 6), 6);
    }
}
