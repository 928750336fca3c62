//! A fleet whose nodes, shards and time belong to the test. It judges by what
//! the API says, never by what the control plane remembers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use coffer_control::attestation::{Attester, Statement, TrustedKeys, said_by};
use coffer_control::{
    ATTESTATION, CertificateError, Control, DISCARD, DISCARDED, Pace, ShardLedger, ShardLedgerError, Shards,
    SiteCertificates, SiteIdentity, SiteSet, Turns, translate,
};
use coffer_embedded::platform::{Moment, Settings, budgets};
use coffer_model::{Clock, FailureDomain, Tier, Timestamp};
use coffer_scheduler::{PodId, Resources, SetName, ShardGroup};
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource, ResourceExt as _};
use serde_json::{Value, json};

use crate::home::{Home, is_cluster};

pub(crate) const HOME: [&str; 3] = ["DE", "FR", "NL"];
pub(crate) const NEEDED: usize = 4;
pub(crate) const SHARDS: usize = 6;
/// Where a node's disk is full size.
pub(crate) const DISK: u64 = 1000;

/// A clock that the test moves.
pub(crate) struct Hand(AtomicU64);

impl Hand {
    pub(crate) fn forward(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_nanos()).unwrap(), Ordering::Relaxed);
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(1_800_000_000_000_000_000 + self.0.load(Ordering::Relaxed))
    }
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }
}

/// Objects: the pods that should hold a shard, and whether it is there; and every pod that ever was a site,
/// which a service lists for good.
#[derive(Default)]
pub(crate) struct Objects(pub(crate) Mutex<Vec<BTreeMap<PodId, bool>>>, Mutex<BTreeSet<PodId>>);

impl Objects {
    pub(crate) fn readable(&self, serving: &BTreeSet<PodId>) -> Vec<BTreeSet<PodId>> {
        let objects = self.0.lock().unwrap();
        let readable = |object: &BTreeMap<PodId, bool>| {
            object
                .iter()
                .filter(|(pod, there)| **there && serving.contains(pod))
                .map(|(pod, _)| pod.clone())
                .collect()
        };
        objects.iter().map(readable).collect()
    }
}

#[async_trait]
impl ShardLedger for Objects {
    async fn look(
        &self,
        _: &SetName,
        members: &BTreeSet<PodId>,
        serving: &BTreeSet<PodId>,
        _: &BTreeSet<PodId>,
    ) -> Result<Shards, ShardLedgerError> {
        let groups = self.readable(serving).into_iter();
        let groups = groups.map(|readable| ShardGroup { needed: 4, readable, objects: 1 }).collect();
        let mut sites = self.1.lock().unwrap();
        sites.extend(members.iter().cloned());
        let mut held: BTreeMap<PodId, u64> = sites.iter().map(|pod| (pod.clone(), 0)).collect();
        let objects = self.0.lock().unwrap();
        objects.iter().flat_map(BTreeMap::keys).for_each(|pod| *held.entry(pod.clone()).or_default() += 1);
        Ok(Shards { groups, held })
    }

    async fn join(&self, _: &SiteIdentity, _: &str) -> Result<(), ShardLedgerError> {
        Ok(())
    }

    async fn evacuate(&self, _: &PodId, _: bool) -> Result<(), ShardLedgerError> {
        Ok(())
    }

    async fn keep(&self, _: &PodId) -> Result<(), ShardLedgerError> {
        Ok(())
    }

    async fn leave(&self, pod: &PodId) -> Result<(), ShardLedgerError> {
        let holds = self.0.lock().unwrap().iter().any(|object| object.contains_key(pod));
        let why = "it holds shards".to_owned();
        if holds { Err(ShardLedgerError::Refused { pod: pod.clone(), why }) } else { Ok(()) }
    }
}

/// Certificates that nobody looks into.
pub(crate) struct Plain;

#[async_trait]
impl SiteCertificates for Plain {
    async fn issue(&self, site: &SiteIdentity) -> Result<BTreeMap<String, Vec<u8>>, CertificateError> {
        Ok([("certificate".to_owned(), site.pod.to_string().into_bytes())].into())
    }
}

/// Where the pods and sets of the fleet are looked at.
pub(crate) struct Place {
    pub(crate) pods: Api<Pod>,
    pub(crate) sets: Api<SiteSet>,
}

