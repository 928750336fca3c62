//! Where the stories happen: on an embedded API of their own, or on the cluster
//! that KUBECONFIG names. There they work in namespaces and on nodes of their
//! own, one story at a time, and the control plane binds by reservations.

use std::sync::Arc;
use std::time::Duration;

use coffer_control::{Bind, NAMESPACE, SiteSet, Transactions};
use coffer_custody::{OsEntropy, SystemClock};
use coffer_embedded::Embedded;
use coffer_model::{Clock, Entropy as _};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp as Moment;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};
use tokio::task::JoinSet;

/// The adapter that ships with the program.
#[path = "../../../../client/cli/src/commands/home/in_process.rs"]
mod in_process;

use in_process::InProcess;

/// Label of everything that these stories leave in a cluster.
const OURS: &str = "coffer-story";

/// One story at a time: nodes are the whole cluster's.
static TURN: Mutex<()> = Mutex::const_new(());

pub(crate) struct Home {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) bind: Option<Arc<dyn Bind>>,
    /// Of the nodes of a cluster.
    heartbeats: Option<Heartbeats>,
    /// The data of an embedded fleet lies here.
    _dir: Option<tempfile::TempDir>,
    _turn: Option<MutexGuard<'static, ()>>,
}

/// Whether there is a cluster to work on.
pub(crate) fn is_cluster() -> bool {
    std::env::var_os("KUBECONFIG").is_some_and(|path| !path.is_empty())
}

impl Home {
    pub(crate) async fn find(clock: Arc<dyn Clock>) -> Self {
        if is_cluster() { Self::on_cluster().await } else { Self::embedded(clock).await }
    }

    pub(crate) async fn embedded(clock: Arc<dyn Clock>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = coffer_embedded::Options {
            path: dir.path().join("fleet.sqlite"),
            limits: coffer_embedded::store::Limits::default(),
            clock,
            entropy: Arc::new(OsEntropy),
            nodes: Arc::new(coffer_embedded::NoNodeAccess),
            audit: Arc::new(coffer_embedded::NoAudit),
        };
        let embedded = Embedded::open(options).await.unwrap();
        let client = embedded.client();
        let bind = Arc::new(Transactions::new(client.clone(), InProcess(embedded)));
        Self {
            client,
            namespace: NAMESPACE.to_owned(),
            bind: Some(bind),
            heartbeats: None,
            _dir: Some(dir),
            _turn: None,
        }
    }

    async fn on_cluster() -> Self {
        let turn = TURN.lock().await;
        let mut config = Config::infer().await.unwrap();
        // A refusal by the loss budget is an answer, and not to be asked for again.
        config.default_retry = false;
        let client = Client::try_from(config).unwrap();
        wipe(&client).await;
        let mut name = [0; 4];
        OsEntropy.fill(&mut name);
        let namespace = format!("{OURS}-{:08x}", u32::from_be_bytes(name));
        make_namespace(&client, &namespace).await;
        account(&client, &namespace).await;
        let heartbeats = Some(Heartbeats::of(&client));
        Self { client, namespace, bind: None, heartbeats, _dir: None, _turn: Some(turn) }
    }

    /// The namespace of another fleet; on a cluster it goes with the others of these stories.
    pub(crate) async fn neighbour(&self) -> String {
        let name = format!("{}-neighbour", self.namespace);
        make_namespace(&self.client, &name).await;
        if is_cluster() {
            account(&self.client, &name).await;
        }
        name
    }

    /// Before a node is made: a cluster believes only those that report.
    pub(crate) async fn reports(&self, node: &str) {
        if let Some(heartbeats) = &self.heartbeats {
            heartbeats.begin(node).await;
        }
    }

    /// What a node of these stories carries.
    pub(crate) fn labels() -> serde_json::Value {
        json!({ OURS: "true" })
    }
}

