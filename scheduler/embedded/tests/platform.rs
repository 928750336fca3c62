//! What the platform controllers do to a store in this process, with a clock
//! that the tests move.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coffer_embedded::platform::{self, Settings};
use coffer_embedded::store::Limits;
use coffer_embedded::{Embedded, NoAudit, NoNodeAccess, Options};
use coffer_model::{Clock, Entropy, Timestamp};
use futures::StreamExt;
use futures::future::BoxFuture;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, Node, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

/// How long anything may take before a test fails. Nothing takes so long when all is well.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the lease of the node `cedar` lasts, in seconds: it renews it while the clock runs, some hundred times as
/// fast as it would, and is not to be missed because the watch of it is behind.
const NEVER_SILENT: u32 = 600;
/// 2026-01-01, in seconds.
const BEGIN: u64 = 1_767_225_600;

/// A clock that moves when it is told to.
struct HandClock(AtomicU64);

impl HandClock {
    fn forward(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        Timestamp((BEGIN + self.0.load(Ordering::SeqCst)) * 1_000_000_000)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, out: &mut [u8]) {
        for bytes in out.chunks_mut(8) {
            let next = self.0.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            bytes.copy_from_slice(next.get(..bytes.len()).unwrap());
        }
    }
}

struct Home {
    client: Client,
    clock: Arc<HandClock>,
    faults: Arc<Mutex<Vec<String>>>,
    directory: tempfile::TempDir,
    tasks: JoinSet<()>,
    /// Done when the store is closed.
    closed: BoxFuture<'static, ()>,
}

impl Home {
    async fn start() -> Self {
        let clock = Arc::new(HandClock(AtomicU64::new(0)));
        let home = Self::open(tempfile::tempdir().unwrap(), clock).await;
        home.make::<Namespace>("", json!({"metadata": {"name": "coffer"}})).await;
        home
    }

    /// The control plane ends, so much time passes, and the next one begins over what it left.
    async fn away_for(self, seconds: u64) -> Self {
        let Self { client, clock, directory, mut tasks, closed, .. } = self;
        tasks.shutdown().await;
        drop(client);
        closed.await;
        clock.forward(seconds);
        Self::open(directory, clock).await
    }

    async fn open(directory: tempfile::TempDir, clock: Arc<HandClock>) -> Self {
        let embedded = Embedded::open(Options {
            path: directory.path().join("api.db"),
            limits: Limits::default(),
            clock: clock.clone(),
            // No number is given twice, whoever is the next.
            entropy: Arc::new(Counting(AtomicU64::new(1 + (clock.monotonic().as_secs() << 32)))),
            nodes: Arc::new(NoNodeAccess),
            audit: Arc::new(NoAudit),
        })
        .await
        .unwrap();
        let client = embedded.client();
        let faults = Arc::new(Mutex::new(Vec::new()));
        let told: platform::Told = {
            let faults = faults.clone();
            Arc::new(move |fault| faults.lock().unwrap().push(fault.to_string()))
        };
        let settings = Settings {
            period: Duration::from_millis(20),
            gather: Duration::from_millis(1),
            ..Settings::default()
        };
        let mut tasks = JoinSet::new();
        let (controllers, of_them) = (client.clone(), clock.clone());
        tasks.spawn(async move {
            platform::run(controllers, of_them, settings, told, std::future::pending()).await
        });
        let closed = Box::pin(embedded.closed());
        Self { client, clock, faults, directory, tasks, closed }
    }

    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn make<K>(&self, namespace: &str, object: Value) -> K
    where
        K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
        K::DynamicType: Default,
    {
        let resource = ApiResource::erase::<K>(&K::DynamicType::default());
        let api: Api<DynamicObject> = if namespace.is_empty() {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        };
        let mut object = object;
        object["apiVersion"] = json!(resource.api_version);
        object["kind"] = json!(resource.kind);
        let made = api.create(&PostParams::default(), &made(object)).await.unwrap();
        self::made(serde_json::to_value(made).unwrap())
    }

    /// A ready node whose lease lasts so many seconds.
    async fn node(&self, name: &str, annotations: Value, lease: u32) {
        self.make::<Node>("", json!({"metadata": {"name": name, "annotations": annotations}})).await;
        let status = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let nodes = Api::<Node>::all(self.client.clone());
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        self.make::<Lease>("kube-node-lease", json!({
            "metadata": {"name": name},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": lease, "renewTime": "2026-01-01T00:00:00.000000Z"},
        }))
        .await;
    }

