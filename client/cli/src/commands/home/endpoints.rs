//! Where the sites are now: the EndpointSlices of the fleet become the file in
//! which the service looks. So a pod that moves changes no configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coffer_client::profile::{ProfileError, write_atomically};
use coffer_control::{LABEL_SET, LABEL_SITE, NAMESPACE};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use super::SET;
use crate::commands::fleet::site_id;
use crate::exit::Failure;
use crate::files;
use crate::output::trouble;

/// Annotation of a pod: how often its site was started.
const EPOCH: &str = "fleet.coffer/epoch";

/// Where the file is.
pub(super) fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("fleet").join("endpoints.json")
}

/// The longest file of endpoints, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// The file, and what stands in it: what is known stays known over a restart, and is written
/// only where it changed.
pub(super) struct Endpoints {
    path: PathBuf,
    /// Lines by their sites.
    known: BTreeMap<String, Value>,
    /// What is on the disk.
    written: Option<String>,
}

impl Endpoints {
    /// Reads the file; where there is none, an empty one is written, so that whoever looks finds it.
    pub(super) fn open(path: PathBuf) -> Result<Self, Failure> {
        let mut file = Self { path, known: BTreeMap::new(), written: None };
        if file.path.exists() {
            let text = String::from_utf8(files::read_small(&file.path, FILE_MAX)?).unwrap_or_default();
            let stored: Value = serde_json::from_str(&text).unwrap_or_default();
            let lines = stored.get("sites").and_then(Value::as_array).into_iter().flatten();
            let site = |line: &Value| Some((line.get("site")?.as_str()?.to_owned(), line.clone()));
            file.known = lines.filter_map(site).collect();
            file.written = Some(text);
        }
        file.write()?;
        Ok(file)
    }

    /// A site is there now.
    fn set(&mut self, site: String, line: Value) -> Result<(), ProfileError> {
        self.known.insert(site, line);
        self.write()
    }

    fn write(&mut self) -> Result<(), ProfileError> {
        let sites: Vec<&Value> = self.known.values().collect();
        let text = json!({ "format": 1, "sites": sites }).to_string();
        if self.written.as_ref() != Some(&text) {
            write_atomically(&self.path, text.as_bytes())?;
            self.written = Some(text);
        }
        Ok(())
    }

    /// Keeps the file as the slices are.
    pub(super) async fn keep(mut self, client: Client) {
        let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
        let config = watcher::Config::default().labels(&format!("{LABEL_SET}={SET}"));
        let mut events = std::pin::pin!(watcher(slices, config).default_backoff());
        while let Some(event) = events.next().await {
            // A pod that is gone for now comes back where it was; where it is not, nobody answers.
            if let Ok(watcher::Event::Apply(slice) | watcher::Event::InitApply(slice)) = event
                && let Some((site, line)) = line(&client, &slice).await
                && let Err(error) = self.set(site, line)
            {
                // The next change writes it again; until then the service asks at the old places.
                trouble(format_args!("{}: {error}", self.path.display()));
            }
        }
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    fn line(site: &str, port: u16) -> (String, Value) {
        (
            site.to_owned(),
            json!({ "site": site, "endpoint": format!("https://127.0.0.1:{port}"), "incarnation": 1 }),
        )
    }

    #[test]
    fn a_start_loses_no_endpoint_that_was_known_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("endpoints.json");
        let mut file = Endpoints::open(path.clone()).unwrap();
        let (site, at) = line("site-1", 1);
        file.set(site, at).unwrap();
        let before = files::read_small(&path, FILE_MAX).unwrap();
        let mut file = Endpoints::open(path.clone()).unwrap();
        assert_eq!(files::read_small(&path, FILE_MAX).unwrap(), before);
        let (site, at) = line("site-2", 2);
        file.set(site, at).unwrap();
        assert_eq!(Endpoints::open(path).unwrap().known.len(), 2);
    }

    #[test]
    fn the_file_is_written_only_where_something_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("endpoints.json");
        let mut file = Endpoints::open(path.clone()).unwrap();
        let mut inode_after = |port| {
            let (site, at) = line("site-1", port);
            file.set(site, at).unwrap();
            path.metadata().unwrap().ino()
        };
        let first = inode_after(1);
        assert_eq!(inode_after(1), first);
        assert_ne!(inode_after(2), first);
    }

    #[test]
    fn a_file_that_is_none_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("endpoints.json");
        write_atomically(&path, b"{\"format\":1,\"sites\":[{\"si").unwrap();
        assert!(Endpoints::open(path.clone()).unwrap().known.is_empty());
        assert_eq!(files::read_small(&path, FILE_MAX).unwrap(), br#"{"format":1,"sites":[]}"#);
    }
}
