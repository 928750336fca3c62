//! Changes. Each verb has its file; what they share is here: who writes, how a
//! new state of an object is made right and proven valid, and how it gets into
//! the store although others write too.

mod create;
mod delete;
mod finish;
mod patch;
mod update;

use std::sync::Arc;

use bytes::Bytes;
use coffer_model::Timestamp;
use http::StatusCode;
use serde_json::Value;

pub(crate) use delete::DeleteOptions;
pub(crate) use patch::Patch;
pub(crate) use update::Edited;

use crate::api::{Api, DEFINITIONS, stored_form, view_bytes};
use crate::identity::Identity;
use crate::object::meta;
use crate::refusal::{Malformed, Refusal};
use crate::registry::Resource;
use crate::reply::Reply;
use crate::request::{FieldValidation, Objects, Query};
use crate::store::{CommitError, Key, Operation, Stored};

/// How often a change is tried anew because another one came first.
pub(crate) const ATTEMPTS: usize = 32;

/// One request that changes something.
pub(crate) struct Write<'a> {
    pub(crate) api: &'a Api,
    pub(crate) objects: &'a Objects,
    pub(crate) query: &'a Query,
    pub(crate) identity: &'a Identity,
    /// Who owns the fields that it sets.
    pub(crate) manager: String,
    /// When it came.
    pub(crate) now: Timestamp,
}

/// What a change left.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) status: StatusCode,
    pub(crate) object: Shown,
    pub(crate) warnings: Vec<String>,
}

/// What a change is answered with.
#[derive(Debug)]
pub(crate) enum Shown {
    /// An object that was made for the answer.
    Made(Value),
    /// An object as it was stored: its bytes are there already.
    Stored {
        /// Its name.
        name: Arc<str>,
        /// As the resource shows it.
        bytes: Bytes,
    },
}

impl Shown {
    pub(crate) fn stored(resource: &Resource, stored: &Stored) -> Self {
        Self::Stored { name: Arc::clone(&stored.key.name), bytes: view_bytes(resource, stored) }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Made(object) => meta(object, "name"),
            Self::Stored { name, .. } => name,
        }
    }

    /// The object itself; what was stored is always JSON.
    pub(crate) fn value(self) -> Value {
        match self {
            Self::Made(object) => object,
            Self::Stored { bytes, .. } => serde_json::from_slice(&bytes).unwrap_or_default(),
        }
    }
}

impl Written {
    pub(crate) fn ok(object: Value) -> Self {
        Self { status: StatusCode::OK, object: Shown::Made(object), warnings: Vec::new() }
    }
}

impl From<Written> for Reply {
    fn from(written: Written) -> Self {
        let reply = match written.object {
            Shown::Made(object) => Self::json(&object),
            Shown::Stored { bytes, .. } => Self::bytes(written.status, bytes),
        };
        reply.status(written.status).warnings(written.warnings)
    }
}

impl Write<'_> {
    pub(crate) fn resource(&self) -> &Resource {
        &self.objects.resource
    }

    /// The name that the path gives.
    pub(crate) fn name(&self) -> Result<&str, Refusal> {
        self.objects.name.as_deref().ok_or_else(|| Malformed::NoName.into())
    }

    pub(crate) fn key(&self, name: &str) -> Key {
        Key::new(&self.objects.resource.store, &self.objects.namespace, name)
    }

    /// Fields that nobody knows: refused, warned of or passed over.
    fn unknown_fields(&self, unknown: Vec<String>) -> Result<Vec<String>, Refusal> {
        if unknown.is_empty() {
            return Ok(Vec::new());
        }
        let lines = unknown.iter().map(|field| format!("unknown field \"{field}\""));
        match self.query.validation {
            FieldValidation::Ignore => Ok(Vec::new()),
            FieldValidation::Warn => Ok(lines.collect()),
            FieldValidation::Strict => Err(Malformed::Strict(lines.collect::<Vec<_>>().join(", ")).into()),
        }
    }

    /// Commits one operation; none if another change of the object came first.
    pub(crate) async fn commit(&self, operation: Operation) -> Result<Option<Arc<Stored>>, Refusal> {
        let outcome = self.api.store.commit(vec![operation]).await;
        let stored = match outcome {
            Ok(stored) => stored,
            Err(CommitError::Conflict { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if &*self.resource().store == DEFINITIONS {
            self.api.refresh_definitions();
        }
        Ok(stored.into_iter().next())
    }

    pub(crate) fn put(&self, name: &str, object: Value, expect: crate::store::Expect) -> Operation {
        Operation::Put { key: self.key(name), object: stored_form(self.resource(), object), expect }
    }

    /// Too many others changed the object at the same time.
    pub(crate) fn contended(&self, name: &str) -> Refusal {
        Refusal::Conflict {
            subject: self.resource().subject(name),
            why:
                "the object has been modified; please apply your changes to the latest version and try again"
                    .to_owned(),
            causes: Vec::new(),
        }
    }
}
