//! Two services on one set of storage pods: the lease of the deployment and
//! where the pods are come from a Kubernetes API, here the embedded one in a
//! process of its own. One of them is stopped past its lease, and wakes up late.
#![cfg(feature = "embedded")]
#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test makes files, ports and looks at them"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

#[path = "support/running.rs"]
mod running;

use running::{code, coffer, command, good};

/// Whoever takes longer is stuck.
const STUCK: Duration = Duration::from_secs(180);
const PLACES: [(&str, &str); 6] =
    [("fra1", "DE"), ("ams1", "NL"), ("par1", "FR"), ("zrh1", "CH"), ("sto1", "SE"), ("mad1", "ES")];

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A process, what it says, and its end when this is dropped.
struct Process {
    child: Child,
    events: Receiver<Value>,
}

impl Process {
    fn start(dir: &Path, arguments: &[&str]) -> Self {
        let arguments = [&["--json"], arguments, &["--exit-with-stdin"]].concat();
        let mut command = command(dir, &arguments);
        // The programs of mounts and networks that node agents call.
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::piped()).stdout(Stdio::piped());
        command.stderr(fs::File::options().create(true).append(true).open(dir.join("errors.log")).unwrap());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let (tell, events) = channel();
        std::thread::spawn(move || {
            for event in lines.filter_map(|line| serde_json::from_str(&line).ok()) {
                if tell.send(event).is_err() {
                    return;
                }
            }
        });
        Self { child, events }
    }

    /// The next event that has a field.
    fn until(&self, field: &str) -> Value {
        loop {
            match self.events.recv_timeout(STUCK) {
                Ok(event) if event.get(field).is_some() => return event,
                Ok(_) => {}
                Err(error) => panic!("it never said {field}: {error}"),
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn end(mut self) -> Option<i32> {
        drop(self.child.stdin.take());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // One that is stopped would not hear it.
        let _ = kill_process(Pid::from_child(&self.child), Signal::CONT);
        let _ = self.child.wait();
    }
}

/// The fleet's API, its controllers and its nodes, without a service.
fn fleet(dir: &Path) -> (Process, String) {
    for name in ["coffer-node", "coffer-site"] {
        let program = Path::new(env!("CARGO_BIN_EXE_coffer")).with_file_name(name);
        assert!(program.exists(), "build the programs first: cargo build --workspace --bins");
    }
    let site = |(name, country): (&str, &str)| {
        format!("[[site]]\nname = \"{name}\"\ncountry = \"{country}\"\ndomain = \"{name}\"\ntier = \"III\"\n")
    };
    fs::write(dir.join("places.toml"), PLACES.map(site).concat()).unwrap();
    let listen = format!("127.0.0.1:{}", free_port());
    let serve = ["fleet", "serve", "--data-dir", "data", "--sites", "places.toml", "--listen", &listen];
    let fleet = Process::start(dir, &serve);
    let ready = fleet.until("ready");
    (fleet, ready["sites"].as_str().unwrap().to_owned())
}

/// What the API of that fleet is reached with.
fn api(dir: &Path) -> Api<Pod> {
    let file = Kubeconfig::read_from(dir.join(".config/coffer/fleet/kubeconfig")).unwrap();
    let runtime = tokio::runtime::Handle::current();
    let config = runtime.block_on(Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()));
    Api::namespaced(Client::try_from(config.unwrap()).unwrap(), "coffer")
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
        "--lease-lasts",
        "5s",
        "--kubeconfig",
        ".config/coffer/fleet/kubeconfig",
        "--passphrase-file",
        ".config/coffer/passphrase",
        "--repair-every",
        "0s",
    ];
    Process::start(dir, &flags)
}

/// What another replica needs to make its catalogues from the sites.
fn copy_for_another(dir: &Path) {
    let copied = std::process::Command::new("sh")
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

/// The line of a site in the file in which a service looks.
fn line_of(dir: &Path, data: &str, n: usize) -> Value {
    let text = fs::read(dir.join(data).join("endpoints.json")).unwrap();
    let file: Value = serde_json::from_slice(&text).unwrap();
    file["sites"][n].clone()
}

#[test]
fn a_replica_that_was_stopped_past_its_lease_gets_nothing_acknowledged_and_a_pod_that_moves_is_found() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _entered = runtime.enter();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (_fleet, sites) = fleet(dir);
    let (port, other_port) = (free_port(), free_port());
    let (at, other_at) = (format!("https://127.0.0.1:{port}"), format!("https://127.0.0.1:{other_port}"));
    let first = replica(dir, "data", ".config/coffer", &sites, port);
    assert_eq!(first.until("ready")["epoch"], 1);
    good(dir, &["tenant", "create", "demo"]);
    good(dir, &["bucket", "create", "documents"]);
    assert_eq!(put(dir, None, "before"), Some(0));
    copy_for_another(dir);
    let second = replica(dir, "other", "other-config", &sites, other_port);
    second.until("standby");
    fs::write(dir.join(".config/coffer/endpoint"), format!("{at}\n{other_at}\n")).unwrap();

    // Half of an upload is with the first one when it is stopped.
    let mut upload = command(dir, &["-q", "--server", &at, "object", "put", "-", "documents/late"]);
    let mut upload = upload.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut pipe = upload.stdin.take().unwrap();
    pipe.write_all(&vec![7; 6 << 20]).unwrap();
    first.signal(Signal::STOP);
    assert_eq!(second.until("ready")["epoch"], 2);
    assert_eq!(put(dir, None, "after"), Some(0), "whoever knows both finds the owner");
    assert!(has(dir, None, "before"));

    // It wakes up late: its sites know the other one's epoch, and it knows that its time is over.
    first.signal(Signal::CONT);
    drop(pipe.write_all(&vec![8; 6 << 20]));
    drop(pipe);
    assert_ne!(upload.wait().unwrap().code(), Some(0), "nothing of the old epoch is acknowledged");
    assert_ne!(code(dir, &["object", "stat", "documents/late"]), Some(0));
    // Whoever asks it is led to the owner.
    assert!(has(dir, Some(&at), "after"));
    assert_eq!(put(dir, Some(&at), "led"), Some(0));

    // A pod that is made anew is another incarnation, perhaps elsewhere; no service starts anew for that.
    let known = line_of(dir, "other", 0);
    let pods = api(dir);
    runtime.block_on(pods.delete("sites-0", &DeleteParams::default())).unwrap();
    let waited = std::time::Instant::now();
    while line_of(dir, "other", 0)["incarnation"] == known["incarnation"] {
        assert!(waited.elapsed() < STUCK, "the slice never changed: {known}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let alive = || {
        let listed = coffer(dir, &["site", "ls"]);
        let text = String::from_utf8(listed.stdout).unwrap();
        let sites: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        sites.iter().filter(|site| site["alive"] == true).count()
    };
    while alive() < 6 {
        assert!(waited.elapsed() < STUCK, "the service never found its pod again");
    }
    assert_eq!(put(dir, None, "moved"), Some(0));

    // The owner goes in order, and gives its lease to the one that waits.
    assert_eq!(second.end(), Some(0));
    assert_eq!(first.until("ready")["epoch"], 3);
    for name in ["before", "after", "led", "moved"] {
        assert!(has(dir, None, name), "{name}");
    }
    assert_eq!(put(dir, None, "last"), Some(0));
    assert_eq!(first.end(), Some(0));
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
