//! What objects look like: OpenAPI v3, by group and version.

use crate::refusal::Refusal;
use crate::registry::Registry;
use crate::reply::Reply;

/// A page of the description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// `GET /openapi/v3`.
    Index,
    /// `GET /openapi/v3/api/v1` or `/openapi/v3/apis/GROUP/VERSION`.
    Group {
        /// Group; empty for the core group.
        group: String,
        /// Version.
        version: String,
    },
}

pub(crate) fn answer(_page: &Page, _registry: &Registry) -> Reply {
    Refusal::NoPath.into()
}
