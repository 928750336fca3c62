//! The map of revoked attestations, read where somebody asks once. The scheduler
//! follows it instead (`watching.rs`).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};

use crate::names::REVOCATIONS;

/// The statements that operators of this namespace's fleet have revoked: why, for people, by their ids.
///
/// # Errors
/// The API's.
pub async fn revocations(client: &Client, namespace: &str) -> Result<BTreeMap<String, String>, kube::Error> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    Ok(maps.get_opt(REVOCATIONS).await?.and_then(|map| map.data).unwrap_or_default())
}
