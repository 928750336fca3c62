//! A fleet for stories, of real processes: a control plane, an agent for each
//! node, in a network namespace of its own where that is permitted, and pods that
//! hold the sites of a deployment; all of it can be killed, stopped and cut off.

mod control;
mod node;
mod steps;
mod traffic;
mod writer;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coffer_custody::OsEntropy;
use coffer_server::{EndpointsFile, Host, HostSites};
use k8s_openapi::api::core::v1::Pod;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tempfile::TempDir;

use crate::{Deployment, Namespace, host};
use control::ControlPlane;
use node::Node;

pub(crate) use node::{Container, containers_in};
pub use steps::{Measured, Story};
pub use traffic::Traffic;

/// Where the nodes stand: six for the pods, and one to spare.
const COUNTRIES: [&str; 7] = ["DE", "FR", "NL", "CH", "SE", "ES", "IT"];
/// Nodes that have no pod at first.
const SPARE: usize = 1;
/// The disk of each pod, in bytes.
const DISK: u64 = 256 << 20;
/// The port of the fleet's API.
const API_PORT: u16 = 7421;
/// Whoever takes longer is stuck.
const STUCK: Duration = Duration::from_secs(600);
/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(50);

/// The programs of a fleet.
#[derive(Clone, Debug)]
pub struct Programs {
    coffer: PathBuf,
    node: PathBuf,
    site: PathBuf,
}

impl Programs {
    /// Those of the build that the running program belongs to.
    ///
    /// # Panics
    /// If they have not been built.
    pub fn find() -> Self {
        let own = std::env::current_exe().unwrap();
        let has =
            |dir: &&Path| ["coffer", "coffer-node", "coffer-site"].iter().all(|name| dir.join(name).exists());
        let dir = own.ancestors().skip(1).take(3).find(has);
        assert!(
            dir.is_some(),
            "coffer, coffer-node and coffer-site are not there: `cargo build --bins` builds them"
        );
        let of = |name: &str| dir.unwrap().join(name);
        Self { coffer: of("coffer"), node: of("coffer-node"), site: of("coffer-site") }
    }

    /// The program of operators and tenants.
    pub(crate) fn coffer(&self) -> &Path {
        &self.coffer
    }
}

/// What runs the pods of a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// Processes that the agents confine.
    Process,
    /// Containers of the machine's `runc`.
    Runc,
}

impl Runs {
    /// As `coffer-node` takes it.
    fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Runc => "runc",
        }
    }

    /// Why this machine does not do it.
    pub fn missing(self) -> Option<String> {
        let runc = || std::process::Command::new("runc").arg("--version").output();
        (self == Self::Runc).then(runc)?.err().map(|error| format!("runc: {error}"))
    }
}

/// A fleet with a deployment on it.
pub struct Fleet {
    control: ControlPlane,
    nodes: Vec<Node>,
    client: Client,
    /// Empty where the machine does not permit them.
    namespaces: Vec<Namespace>,
    /// Last: its directory goes with it.
    deployment: Deployment,
}

/// One pod, and where it runs.
struct Placed {
    node: usize,
    epoch: u64,
}

/// Waits until it is so.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let found = tokio::time::timeout(STUCK, looking).await;
    assert!(found.is_ok(), "it never came: {what}");
    found.unwrap()
}

/// The site file that says where nodes stand.
fn places() -> String {
    let entry = |(n, country): (usize, &&str)| {
        format!("[[site]]\nname = \"n{n}\"\ncountry = \"{country}\"\ndomain = \"d{n}\"\ntier = \"III\"\n")
    };
    COUNTRIES.iter().enumerate().map(entry).collect()
}

/// A network for each node; none, said aloud, where they cannot be had.
fn networks() -> Vec<Namespace> {
    let all = (0..).zip(COUNTRIES).map(|(n, _)| Namespace::make(n)).collect::<Result<Vec<_>, _>>();
    all.unwrap_or_else(|reason| {
        eprintln!(
            "NO NETWORK NAMESPACES with a packet filter here, the nodes stand on the loopback: {reason}"
        );
        Vec::new()
    })
}

