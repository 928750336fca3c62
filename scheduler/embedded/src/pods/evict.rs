//! Eviction: a deletion that every disruption budget of the pod allows, taken
//! from their allowances in the same transaction.

use http::StatusCode;
use serde_json::{Map, Value};

use crate::api::view;
use crate::moment;
use crate::object::{elements, field, is_deleting, meta, set, text};
use crate::refusal::{Cause, Fault, Malformed, Refusal, success};
use crate::selector::Labels;
use crate::store::{CommitError, Expect, Key, Operation, Stored};
use crate::write::{ATTEMPTS, DeleteOptions, Shown, Write, Written};

/// Where budgets are stored.
const BUDGETS: &str = "poddisruptionbudgets.policy";
/// On a budget: what would be lost, for whoever is refused.
const REASON: &str = "fleet.coffer/budget-reason";

impl Write<'_> {
    /// Evicts the pod of the path.
    pub(crate) async fn evict(&self, eviction: &Value, options: &DeleteOptions) -> Result<Written, Refusal> {
        let name = self.name()?;
        let given = meta(eviction, "name");
        if !given.is_empty() && given != name {
            return Err(
                Malformed::Mismatch { field: "name", body: given.to_owned(), path: name.to_owned() }.into()
            );
        }
        for _ in 0..ATTEMPTS {
            let stored = self
                .api
                .store
                .get(&self.key(name))
                .ok_or_else(|| Refusal::NotFound(self.resource().subject(name)))?;
            let pod = view(self.resource(), &stored);
            let mut operations = if is_live(&pod) { self.budgets(name, &pod)? } else { Vec::new() };
            operations.extend(self.deletion(name, &stored, options)?);
            if options.dry_run || self.query.dry_run {
                return Ok(evicted());
            }
            match self.api.store.commit(operations).await {
                Ok(_) => return Ok(evicted()),
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(self.contended(name))
    }

    /// What the pod's budgets become; a refusal if one of them allows nothing.
    fn budgets(&self, name: &str, pod: &Value) -> Result<Vec<Operation>, Refusal> {
        let budgets = self.api.store.list(BUDGETS, Some(&self.objects.namespace));
        let mut operations = Vec::new();
        for stored in budgets {
            let budget = stored.value();
            if covers(&budget, pod) {
                operations.extend(self.disrupt(name, pod, &stored, budget)?);
            }
        }
        Ok(operations)
    }

    fn disrupt(
        &self,
        name: &str,
        pod: &Value,
        stored: &Stored,
        mut budget: Value,
    ) -> Result<Option<Operation>, Refusal> {
        let number = |pointer: &str| budget.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
        let (healthy, desired) = (number("/status/currentHealthy"), number("/status/desiredHealthy"));
        let allowed = number("/status/disruptionsAllowed");
        let budget_name = meta(&budget, "name").to_owned();
        let refused = |why: &str, message: String| Refusal::TooMany {
            subject: self.resource().subject(name),
            why: why.to_owned(),
            causes: vec![Cause::new(Fault::Budget, "", message)],
            // None: clients of Kubernetes would repeat the request in silence, and `drain` would not see the refusal.
            retry_after: 0,
        };
        if number("/status/observedGeneration") < number("/metadata/generation") {
            let message =
                format!("The disruption budget {budget_name} is still being processed by the server.");
            return Err(refused("Cannot evict pod as its disruption budget is not yet known.", message));
        }
        if !is_ready(pod) {
            // A pod that serves nobody takes nothing away, as long as the others suffice.
            let always = text(&budget, "/spec/unhealthyPodEvictionPolicy") == "AlwaysAllow";
            if always || (healthy >= desired && desired > 0) {
                return Ok(None);
            }
        }
        if allowed <= 0 {
            let mut why = "Cannot evict pod as it would violate the pod's disruption budget.".to_owned();
            let mut message = format!(
                "The disruption budget {budget_name} needs {desired} healthy pods and has {healthy} currently"
            );
            if let Some(reason) =
                budget.pointer("/metadata/annotations").and_then(|all| all.get(REASON)?.as_str())
            {
                // `kubectl drain` shows the sentence, and no cause.
                why = format!("{why} {budget_name}: {reason}");
                message = format!("{message}: {reason}");
            }
            return Err(refused(&why, message));
        }
        let mut disrupted = budget
            .pointer("/status/disruptedPods")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_else(Map::new);
        disrupted.insert(name.to_owned(), moment::text(self.now).into());
        if let Some(status) = budget.get_mut("status") {
            set(status, "disruptedPods", Some(disrupted.into()));
            set(status, "disruptionsAllowed", Some((allowed - 1).into()));
        }
        let key = Key::clone(&stored.key);
        Ok(Some(Operation::Put { key, object: budget, expect: Expect::Revision(stored.revision) }))
    }
}

fn evicted() -> Written {
    let mut status = success(&crate::refusal::Subject::default(), None);
    set(&mut status, "details", None);
    set(&mut status, "code", Some(201.into()));
    Written { status: StatusCode::CREATED, object: Shown::Made(status), warnings: Vec::new() }
}

/// Whether the pod counts for anything: not over, not yet running, not going already.
fn is_live(pod: &Value) -> bool {
    !is_deleting(pod) && !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed" | "Pending")
}

fn is_ready(pod: &Value) -> bool {
    let is = |condition: &&Value| field(condition, "type") == "Ready";
    elements(pod, "/status/conditions").iter().find(is).is_some_and(|ready| field(ready, "status") == "True")
}

/// Whether the budget's selector takes the pod; an empty one takes all, none takes none.
fn covers(budget: &Value, pod: &Value) -> bool {
    let labels = pod.pointer("/metadata/labels");
    budget.pointer("/spec/selector").is_some_and(|selector| Labels(selector).fit(labels))
}
