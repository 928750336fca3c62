//! A control plane of its own, as on a cluster, that asks a service over the
//! network where shards lie (`coffer fleet control --ask-service`): real nodes,
//! real pods, real gRPC, and a service that is away for a while.
#![cfg(feature = "embedded")]
#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test makes files and looks at them"
)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Whoever takes longer is stuck.
const STUCK: Duration = Duration::from_secs(180);
const PLACES: [(&str, &str); 7] = [
    ("fra1", "DE"),
    ("ams1", "NL"),
    ("par1", "FR"),
    ("mil1", "IT"),
    ("vie1", "AT"),
    ("mad1", "ES"),
    ("war1", "PL"),
];
const KUBECONFIG: &str = ".config/coffer/fleet/kubeconfig";
const OBJECTS: u8 = 6;

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coffer"));
    command.args(arguments).current_dir(dir).env_clear().env("HOME", dir);
    // The programs of mounts and networks that node agents call.
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

fn coffer(dir: &Path, arguments: &[&str]) -> Output {
    command(dir, &[&["--json", "-q"], arguments].concat()).output().unwrap()
}

/// What a command prints that must succeed.
fn good(dir: &Path, arguments: &[&str]) -> Vec<Value> {
    let output = coffer(dir, arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Looks again and again until it is so.
fn until(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < STUCK, "it never came: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A process and what it says. It is told to end when this is dropped.
struct Process {
    child: Child,
    events: Receiver<Value>,
    /// Lines for people.
    words: Receiver<String>,
}

fn lines<T: Send + 'static>(
    pipe: impl std::io::Read + Send + 'static,
    read: impl Fn(String) -> Option<T> + Send + 'static,
) -> Receiver<T> {
    let (tell, told) = channel();
    std::thread::spawn(move || {
        // To the end in any case, so that nobody waits for a reader.
        let lines = BufReader::new(pipe).lines().map_while(Result::ok);
        lines.filter_map(read).for_each(|line| drop(tell.send(line)));
    });
    told
}

impl Process {
    fn start(dir: &Path, arguments: &[&str]) -> Self {
        let mut command = command(dir, &[&["--json"], arguments].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let events = lines(child.stdout.take().unwrap(), |line| serde_json::from_str(&line).ok());
        let words = lines(child.stderr.take().unwrap(), Some);
        Self { child, events, words }
    }

    /// The next event that has a field.
    fn until(&self, field: &str) -> Value {
        loop {
            match self.events.recv_timeout(STUCK) {
                Ok(event) if event.get(field).is_some() => return event,
                Ok(_) => {}
                Err(error) => {
                    let words: Vec<String> = self.words.try_iter().collect();
                    panic!("it never said {field}: {error}; {words:#?}")
                }
            }
        }
    }

    /// The next line for people in which there is all of this.
    fn until_says(&self, all: &[&str]) -> String {
        let mut before = Vec::new();
        loop {
            match self.words.recv_timeout(STUCK) {
                Ok(line) if all.iter().all(|one| line.contains(one)) => return line,
                Ok(line) => before.push(line),
                Err(error) => panic!("it never said {all:?}: {error}; {before:#?}"),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// The API and the nodes; no control plane, and no service.
struct Fleet {
    process: Option<Process>,
    port: u16,
    dir: TempDir,
}

impl Fleet {
    fn start() -> Self {
        for name in ["coffer-node", "coffer-site"] {
            let program = Path::new(env!("CARGO_BIN_EXE_coffer")).with_file_name(name);
            assert!(program.exists(), "build the programs first: cargo build --workspace --bins");
        }
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let kept = tempfile::tempdir().unwrap();
        let dir = kept.path();
        let site = |(name, country): (&str, &str)| {
            format!(
                "[[site]]\nname = \"{name}\"\ncountry = \"{country}\"\ndomain = \"{name}\"\ntier = \"III\"\n"
            )
        };
        fs::write(dir.join("places.toml"), PLACES.map(site).concat()).unwrap();
        let listen = format!("127.0.0.1:{}", free());
        let flags = ["--sites", "places.toml", "--spare", "1", "--listen", &listen, "--no-control"];
        let serve = [&["fleet", "serve", "--data-dir", "data"], &flags[..], &["--exit-with-stdin"]].concat();
        let process = Process::start(dir, &serve);
        process.until("nodes");
        Self { process: Some(process), port: free(), dir: kept }
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `coffer fleet control`, with what the fleet's own would have.
    fn control(&self, more: &[&str]) -> Process {
        let place = ["--country", "DE", "--domain", "fra1", "--tier", "III"];
        let signed = good(self.dir(), &[&["fleet", "attest", "fra1"], &place[..]].concat());
        let trust = signed[0]["trust"].as_str().unwrap().to_owned();
        let flags = ["--trust", &trust, "--authority", ".config/coffer/fleet/site-authority"];
        let control = [&["fleet", "control", "--kubeconfig", KUBECONFIG], &flags[..], more].concat();
        let control = Process::start(self.dir(), &control);
        control.until("holder");
        control
    }

    /// The service on the pods, at the same address each time.
    fn service(&self, sites: &str) -> Process {
        let listen = format!("127.0.0.1:{}", self.port);
        let service = [
            ["serve", "--data-dir", "data"],
            ["--sites", sites, "--listen"],
            [&listen, "--discover", "kubernetes:coffer/sites"],
            ["--kubeconfig", KUBECONFIG, "--exit-with-stdin"],
        ];
        let service =
            Process::start(self.dir(), &[&service.concat()[..], &["--repair-every", "0s"]].concat());
        service.until("ready");
        service
    }

    /// The nodes of the pods.
    fn homes(&self) -> BTreeMap<String, String> {
        let pods = good(self.dir(), &["fleet", "pods"]);
        let text = |pod: &Value, field: &str| pod[field].as_str().unwrap_or_default().to_owned();
        pods.iter().map(|pod| (text(pod, "pod"), text(pod, "node"))).collect()
    }

    fn standing(&self, site: &str) -> String {
        let sites = good(self.dir(), &["site", "ls"]);
        let site = sites.iter().find(|one| one["site"] == site);
        site.map(|site| site["standing"].as_str().unwrap().to_owned()).unwrap_or_default()
    }

    fn put(&self) {
        for n in 0..OBJECTS {
            let size = if n % 2 == 0 { 300 } else { 700_000 };
            fs::write(self.dir().join(format!("in-{n}")), vec![n; size]).unwrap();
            good(self.dir(), &["object", "put", &format!("in-{n}"), &format!("documents/{n}")]);
        }
    }

    fn reads_back(&self) {
        for n in 0..OBJECTS {
            good(self.dir(), &["object", "get", &format!("documents/{n}"), "-o", "out"]);
            let same = fs::read(self.dir().join("out")).unwrap()
                == fs::read(self.dir().join(format!("in-{n}"))).unwrap();
            assert!(same, "{n}");
            fs::remove_file(self.dir().join("out")).unwrap();
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        drop(self.process.take());
        // The pods outlive their agents.
        let program = Path::new(env!("CARGO_BIN_EXE_coffer")).with_file_name("coffer-node");
        for (name, _) in PLACES {
            let agent = self.dir().join("data/fleet/nodes").join(name).join("agent");
            let mut end = Command::new(&program);
            let _ = end.args(["end", "--name", name, "--dir"]).arg(agent).output();
        }
    }
}

#[test]
fn a_drain_ends_where_the_service_says_that_the_data_has_moved_and_nothing_leaves_while_it_is_silent() {
    let fleet = Fleet::start();
    let dir = fleet.dir();
    // Until there are sites there is no service to ask.
    let presumes = fleet.control(&[]);
    let sites = fleet.process.as_ref().unwrap().until("sites");
    let sites = sites["sites"].as_str().unwrap().to_owned();
    let service = fleet.service(&sites);
    good(dir, &["tenant", "create", "demo"]);
    good(dir, &["bucket", "create", "documents"]);
    fleet.put();
    drop(presumes);
    let before = fleet.homes();
    assert_eq!(before.len(), 6, "{before:?}");
    let node = before["sites-2"].clone();
    let _asks = fleet.control(&["--ask-service"]);

    // Whoever cannot be asked has not said that anything may leave.
    drop(service);
    let drain = Process::start(dir, &["fleet", "drain", &node]);
    drain.until_says(&["waiting: ", "the ledger of shards does not answer"]);
    assert_eq!(fleet.homes().get("sites-2"), Some(&node));

    let _service = fleet.service(&sites);
    assert_eq!(fleet.standing("sites-2"), "active", "nobody was asked to empty it");
    let emptied = loop {
        let event = drain.until("state");
        if event["state"] == "empty" {
            break event;
        }
    };
    assert_eq!(emptied["node"], *node);
    let after = fleet.homes();
    assert!(after.len() == 6 && !after.values().any(|home| *home == node), "{after:?}");
    until("the site is retired", || fleet.standing("sites-2") == "retired");
    fleet.reads_back();
    let plan = good(dir, &["repair", "plan"]);
    assert_eq!((&plan[0]["steps"], &plan[0]["versions_short"]), (&0.into(), &0.into()), "{plan:?}");
}
