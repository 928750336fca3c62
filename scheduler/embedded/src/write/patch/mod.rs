//! Patch: the four ways to say a change, each an edit of the present state.

mod apply;
mod json;
mod strategic;

use serde_json::Value;

use super::update::Edited;
use super::{Write, Written};
use crate::body;
use crate::refusal::{Malformed, Refusal};
use crate::schema::Schema;

/// What is read where a patch is expected.
const READABLE: &str = "application/json-patch+json, application/merge-patch+json, \
    application/strategic-merge-patch+json and application/apply-patch+yaml";

/// A change that is not yet applied.
pub(crate) enum Patch {
    /// RFC 6902.
    Json(Vec<json_patch::PatchOperation>),
    /// RFC 7396.
    Merge(Value),
    /// Kubernetes' own, which knows lists by their keys.
    Strategic(Value),
    /// Server-side apply: what the manager wants.
    Apply(Value),
}

impl Patch {
    /// Parses a patch by its media type.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(crate) fn parse(content_type: &str, bytes: &[u8]) -> Result<Self, Refusal> {
        let object = |value: Value| {
            if value.is_object() {
                Ok(value)
            } else {
                Err(Malformed::Patch("an object is expected".to_owned()))
            }
        };
        match content_type {
            "application/json-patch+json" => json::parse(bytes).map(Self::Json),
            "application/merge-patch+json" => Ok(Self::Merge(object(body::json(bytes)?)?)),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic(object(body::json(bytes)?)?)),
            "application/apply-patch+yaml" | "application/apply-patch+json" => {
                Ok(Self::Apply(object(body::yaml(bytes)?)?))
            }
            sent => Err(Refusal::UnsupportedMediaType { sent: sent.to_owned(), readable: READABLE }),
        }
    }

    /// The object after the patch; server-side apply has its own way.
    pub(crate) fn edit(&self, schema: &Schema, object: &Value) -> Result<Value, Refusal> {
        let mut object = object.clone();
        match self {
            Self::Json(operations) => json::patch(&mut object, operations)?,
            Self::Merge(patch) => json_patch::merge(&mut object, patch),
            Self::Strategic(patch) => strategic::patch(schema, &mut object, patch)?,
            Self::Apply(_) => {
                return Err(Malformed::Unmeaning("server-side apply is not possible here").into());
            }
        }
        if object.is_object() {
            Ok(object)
        } else {
            Err(Malformed::Patch("the result is no object".to_owned()).into())
        }
    }
}

impl Write<'_> {
    /// Changes the object, or its part, by a patch.
    pub(crate) async fn patch(&self, patch: &Patch) -> Result<Written, Refusal> {
        let name = self.name()?;
        match patch {
            Patch::Apply(wanted) => self.apply(name, wanted).await,
            Patch::Strategic(_) if self.resource().definition.is_some() => {
                let sent = "application/strategic-merge-patch+json".to_owned();
                let readable = "the other three kinds of patch for custom resources";
                Err(Refusal::UnsupportedMediaType { sent, readable })
            }
            patch => {
                let schema = &self.resource().schema;
                self.alter(name, |old| patch.edit(schema, old).map(Edited::from)).await
            }
        }
    }
}
