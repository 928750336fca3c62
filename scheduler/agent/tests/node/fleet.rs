//! One node with the embedded API in the same process, and a switch that cuts
//! the two apart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::Duration;

use coffer_agent::{
    Agent, AgentConfig, Backoff, ImageDigest, LeaseTimes, LogOptions, NodeLogs, PodLease, Subnet,
};
use coffer_custody::{OsEntropy, SystemClock};
use coffer_embedded::store::Limits;
use coffer_embedded::{Embedded, Identity, NoAudit, NoNodeAccess, Options};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Bytes;
use k8s_openapi::api::core::v1::{ContainerStatus, Node, Pod};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::bench::{self, Scratch};

/// How long anything may take before it counts as stuck.
const STUCK: Duration = Duration::from_secs(60);

pub(crate) struct Fleet {
    scratch: Scratch,
    embedded: Embedded,
    node: String,
    /// Of its network: several tests run at once on one machine.
    number: u8,
    image: String,
    away: Arc<AtomicBool>,
}

pub(crate) struct Running {
    task: JoinHandle<()>,
    logs: NodeLogs,
    pods: Api<Pod>,
}

impl Running {
    pub(crate) fn access(&self) -> NodeLogs {
        self.logs.clone()
    }

    /// Ends the agent and no pod, as a kill would.
    pub(crate) async fn abort(self) {
        self.task.abort();
        drop(self.task.await);
    }

    /// Deletes every pod, so that nothing outlives the test.
    pub(crate) async fn end_all(self) {
        let all = async {
            loop {
                let pods = self.pods.list(&Default::default()).await.unwrap().items;
                if pods.is_empty() {
                    break;
                }
                for pod in pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()) {
                    let now = DeleteParams { grace_period_seconds: Some(1), ..DeleteParams::default() };
                    drop(self.pods.delete(pod.metadata.name.as_deref().unwrap(), &now).await);
                }
                pause().await;
            }
        };
        tokio::time::timeout(STUCK, all).await.unwrap();
        self.task.abort();
    }
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// Waits for something that the API does not say.
pub(crate) async fn until_true(what: &str, holds: impl Fn() -> bool) {
    let look = async {
        while !holds() {
            pause().await;
        }
    };
    assert!(tokio::time::timeout(STUCK, look).await.is_ok(), "it never came: {what}");
}

impl Fleet {
    pub(crate) async fn new(node: &str) -> Option<Self> {
        let scratch = Scratch::as_root(node)?;
        let options = Options {
            path: scratch.path().join("fleet.sqlite"),
            limits: Limits::default(),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(OsEntropy),
            nodes: Arc::new(NoNodeAccess),
            audit: Arc::new(NoAudit),
        };
        let embedded = Embedded::open(options).await.unwrap();
        let digest = ImageDigest::of_file(&bench::sample_program()).unwrap();
        let image = format!("coffer.local/pod@{digest}");
        static FLEETS: AtomicU8 = AtomicU8::new(0);
        let number = FLEETS.fetch_add(1, Ordering::SeqCst);
        assert!(number < 240, "the rest of these networks is somebody else's");
        let fleet = Self { scratch, embedded, node: node.to_owned(), number, image, away: Arc::default() };
        let namespace = json!({ "metadata": { "name": "coffer" } });
        let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(fleet.embedded.client());
        namespaces.create(&PostParams::default(), &serde_json::from_value(namespace).unwrap()).await.unwrap();
        Some(fleet)
    }

    pub(crate) fn directory(&self) -> &Path {
        self.scratch.path()
    }

    /// A client that hears nothing while the switch is on.
    fn client(&self) -> Client {
        let service = self.embedded.service(Identity::inside());
        let away = Arc::clone(&self.away);
        let cut = tower::service_fn(move |request| {
            let (service, away) = (service.clone(), Arc::clone(&away));
            async move {
                if away.load(Ordering::SeqCst) {
                    return Err(tower::BoxError::from("the line is cut"));
                }
                let answer = tower::ServiceExt::oneshot(service, request).await;
                answer.map_err(tower::BoxError::from).map(|answer| answer.map(|body| fragile(body, away)))
            }
        });
        Client::new(cut, "coffer")
    }