    /// The node renews its lease.
    async fn renew(&self, name: &str) {
        let second = self.clock.monotonic().as_secs();
        let at =
            format!("2026-01-01T{:02}:{:02}:{:02}.000000Z", second / 3600, second / 60 % 60, second % 60);
        let change = json!({"spec": {"renewTime": at}});
        let leases = self.api::<Lease>("kube-node-lease");
        leases.patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    }

    /// A ready pod.
    async fn pod(&self, name: &str, more: Value) -> Pod {
        let mut pod = json!({
            "metadata": {"name": name, "labels": {"app": "site"}},
            "spec": {"containers": [{"name": "site", "image": "x"}], "terminationGracePeriodSeconds": 5},
        });
        merge(&mut pod, &more);
        self.make::<Pod>("coffer", pod).await;
        let status = json!({"status": {
            "phase": "Running", "podIP": "10.1.0.1", "conditions": [{"type": "Ready", "status": "True"}],
        }});
        self.api::<Pod>("coffer")
            .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap()
    }

    fn assert_no_faults(&self) {
        assert_eq!(*self.faults.lock().unwrap(), Vec::<String>::new());
    }
}

fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                merge(into.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

fn made<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// Waits until the object is as wanted.
async fn until<K>(api: &Api<K>, name: &str, wanted: impl Fn(Option<&K>) -> bool)
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    let waiting = async {
        let mut seen = std::pin::pin!(watcher::watch_object(api.clone(), name));
        while let Some(object) = seen.next().await {
            if object.is_ok_and(|object| wanted(object.as_ref())) {
                return;
            }
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "{name} did not become what it should within the test's patience");
}

async fn until_gone<K>(api: &Api<K>, name: &str)
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    until(api, name, |object| object.is_none()).await;
}

