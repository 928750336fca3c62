//! Two views of one stored object: events of core/v1 and of events.k8s.io/v1.

use serde_json::Value;

/// From the view of the request's resource to the stored one.
pub(crate) fn to_stored(_object: &mut Value) {}

/// From the stored view to that of the request's resource.
pub(crate) fn from_stored(_object: &mut Value) {}