/// Addresses of the loopback that nobody else's fleet has at this moment.
fn loopback(last: usize) -> Ipv4Addr {
    let [_, _, x, y] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, x.max(1), y, u8::try_from(last).unwrap())
}

impl Fleet {
    /// Starts everything, and founds a deployment of six sites on six pods.
    ///
    /// # Panics
    /// If it does not come to serve.
    #[expect(clippy::disallowed_methods, reason = "the story writes what an operator would")]
    pub async fn start(programs: &Programs, runs: Runs) -> Self {
        let namespaces = networks();
        let dir = TempDir::new().unwrap();
        let data = dir.path().join("data");
        let file = dir.path().join("places.toml");
        std::fs::write(&file, places()).unwrap();
        let api = namespaces.first().map_or_else(|| loopback(1), |namespace| namespace.gateway);
        let api = SocketAddr::from((api, API_PORT));
        let mut control = ControlPlane::start(programs, dir.path(), &file, api);
        control.until("the nodes can be started", |event| event.get("nodes").is_some()).await;
        let node = |n: usize| {
            let namespace = namespaces.get(n);
            let address = namespace.map_or_else(|| loopback(n + 2), |namespace| namespace.address);
            let launcher = namespace.map(Namespace::launcher).unwrap_or_default();
            Node::new((programs, runs), data.join("fleet/nodes").join(format!("n{n}")), address, launcher)
        };
        let mut nodes: Vec<Node> = (0..COUNTRIES.len()).map(node).collect();
        nodes.iter_mut().for_each(Node::start);
        let ready = control.until("the pods serve", |event| event.get("ready").is_some()).await;
        let sites = std::fs::read_to_string(ready["sites"].as_str().unwrap()).unwrap();
        let endpoints = PathBuf::from(ready["endpoints"].as_str().unwrap());
        let known = async || EndpointsFile::open(&endpoints).ok();
        let found = Arc::new(until("the pods are found", known).await);
        let host = Host { sites: Arc::new(HostSites::new(Arc::new(OsEntropy)).finding(found)), ..host() };
        let kubeconfig = dir.path().join("operator/fleet/kubeconfig");
        let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
        let mut config =
            Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
        config.default_retry = false;
        let client = Client::try_from(config).unwrap();
        let deployment = Deployment::with_credentials_on(dir, host, &sites).await;
        Self { control, nodes, client, namespaces, deployment }
    }

    /// Whether nodes have networks of their own.
    pub fn has_namespaces(&self) -> bool {
        !self.namespaces.is_empty()
    }

    /// The deployment on the pods.
    pub fn deployment(&self) -> &Deployment {
        &self.deployment
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "coffer")
    }

    /// Where a pod is, and its epoch; `None` while it has no node.
    async fn placed(&self, pod: &str) -> Option<Placed> {
        let pod = self.pods().get_opt(pod).await.ok()??;
        let node = pod.spec?.node_name?;
        let epoch = pod.metadata.annotations?.get("fleet.coffer/epoch")?.parse().ok()?;
        Some(Placed { node: node.strip_prefix('n')?.parse().ok()?, epoch })
    }

    async fn is_ready(&self, pod: &str) -> bool {
        let Ok(Some(pod)) = self.pods().get_opt(pod).await else { return false };
        let conditions = pod.status.and_then(|status| status.conditions).unwrap_or_default();
        conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True")
    }

    /// Until the service sees a site so.
    async fn until_site(&self, name: &str, what: &str, is: impl Fn(&coffer_client::SiteInfo) -> bool) {
        let look = async || is(&self.deployment.site(name).await).then_some(());
        until(&format!("{name} {what}"), look).await;
    }

    /// Until every site that the deployment was founded on takes writes.
    pub async fn until_whole(&self) {
        for n in 0..COUNTRIES.len() - SPARE {
            let whole = |site: &coffer_client::SiteInfo| site.alive && !site.read_only;
            self.until_site(&format!("sites-{n}"), "takes writes", whole).await;
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.control.kill();
        self.nodes.iter_mut().for_each(Node::end);
    }
}