pub(crate) struct World {
    pub(crate) client: Client,
    pub(crate) clock: Arc<Hand>,
    pub(crate) objects: Arc<Objects>,
    pub(crate) turns: Turns,
    pub(crate) home: Home,
    /// Whether no pod starts before its certificate is there, as on a node.
    pub(crate) waits: bool,
}

pub(crate) fn attester() -> Attester {
    Attester::danger_from_seed(&[5; 32])
}

pub(crate) fn signed(node: &str, country: &str) -> String {
    attester().sign(&Statement {
        node: node.parse().unwrap(),
        country: country.parse().unwrap(),
        domain: FailureDomain(node.to_owned()),
        tier: Tier::III,
        not_before: 0,
        not_after: u64::MAX / 1_000_000_000,
    })
}

pub(crate) fn name(n: usize) -> String {
    format!("n{n}")
}

pub(crate) fn home(n: usize) -> &'static str {
    HOME[n % 3]
}

impl World {
    pub(crate) async fn new(nodes: usize) -> Self {
        Self::with(nodes, |control| control).await
    }

    /// With a control plane that is changed before it begins.
    pub(crate) async fn with(nodes: usize, change: impl FnOnce(Control) -> Control) -> Self {
        let clock = Arc::new(Hand(AtomicU64::new(0)));
        let home = Home::find(clock.clone()).await;
        let objects = Arc::new(Objects::default());
        let control = change(control(&home, clock.clone(), objects.clone()));
        let turns = Turns::new(control).await.unwrap();
        let client = home.client.clone();
        let world = Self { client, clock, objects, turns, home, waits: false };
        for n in 0..nodes {
            world.register(n).await;
        }
        world
    }

