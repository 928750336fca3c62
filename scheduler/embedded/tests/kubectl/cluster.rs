//! A server on loopback over mutual TLS, with a kubeconfig for it, the platform
//! controllers, and something that plays the agents of its nodes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use coffer_embedded::Embedded;
use coffer_embedded::platform::{self, Settings};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::server::Server;

/// How long anything may take before a test fails. Nothing takes so long when all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server with the objects that the tests begin with, its platform controllers and agents.
pub(crate) struct Populated {
    server: Server,
    _tasks: JoinSet<()>,
}

/// The same, and the binary that talks to it.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    binary: &'static Path,
    home: Populated,
}

/// What a run of `kubectl` said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) ok: bool,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Populated {
    /// Two nodes with three pods, and a kind of which there is no object yet.
    pub(crate) async fn start() -> Self {
        let server = Server::start().await;
        let client = server.client();
        let mut tasks = JoinSet::new();
        let told: platform::Told = Arc::new(|_| {});
        let quick = Settings {
            period: Duration::from_millis(100),
            gather: Duration::from_millis(5),
            ..Settings::default()
        };
        let (controllers, clock) = (client.clone(), server.clock());
        tasks.spawn(async move {
            platform::run(controllers, clock, quick, told, std::future::pending()).await;
        });
        tasks.spawn(play_agents(client.clone()));
        populate(&client).await;
        Self { server, _tasks: tasks }
    }

    pub(crate) fn embedded(&self) -> &Embedded {
        self.server.embedded()
    }
}

impl Cluster {
    /// A populated server and this binary.
    pub(crate) async fn start(binary: &'static Path) -> Self {
        let home = Populated::start().await;
        Self { client: home.server.client(), binary, home }
    }

    /// Runs `kubectl` with these words, split at spaces.
    pub(crate) async fn kubectl(&self, words: &str) -> Said {
        self.kubectl_reading(words, "").await
    }

    /// The same with something to read from its standard input.
    pub(crate) async fn kubectl_reading(&self, words: &str, input: &str) -> Said {
        let words: Vec<&str> = words.split(' ').collect();
        self.run(&words, input).await
    }

    /// Runs `kubectl` with these words as they are.
    pub(crate) async fn run(&self, words: &[&str], input: &str) -> Said {
        let mut command = self.command(words);
        let (said, input) = (format!("kubectl {words:?}"), input.to_owned());
        let running = tokio::task::spawn_blocking(move || {
            let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            child.wait_with_output().unwrap()
        });
        let output =
            tokio::time::timeout(PATIENCE, running).await.unwrap_or_else(|_| panic!("{said} did not end"));
        let output = output.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { ok: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// The lines that a `kubectl` that goes on prints, until it is dropped.
    pub(crate) fn lines(&self, words: &str) -> Lines {
        let words: Vec<&str> = words.split(' ').collect();
        let mut child = self.command(&words).stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let out = child.stdout.take().unwrap();
        let (send, lines) = mpsc::unbounded_channel();
        tokio::task::spawn_blocking(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        Lines { child, lines }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.binary);
        command.args(words).stdout(Stdio::piped()).env_clear();
        // Diff needs a program of the system; nothing else comes from the environment.
        command.env("PATH", "/usr/bin:/bin").env("HOME", self.home.server.directory());
        command.env("KUBECONFIG", self.home.server.kubeconfig()).env("KUBECTL_KUBERC", "false");
        command
    }
}

/// What a `kubectl` prints that goes on until somebody ends it.
pub(crate) struct Lines {
    child: Child,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Lines {
    pub(crate) async fn next(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.lines.recv()).await;
        line.expect("a line within the test's patience").expect("a kubectl that goes on")
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Said {
    /// What it printed, given that it worked.
    #[track_caller]
    pub(crate) fn worked(self) -> String {
        assert!(self.ok, "{}{}", self.out, self.err);
        self.out
    }

    /// What it complained about, given that it did.
    #[track_caller]
    pub(crate) fn failed(self) -> String {
        assert!(!self.ok, "{}", self.out);
        self.err
    }
}

pub(crate) fn made<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A pod that is placed already, so that no scheduler is needed.
pub(crate) fn pod(name: &str, node: &str) -> Pod {
    made(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "coffer", "labels": {"app": "site"}},
        "spec": {
            "nodeName": node, "schedulerName": "coffer", "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "site", "image": "coffer.local/site@sha256:00",
                "ports": [{"name": "grpc", "containerPort": 7443}],
            }],
        },
    }))
}

