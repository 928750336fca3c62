//! Where the sites are now: the EndpointSlices of the fleet become the file in
//! which the service looks. So a pod that moves changes no configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coffer_client::profile::write_atomically;
use coffer_control::{LABEL_SET, LABEL_SITE, NAMESPACE};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::SET;
use super::pods::site_id;

/// Annotation of a pod: how often its site was started.
const EPOCH: &str = "fleet.coffer/epoch";

/// Where the file is.
pub(super) fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("fleet").join("endpoints.json")
}

/// Keeps the file as the slices are.
pub(super) async fn keep(client: Client, path: PathBuf) {
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    let config = watcher::Config::default().labels(&format!("{LABEL_SET}={SET}"));
    let mut events = std::pin::pin!(watcher(slices, config).default_backoff());
    let mut known: BTreeMap<String, Value> = BTreeMap::new();
    while let Some(event) = events.next().await {
        // A pod that is gone for now comes back where it was; where it is not, nobody answers.
        if let Ok(watcher::Event::Apply(slice) | watcher::Event::InitApply(slice)) = event
            && let Some((site, line)) = line(&client, &slice).await
        {
            known.insert(site, line);
        }
        let text = json!({ "format": 1, "sites": known.values().collect::<Vec<_>>() }).to_string();
        // The next change writes it again; until then the service asks at the old places.
        drop(write_atomically(&path, text.as_bytes()));
    }
}

async fn line(client: &Client, slice: &EndpointSlice) -> Option<(String, Value)> {
    let pod = slice.labels().get(LABEL_SITE)?;
    let address = slice.endpoints.first()?.addresses.first()?;
    let port = slice.ports.as_ref()?.first()?.port?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let site = site_id(secrets.get_opt(&format!("{pod}-certificate")).await.ok()??)?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let pod = pods.get_opt(pod).await.ok()??;
    let epoch: Option<u64> = pod.annotations().get(EPOCH).and_then(|text| text.parse().ok());
    let host = if address.contains(':') { format!("[{address}]") } else { address.clone() };
    let line = json!({ "site": site, "endpoint": format!("https://{host}:{port}"), "incarnation": epoch });
    Some((site, line))
}
