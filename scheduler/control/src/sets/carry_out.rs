//! The steps of a plan, carried out.

use std::collections::BTreeMap;

use coffer_scheduler::{Fleet, PodId, ShardGroup, Step, Why, plan};
use kube::runtime::events::EventType;

use super::{Look, SetError};
use crate::resources::Member;
use crate::shards::Shards;

impl Look<'_> {
    /// Makes a plan and does what it says.
    pub(super) async fn carry_out(&mut self) -> Result<(), SetError> {
        let shards = self.shards().await;
        let steps = self.sets.locked(|book| {
            let managed = book.managed(&self.name)?;
            let standing = book.standing(&self.name);
            let sets = [managed];
            Some(plan(&Fleet {
                cluster: book.ledger().cluster(),
                sets: &sets,
                drained: &standing.drained,
                lost: &standing.lost,
                groups: &shards.groups,
                held: &shards.held,
                restarting: &standing.restarting,
                costs: book.costs(),
            }))
        });
        self.status.members.iter_mut().for_each(|member| member.leaves = None);
        self.allow(&shards);
        let mut waits = Vec::new();
        for step in steps.unwrap_or_default() {
            self.busy |= !matches!(step, Step::Wait(..) | Step::Unplaceable(..));
            match step {
                // The scheduler's part.
                Step::Bind(_) | Step::Unplaceable(..) => {}
                Step::Join(..) => self.join(),
                Step::Evacuate(id, why) => self.evacuate(&id, why).await?,
                Step::Leave(id, why) => self.leave(&id, why).await?,
                Step::Restart(id, version) => self.restart(&id, version).await?,
                Step::Wait(id, why) => waits.push(format!("{id} waits: {why}")),
            }
        }
        self.rollout_waits(&waits);
        Ok(())
    }

    /// What the ledger of shards says. Where it is silent, every pod is taken to hold what nothing else does.
    async fn shards(&mut self) -> Shards {
        let serving = self.sets.locked(|book| book.serving(&self.name));
        let members = self.status.members.iter().map(|member| self.id(member.ordinal)).collect();
        match self.sets.control.shards.look(&self.name, &members, &serving).await {
            Ok(shards) => {
                self.shards_known(None);
                shards
            }
            Err(why) => {
                self.shards_known(Some(&why.to_string()));
                let ids = self.status.members.iter().map(|member| self.id(member.ordinal));
                let held: BTreeMap<PodId, u64> = ids.map(|id| (id, 1)).collect();
                let readable = held.keys().cloned().collect();
                let group = ShardGroup { needed: u32::MAX - 1, readable, objects: 1 };
                Shards { groups: vec![group], held }
            }
        }
    }

    /// Another site; its pod is made with the next look.
    fn join(&mut self) {
        let next = self.status.members.iter().map(|member| member.ordinal.saturating_add(1)).max();
        let used = self.pods.keys().map(|ordinal| ordinal.saturating_add(1)).max();
        let ordinal = self.status.next_ordinal.max(next.unwrap_or(0)).max(used.unwrap_or(0));
        self.status.next_ordinal = ordinal.saturating_add(1);
        self.status.members.push(Member { ordinal, node: None, leaves: None, epoch: 0 });
    }

    async fn evacuate(&mut self, id: &PodId, why: Why) -> Result<(), SetError> {
        let member = self.status.members.iter_mut().find(|member| member.ordinal == id.ordinal);
        if let Some(member) = member {
            member.leaves = Some(format!("{why:?}"));
        }
        self.sets.control.shards.evacuate(id).await?;
        self.tell_of_pod(id, ("Evacuate", "DataMoves"), &format!("{why:?}: its shards move to others")).await;
        Ok(())
    }

    async fn leave(&mut self, id: &PodId, why: Why) -> Result<(), SetError> {
        self.tell_of_pod(id, ("Leave", "Leaves"), &format!("{why:?}: nothing is lost without it")).await;
        self.delete(id).await?;
        self.status.members.retain(|member| member.ordinal != id.ordinal);
        Ok(())
    }

    async fn restart(&mut self, id: &PodId, version: u64) -> Result<(), SetError> {
        let text = format!("restarts with the template {version:016x}, on its node");
        self.tell_of_pod(id, ("Restart", "RollsOut"), &text).await;
        self.delete(id).await
    }

    async fn tell_of_pod(&self, id: &PodId, what: (&str, &str), note: &str) {
        if let Some(pod) = self.pods.get(&id.ordinal) {
            self.sets.teller.tell(pod, EventType::Normal, what, note).await;
        } else {
            let note = format!("{id}: {note}");
            self.sets.teller.tell(self.object.as_ref(), EventType::Normal, what, &note).await;
        }
    }

    /// Where each member has its disk.
    pub(super) fn note_homes(&mut self) {
        for index in 0..self.status.members.len() {
            let Some(ordinal) = self.status.members.get(index).map(|member| member.ordinal) else { continue };
            let id = self.id(ordinal);
            let known = self
                .sets
                .locked(|book| book.pod(&id).and_then(|pod| pod.node.as_ref().map(ToString::to_string)));
            if let (Some(member), Some(node)) = (self.status.members.get_mut(index), known) {
                member.node = Some(node);
            }
        }
    }
}