    pub(crate) fn cut_off(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    pub(crate) fn subnet(&self) -> String {
        format!("10.253.{}.0/28", self.number)
    }

    pub(crate) fn embedded(&self) -> &Embedded {
        &self.embedded
    }

    pub(crate) fn probe(&self) -> coffer_agent::Probe {
        self.scratch.probe()
    }

    pub(crate) fn start(&self) -> Running {
        self.start_with(|_| {})
    }

    /// With data directories that have the size that is declared.
    pub(crate) fn start_sized(&self) -> Running {
        self.start_with(|config| config.sized_disks = true)
    }

    fn attestation(&self) -> PathBuf {
        self.scratch.path().join("attestation")
    }

    /// Puts a statement into the file that the agent reads.
    #[expect(clippy::disallowed_methods, reason = "the test writes what an operator would")]
    pub(crate) fn attest(&self, text: &str) {
        std::fs::write(self.attestation(), format!("{text}\n")).unwrap();
    }

    pub(crate) fn start_with(&self, change: impl FnOnce(&mut AgentConfig)) -> Running {
        let mut config = AgentConfig::new(self.node.clone(), self.scratch.path().join("agent"));
        config.program = bench::node_program();
        config.executables = vec![bench::sample_program()];
        config.subnet = Some(Subnet::parse(&self.subnet()).unwrap());
        config.attestation = Some(self.attestation());
        if !self.attestation().exists() {
            self.attest("v9.signed.somebody");
        }
        config.sized_disks = false;
        config.status_every = Duration::from_millis(500);
        config.lease = LeaseTimes { duration: Duration::from_secs(2), renew: Duration::from_millis(100) };
        config.backoff =
            Backoff { first: Duration::from_millis(50), most: Duration::from_millis(400), reset: STUCK };
        change(&mut config);
        let agent = Agent::new(config, self.client()).unwrap();
        let logs = agent.access();
        Running { task: tokio::spawn(agent.run()), logs, pods: self.pods() }
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.embedded.client(), "coffer")
    }

    pub(crate) fn nodes(&self) -> Api<Node> {
        Api::all(self.embedded.client())
    }

    pub(crate) async fn create(&self, name: &str, args: &[&str], container: Value) {
        self.create_with(name, args, container, json!({})).await;
    }

    pub(crate) async fn create_with(&self, name: &str, args: &[&str], container: Value, spec: Value) {
        self.make(name, args, json!({}), container, spec).await;
    }

    pub(crate) async fn create_annotated(&self, name: &str, args: &[&str], annotations: Value, spec: Value) {
        self.make(name, args, annotations, json!({}), spec).await;
    }

    /// A secret; its value is written in base64.
    pub(crate) async fn secret(&self, name: &str, key: &str, value: &str) {
        let secrets: Api<k8s_openapi::api::core::v1::Secret> =
            Api::namespaced(self.embedded.client(), "coffer");
        let secret = json!({ "metadata": { "name": name }, "data": { key: value } });
        secrets.create(&PostParams::default(), &serde_json::from_value(secret).unwrap()).await.unwrap();
    }

    async fn make(&self, name: &str, args: &[&str], annotations: Value, container: Value, mut spec: Value) {
        // Each pod has data of its own, unless the test names some.
        let data = spec.as_object_mut().and_then(|spec| spec.remove("data"));
        let data = data.as_ref().and_then(Value::as_str).unwrap_or(name).to_owned();
        let mut site = json!({
            "name": "site", "image": self.image, "args": args,
            "volumeMounts": [{ "name": "data", "mountPath": "/data" }],
        });
        merge(&mut site, container);
        let mut whole = json!({
            "nodeName": self.node, "terminationGracePeriodSeconds": 5, "containers": [site],
            "volumes": [{ "name": "data", "hostPath": { "path": format!("site-data/{data}") } }],
        });
        merge(&mut whole, spec);
        let pod = json!({ "metadata": { "name": name, "annotations": annotations }, "spec": whole });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        self.pods().create(&PostParams::default(), &pod).await.unwrap();
    }

