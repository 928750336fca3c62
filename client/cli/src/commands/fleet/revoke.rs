//! `coffer fleet revoke`: a statement of where a node stands is taken back. It is
//! named by its digest, whoever signed it, so that no key is needed for it.

use coffer_control::attestation::{Said, said_by};
use coffer_control::{ATTESTATION, REVOCATIONS};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;

use super::{Fleet, failed};
use crate::context::Context;
use crate::exit::{Exit, Failure};

/// A reason is a sentence, not a document.
const REASON_MAX: usize = 1024;

pub(super) async fn revoke(
    context: &Context<'_>,
    fleet: &Fleet,
    node: Option<String>,
    attestation: Option<String>,
    reason: &str,
) -> Result<Exit, Failure> {
    if reason.len() > REASON_MAX {
        return Err(Failure::usage(format!("a reason has at most {REASON_MAX} bytes")));
    }
    let text = match (attestation, node) {
        (Some(text), _) => text.trim().to_owned(),
        (None, Some(node)) => carried(fleet, &node).await?,
        // The flags ask for one of the two.
        (None, None) => String::new(),
    };
    let Some(Said { id, statement }) = said_by(&text) else {
        return Err(Failure::new("this is no attestation of the form v1.STATEMENT.SIGNATURE")
            .safe("nothing was revoked")
            .next("a node that carries none of that form is believed nothing anyway"));
    };
    note(fleet, &id, reason).await?;
    context.output.object(&json!({
        "revoked": id, "node": statement.node, "country": statement.country, "reason": reason,
    }));
    context.output.text(format_args!(
        "revoked {id}: {} is not believed to stand in {} any more; `coffer fleet pods` shows its pods go after their data",
        statement.node, statement.country
    ));
    Ok(Exit::Success)
}

/// What a node carries now.
async fn carried(fleet: &Fleet, node: &str) -> Result<String, Failure> {
    let object = Api::<Node>::all(fleet.client.clone()).get(node).await.map_err(|error| failed(&error))?;
    object.annotations().get(ATTESTATION).cloned().ok_or_else(|| {
        Failure::new(format!("{node} carries no attestation"))
            .safe("nothing was revoked")
            .next("it is believed to stand nowhere; no pod of a site set goes there")
    })
}

/// One key more in the map of revoked statements; those that are in it stay.
async fn note(fleet: &Fleet, id: &str, reason: &str) -> Result<(), Failure> {
    let api: Api<ConfigMap> = Api::namespaced(fleet.client.clone(), &fleet.namespace);
    let is = |error: &kube::Error, code| matches!(error, kube::Error::Api(status) if status.code == code);
    let patch = Patch::Merge(json!({ "data": { id: reason } }));
    let patched = api.patch(REVOCATIONS, &PatchParams::default(), &patch).await;
    let created = match patched {
        Err(error) if is(&error, 404) => {
            let map = ConfigMap {
                metadata: ObjectMeta { name: Some(REVOCATIONS.to_owned()), ..ObjectMeta::default() },
                data: Some([(id.to_owned(), reason.to_owned())].into()),
                ..ConfigMap::default()
            };
            api.create(&PostParams::default(), &map).await
        }
        done => done,
    };
    let done = match created {
        // Somebody else made it meanwhile.
        Err(error) if is(&error, 409) => api.patch(REVOCATIONS, &PatchParams::default(), &patch).await,
        done => done,
    };
    done.map(drop).map_err(|error| failed(&error))
}