async fn populate(client: &Client) {
    let how = PostParams::default();
    Api::<Namespace>::all(client.clone())
        .create(&how, &made(json!({"metadata": {"name": "coffer"}})))
        .await
        .unwrap();
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    definitions.create(&how, &made(definition())).await.unwrap();
    for (name, address) in [("ash", "10.0.0.1"), ("birch", "10.0.0.2")] {
        let node = json!({
            "metadata": {"name": name, "labels": {"node-role.kubernetes.io/storage": "", "kubernetes.io/hostname": name}},
        });
        let nodes = Api::<Node>::all(client.clone());
        nodes.create(&how, &made(node)).await.unwrap();
        let status = json!({"status": {
            "capacity": {"cpu": "4", "memory": "8Gi", "pods": "10"},
            "allocatable": {"cpu": "4", "memory": "8Gi", "pods": "10"},
            "addresses": [{"type": "InternalIP", "address": address}, {"type": "Hostname", "address": name}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "AgentReady", "message": "ready",
                "lastHeartbeatTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
            "nodeInfo": {"kubeletVersion": "coffer-0.1.0", "osImage": "Debian", "kernelVersion": "6.1",
                "containerRuntimeVersion": "process://0.1.0", "architecture": "amd64", "operatingSystem": "linux",
                "bootID": "b", "machineID": "m", "systemUUID": "s", "kubeProxyVersion": ""},
        }});
        nodes.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }
    let pods = Api::<Pod>::namespaced(client.clone(), "coffer");
    for (name, node) in [("a", "ash"), ("b", "ash"), ("c", "birch")] {
        pods.create(&how, &pod(name, node)).await.unwrap();
    }
    for name in ["a", "b", "c"] {
        until(&pods, name, |pod| pod.is_some_and(is_ready)).await;
    }
}

/// A kind of which a test can scale an object.
fn definition() -> Value {
    json!({
        "metadata": {"name": "sitesets.fleet.coffer"},
        "spec": {
            "group": "fleet.coffer", "scope": "Namespaced",
            "names": {"kind": "SiteSet", "listKind": "SiteSetList", "plural": "sitesets", "singular": "siteset",
                "shortNames": ["ss"], "categories": ["all"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.sites", "statusReplicasPath": ".status.sites",
                }},
                "additionalPrinterColumns": [
                    {"name": "Sites", "type": "integer", "jsonPath": ".spec.sites"},
                    {"name": "Tier", "type": "string", "jsonPath": ".spec.tier", "priority": 1},
                    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
                ],
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "spec": {
                            "type": "object", "description": "What is wanted of the set.", "required": ["sites"],
                            "properties": {
                                "sites": {"type": "integer", "minimum": 0, "description": "How many sites."},
                                "tier": {"type": "string", "enum": ["I", "II", "III", "IV"]},
                            },
                        },
                        "status": {"type": "object", "properties": {"sites": {"type": "integer"}}},
                    },
                }},
            }],
        },
    })
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Waits until the object is as wanted.
pub(crate) async fn until<K>(api: &Api<K>, name: &str, wanted: impl Fn(Option<&K>) -> bool)
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

/// Starts pods that have a node, and ends those that are deleted.
async fn play_agents(client: Client) {
    let all = Api::<Pod>::all(client.clone());
    let mut events = std::pin::pin!(watcher(all, watcher::Config::default()));
    while let Some(event) = events.next().await {
        let Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod)) = event else { continue };
        let api = Api::<Pod>::namespaced(client.clone(), &pod.namespace().unwrap());
        if pod.metadata.deletion_timestamp.is_some() {
            let _ = api.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await;
        } else if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) && !is_ready(&pod) {
            let _ =
                api.patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(running())).await;
        }
    }
}

fn running() -> Value {
    json!({"status": {
        "phase": "Running", "podIP": "10.1.0.1", "podIPs": [{"ip": "10.1.0.1"}], "hostIP": "10.0.0.1",
        "startTime": "2026-01-01T00:00:00Z",
        "conditions": [
            {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
            {"type": "ContainersReady", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        ],
        "containerStatuses": [{
            "name": "site", "ready": true, "started": true, "restartCount": 0, "image": "coffer.local/site@sha256:00",
            "imageID": "coffer.local/site@sha256:00", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
        }],
    }})
}

/// A kubeconfig with everything in it.
pub(crate) fn kubeconfig(server: &str, authority: &str, certificate: &str, key: &str) -> String {
    let encoded = |pem: &str| serde_json::to_value(k8s_openapi::ByteString(pem.as_bytes().to_vec())).unwrap();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "coffer",
        "clusters": [{"name": "coffer", "cluster": {"server": server, "certificate-authority-data": encoded(authority)}}],
        "users": [{"name": "operator", "user": {
            "client-certificate-data": encoded(certificate), "client-key-data": encoded(key),
        }}],
        "contexts": [{"name": "coffer", "context": {"cluster": "coffer", "user": "operator", "namespace": "coffer"}}],
    });
    // Every JSON document is one of YAML.
    config.to_string()
}