    pub(crate) async fn register(&self, n: usize) {
        let object = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": { "name": name(n), "labels": Home::labels(), "annotations": { ATTESTATION: signed(&name(n), home(n)) } },
        });
        let object: Node = serde_json::from_value(object).unwrap();
        self.home.reports(&name(n)).await;
        self.nodes().create(&PostParams::default(), &object).await.unwrap();
        self.disk(n, DISK).await;
        self.ready(n, true).await;
    }

    /// Another control plane, which knows nothing but what the API says.
    pub(crate) async fn begin_anew(&mut self) {
        // Its segment of the ledger is named by the time.
        self.clock.forward(Duration::from_secs(1));
        let control = control(&self.home, self.clock.clone(), self.objects.clone());
        self.turns = Turns::new(control).await.unwrap();
    }

    /// Things of a kind in the namespace of the fleet.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.home.namespace)
    }

    /// NAMESPACE/NAME of a pod of the fleet.
    pub(crate) fn path(&self, pod: &str) -> String {
        format!("{}/{pod}", self.home.namespace)
    }

    pub(crate) fn nodes(&self) -> Api<Node> {
        Api::all(self.client.clone())
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        self.api()
    }

    pub(crate) fn sets(&self) -> Api<SiteSet> {
        self.api()
    }

    pub(crate) async fn node(&self, n: usize, patch: Value) {
        self.nodes().patch(&name(n), &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    pub(crate) async fn node_status(&self, n: usize, patch: Value) {
        let patch = json!({ "status": patch });
        self.nodes().patch_status(&name(n), &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    pub(crate) async fn disk(&self, n: usize, bytes: u64) {
        let amounts = json!({ "cpu": "4", "memory": "1Gi", "fleet.coffer/disk-bytes": bytes.to_string(), "fleet.coffer/iops": "1000" });
        self.node_status(n, json!({ "capacity": amounts, "allocatable": amounts })).await;
    }

    pub(crate) async fn ready(&self, n: usize, ready: bool) {
        let status = if ready { "True" } else { "Unknown" };
        self.node_status(n, json!({ "conditions": [{ "type": "Ready", "status": status }] })).await;
    }

    pub(crate) async fn attest(&self, n: usize, country: Option<&str>) {
        let text = country.map(|country| signed(&name(n), country));
        self.node(n, json!({ "metadata": { "annotations": { ATTESTATION: text } } })).await;
    }

    pub(crate) async fn drain(&self, n: usize, drain: bool) {
        let (mark, cordon) = if drain { (json!("now"), json!(true)) } else { (Value::Null, Value::Null) };
        let patch = json!({ "metadata": { "annotations": { "fleet.coffer/drain": mark } }, "spec": { "unschedulable": cordon } });
        self.node(n, patch).await;
    }

    pub(crate) async fn set(&self, replicas: usize, args: u64) {
        let object = json!({
            "apiVersion": "fleet.coffer/v1", "kind": "SiteSet",
            "metadata": { "name": "gold" },
            "spec": {
                "replicas": replicas, "dataShards": 4, "parityShards": 2, "graceSeconds": 5,
                "residency": { "allow": ["EU"] }, "spread": { "perDomain": 1, "countrySkew": 2 },
                "template": {
                    "image": format!("coffer.local/site@sha256:{}", "0".repeat(64)),
                    "args": [args.to_string()],
                    "resources": { "cpu": "100m", "memory": "1Mi", "diskBytes": 300, "iops": 10 },
                },
            },
        });
        if self.sets().get_opt("gold").await.unwrap().is_none() {
            let object: SiteSet = serde_json::from_value(object).unwrap();
            self.sets().create(&PostParams::default(), &object).await.unwrap();
        } else {
            let patch = json!({ "spec": object["spec"] });
            self.sets().patch("gold", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        }
    }

    pub(crate) async fn all_pods(&self) -> Vec<Pod> {
        self.pods().list(&ListParams::default()).await.unwrap().items
    }

    pub(crate) async fn all_nodes(&self) -> BTreeMap<String, Node> {
        let nodes = self.nodes().list(&ListParams::default()).await.unwrap().items;
        nodes.into_iter().map(|node| (node.name_any(), node)).collect()
    }

    /// Pods that serve: ready, and so is their node.
    pub(crate) async fn serving(&self) -> BTreeSet<PodId> {
        let nodes = self.all_nodes().await;
        let pods = self.all_pods().await;
        let serves = |pod: &&Pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
            translate::pod(pod).ready && node.is_some_and(|node| is_ready(&nodes[node]))
        };
        pods.iter().filter(serves).filter_map(id).collect()
    }

    /// Starts what is bound and ends what is told to end, on nodes that report.
    pub(crate) async fn kubelet(&self) {
        let nodes = self.all_nodes().await;
        for pod in self.all_pods().await {
            let seen = translate::pod(&pod);
            let name = pod.name_any();
            let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) else { continue };
            let alive = nodes.get(&node).is_some_and(is_ready);
            if !alive {
                if seen.ready {
                    self.mark(&name, false).await;
                }
                continue;
            }
            if seen.phase == translate::Phase::Ending {
                self.pods().delete(&name, &DeleteParams::default().grace_period(0)).await.unwrap();
            } else if !seen.ready && (!self.waits || self.is_certified(&name).await) {
                self.mark(&name, true).await;
            }
        }
        self.count().await;
        self.discard().await;
    }

    async fn is_certified(&self, pod: &str) -> bool {
        let secrets = self.api::<Secret>();
        secrets.get_opt(&format!("{pod}-certificate")).await.unwrap().is_some()
    }

    /// Says that the directories are gone that a node is told to remove, as its agent does.
    async fn discard(&self) {
        for (name, node) in self.all_nodes().await.into_iter().filter(|(_, node)| is_ready(node)) {
            let told = node.annotations().iter().filter(|(key, _)| key.starts_with(DISCARD));
            let told: Vec<&str> = told.map(|(_, paths)| paths.as_str()).collect();
            let done = (!told.is_empty()).then(|| told.join(","));
            if node.annotations().get(DISCARDED) != done.as_ref() {
                let n = name.trim_start_matches('n').parse().unwrap();
                self.node(n, json!({ "metadata": { "annotations": { DISCARDED: done } } })).await;
            }
        }
    }

    /// Counts what the disruption budgets allow, as the platform does; a cluster does it by itself.
    async fn count(&self) {
        if is_cluster() {
            return;
        }
        let pods = self.all_pods().await;
        let pods: Vec<&Pod> = pods.iter().collect();
        let now = Moment::of(&*self.clock).wall;
        let budgets = self.api::<PodDisruptionBudget>();
        for budget in budgets.list(&ListParams::default()).await.unwrap() {
            let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            let selected = |pod: &&&Pod| budgets::selects(selector, pod.labels()).unwrap();
            let covered: Vec<&Pod> = pods.iter().filter(selected).copied().collect();
            let status = budgets::status(&budget, &covered, Ok(0), &now, Settings::default().granted);
            let counted = PodDisruptionBudget { status: Some(status), ..budget };
            match budgets.replace_status(&counted.name_any(), &PostParams::default(), &counted).await {
                Ok(_) => {}
                // A control plane that runs meanwhile has changed or deleted it; the next look counts it again.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => unreachable!("{error}"),
            }
        }
    }

    async fn mark(&self, pod: &str, ready: bool) {
        let status = if ready { "True" } else { "False" };
        let patch = json!({ "status": { "phase": "Running", "podIP": "192.0.2.1", "conditions": [{ "type": "Ready", "status": status }] } });
        self.pods().patch_status(pod, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// Where to look, for conditions that outlive a look at the world.
    pub(crate) fn place(&self) -> Place {
        Place { pods: self.pods(), sets: self.sets() }
    }

    /// One turn of everything.
    pub(crate) async fn turn(&mut self) {
        self.turns.turn().await.unwrap();
        self.kubelet().await;
        self.clock.forward(Duration::from_secs(1));
    }

    /// Turns until the condition holds; so many at most.
    pub(crate) async fn until<F: Future<Output = bool>>(
        &mut self,
        what: &str,
        turns: usize,
        holds: impl Fn(Place) -> F,
    ) {
        for _ in 0..turns {
            if holds(self.place()).await {
                return;
            }
            self.turn().await;
        }
        let status = self.sets().get("gold").await.unwrap().status;
        unreachable!("not within {turns} turns: {what}; {status:#?}");
    }

    /// No node holds more than it has, by the pods that the API knows.
    pub(crate) async fn nothing_is_over_committed(&self, when: &str) {
        let nodes = self.all_nodes().await;
        let mut used: BTreeMap<String, (Resources, Vec<String>)> = BTreeMap::new();
        for pod in self.all_pods().await {
            let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) else { continue };
            let (sum, names) = used.entry(node).or_default();
            *sum = sum.plus(&translate::pod(&pod).pod.needs);
            names.push(pod.name_any());
        }
        for (node, (used, names)) in used {
            let total = translate::node(&nodes[&node]).unwrap().total;
            let shrunk = total.disk_bytes < DISK;
            assert!(
                shrunk || used.lacking(&total).next().is_none(),
                "{when}: {node} holds {used:?} of {total:?}: {names:?}"
            );
        }
    }

    /// Pods that stand where nothing lets them.
    pub(crate) async fn out_of_place(&self) -> BTreeSet<PodId> {
        let nodes = self.all_nodes().await;
        let wrong = |pod: &&Pod| {
            let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()) else { return false };
            let said = nodes[node].annotations().get(ATTESTATION).and_then(|text| said_by(text));
            !said.is_some_and(|said| HOME.contains(&said.statement.country.as_str()))
        };
        self.all_pods().await.iter().filter(wrong).filter_map(id).collect()
    }
}

pub(crate) fn id(pod: &Pod) -> Option<PodId> {
    match translate::pod(pod).whose {
        translate::Whose::Ours(id) => Some(id),
        _ => None,
    }
}

pub(crate) fn is_ready(node: &Node) -> bool {
    translate::node(node).is_ok_and(|node| node.ready)
}

pub(crate) fn control(home: &Home, clock: Arc<dyn Clock>, shards: Arc<dyn ShardLedger>) -> Control {
    Control {
        client: home.client.clone(),
        clock,
        namespace: home.namespace.clone(),
        holder: "test".to_owned(),
        lease: Duration::from_secs(10),
        trusted: TrustedKeys::new(&[attester().verifying_key()]).unwrap(),
        shards,
        certificates: Arc::new(Plain),
        bind: home.bind.clone(),
        pace: Pace { busy: Duration::from_millis(20), calm: Duration::from_millis(100) },
        keeps_sets: true,
        preempts: true,
        trouble: Arc::new(|what| eprintln!("{what}")),
        measured: None,
    }
}
