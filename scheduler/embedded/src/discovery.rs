//! What there is: the version, the groups, the resources of each.

use serde_json::json;

use crate::refusal::Refusal;
use crate::registry::Registry;
use crate::reply::Reply;
use crate::request::Accept;

/// A page of discovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// `GET /version`.
    Version,
    /// `GET /api`.
    Api,
    /// `GET /apis`.
    Apis,
    /// `GET /apis/GROUP`.
    Group(String),
    /// `GET /api/v1` or `/apis/GROUP/VERSION`.
    Resources {
        /// Group; empty for the core group.
        group: String,
        /// Version.
        version: String,
    },
}

pub(crate) fn answer(page: &Page, _accept: &Accept, _registry: &Registry) -> Reply {
    match page {
        Page::Version => Reply::json(&json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0+coffer"})),
        _ => Refusal::NoPath.into(),
    }
}
