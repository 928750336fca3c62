//! `coffer fleet apply`: server-side apply of the documents of a file.

use std::path::Path;

use coffer_control::FIELD_MANAGER;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::{Fleet, failed};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::files;

/// No file of objects comes near.
const FILE_MAX: u64 = 4 << 20;

pub(super) async fn apply(
    context: &Context<'_>,
    fleet: &Fleet,
    file: &Path,
    dry_run: bool,
) -> Result<Exit, Failure> {
    let text = if file == Path::new("-") {
        String::from_utf8_lossy(&files::read_small_from(std::io::stdin().lock(), file, FILE_MAX)?)
            .into_owned()
    } else {
        String::from_utf8_lossy(&files::read_small(file, FILE_MAX)?).into_owned()
    };
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).map_err(|error| {
        Failure::new(format!("{}: {error}", file.display()))
            .safe("nothing was changed")
            .next("write YAML or JSON documents, several with lines of --- between")
    })?;
    let mut params = PatchParams::apply(FIELD_MANAGER);
    params.dry_run = dry_run;
    params.force = true;
    for document in documents.iter().filter(|document| !document.is_null()) {
        let name = one(fleet, document, &params).await?;
        let done = if dry_run { "would be applied" } else { "applied" };
        context.output.object(&json!({ "object": name, "dry_run": dry_run }));
        context.output.text(format_args!("{name} {done}"));
    }
    Ok(Exit::Success)
}

async fn one(fleet: &Fleet, document: &Value, params: &PatchParams) -> Result<String, Failure> {
    let object: DynamicObject = serde_json::from_value(document.clone()).map_err(|error| {
        Failure::new(format!("a document is no object with apiVersion, kind and metadata: {error}"))
            .safe("documents before it were applied")
    })?;
    let types = object.types.clone().unwrap_or_default();
    let kind = GroupVersionKind::try_from(&types)
        .map_err(|error| Failure::new(error).safe("documents before it were applied"))?;
    let (resource, capabilities) =
        discovery::pinned_kind(&fleet.client, &kind).await.map_err(|error| failed(&error))?;
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(fleet.client.clone(), &resource),
        Scope::Namespaced => {
            let namespace = object.namespace().unwrap_or_else(|| fleet.namespace.clone());
            Api::namespaced_with(fleet.client.clone(), &namespace, &resource)
        }
    };
    let name = object.name_any();
    api.patch(&name, params, &Patch::Apply(document)).await.map_err(|error| failed(&error))?;
    Ok(format!("{}/{name}", kind.kind.to_lowercase()))
}
