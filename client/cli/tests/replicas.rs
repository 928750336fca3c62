//! Two services on one set of storage pods: the lease of the deployment and
//! where the pods are come from a Kubernetes API, here the embedded one in a
//! process of its own. One of them is stopped past its lease, and wakes up late.
#![cfg(feature = "embedded")]
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test makes files, ports and looks at them"
)]

#[path = "support/built.rs"]
mod built;
#[path = "support/calls.rs"]
mod calls;
#[path = "support/given_up.rs"]
mod given_up;
#[path = "support/places.rs"]
mod places;
#[path = "support/port.rs"]
mod port;
#[path = "support/process.rs"]
mod process;
#[path = "support/program.rs"]
mod program;
#[path = "support/waiting.rs"]
mod waiting;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use built::node_program;
use calls::{coffer, good};
use given_up::GivenUp;
use places::PLACES;
use port::free_port;
use process::Process;
use program::command;
use waiting::until;

/// As many as there are sites.
const SITES: usize = 6;

fn code(dir: &Path, arguments: &[&str]) -> Option<i32> {
    coffer(dir, arguments).status.code()
}

fn signal(process: &Process, signal: Signal) {
    kill_process(Pid::from_child(&process.child), signal).unwrap();
}

/// The fleet's API, its controllers and its nodes, without a service.
fn fleet(dir: &Path) -> (Process, String) {
    node_program();
    places::write(dir, &PLACES[..SITES]);
    let serve = ["fleet", "serve", "--data-dir", "data", "--sites", places::FILE, "--listen", "127.0.0.1:0"];
    let fleet = Process::start(dir, &[&serve[..], &["--exit-with-stdin"]].concat());
    let ready = fleet.until("ready");
    (fleet, ready["sites"].as_str().unwrap().to_owned())
}

/// What somebody with kubectl could do.
fn on_the_fleet<T>(dir: &Path, deed: impl AsyncFnOnce(Client) -> T) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let file = Kubeconfig::read_from(dir.join(".config/coffer/fleet/kubeconfig")).unwrap();
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        deed(Client::try_from(config).unwrap()).await
    })
}

fn delete_pod(dir: &Path, name: &str) {
    on_the_fleet(dir, async |client| {
        let pods: Api<Pod> = Api::namespaced(client, "coffer");
        pods.delete(name, &DeleteParams::default()).await.unwrap();
    });
}

/// Whether the control plane knows where shards lie.
fn shards_are_known(dir: &Path) -> bool {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("fleet.coffer", "v1", "SiteSet"));
    let set = on_the_fleet(dir, async |client| {
        let sets: Api<DynamicObject> = Api::namespaced_with(client, "coffer", &kind);
        sets.get("sites").await.unwrap()
    });
    let conditions = set.data["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|one| one["type"] == "ShardsKnown" && one["status"] == "True")
}

/// A replica on its own directory and port.
fn replica(dir: &Path, data: &str, config: &str, sites: &str, port: u16) -> Process {
    let listen = format!("127.0.0.1:{port}");
    let flags = [
        "--config-dir",
        config,
        "serve",
        "--data-dir",
        data,
        "--sites",
        sites,
        "--listen",
        &listen,
        "--discover",
        "kubernetes:coffer/sites",
        "--lease",
        "kubernetes:coffer/owner",
        // Nobody loses it who is only slow.
        "--lease-lasts",
        "15s",
        "--kubeconfig",
        ".config/coffer/fleet/kubeconfig",
        "--passphrase-file",
        ".config/coffer/passphrase",
        "--repair-every",
        "0s",
        "--exit-with-stdin",
    ];
    Process::start(dir, &flags)
}

/// What another replica needs to make its catalogues from the sites.
fn copy_for_another(dir: &Path) {
    let copied = Command::new("sh")
        .args(["-c", "mkdir -p other/service && cp -r data/topology.json data/credentials other/ && cp data/service/root.slot other/service/"])
        .current_dir(dir)
        .status();
    assert!(copied.unwrap().success());
}

fn put(dir: &Path, server: Option<&str>, name: &str) -> Option<i32> {
    fs::write(dir.join(name), name.repeat(5_000)).unwrap();
    let server = server.map(|at| vec!["--server", at]).unwrap_or_default();
    code(dir, &[&server[..], &["object", "put", name, &format!("documents/{name}")]].concat())
}

fn has(dir: &Path, server: Option<&str>, name: &str) -> bool {
    let server = server.map(|at| vec!["--server", at]).unwrap_or_default();
    let out = dir.join("out");
    drop(fs::remove_file(&out));
    let got =
        coffer(dir, &[&server[..], &["object", "get", &format!("documents/{name}"), "-o", "out"]].concat());
    got.status.success() && fs::read(&out).unwrap() == name.repeat(5_000).as_bytes()
}

/// The file in which a service looks for its sites.
fn lines_of(dir: &Path, data: &str) -> Value {
    serde_json::from_slice(&fs::read(dir.join(data).join("endpoints.json")).unwrap()).unwrap()
}

/// The epoch under which a replica serves, once it does.
fn epoch(replica: &Process) -> u64 {
    replica.until("ready")["epoch"].as_u64().unwrap()
}