async fn make_namespace(client: &Client, name: &str) {
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some([(OURS.to_owned(), "true".to_owned())].into()),
        ..ObjectMeta::default()
    };
    let object = Namespace { metadata, ..Namespace::default() };
    Api::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
}

/// Renews the leases of nodes, as their kubelets would: whether a node is ready is the story's word alone.
struct Heartbeats {
    leases: Api<Lease>,
    _renewing: JoinSet<()>,
}

impl Heartbeats {
    fn of(client: &Client) -> Self {
        let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
        let (of, mut renewing) = (leases.clone(), JoinSet::new());
        renewing.spawn(async move {
            let mut beat = tokio::time::interval(Duration::from_secs(5));
            loop {
                beat.tick().await;
                let ours = ListParams::default().labels(OURS);
                for lease in of.list(&ours).await.map(|list| list.items).unwrap_or_default() {
                    let renewed = Patch::Merge(json!({ "spec": { "renewTime": now() } }));
                    // One that does not arrive is made up for by the next.
                    drop(of.patch(&lease.name_any(), &PatchParams::default(), &renewed).await);
                }
            }
        });
        Self { leases, _renewing: renewing }
    }

    async fn begin(&self, node: &str) {
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": node, "labels": Home::labels() },
            "spec": { "holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": now() },
        });
        let params = PatchParams::apply(OURS).force();
        self.leases.patch(node, &params, &Patch::Apply(&lease)).await.unwrap();
    }
}

fn now() -> MicroTime {
    MicroTime(Moment::from_nanosecond(i128::from(SystemClock.now().0)).unwrap())
}

/// A cluster takes pods only once the namespace has its account; one that knows no accounts needs none.
async fn account(client: &Client, namespace: &str) {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let elsewhere: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    if !elsewhere.get_opt("default").await.is_ok_and(|known| known.is_some()) {
        return;
    }
    while accounts.get_opt("default").await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Removes what stories before this one left.
async fn wipe(client: &Client) {
    let (now, ours) = (DeleteParams::default().grace_period(0), ListParams::default().labels(OURS));
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for namespace in namespaces.list(&ours).await.unwrap() {
        let name = namespace.name_any();
        let sets: Api<SiteSet> = Api::namespaced(client.clone(), &name);
        // Before the first story the cluster does not know what a set is.
        let known = sets.list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        for set in known {
            let free = json!({ "metadata": { "finalizers": null } });
            let freed = sets.patch(&set.name_any(), &PatchParams::default(), &Patch::Merge(&free)).await;
            // Its controller may have let it go between the list and this.
            let gone = matches!(&freed, Err(kube::Error::Api(status)) if status.code == 404);
            assert!(gone || freed.is_ok(), "{freed:?}");
        }
        let pods: Api<Pod> = Api::namespaced(client.clone(), &name);
        for pod in pods.list(&ListParams::default()).await.unwrap() {
            // Gone meanwhile is as good here, too.
            drop(pods.delete(&pod.name_any(), &now).await);
        }
        drop(namespaces.delete(&name, &DeleteParams::default()).await);
    }
    let classes: Api<PriorityClass> = Api::all(client.clone());
    classes.delete_collection(&now, &ours).await.unwrap();
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    leases.delete_collection(&now, &ours).await.unwrap();
    let nodes: Api<Node> = Api::all(client.clone());
    for node in nodes.list(&ours).await.unwrap() {
        nodes.delete(&node.name_any(), &now).await.unwrap();
    }
}

/// Said where it can be read: a story that ran elsewhere than asked for would prove nothing.
#[tokio::test]
async fn where_these_stories_happen_is_said() {
    if is_cluster() {
        let version = Client::try_default().await.unwrap().apiserver_version().await.unwrap();
        eprintln!("THE STORIES OF THE FLEET HAPPEN ON THE CLUSTER OF KUBECONFIG, {}", version.git_version);
    } else {
        eprintln!(
            "no KUBECONFIG: the stories of the fleet on a cluster are SKIPPED, they happen on the embedded API"
        );
    }
}
