//! Several changes at once, all or none, on the disk by one fsync: what the
//! embedded home can do and a real cluster cannot. A binding goes with the
//! record of its decision and the capacity that it takes.

use std::sync::Arc;

use serde_json::Value;

use crate::api::view;
use crate::embedded::Embedded;
use crate::fields::Operation as Ownership;
use crate::identity::Identity;
use crate::kinds::Verb;
use crate::object::{field, meta, revision};
use crate::refusal::{Malformed, Refusal};
use crate::request::{Objects, Part, Query};
use crate::store::{CommitError, Expect, Operation, Stored};
use crate::write::{ATTEMPTS, Write};

/// One change of a transaction. Objects name their kind by `apiVersion` and `kind`.
#[derive(Clone, Debug)]
pub enum Change {
    /// A new object.
    Create(Value),
    /// The object in the place of the present one; with a `metadata.resourceVersion`, only of that one.
    /// One that is being deleted goes when nothing holds it back any more.
    Replace(Value),
    /// Only the status of the object.
    ReplaceStatus(Value),
    /// A `Binding` of core/v1: the pod that its metadata names to the node of its target.
    Bind(Value),
}

impl Change {
    fn object(&self) -> &Value {
        match self {
            Self::Create(object)
            | Self::Replace(object)
            | Self::ReplaceStatus(object)
            | Self::Bind(object) => object,
        }
    }
}

impl Embedded {
    /// Carries out all changes or none, and returns the objects as they are then, or as they were
    /// last if they go with the change; an object whose change was none is left out. Not for callers that the table of authorization restricts:
    /// whoever holds the API in process may do everything.
    ///
    /// # Errors
    /// The [`Refusal`] of the first change that is refused.
    pub async fn transaction(&self, manager: &str, changes: &[Change]) -> Result<Vec<Arc<Stored>>, Refusal> {
        for _ in 0..ATTEMPTS {
            let mut operations = Vec::with_capacity(changes.len());
            for change in changes {
                operations.extend(self.planned(manager, change)?);
            }
            match self.api.store.commit(operations).await {
                Ok(stored) => {
                    if stored.iter().any(|one| &*one.key.resource == crate::api::DEFINITIONS) {
                        self.api.refresh_definitions();
                    }
                    return Ok(stored);
                }
                // Whoever came first is seen by the next attempt, which refuses if that is final.
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refusal::Unavailable { why: "other changes came first each time; try again".to_owned() })
    }

    fn planned(&self, manager: &str, change: &Change) -> Result<Option<Operation>, Refusal> {
        let object = change.object();
        let (version, kind) = match change {
            Change::Bind(_) => ("v1", "Pod"),
            _ => (field(object, "apiVersion"), field(object, "kind")),
        };
        let resource = self.api.registry.of_kind(version, kind).ok_or_else(|| {
            Refusal::Malformed(Malformed::Kind {
                expected: "a kind that is served".to_owned(),
                found: kind.to_owned(),
            })
        })?;
        let (verb, part) = match change {
            Change::Create(_) => (Verb::Create, None),
            Change::Replace(_) => (Verb::Update, None),
            Change::ReplaceStatus(_) => (Verb::Update, Some(Part::Status)),
            Change::Bind(_) => (Verb::Create, Some(Part::Binding)),
        };
        let name = (verb == Verb::Update || part.is_some()).then(|| meta(object, "name").to_owned());
        let objects = Objects { resource, verb, namespace: meta(object, "namespace").to_owned(), name, part };
        let (query, identity) = (Query::default(), Identity::inside());
        let write = Write {
            api: &self.api,
            objects: &objects,
            query: &query,
            identity: &identity,
            manager: manager.to_owned(),
            now: self.api.clock.now(),
        };
        match change {
            Change::Create(object) => {
                let (name, object, _) = write.prepare(object.clone(), Ownership::Update)?;
                if self.api.store.get(&write.key(&name)).is_some() {
                    return Err(Refusal::AlreadyExists(write.resource().subject(&name)));
                }
                Ok(Some(write.put(&name, object, Expect::Absent)))
            }
            Change::Bind(binding) => write.binding(write.name()?, binding).map(Some),
            Change::Replace(object) | Change::ReplaceStatus(object) => {
                let name = write.name()?;
                let missing = || Refusal::NotFound(write.resource().subject(name));
                let stored = self.api.store.get(&write.key(name)).ok_or_else(missing)?;
                let old = view(write.resource(), &stored);
                write.expect_preconditions(name, &old, "", revision(object))?;
                let (new, _) = write.finish(name, &old, object.clone(), Ownership::Update)?;
                Ok((new != old).then(|| write.replacement(name, new, stored.revision)))
            }
        }
    }
}
