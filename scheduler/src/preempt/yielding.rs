//! Who could give way, and how that is written down: whole where it is little, else only what a plan needs, with the
//! counts and the digest of the whole.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::choice::Yields;
use super::together::Together;
use super::{Preemption, Victim};
use crate::{Cluster, NodeName, PodId, Runner, ShardGroup, SiteSet};

/// Entries that are recorded whole: far below what an API lets an object have.
const ENTRIES_MAX: usize = 1000;

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
    /// Where room was kept before, by the number of the pod: it is kept nowhere else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub kept: BTreeMap<u32, NodeName>,
    /// Pods of others that are asked, and nobody else of them; `None`: everybody who is not spared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<BTreeSet<Runner>>,
    /// What all of it was, where this is only what the plan needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<Whole>,
}

/// Of who could give way so much that another can be told from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whole {
    /// Pods of sets.
    pub sites: u64,
    /// Groups of objects.
    pub groups: u64,
    /// Pods of others that ended already.
    pub ending: u64,
    /// Pods of others that were not asked.
    pub spared: u64,
    /// BLAKE3 of its JSON form, in hexadecimal digits.
    pub digest: String,
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

impl Yielding {
    /// Who could give way on a node for a pod of this priority. What lies on a pod of a set must be readable, or it
    /// cannot move; and the ledger must let the pod go.
    pub(super) fn on(
        &self,
        cluster: &Cluster,
        set: &SiteSet,
        name: &NodeName,
        together: &Together,
        priority: i32,
    ) -> Vec<Yields> {
        let pods = cluster.tenants_on(name).filter_map(|(id, needs, traits)| {
            let held = *self.sites.get(id)?;
            let victim = || Victim {
                runner: Runner::Pod(id.clone()),
                node: name.clone(),
                priority: traits.priority,
                held,
            };
            (id.set != set.name && together.may_go(id)).then(|| Yields { victim: victim(), needs })
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
        let others = others.filter(|one| self.asks(&one.victim.runner));
        pods.chain(others).filter(|one| one.victim.priority < priority).collect()
    }

    /// Whether somebody else's pod may be asked.
    fn asks(&self, runner: &Runner) -> bool {
        !self.ending.contains(runner)
            && !self.spared.contains(runner)
            && self.only.as_ref().is_none_or(|only| only.contains(runner))
    }

    fn entries(&self) -> usize {
        let named: usize = self.groups.iter().map(|group| 1 + group.readable.len()).sum();
        self.sites.len() + named + self.ending.len() + self.spared.len()
    }

    /// Whether it can be recorded as it is.
    pub(super) fn is_little(&self) -> bool {
        self.entries() <= ENTRIES_MAX
    }

    /// Of all that only what a plan asks, and what ends where it keeps room: from this the same plan is to be made.
    pub(super) fn for_plan(&self, cluster: &Cluster, plan: &Preemption) -> Self {
        let (mut sites, mut only) = (BTreeMap::new(), BTreeSet::new());
        for victim in &plan.victims {
            match &victim.runner {
                Runner::Pod(id) => _ = sites.insert(id.clone(), victim.held),
                Runner::Neighbour(_) => _ = only.insert(victim.runner.clone()),
            }
        }
        let nodes: BTreeSet<&NodeName> = plan.claims.iter().map(|claim| &claim.node).collect();
        let there = |runner: &&Runner| match runner {
            Runner::Neighbour(name) => cluster.neighbour(name).is_some_and(|one| nodes.contains(&one.node)),
            Runner::Pod(_) => false,
        };
        Self {
            groups: worst(&self.groups, &sites),
            ending: self.ending.iter().filter(there).cloned().collect(),
            spared: BTreeSet::new(),
            kept: self.kept.clone(),
            only: Some(only),
            whole: Some(self.sum()),
            sites,
        }
    }

    fn sum(&self) -> Whole {
        // Lists, numbers and texts always have a JSON form.
        let text = serde_json::to_string(self).unwrap_or_default();
        Whole {
            sites: count(self.sites.len()),
            groups: count(self.groups.len()),
            ending: count(self.ending.len()),
            spared: count(self.spared.len()),
            digest: blake3::hash(text.as_bytes()).to_hex().to_string(),
        }
    }
}

/// For each of these pods the group that can spare the fewest others once all of them are gone. Of the pods that stay
/// as many are left out as are needed anyway: what is to be spared is the same.
fn worst(groups: &[ShardGroup], sites: &BTreeMap<PodId, u64>) -> Vec<ShardGroup> {
    let stay = |group: &ShardGroup| group.readable.iter().filter(|id| !sites.contains_key(*id)).count();
    let mut worst: BTreeMap<&PodId, (i128, &ShardGroup)> = BTreeMap::new();
    for group in groups {
        let left = i128::try_from(stay(group)).unwrap_or(i128::MAX) - i128::from(group.needed);
        for id in group.readable.iter().filter(|id| sites.contains_key(*id)) {
            let known = worst.entry(id).or_insert((left, group));
            if left < known.0 {
                *known = (left, group);
            }
        }
    }
    let mut all: Vec<ShardGroup> = Vec::new();
    for (_, group) in worst.into_values() {
        let stays = u32::try_from(stay(group)).unwrap_or(u32::MAX);
        let needed = group.needed.saturating_sub(stays);
        let left = usize::from(stays > group.needed);
        let others = group.readable.iter().filter(|id| !sites.contains_key(*id)).take(left);
        let named = group.readable.iter().filter(|id| sites.contains_key(*id));
        let short =
            ShardGroup { needed, readable: named.chain(others).cloned().collect(), objects: group.objects };
        if !all.contains(&short) {
            all.push(short);
        }
    }
    all
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