/// Two replicas on the pods of a fleet, of which the first one serves.
struct Story {
    first: Process,
    second: Process,
    _fleet: Process,
    _given_up: GivenUp,
    /// The epoch under which the first one began.
    began: u64,
    /// Where the first one is, and no other.
    at: String,
    /// Last: it goes when nobody needs it any more.
    dir: TempDir,
}

impl Story {
    fn begin() -> Self {
        let kept = tempfile::tempdir().unwrap();
        let dir = kept.path();
        let given_up = GivenUp(dir.join("data"));
        let (fleet, sites) = fleet(dir);
        let (port, other) = (free_port(), free_port());
        let first = replica(dir, "data", ".config/coffer", &sites, port);
        let began = epoch(&first);
        assert!(began > 0);
        good(dir, &["tenant", "create", "demo"]);
        good(dir, &["bucket", "create", "documents"]);
        assert_eq!(put(dir, None, "before"), Some(0));
        copy_for_another(dir);
        let second = replica(dir, "other", "other-config", &sites, other);
        second.until("standby");
        let at = format!("https://127.0.0.1:{port}");
        fs::write(dir.join(".config/coffer/endpoint"), format!("{at}\nhttps://127.0.0.1:{other}\n")).unwrap();
        Self { first, second, _fleet: fleet, _given_up: given_up, began, at, dir: kept }
    }

    /// The first one is stopped past its lease with half of an upload, and wakes up late.
    fn the_first_is_stopped(&self) -> u64 {
        let dir = self.dir.path();
        let mut upload = command(dir, &["-q", "--server", &self.at, "object", "put", "-", "documents/late"]);
        let mut upload = upload.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut pipe = upload.stdin.take().unwrap();
        pipe.write_all(&vec![7; 6 << 20]).unwrap();
        signal(&self.first, Signal::STOP);
        let next = epoch(&self.second);
        assert!(next > self.began);
        assert_eq!(put(dir, None, "after"), Some(0), "whoever knows both finds the owner");
        assert!(has(dir, None, "before"));
        // Its sites know the other one's epoch, and it knows that its time is over.
        signal(&self.first, Signal::CONT);
        drop(pipe.write_all(&vec![8; 6 << 20]));
        drop(pipe);
        assert_ne!(upload.wait().unwrap().code(), Some(0), "nothing of the old epoch is acknowledged");
        assert_ne!(code(dir, &["object", "stat", "documents/late"]), Some(0));
        // Whoever asks it is led to the owner.
        assert!(has(dir, Some(&self.at), "after"));
        assert_eq!(put(dir, Some(&self.at), "led"), Some(0));
        next
    }

    /// A pod that is made anew is another incarnation, perhaps elsewhere; no service starts anew for that.
    fn a_pod_is_made_anew(&self) {
        let dir = self.dir.path();
        let known = lines_of(dir, "other");
        delete_pod(dir, "sites-0");
        until("the slice says so", || lines_of(dir, "other") != known);
        let alive = || {
            let listed = coffer(dir, &["site", "ls"]);
            let text = String::from_utf8(listed.stdout).unwrap();
            let sites = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            sites.filter(|site| site["alive"] == true).count() == SITES
        };
        until("the service finds its pod again", alive);
        assert_eq!(put(dir, None, "moved"), Some(0));
        until("the fleet asks the service where shards lie", || shards_are_known(dir));
    }
}

#[test]
fn a_replica_that_was_stopped_past_its_lease_gets_nothing_acknowledged_and_a_pod_that_moves_is_found() {
    let story = Story::begin();
    let next = story.the_first_is_stopped();
    story.a_pod_is_made_anew();
    // The owner goes in order, and gives its lease to the one that waits.
    let Story { dir, first, second, .. } = &story;
    signal(second, Signal::TERM);
    assert!(epoch(first) > next);
    for name in ["before", "after", "led", "moved"] {
        assert!(has(dir.path(), None, name), "{name}");
    }
    assert_eq!(put(dir.path(), None, "last"), Some(0));
}

#[test]
fn a_lease_and_a_service_are_named_as_an_api_names_them_and_one_source_is_enough() {
    let dir = tempfile::tempdir().unwrap();
    let lease = ["--lease", "kubernetes:coffer/owner"];
    for wrong in [
        &["--lease", "coffer/owner"][..],
        &["--discover", "kubernetes:coffer"],
        &["--lease-lasts", "20s"],
        &["--advertise", "https://a:1"],
        &[lease[0], lease[1], "--lease-file", "x"],
        &[lease[0], lease[1], "--fleet"],
        &["--discover", "kubernetes:coffer/sites", "--endpoints-file", "x"],
    ] {
        assert_eq!(code(dir.path(), &[&["serve"], wrong].concat()), Some(2), "{wrong:?}");
    }
    // Nobody could be told where a port is that nobody knows yet; and without an API nothing is founded.
    let nobody = ["--kubeconfig", "none", "--listen", "127.0.0.1:0"];
    assert_eq!(code(dir.path(), &[&["serve"], &lease[..], &nobody].concat()), Some(1));
    assert!(!dir.path().join("coffer-data").exists());
}
