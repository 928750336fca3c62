//! The manifests of `scheduler/deploy/` are what the APIs take: those of kinds that the
//! embedded API serves are applied there without effect, the others are held against their types.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use coffer_control::{NAMESPACE, SiteSet, install};
use coffer_custody::{OsEntropy, SystemClock};
use coffer_embedded::{Embedded, NoAudit, NoNodeAccess, Options};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Kinds of a cluster that the embedded API does not serve.
const OF_A_CLUSTER: [&str; 6] =
    ["ClusterRole", "ClusterRoleBinding", "Deployment", "NetworkPolicy", "Role", "RoleBinding"];

/// Every document of every file, with its file.
#[expect(clippy::disallowed_methods, reason = "it reads plain files of the workspace")]
fn documents() -> Vec<(String, Value)> {
    let deploy = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy"));
    let below = |dir: PathBuf| std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = below(deploy.clone()).chain(below(deploy.join("definitions"))).collect();
    files.sort();
    let mut documents = Vec::new();
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if matches!(file.extension().and_then(|ending| ending.to_str()), Some("yaml" | "yml" | "json")) {
            let text = std::fs::read_to_string(&file).unwrap();
            let all: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
            assert!(all.iter().all(Value::is_object), "{name}");
            documents.extend(all.into_iter().map(|document| (name.clone(), document)));
        }
    }
    documents
}

fn kind(document: &Value) -> &str {
    document["kind"].as_str().unwrap()
}

/// What of `document` the type does not have, as a path.
fn left_out(document: &Value, typed: &Value, at: &str) -> Vec<String> {
    match (document, typed) {
        (Value::Object(document), Value::Object(typed)) => document
            .iter()
            .flat_map(|(name, value)| match typed.get(name) {
                Some(typed) => left_out(value, typed, &format!("{at}.{name}")),
                None => vec![format!("{at}.{name}")],
            })
            .collect(),
        (Value::Array(document), Value::Array(typed)) if document.len() == typed.len() => document
            .iter()
            .zip(typed)
            .enumerate()
            .flat_map(|(n, (value, typed))| left_out(value, typed, &format!("{at}[{n}]")))
            .collect(),
        (document, typed) if document == typed => Vec::new(),
        _ => vec![at.to_owned()],
    }
}

/// The document is one of this type, and nothing in it is left out.
fn is<T: Serialize + DeserializeOwned>(document: &Value) -> Result<(), String> {
    let typed: T = serde_json::from_value(document.clone()).map_err(|error| error.to_string())?;
    let left_out = left_out(document, &serde_json::to_value(typed).unwrap(), "");
    if left_out.is_empty() { Ok(()) } else { Err(format!("the type has no {left_out:?}")) }
}

fn is_typed(document: &Value) -> Result<(), String> {
    match kind(document) {
        "ClusterRole" => is::<ClusterRole>(document),
        "ClusterRoleBinding" => is::<ClusterRoleBinding>(document),
        "CustomResourceDefinition" => is::<CustomResourceDefinition>(document),
        "Deployment" => is::<Deployment>(document),
        "Namespace" => is::<Namespace>(document),
        "NetworkPolicy" => is::<NetworkPolicy>(document),
        "PersistentVolumeClaim" => is::<PersistentVolumeClaim>(document),
        "PodDisruptionBudget" => is::<PodDisruptionBudget>(document),
        "Role" => is::<Role>(document),
        "RoleBinding" => is::<RoleBinding>(document),
        "Service" => is::<Service>(document),
        "ServiceAccount" => is::<ServiceAccount>(document),
        "SiteSet" => is::<SiteSet>(document),
        other => Err(format!("nobody holds a {other} against anything")),
    }
}

/// Applied to the API without effect.
async fn is_taken(client: &Client, document: &Value) -> Result<(), kube::Error> {
    let object: DynamicObject = serde_json::from_value(document.clone()).unwrap();
    let kind = GroupVersionKind::try_from(object.types.as_ref().unwrap()).unwrap();
    let (resource, capabilities) = discovery::pinned_kind(client, &kind).await?;
    let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
    let api: Api<DynamicObject> = match capabilities.scope {
        Scope::Cluster => Api::all_with(client.clone(), &resource),
        Scope::Namespaced => Api::namespaced_with(client.clone(), namespace, &resource),
    };
    let params = PatchParams { dry_run: true, ..PatchParams::apply("story").force() }.validation_strict();
    api.patch(object.metadata.name.as_deref().unwrap(), &params, &Patch::Apply(document)).await.map(drop)
}

