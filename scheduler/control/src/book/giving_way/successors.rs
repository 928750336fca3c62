//! Whether what lies on those who give way can move: other pods of their sets have to find nodes while they are still
//! there, all of them together, and none of them where room is kept for somebody.

use std::collections::BTreeMap;

use coffer_scheduler::{Cluster, Pod, PodId, Preemption, Runner, SetName, Traits, Victim, decide};

use super::Book;

impl Book {
    /// Somebody who would have to go by this plan, and whose data could move nowhere then.
    pub(super) fn who_cannot_move(&self, set: &SetName, plan: &Preemption) -> Option<PodId> {
        let mut going: BTreeMap<&SetName, Vec<(&PodId, &Victim)>> = BTreeMap::new();
        for victim in &plan.victims {
            if let Runner::Pod(id) = &victim.runner {
                going.entry(&id.set).or_default().push((id, victim));
            }
        }
        going.retain(|_, all| all.iter().any(|(_, victim)| victim.held > 0));
        if going.is_empty() {
            return None;
        }
        let mut cluster = self.ledger.cluster().clone();
        cluster.claim(set, plan.claims.clone());
        going.into_iter().find_map(|(set, all)| {
            let ids: Vec<&PodId> = all.iter().map(|(id, _)| *id).collect();
            if self.others_come(&mut cluster, set, &ids) {
                return None;
            }
            all.into_iter().max_by_key(|(_, victim)| victim.held).map(|(id, _)| id.clone())
        })
    }

    /// Whether the set finds nodes for as many as it wants without these; then they are there.
    fn others_come(&self, cluster: &mut Cluster, set: &SetName, without: &[&PodId]) -> bool {
        let Some(managed) = self.managed(set) else { return false };
        let mut standing = self.standing(set);
        standing.preempted.extend(without.iter().map(|id| (*id).clone()));
        let mut left = self.staying(&managed, &standing);
        let next = managed.set.pods.iter().map(|pod| pod.ordinal.saturating_add(1)).max().unwrap_or(0);
        let missing = managed.size.saturating_sub(left.pods.len());
        left.pods.extend((next..).take(missing).map(|ordinal| Pod { ordinal, ..managed.template.clone() }));
        let Ok(decision) = decide(cluster, &left, &self.costs) else { return false };
        decision.placed.iter().all(|placed| {
            let pod = left.pods.iter().find(|pod| pod.ordinal == placed.ordinal);
            pod.is_some_and(|pod| {
                cluster.bind_as(left.id(pod), pod.needs, Traits::of(pod), &placed.node).is_ok()
            })
        })
    }
}
