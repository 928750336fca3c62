//! Update: a new state takes the place of the present one, made from it by an
//! edit that is repeated where another change came first.

use http::StatusCode;
use serde_json::Value;

use super::{ATTEMPTS, Shown, Write, Written};
use crate::api::view;
use crate::fields::Operation as Ownership;
use crate::object::{is_deleting, meta, revision};
use crate::refusal::{Malformed, Refusal};
use crate::rules;
use crate::store::{Expect, Operation};

/// What an edit makes of the present state.
pub(crate) struct Edited {
    pub(crate) object: Value,
    pub(crate) ownership: Ownership,
    pub(crate) warnings: Vec<String>,
}

impl From<Value> for Edited {
    fn from(object: Value) -> Self {
        Self { object, ownership: Ownership::Update, warnings: Vec::new() }
    }
}

impl Write<'_> {
    /// Replaces the object, or its part.
    pub(crate) async fn update(&self, mut object: Value) -> Result<Written, Refusal> {
        let name = self.name()?.to_owned();
        self.expect_kind(&mut object)?;
        self.place(&mut object)?;
        let given = meta(&object, "name");
        if given != name {
            return Err(Malformed::Mismatch { field: "name", body: given.to_owned(), path: name }.into());
        }
        if revision(&object).is_empty() && rules::needs_revision(self.resource()) {
            let field = "metadata.resourceVersion";
            let cause = crate::refusal::Cause::new(
                crate::refusal::Fault::Invalid,
                field,
                "must be specified for an update",
            );
            return Err(Refusal::Invalid {
                subject: self.resource().subject_by_kind(&name),
                causes: vec![cause],
            });
        }
        self.alter(&name, |_| Ok(object.clone().into())).await
    }

    /// Changes the object by an edit of its present state.
    pub(crate) async fn alter(
        &self,
        name: &str,
        edit: impl Fn(&Value) -> Result<Edited, Refusal>,
    ) -> Result<Written, Refusal> {
        for _ in 0..ATTEMPTS {
            let stored = self
                .api
                .store
                .get(&self.key(name))
                .ok_or_else(|| Refusal::NotFound(self.resource().subject(name)))?;
            let old = view(self.resource(), &stored);
            let Edited { object, ownership, mut warnings } = edit(&old)?;
            let (new, unknown) = self.finish(name, &old, object, ownership)?;
            warnings.extend(unknown);
            let done = |object| Written { status: StatusCode::OK, object, warnings: warnings.clone() };
            if new == old || self.query.dry_run {
                return Ok(done(Shown::Made(new)));
            }
            if let Some(stored) = self.commit(self.replacement(name, new, stored.revision)).await? {
                return Ok(done(Shown::stored(self.resource(), &stored)));
            }
        }
        Err(self.contended(name))
    }

    /// What puts a new state in the place of that of a revision: an object
    /// that is being deleted goes with what last held it back.
    pub(crate) fn replacement(&self, name: &str, new: Value, revision: u64) -> Operation {
        if is_gone(&new) {
            Operation::Delete { key: self.key(name), expect: revision }
        } else {
            self.put(name, new, Expect::Revision(revision))
        }
    }
}

/// Whether nothing holds back an object that is being deleted.
pub(super) fn is_gone(object: &Value) -> bool {
    let finalizers =
        |pointer| object.pointer(pointer).and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    let grace = object.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    // Only namespaces have finalizers in their spec.
    let is_namespace = crate::object::field(object, "kind") == "Namespace";
    is_deleting(object)
        && !finalizers("/metadata/finalizers")
        && !(is_namespace && finalizers("/spec/finalizers"))
        && grace == 0
}
