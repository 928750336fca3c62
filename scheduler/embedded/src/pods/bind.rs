//! Binding: a pod gets its node, once.

use http::StatusCode;
use serde_json::{Value, json};

use crate::api::view;
use crate::fields::{self, Operation as Ownership};
use crate::moment;
use crate::object::{elements, field, is_deleting, meta, set, set_meta, text};
use crate::refusal::{Cause, Fault, Refusal, success};
use crate::store::{Expect, Operation};
use crate::write::{ATTEMPTS, Shown, Write, Written};

impl Write<'_> {
    /// Binds the pod of the path.
    pub(crate) async fn bind(&self, binding: &Value) -> Result<Written, Refusal> {
        let name = self.name()?;
        for _ in 0..ATTEMPTS {
            let operation = self.binding(name, binding)?;
            if self.query.dry_run || self.commit(operation).await?.is_some() {
                let status = success(&self.resource().subject(name), None);
                return Ok(Written {
                    status: StatusCode::CREATED,
                    object: Shown::Made(status),
                    warnings: Vec::new(),
                });
            }
        }
        Err(self.contended(name))
    }

    /// The operation that binds the pod, as it is now.
    pub(crate) fn binding(&self, name: &str, binding: &Value) -> Result<Operation, Refusal> {
        let subject = || self.resource().subject(name);
        let conflict = |why: String| Refusal::Conflict { subject: subject(), why, causes: Vec::new() };
        let stored = self.api.store.get(&self.key(name)).ok_or_else(|| Refusal::NotFound(subject()))?;
        let old = view(self.resource(), &stored);
        let node = text(binding, "/target/name");
        if !matches!(text(binding, "/target/kind"), "" | "Node") || node.is_empty() {
            let cause = Cause::new(Fault::Required, "target.name", "the name of a node must be given");
            return Err(self.invalid(name, vec![cause]));
        }
        self.expect_preconditions(name, &old, meta(binding, "uid"), meta(binding, "resourceVersion"))?;
        if is_deleting(&old) {
            return Err(conflict(format!("pod {name} is being deleted, cannot be assigned to a host")));
        }
        let bound = text(&old, "/spec/nodeName");
        if !bound.is_empty() {
            return Err(conflict(format!("pod {name} is already assigned to node \"{bound}\"")));
        }
        if !elements(&old, "/spec/schedulingGates").is_empty() {
            return Err(conflict(format!("pod {name} has non-empty .spec.schedulingGates")));
        }
        let mut new = old.clone();
        if let Some(spec) = new.get_mut("spec") {
            set(spec, "nodeName", Some(node.into()));
        }
        if let Some(given) = binding.pointer("/metadata/annotations").and_then(Value::as_object) {
            let mut annotations =
                new.pointer("/metadata/annotations").and_then(Value::as_object).cloned().unwrap_or_default();
            annotations.extend(given.clone());
            set_meta(&mut new, "annotations", Some(annotations.into()));
        }
        let mut conditions = elements(&new, "/status/conditions").to_vec();
        conditions.retain(|condition| field(condition, "type") != "PodScheduled");
        conditions.push(json!({
            "type": "PodScheduled", "status": "True", "lastProbeTime": null,
            "lastTransitionTime": moment::text(self.now),
        }));
        if let Some(status) = new.get_mut("status") {
            set(status, "conditions", Some(conditions.into()));
        }
        fields::on_update(self, &old, &mut new, Ownership::Update);
        Ok(self.put(name, new, Expect::Revision(stored.revision)))
    }
}
