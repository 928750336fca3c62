//! What a set's status says, and when it is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_model::Timestamp;
use coffer_scheduler::{NodeName, PodId};
use kube::api::{Patch, PatchParams};
use kube::runtime::events::EventType;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{Look, SetError, Sets};
use crate::names::{LABEL_SET, ours};
use crate::resources::{Condition, SiteSet, SiteSetStatus};
use crate::translate::SetRefusal;

/// Sets a condition; the time changes only with the status.
fn condition(
    status: &mut SiteSetStatus,
    type_: &str,
    holds: bool,
    (reason, message): (&str, &str),
    now: Timestamp,
) {
    let text = if holds { "True" } else { "False" };
    let before = status.conditions.iter().find(|one| one.type_ == type_ && one.status == text);
    let since = before.map_or_else(|| now.to_string(), |one| one.last_transition_time.clone());
    let new = Condition {
        type_: type_.to_owned(),
        status: text.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since,
    };
    match status.conditions.iter_mut().find(|one| one.type_ == type_) {
        Some(known) => *known = new,
        None => status.conditions.push(new),
    }
}

impl Look<'_> {
    fn condition(&mut self, type_: &str, holds: bool, why: (&str, &str)) {
        let now = self.sets.control.clock.now();
        condition(&mut self.status, type_, holds, why, now);
    }

    pub(super) fn shards_known(&mut self, silent: Option<&str>) {
        match silent {
            None => self.condition("ShardsKnown", true, ("Answered", "the ledger of shards answers")),
            Some(why) => self.condition("ShardsKnown", false, ("Silent", why)),
        }
    }

    pub(super) fn rollout_waits(&mut self, waits: &[String]) {
        match waits.first() {
            None => self.condition("RolloutBlocked", false, ("Free", "nothing waits for the loss budget")),
            Some(first) => self.condition("RolloutBlocked", true, ("LossBudget", first)),
        }
    }

    /// What moves away from pods that go, or why it does not.
    pub(super) fn data_moves(&mut self, refused: &[String], moves: &[String], awaited: &[PodId]) {
        match (refused.first(), moves.first()) {
            (Some(why), _) => self.condition("DataMoves", false, ("Refused", why)),
            (None, Some(what)) => {
                self.condition("DataMoves", true, ("Moving", &format!("{what}; they move first")));
            }
            (None, None) => match awaited.first() {
                Some(id) => {
                    let wait = self.object.spec.rebuild_after_seconds;
                    let why = format!(
                        "the node of {id} is silent; what {id} holds is rebuilt elsewhere after {wait} s of silence, or when the Node object is deleted"
                    );
                    self.condition("DataMoves", false, ("Awaited", &why));
                }
                None => self.condition("DataMoves", true, ("AtRest", "nothing has to move")),
            },
        }
    }

    /// Whether room is kept for pods that wait, and what stands in the way; nothing is said of sets that never waited.
    pub(super) fn room_kept(&mut self, kept: &BTreeMap<u32, NodeName>, troubles: &[String]) {
        let known = self.status.conditions.iter().any(|one| one.type_ == "RoomKept");
        match (troubles.first(), kept.len()) {
            (Some(why), _) => self.condition("RoomKept", false, ("Trouble", why)),
            (None, 0) if known => self.condition("RoomKept", false, ("None", "no room is kept for the set")),
            (None, 0) => {}
            (None, count) => {
                let what = format!("room is kept for {count} pods, which others make for them");
                self.condition("RoomKept", true, ("Kept", &what));
            }
        }
    }

    /// Whether every pod has its node; the scheduler's reasons are in its event.
    fn placed(&mut self) {
        let unbound: Vec<String> = self
            .pods
            .values()
            .filter(|pod| pod.spec.as_ref().is_none_or(|spec| spec.node_name.is_none()))
            .map(ResourceExt::name_any)
            .collect();
        let members = self.status.members.len();
        match unbound.first() {
            None if members >= usize::try_from(self.object.spec.replicas).unwrap_or(usize::MAX) => {
                self.condition("Placed", true, ("Placed", "every pod has its node"));
            }
            _ => {
                let why = self.sets.locked(|book| book.why_not(&self.name));
                match why {
                    Some(why) => self.condition("Placed", false, ("Unplaceable", &why)),
                    None => self.condition("Placed", false, ("UnderWay", "pods are being made and placed")),
                }
            }
        }
    }

    /// Writes the status, if it changed.
    pub(super) async fn write_status(&mut self) -> Result<(), SetError> {
        self.placed();
        self.status.observed_generation = self.object.metadata.generation.unwrap_or_default();
        self.status.replicas = u32::try_from(self.pods.len()).unwrap_or(u32::MAX);
        self.status.ready = self.ready();
        self.status.selector = format!("{LABEL_SET}={}", self.name);
        if self.object.status.as_ref() == Some(&self.status) {
            return Ok(());
        }
        self.busy = true;
        let api: Api<SiteSet> = Api::namespaced(self.sets.control.client.clone(), &self.namespace);
        // With the version that this look began with: whoever changed the members meanwhile is not undone.
        let version = self.object.metadata.resource_version.clone();
        let patch = json!({ "metadata": { "resourceVersion": version }, "status": self.status });
        let written = api.patch_status(&self.name.to_string(), &ours(), &Patch::Merge(&patch)).await?;
        self.object = Arc::new(written);
        Ok(())
    }
}

impl Sets {
    /// Says on the object why it is left as it is.
    pub(super) async fn refuse(&self, object: &SiteSet, why: &SetRefusal) -> Result<(), SetError> {
        let before = object.status.clone().unwrap_or_default();
        let mut status = before.clone();
        let text = why.to_string();
        condition(&mut status, "Placed", false, ("Refused", &text), self.control.clock.now());
        if status == before {
            return Ok(());
        }
        self.teller.tell(object, EventType::Warning, ("Place", "Refused"), &text).await;
        let namespace = object.namespace().unwrap_or_default();
        let api: Api<SiteSet> = Api::namespaced(self.control.client.clone(), &namespace);
        let patch = json!({ "status": { "conditions": status.conditions } });
        api.patch_status(&object.name_any(), &PatchParams::default(), &Patch::Merge(&patch)).await?;
        Ok(())
    }
}