async fn api(dir: &std::path::Path) -> Client {
    let embedded = Embedded::open(Options {
        path: dir.join("fleet.sqlite"),
        limits: coffer_embedded::store::Limits::default(),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(OsEntropy),
        nodes: Arc::new(NoNodeAccess),
        audit: Arc::new(NoAudit),
    });
    let client = embedded.await.unwrap().client();
    install(&client, NAMESPACE).await.unwrap();
    client
}

#[tokio::test]
async fn every_manifest_is_taken_by_the_api_that_serves_its_kind() {
    let dir = tempfile::tempdir().unwrap();
    let client = api(dir.path()).await;
    let documents = documents();
    let (mut applied, mut held) = (0, 0);
    for (file, document) in &documents {
        let (kind, name) = (kind(document), document["metadata"]["name"].as_str().unwrap());
        assert_eq!(is_typed(document), Ok(()), "{file}: {kind} {name}");
        if OF_A_CLUSTER.contains(&kind) {
            held += 1;
        } else {
            let taken = is_taken(&client, document).await;
            assert!(taken.is_ok(), "{file}: {kind} {name}: {taken:?}");
            applied += 1;
        }
    }
    assert!(applied >= 10 && held >= 10, "{applied} applied, {held} held against types");
}

#[tokio::test]
async fn a_misspelt_field_of_a_manifest_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let client = api(dir.path()).await;
    let mut kinds = BTreeSet::new();
    for (file, mut document) in documents() {
        let kind = kind(&document).to_owned();
        // Three kinds have no part that is called so.
        let Some(spec) = document.get_mut("spec").and_then(Value::as_object_mut) else { continue };
        spec.insert("speling".to_owned(), Value::Bool(true));
        assert!(is_typed(&document).is_err(), "{file}: {kind}");
        if kind == "SiteSet" {
            assert!(is_taken(&client, &document).await.is_err());
        }
        kinds.insert(kind);
    }
    assert!(kinds.contains("SiteSet") && kinds.contains("Deployment"), "{kinds:?}");
}

/// Every name in `wanted` of an object of this kind is one that the manifests make, or that their comments ask for.
#[test]
fn what_a_manifest_names_is_there_or_asked_for() {
    let documents = documents();
    let made = |kind_of: &str| -> BTreeSet<String> {
        let all = documents.iter().filter(|(_, document)| kind(document) == kind_of);
        all.map(|(_, document)| document["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let (accounts, claims) = (made("ServiceAccount"), made("PersistentVolumeClaim"));
    // Keys and places, which no manifest may hold.
    let by_hand = ["site-authority", "service-credentials", "sites"];
    for (file, document) in documents.iter().filter(|(_, document)| kind(document) == "Deployment") {
        let deployment: Deployment = serde_json::from_value(document.clone()).unwrap();
        let spec = deployment.spec.unwrap();
        let labels = spec.template.metadata.unwrap().labels.unwrap();
        for label in spec.selector.match_labels.unwrap() {
            assert_eq!(labels.get(&label.0), Some(&label.1), "{file}");
        }
        let pod = spec.template.spec.unwrap();
        assert!(accounts.contains(pod.service_account_name.as_deref().unwrap()), "{file}");
        let volumes = pod.volumes.unwrap_or_default();
        for volume in &volumes {
            let secret = volume.secret.as_ref().and_then(|secret| secret.secret_name.as_deref());
            let map = volume.config_map.as_ref().map(|map| map.name.as_str());
            assert!(secret.into_iter().chain(map).all(|name| by_hand.contains(&name)), "{file}: {volume:?}");
            let claim = volume.persistent_volume_claim.as_ref().map(|claim| &claim.claim_name);
            assert!(claim.is_none_or(|claim| claims.contains(claim)), "{file}: {volume:?}");
        }
        for container in &pod.containers {
            let image = container.image.as_deref().unwrap();
            assert!(image.contains("@sha256:"), "{file}: {image} is not named by a digest");
            for mount in container.volume_mounts.iter().flatten() {
                assert!(volumes.iter().any(|volume| volume.name == mount.name), "{file}: {mount:?}");
            }
        }
    }
}