fn owned_by(owner: &impl kube::Resource<DynamicType = ()>, block: bool) -> Value {
    let reference = owner.owner_ref(&()).unwrap();
    let mut reference = serde_json::to_value(reference).unwrap();
    reference["blockOwnerDeletion"] = json!(block);
    json!({"metadata": {"ownerReferences": [reference]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_object_owns_goes_with_it_and_what_it_does_not_stays() {
    let home = Home::start().await;
    let owner = home.make::<ConfigMap>("coffer", json!({"metadata": {"name": "owner"}})).await;
    let mut owned = json!({"metadata": {"name": "owned"}});
    merge(&mut owned, &owned_by(&owner, false));
    let owned = home.make::<ConfigMap>("coffer", owned).await;
    home.pod("deeper", owned_by(&owned, false)).await;
    home.pod("other", json!({})).await;
    let maps = home.api::<ConfigMap>("coffer");
    maps.delete("owner", &DeleteParams::background()).await.unwrap();
    until_gone(&maps, "owned").await;
    let pods = home.api::<Pod>("coffer");
    until_gone(&pods, "deeper").await;
    assert!(pods.get_opt("other").await.unwrap().is_some());
    home.assert_no_faults();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_names_an_owner_that_never_was_goes() {
    let home = Home::start().await;
    let owner = home.make::<ConfigMap>("coffer", json!({"metadata": {"name": "owner"}})).await;
    collected_so_far(&home, &owner).await;
}

/// All pods that were made are known to the garbage collector: its one watch of pods tells of them in turn, and it has
/// taken away one that came later and names an owner that never was.
async fn collected_so_far(home: &Home, namesake: &ConfigMap) {
    let mut reference = owned_by(namesake, false);
    reference["metadata"]["ownerReferences"][0]["uid"] = json!("another");
    let mut orphan =
        json!({"metadata": {"name": "orphan"}, "spec": {"containers": [{"name": "site", "image": "x"}]}});
    merge(&mut orphan, &reference);
    home.make::<Pod>("coffer", orphan).await;
    until_gone(&home.api::<Pod>("coffer"), "orphan").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_deleted_in_the_foreground_goes_last_and_one_that_orphans_leaves_them() {
    let home = Home::start().await;
    let maps = home.api::<ConfigMap>("coffer");
    let pods = home.api::<Pod>("coffer");
    let owner = home.make::<ConfigMap>("coffer", json!({"metadata": {"name": "owner"}})).await;
    let mut held = owned_by(&owner, true);
    held["metadata"]["finalizers"] = json!(["fleet.coffer/test"]);
    home.pod("held", held).await;
    collected_so_far(&home, &owner).await;
    maps.delete("owner", &DeleteParams::foreground()).await.unwrap();
    until(&pods, "held", |pod| pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some())).await;
    assert!(maps.get_opt("owner").await.unwrap().is_some());
    let free = json!({"metadata": {"finalizers": []}});
    pods.patch("held", &PatchParams::default(), &Patch::Merge(free)).await.unwrap();
    until_gone(&maps, "owner").await;

    let owner = home.make::<ConfigMap>("coffer", json!({"metadata": {"name": "lets-go"}})).await;
    home.pod("let-go", owned_by(&owner, true)).await;
    collected_so_far(&home, &owner).await;
    maps.delete("lets-go", &DeleteParams::orphan()).await.unwrap();
    until_gone(&maps, "lets-go").await;
    let left = pods.get("let-go").await.unwrap();
    assert!(left.owner_references().is_empty() && left.metadata.deletion_timestamp.is_none());
    home.assert_no_faults();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_orphans_leaves_what_it_owns_also_to_a_control_plane_that_has_just_begun() {
    // So many that their list is long after the one that has the owner.
    const OWNED: usize = 1200;
    let mut home = Home::start().await;
    let owner = home.make::<ConfigMap>("coffer", json!({"metadata": {"name": "owner"}})).await;
    let make = async |number: usize| {
        let mut secret = json!({"metadata": {"name": format!("owned-{number}")}});
        merge(&mut secret, &owned_by(&owner, true));
        home.make::<Secret>("coffer", secret).await;
    };
    futures::stream::iter(0..OWNED).for_each_concurrent(16, make).await;
    // Nobody looks after it when it is deleted.
    home.tasks.shutdown().await;
    home.api::<ConfigMap>("coffer").delete("owner", &DeleteParams::orphan()).await.unwrap();
    let home = home.away_for(1).await;
    until_gone(&home.api::<ConfigMap>("coffer"), "owner").await;
    let left = home.api::<Secret>("coffer").list(&Default::default()).await.unwrap().items;
    let stays = |secret: &&Secret| {
        secret.owner_references().is_empty() && secret.metadata.deletion_timestamp.is_none()
    };
    assert_eq!(left.iter().filter(stays).count(), OWNED);
    home.assert_no_faults();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_tainted_and_its_pods_are_replaced_only_where_it_promised_to_stop_them() {
    let home = Home::start().await;
    home.node("ash", json!({platform::nodes::SELF_FENCING: "20"}), 10).await;
    home.node("birch", json!({}), 10).await;
    home.node("cedar", json!({}), NEVER_SILENT).await;
    looked_at_the_nodes(&home).await;
    let quick = json!([{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}]);
    home.pod("promised", json!({"spec": {"nodeName": "ash", "tolerations": quick}})).await;
    home.pod("unknown", json!({"spec": {"nodeName": "birch", "tolerations": quick}})).await;
    home.pod("well", json!({"spec": {"nodeName": "cedar", "tolerations": quick}})).await;
    let nodes = Api::<Node>::all(home.client.clone());
    let pods = home.api::<Pod>("coffer");
    let silent = |node: Option<&Node>| {
        let taints = node.and_then(|node| node.spec.as_ref()?.taints.clone()).unwrap_or_default();
        taints
            .iter()
            .any(|taint| taint.key == "node.kubernetes.io/unreachable" && taint.effect == "NoExecute")
    };
    home.while_time_passes(until(&nodes, "ash", silent)).await;
    home.while_time_passes(until(&nodes, "birch", silent)).await;
    until(&pods, "promised", |pod| pod.is_none_or(|pod| !ready(pod))).await;
    home.while_time_passes(until_gone(&pods, "promised")).await;
    let going = |pod: Option<&Pod>| pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
    home.while_time_passes(until(&pods, "unknown", going)).await;
    home.while_time_passes(async {
        let since = home.clock.monotonic();
        while home.clock.monotonic() < since + Duration::from_secs(60) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(pods.get_opt("unknown").await.unwrap().is_some(), "nobody promised to stop it");
    assert!(pods.get("well").await.unwrap().metadata.deletion_timestamp.is_none());
    nodes.delete("birch", &DeleteParams::default()).await.unwrap();
    home.while_time_passes(until_gone(&pods, "unknown")).await;
}

/// Every node that was made, and what became of it, has been looked at: the one watch of nodes tells of them in turn, so that
/// whoever saw one that came later saw them all.
async fn looked_at_the_nodes(home: &Home) {
    home.make::<Node>("", json!({"metadata": {"name": "last"}})).await;
    let nodes = Api::<Node>::all(home.client.clone());
    let tainted = |node: Option<&Node>| {
        let taints = node.and_then(|node| node.spec.as_ref()?.taints.as_ref());
        taints.is_some_and(|taints| taints.iter().any(|taint| taint.key == "node.kubernetes.io/not-ready"))
    };
    until(&nodes, "last", tainted).await;
    nodes.delete("last", &DeleteParams::default()).await.unwrap();
}

/// A budget over all pods has been counted, so that everything has been looked at since it was made.
async fn looked(home: &Home, name: &str, healthy: i32) {
    let budget = json!({
        "metadata": {"name": name},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "site"}}},
    });
    home.make::<PodDisruptionBudget>("coffer", budget).await;
    let counted = |budget: Option<&PodDisruptionBudget>| {
        budget
            .and_then(|budget| budget.status.as_ref())
            .is_some_and(|status| status.current_healthy == healthy)
    };
    until(&home.api("coffer"), name, counted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_minutes_without_a_control_plane_cost_no_node_and_no_pod_and_the_next_one_looks_after_them() {
    let home = Home::start().await;
    for (node, lease) in [("ash", 10), ("birch", 10), ("cedar", NEVER_SILENT)] {
        home.node(node, json!({platform::nodes::SELF_FENCING: "20"}), lease).await;
    }
    looked_at_the_nodes(&home).await;
    // Whoever counted their nodes as silent would evict them at once, and forget them soon after.
    let quick = json!([{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0}]);
    for (pod, node) in [("a", "ash"), ("b", "birch"), ("c", "cedar")] {
        home.pod(pod, json!({"spec": {"nodeName": node, "tolerations": quick}})).await;
    }
    home.make::<Service>(
        "coffer",
        json!({
            "metadata": {"name": "sites"},
            "spec": {"selector": {"app": "site"}, "ports": [{"name": "grpc", "port": 7443}]},
        }),
    )
    .await;
    looked(&home, "before", 3).await;
    let uids = async |home: &Home| {
        let pods = home.api::<Pod>("coffer").list(&Default::default()).await.unwrap().items;
        let of = |pod: Pod| {
            (pod.name_any(), pod.metadata.uid.clone(), pod.metadata.deletion_timestamp.is_some(), ready(&pod))
        };
        pods.into_iter().map(of).collect::<Vec<_>>()
    };
    let before = uids(&home).await;

    let home = home.away_for(600).await;
    // Nobody has renewed a lease yet: each of them has ended, two of them 590 seconds ago.
    for look in ["first", "second", "third"] {
        looked(&home, look, 3).await;
    }
    assert_eq!(uids(&home).await, before, "nobody was evicted, marked or made anew");
    let nodes = Api::<Node>::all(home.client.clone());
    for node in nodes.list(&Default::default()).await.unwrap() {
        // A look that met the node before it was ready has left an empty list behind.
        let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
        assert_eq!(taints, [], "{}", node.name_any());
        let conditions = node.status.unwrap().conditions.unwrap();
        assert!(conditions.iter().all(|one| one.type_ != "Ready" || one.status == "True"));
    }

    // It does its work: who comes is found, and who stays silent from now on is missed.
    home.pod("d", json!({"spec": {"nodeName": "cedar"}})).await;
    let four = |slice: Option<&EndpointSlice>| slice.is_some_and(|slice| slice.endpoints.len() == 4);
    until(&home.api("coffer"), "sites-endpoints", four).await;
    let pods = home.api::<Pod>("coffer");
    home.while_time_passes(until_gone(&pods, "a")).await;
    let left: Vec<_> =
        uids(&home).await.into_iter().filter(|(name, ..)| name == "c" || name == "d").collect();
    assert!(left.len() == 2 && left.iter().all(|(_, _, going, ready)| !going && *ready), "{left:?}");
}

impl Home {
    /// Lets the clock run, some hundred times as fast as it would, while the node `cedar` renews its lease.
    async fn while_time_passes(&self, waiting: impl Future<Output = ()>) {
        let ticking = async {
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            // On a busy machine the clock runs slower: it does not make up for what it missed in one leap.
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                tick.tick().await;
                self.clock.forward(1);
                self.renew("cedar").await;
            }
        };
        tokio::select! {
            () = waiting => {}
            () = ticking => {}
        }
    }
}

fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_counts_what_its_controllers_want_and_allows_nothing_where_it_cannot() {
    let home = Home::start().await;
    let definition = json!({
        "metadata": {"name": "sitesets.fleet.coffer"},
        "spec": {
            "group": "fleet.coffer", "scope": "Namespaced", "names": {"kind": "SiteSet", "plural": "sitesets"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"scale": {"specReplicasPath": ".spec.sites", "statusReplicasPath": ".status.sites"}},
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            }],
        },
    });
    home.make::<CustomResourceDefinition>("", definition).await;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("fleet.coffer", "v1", "SiteSet"));
    let sets: Api<DynamicObject> = Api::namespaced_with(home.client.clone(), "coffer", &kind);
    let set = made(
        json!({"apiVersion": "fleet.coffer/v1", "kind": "SiteSet", "metadata": {"name": "set"}, "spec": {"sites": 4}}),
    );
    let set = sets.create(&PostParams::default(), &set).await.unwrap();
    let owner = json!({"metadata": {"ownerReferences": [{
        "apiVersion": "fleet.coffer/v1", "kind": "SiteSet", "name": "set", "uid": set.metadata.uid, "controller": true,
    }]}});
    for name in ["one", "two", "three"] {
        home.pod(name, owner.clone()).await;
    }
    let budgets = home.api::<PodDisruptionBudget>("coffer");
    let spec = json!({"metadata": {"name": "sites"}, "spec": {"maxUnavailable": 2, "selector": {"matchLabels": {"app": "site"}}}});
    home.make::<PodDisruptionBudget>("coffer", spec).await;
    let allows = |allowed: i32, expected: i32| {
        move |budget: Option<&PodDisruptionBudget>| {
            let status = budget.and_then(|budget| budget.status.as_ref());
            status.is_some_and(|status| {
                (status.disruptions_allowed, status.expected_pods) == (allowed, expected)
            })
        }
    };
    until(&budgets, "sites", allows(1, 4)).await;
    home.pod("stray", json!({})).await;
    until(&budgets, "sites", |budget| {
        let conditions =
            budget.and_then(|budget| budget.status.as_ref()?.conditions.clone()).unwrap_or_default();
        conditions
            .iter()
            .any(|condition| condition.reason == "SyncFailed" && condition.message.contains("stray"))
    })
    .await;
    let status = budgets.get("sites").await.unwrap().status.unwrap();
    assert_eq!(status.disruptions_allowed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_namespace_takes_all_that_is_in_it() {
    let home = Home::start().await;
    home.pod("pod", json!({})).await;
    home.make::<ConfigMap>("coffer", json!({"metadata": {"name": "map"}})).await;
    let namespaces = Api::<Namespace>::all(home.client.clone());
    namespaces.delete("coffer", &DeleteParams::default()).await.unwrap();
    until_gone(&namespaces, "coffer").await;
    assert!(home.api::<Pod>("coffer").get_opt("pod").await.unwrap().is_none());
    assert!(home.api::<ConfigMap>("coffer").get_opt("map").await.unwrap().is_none());
    assert!(namespaces.get_opt("kube-node-lease").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_forgotten_an_hour_after_it_last_happened() {
    let home = Home::start().await;
    let event = |name: &str, last: &str| json!({"metadata": {"name": name}, "involvedObject": {"kind": "Pod", "name": "p", "namespace": "coffer"}, "lastTimestamp": last});
    home.make::<Event>("coffer", event("old", "2026-01-01T00:00:00Z")).await;
    home.make::<Event>("coffer", event("young", "2026-01-01T00:30:00Z")).await;
    home.clock.forward(3700);
    let events = home.api::<Event>("coffer");
    until_gone(&events, "old").await;
    assert!(events.get_opt("young").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_follow_the_pods_of_a_service_and_go_with_it() {
    let home = Home::start().await;
    let service = json!({
        "metadata": {"name": "sites"},
        "spec": {"selector": {"app": "site"}, "ports": [{"name": "grpc", "port": 7443}]},
    });
    home.make::<Service>("coffer", service).await;
    let slices = home.api::<EndpointSlice>("coffer");
    let with = |count: usize| {
        move |slice: Option<&EndpointSlice>| {
            slice.is_some_and(|slice| {
                let ready = |endpoint: &&k8s_openapi::api::discovery::v1::Endpoint| {
                    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true)
                };
                slice.endpoints.iter().filter(ready).count() == count
            })
        }
    };
    until(&slices, "sites-endpoints", with(0)).await;
    home.pod("one", json!({})).await;
    home.pod("two", json!({})).await;
    until(&slices, "sites-endpoints", with(2)).await;
    let sick = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    home.api::<Pod>("coffer")
        .patch_status("one", &PatchParams::default(), &Patch::Merge(sick))
        .await
        .unwrap();
    until(&slices, "sites-endpoints", with(1)).await;
    home.api::<Service>("coffer").delete("sites", &DeleteParams::default()).await.unwrap();
    until_gone(&slices, "sites-endpoints").await;
}
