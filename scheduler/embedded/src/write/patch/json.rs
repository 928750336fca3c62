//! JSON Patch, RFC 6902, with one leniency that clients count on: a test for
//! `null` holds where there is nothing.

use json_patch::PatchOperation;
use serde_json::Value;

use crate::refusal::{Malformed, Refusal, Subject};

/// Operations of one patch, at most, as in Kubernetes.
const OPERATIONS_MAX: usize = 10_000;

pub(super) fn parse(bytes: &[u8]) -> Result<Vec<PatchOperation>, Refusal> {
    let operations: Vec<PatchOperation> =
        serde_json::from_slice(bytes).map_err(|error| Malformed::Patch(error.to_string()))?;
    if operations.len() > OPERATIONS_MAX {
        return Err(Malformed::Patch(format!("more than {OPERATIONS_MAX} operations")).into());
    }
    Ok(operations)
}

pub(super) fn patch(object: &mut Value, operations: &[PatchOperation]) -> Result<(), Refusal> {
    for operation in operations {
        if let PatchOperation::Test(test) = operation
            && test.value.is_null()
            && object.pointer(test.path.as_str()).is_none()
        {
            continue;
        }
        json_patch::patch(object, std::slice::from_ref(operation)).map_err(|error| {
            let cause = crate::refusal::Cause::new(
                crate::refusal::Fault::Invalid,
                operation.path().to_string(),
                error.kind.to_string(),
            );
            let subject = Subject {
                group: String::new(),
                kind: crate::object::field(object, "kind").to_owned(),
                name: crate::object::meta(object, "name").to_owned(),
            };
            Refusal::Invalid { subject, causes: vec![cause] }
        })?;
    }
    Ok(())
}