    pub(crate) async fn delete(&self, name: &str) {
        self.pods().delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub(crate) async fn until(&self, name: &str, holds: impl Fn(&Pod) -> bool) -> Pod {
        let pods = self.pods();
        let look = async {
            loop {
                if let Some(pod) = pods.get_opt(name).await.unwrap().filter(&holds) {
                    return pod;
                }
                pause().await;
            }
        };
        match tokio::time::timeout(STUCK, look).await {
            Ok(pod) => pod,
            Err(_) => {
                panic!("it never came: {:#?}", pods.get_opt(name).await.unwrap().and_then(|pod| pod.status))
            }
        }
    }

    /// The node once it is so.
    pub(crate) async fn until_node(&self, holds: impl Fn(&Node) -> bool) -> Node {
        let nodes = self.nodes();
        let look = async {
            loop {
                if let Some(node) = nodes.get_opt(&self.node).await.unwrap().filter(&holds) {
                    return node;
                }
                pause().await;
            }
        };
        match tokio::time::timeout(STUCK, look).await {
            Ok(node) => node,
            Err(_) => panic!("it never came: {:#?}", nodes.get_opt(&self.node).await.unwrap()),
        }
    }

    pub(crate) async fn patch_node(&self, patch: Value) {
        let patch = kube::api::Patch::Merge(patch);
        self.nodes().patch(&self.node, &Default::default(), &patch).await.unwrap();
    }

    pub(crate) async fn until_gone(&self, name: &str) {
        let look = async {
            while self.pods().get_opt(name).await.unwrap().is_some() {
                pause().await;
            }
        };
        tokio::time::timeout(STUCK, look).await.unwrap();
    }

    pub(crate) async fn log(&self, running: &Running, name: &str) -> String {
        let log = running.logs.log(("coffer", name, "site"), false, false, LogOptions::default());
        String::from_utf8(log.unwrap().next().await.unwrap().unwrap_or_default()).unwrap()
    }

    pub(crate) async fn until_says(&self, running: &Running, name: &str, line: &str) {
        let look = async {
            while !self.log(running, name).await.lines().any(|said| said == line) {
                pause().await;
            }
        };
        tokio::time::timeout(STUCK, look).await.unwrap();
    }

    fn container_directory(&self, pod: &Pod, attempt: u32) -> PathBuf {
        let uid = pod.metadata.uid.as_deref().unwrap();
        self.scratch.path().join("agent/runtime").join(format!("{uid}.{attempt}"))
    }

    /// The first process of a container, as the machine numbers it.
    pub(crate) fn process(&self, pod: &Pod, attempt: u32) -> rustix::process::Pid {
        let running = self.container_directory(pod, attempt).join("running.json");
        let running: Value = serde_json::from_slice(&bytes(&running).unwrap()).unwrap();
        let pid = i32::try_from(running["init"]["pid"].as_i64().unwrap()).unwrap();
        rustix::process::Pid::from_raw(pid).unwrap()
    }

    /// Kills the first process of a container from outside.
    pub(crate) fn kill_container(&self, pod: &Pod, attempt: u32) {
        rustix::process::kill_process(self.process(pod, attempt), rustix::process::Signal::KILL).unwrap();
    }

    pub(crate) async fn until_started(&self, pod: &Pod, attempt: u32) {
        let running = self.container_directory(pod, attempt).join("running.json");
        let look = async {
            while !running.exists() {
                pause().await;
            }
        };
        tokio::time::timeout(STUCK, look).await.unwrap();
    }

    pub(crate) async fn until_lease(&self, pod: &Pod, holds: impl Fn(&PodLease) -> bool) {
        let look = async {
            while !holds(&lease_of(self, pod)) {
                pause().await;
            }
        };
        tokio::time::timeout(STUCK, look).await.unwrap();
    }

    /// The lease after the last request that was under way has ended.
    pub(crate) async fn settled_lease(&self, pod: &Pod) -> PodLease {
        let look = async {
            loop {
                let before = lease_of(self, pod);
                // Three renewals would have been tried by then.
                tokio::time::sleep(Duration::from_millis(300)).await;
                if lease_of(self, pod) == before {
                    return before;
                }
            }
        };
        tokio::time::timeout(STUCK, look).await.unwrap()
    }
}

/// A body that breaks off while the line is cut, as a watch would.
fn fragile(body: coffer_embedded::Body, away: Arc<AtomicBool>) -> UnsyncBoxBody<Bytes, tower::BoxError> {
    use futures::StreamExt;
    use http_body_util::BodyExt;
    let frames = body.into_data_stream().map(|frame| frame.map_err(tower::BoxError::from));
    let cut = futures::stream::unfold((Box::pin(frames), away), |(mut frames, away)| async move {
        loop {
            let wait = tokio::time::timeout(Duration::from_millis(50), frames.next()).await;
            if away.load(Ordering::SeqCst) {
                return Some((Err(tower::BoxError::from("the line is cut")), (frames, away)));
            }
            if let Ok(frame) = wait {
                return frame.map(|frame| (frame, (frames, away)));
            }
        }
    });
    let frames = cut.map(|frame| frame.map(hyper::body::Frame::data));
    http_body_util::StreamBody::new(frames).boxed_unsync()
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

#[expect(clippy::disallowed_methods, reason = "a test looks at what the agent wrote")]
fn bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    std::fs::read(path)
}

pub(crate) fn lease_of(fleet: &Fleet, pod: &Pod) -> PodLease {
    let uid = pod.metadata.uid.as_deref().unwrap();
    let path = fleet.scratch.path().join("agent/pods").join(uid).join("lease/lease.json");
    serde_json::from_slice(&bytes(&path).unwrap()).unwrap()
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

pub(crate) fn container(pod: &Pod) -> &ContainerStatus {
    &pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0]
}

pub(crate) fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.and_then(|statuses| statuses.first()).map_or(0, |status| status.restart_count)
}

pub(crate) fn ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}

/// Whether the pod waits, for that reason.
pub(crate) fn waits(pod: &Pod, reason: &str) -> bool {
    let statuses =
        pod.status.as_ref().and_then(|status| status.container_statuses.clone()).unwrap_or_default();
    let mut reasons = statuses.into_iter().filter_map(|status| status.state?.waiting?.reason);
    reasons.any(|found| found == reason)
}
