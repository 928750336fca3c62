//! Where the sites are now: the EndpointSlices of a fleet become the file in
//! which the service looks. So a pod that moves changes no configuration, and a
//! service that starts while the API is away knows where its sites were.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use coffer_client::profile::{ProfileError, write_atomically};
use coffer_control::{EPOCH, SITE_ID};
use coffer_model::SiteId;
use futures::StreamExt as _;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::exit::Failure;
use crate::files;
use crate::output::trouble;

/// Where the file is.
pub(super) fn file(data_dir: &Path) -> PathBuf {
    data_dir.join("fleet").join("endpoints.json")
}

/// The longest file of endpoints, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// The file, and what stands in it: what is known stays known over a restart, and is written
/// only where it changed.
pub(in crate::commands) struct Endpoints {
    path: PathBuf,
    /// Lines by their sites.
    known: BTreeMap<String, Value>,
    /// What is on the disk.
    written: Option<String>,
}

impl Endpoints {
    /// Reads the file; where there is none, an empty one is written, so that whoever looks finds it.
    pub(in crate::commands) fn open(path: PathBuf) -> Result<Self, Failure> {
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

    /// Keeps the file as the slices of a Service are; `listed` is told once all that there are were seen.
    pub(in crate::commands) async fn keep(
        mut self,
        client: Client,
        namespace: &str,
        service: &str,
        listed: &watch::Sender<bool>,
    ) {
        let slices: Api<EndpointSlice> = Api::namespaced(client, namespace);
        let config = watcher::Config::default().labels(&format!("{SERVICE}={service}"));
        let mut events = std::pin::pin!(watcher(slices, config).default_backoff());
        while let Some(event) = events.next().await {
            match event {
                // A pod that is gone for now comes back where it was; where it is not, nobody answers.
                Ok(watcher::Event::Apply(slice) | watcher::Event::InitApply(slice)) => {
                    if let Some((site, line)) = line(&slice)
                        && let Err(error) = self.set(site, line)
                    {
                        // The next change writes it again; until then the service asks at the old places.
                        trouble(format_args!("{}: {error}", self.path.display()));
                    }
                }
                Ok(watcher::Event::InitDone) => {
                    listed.send_replace(true);
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
}

/// Label of a slice: the Service that it is of.
const SERVICE: &str = "kubernetes.io/service-name";

/// What a slice says of its site, if it says which. One that makes no sense must not spoil the file.
fn line(slice: &EndpointSlice) -> Option<(String, Value)> {
    let site: SiteId = slice.annotations().get(SITE_ID)?.parse().ok()?;
    let site = site.to_string();
    let address = slice.endpoints.first()?.addresses.first()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-');
    if address.is_empty() || !address.chars().all(plain) {
        return None;
    }
    let port = u16::try_from(slice.ports.as_ref()?.first()?.port?).ok()?;
    let epoch: Option<u64> = slice.annotations().get(EPOCH).and_then(|text| text.parse().ok());
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
    fn a_slice_that_does_not_say_which_site_it_is_of_or_where_is_no_line_whatever_its_name() {
        let slice = |annotations: Value, address: &str, port: i32| -> EndpointSlice {
            serde_json::from_value(json!({
                "metadata": { "name": "sites-0", "annotations": annotations },
                "addressType": "IPv6",
                "endpoints": [{ "addresses": [address] }],
                "ports": [{ "name": "site", "port": port }],
            }))
            .unwrap()
        };
        let id = SiteId::from_bytes([7; 16]).to_string();
        let named = || json!({ SITE_ID: id, EPOCH: "3" });
        let (site, text) = super::line(&slice(named(), "fd00::7", 7441)).unwrap();
        let wanted = json!({ "site": id, "endpoint": "https://[fd00::7]:7441", "incarnation": 3 });
        assert_eq!((site, text), (id.clone(), wanted));
        for bad in [
            slice(json!({ EPOCH: "3" }), "fd00::7", 7441),
            slice(json!({ SITE_ID: "sites-0" }), "fd00::7", 7441),
            slice(named(), "", 7441),
            slice(named(), "a/b", 7441),
            slice(named(), "fd00::7", 70_000),
        ] {
            assert_eq!(super::line(&bad), None, "{bad:?}");
        }
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
