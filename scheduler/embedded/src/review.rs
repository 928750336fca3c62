//! `SelfSubjectAccessReview`: may I? Answered by the same table that decides.

use http::StatusCode;
use serde_json::{Value, json};

use crate::api::Api;
use crate::authorize::{Ask, authorize};
use crate::identity::Identity;
use crate::object::{set, text};
use crate::refusal::{Cause, Fault, Refusal, Subject};
use crate::write::{Shown, Written};

pub(crate) fn answer(api: &Api, identity: &Identity, mut review: Value) -> Result<Written, Refusal> {
    let outcome = if review.pointer("/spec/resourceAttributes").is_some_and(Value::is_object) {
        let at = |name: &str| text(&review, &format!("/spec/resourceAttributes/{name}")).to_owned();
        let ask = Ask {
            verb: at("verb"),
            group: at("group"),
            resource: at("resource"),
            part: Some(at("subresource")).filter(|part| !part.is_empty()),
            namespace: at("namespace"),
            name: Some(at("name")).filter(|name| !name.is_empty()),
            ..Ask::default()
        };
        authorize(api, identity, &ask)
    } else if review.pointer("/spec/nonResourceAttributes").is_some_and(Value::is_object) {
        if text(&review, "/spec/nonResourceAttributes/verb") == "get" {
            Ok(())
        } else {
            Err(Refusal::MethodNotAllowed)
        }
    } else {
        let message = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        let kind = "SelfSubjectAccessReview".to_owned();
        let subject = Subject { group: "authorization.k8s.io".to_owned(), kind, name: String::new() };
        return Err(Refusal::Invalid { subject, causes: vec![Cause::new(Fault::Invalid, "spec", message)] });
    };
    let status = match outcome {
        Ok(()) => json!({"allowed": true}),
        Err(refusal) => json!({"allowed": false, "reason": refusal.to_string()}),
    };
    set(&mut review, "status", Some(status));
    set(&mut review, "kind", Some("SelfSubjectAccessReview".into()));
    set(&mut review, "apiVersion", Some("authorization.k8s.io/v1".into()));
    Ok(Written { status: StatusCode::CREATED, object: Shown::Made(review), warnings: Vec::new() })
}
