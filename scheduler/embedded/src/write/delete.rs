//! Delete: at once where nothing holds the object back; else it is marked, and
//! goes when its last finalizer is taken off or its pod has stopped.

use std::time::Duration;

use serde_json::{Value, json};

use super::update::is_gone;
use super::{ATTEMPTS, Write, Written};
use crate::api::view;
use crate::moment;
use crate::object::{field, is_deleting, meta, set_meta, texts};
use crate::refusal::{Malformed, Refusal, success};
use crate::request::Propagation;
use crate::rules;
use crate::store::{Operation, PageRequest, Stored};

/// What a DELETE may ask for; what the body says goes before the query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DeleteOptions {
    grace: Option<u32>,
    propagation: Option<Propagation>,
    uid: String,
    revision: String,
    pub(crate) dry_run: bool,
}

impl DeleteOptions {
    /// Reads them from a body; an empty one says nothing.
    pub(crate) fn parse(body: &Value) -> Result<Self, Refusal> {
        let odd = |parameter, value: &Value| Malformed::Query { parameter, value: value.to_string() };
        let grace = match body.get("gracePeriodSeconds") {
            None | Some(Value::Null) => None,
            Some(value) => {
                let seconds = value.as_u64().and_then(|seconds| u32::try_from(seconds).ok());
                Some(seconds.ok_or_else(|| odd("gracePeriodSeconds", value))?)
            }
        };
        let orphan = match body.get("orphanDependents").and_then(Value::as_bool) {
            Some(true) => Some(Propagation::Orphan),
            Some(false) => Some(Propagation::Background),
            None => None,
        };
        let dry_run = match body.get("dryRun") {
            None | Some(Value::Null) => false,
            Some(Value::Array(parts)) if parts.is_empty() => false,
            Some(Value::Array(parts)) if parts.iter().all(|part| part == "All") => true,
            Some(value) => return Err(odd("dryRun", value).into()),
        };
        Ok(Self {
            grace,
            propagation: Propagation::parse(field(body, "propagationPolicy"))?.or(orphan),
            uid: crate::object::text(body, "/preconditions/uid").to_owned(),
            revision: crate::object::text(body, "/preconditions/resourceVersion").to_owned(),
            dry_run,
        })
    }
}

impl Write<'_> {
    /// Deletes one object.
    pub(crate) async fn delete(&self, options: &DeleteOptions) -> Result<Written, Refusal> {
        let name = self.name()?;
        let (object, gone) = self.delete_one(name, options).await?;
        if gone && !rules::shows_deleted(self.resource()) {
            return Ok(Written::ok(success(&self.resource().subject(name), Some(meta(&object, "uid")))));
        }
        Ok(Written::ok(object))
    }

    /// Deletes what a list with the same selectors shows.
    pub(crate) async fn delete_collection(&self, options: &DeleteOptions) -> Result<Written, Refusal> {
        let namespace = Some(self.objects.namespace.as_str()).filter(|namespace| !namespace.is_empty());
        let request =
            PageRequest { resource: &self.resource().store, namespace, revision: None, after: None };
        let page = self.api.store.page(&request)?;
        let mut items = Vec::new();
        for stored in page.objects {
            if !crate::read::is_selected(self.query, &stored) {
                continue;
            }
            let objects = crate::request::Objects {
                namespace: stored.key.namespace.to_string(),
                name: Some(stored.key.name.to_string()),
                ..self.objects.clone()
            };
            let one = Write { objects: &objects, manager: self.manager.clone(), ..*self };
            match one.delete_one(&stored.key.name, options).await {
                Ok((object, _)) => items.push(object),
                // Somebody else was faster.
                Err(Refusal::NotFound(_)) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        let kind = &self.resource().kind;
        Ok(Written::ok(json!({
            "kind": kind.list_kind, "apiVersion": kind.api_version(),
            "metadata": {"resourceVersion": self.api.store.revision().to_string()}, "items": items,
        })))
    }

    /// The object as it is after the deletion or was last, and whether it is gone.
    pub(crate) async fn delete_one(
        &self,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<(Value, bool), Refusal> {
        for _ in 0..ATTEMPTS {
            let key = self.key(name);
            let stored =
                self.api.store.get(&key).ok_or_else(|| Refusal::NotFound(self.resource().subject(name)))?;
            let operation = self.deletion(name, &stored, options)?;
            let gone = matches!(operation, Some(Operation::Delete { .. }));
            let dry = options.dry_run || self.query.dry_run;
            let Some(operation) = operation.filter(|_| !dry) else {
                return Ok((self.marked(&view(self.resource(), &stored), options), gone));
            };
            if let Some(stored) = self.commit(operation).await? {
                return Ok((view(self.resource(), &stored), gone));
            }
        }
        Err(self.contended(name))
    }

    /// The operation that deletes an object, or marks it; none if it is marked already.
    pub(crate) fn deletion(
        &self,
        name: &str,
        stored: &Stored,
        options: &DeleteOptions,
    ) -> Result<Option<Operation>, Refusal> {
        let old = view(self.resource(), stored);
        self.expect_preconditions(name, &old, &options.uid, &options.revision)?;
        rules::on_delete(self.api, self.resource(), name)?;
        let new = self.marked(&old, options);
        // Also what only lies there still: it is to go.
        Ok((new != old || is_gone(&new)).then(|| self.replacement(name, new, stored.revision)))
    }

    /// The object with its deletion written in.
    fn marked(&self, old: &Value, options: &DeleteOptions) -> Value {
        let mut new = old.clone();
        let grace = rules::grace_seconds(self.resource(), old, options.grace.or(self.query.grace));
        let before = old.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_u64);
        // A second deletion may hurry, never delay.
        let shorter = before.is_none_or(|before| u64::from(grace) < before);
        if !is_deleting(old) || shorter {
            let deadline = self.now.plus(Duration::from_secs(grace.into()));
            if !is_deleting(old) || before.is_some() {
                set_meta(&mut new, "deletionTimestamp", Some(moment::text(deadline).into()));
            }
            set_meta(&mut new, "deletionGracePeriodSeconds", Some(grace.into()));
        }
        if !is_deleting(old) {
            let finalizer = match options.propagation.or(self.query.propagation) {
                Some(Propagation::Foreground) => Some("foregroundDeletion"),
                Some(Propagation::Orphan) => Some("orphan"),
                Some(Propagation::Background) | None => None,
            };
            let mut finalizers = texts(old, "/metadata/finalizers");
            if let Some(finalizer) = finalizer.filter(|finalizer| !finalizers.contains(finalizer)) {
                finalizers.push(finalizer);
                set_meta(&mut new, "finalizers", Some(json!(finalizers)));
            }
            rules::on_mark(self.resource(), &mut new);
            if rules::has_generation(self.resource())
                && let Some(generation) = old.pointer("/metadata/generation").and_then(Value::as_i64)
            {
                set_meta(&mut new, "generation", Some(json!(generation + 1)));
            }
        }
        new
    }
}
