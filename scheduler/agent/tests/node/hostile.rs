//! A hostile pod: more than fifty attempts from inside to get at what is not
//! the pod's. All fail; each denial is attributed to the layers that deny it
//! alone; and with any one layer switched off another still holds, but for the
//! few that `ONE_LAYER` names.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use coffer_agent::conformance::log;
use coffer_agent::{
    Container, ContainerId, Layer, Layers, Limits, LogLimits, Networks, PodNetwork, ProcessRuntime, Program,
    Root, Runtime, RuntimeConfig, Subnet, Volume, mount_sized, unmount_sized,
};

use crate::bench::{self, Scratch};

/// Attempts that only one layer denies, and why that is borne.
const ONE_LAYER: &[(&str, Layer, &str)] = &[
    ("add_key", Layer::Seccomp, "keys of the pod's own user; nobody else's are reached"),
    ("join_keyring", Layer::Seccomp, "keys of the pod's own user; nobody else's are reached"),
    ("ring", Layer::Seccomp, "more of the kernel, but no more rights"),
    ("crypto_socket", Layer::Seccomp, "more of the kernel, but no more rights"),
    ("vsock_socket", Layer::Seccomp, "a socket that is not connected"),
    ("unrandomize", Layer::Seccomp, "weakens the pod itself"),
    ("run_from_memory", Layer::Seccomp, "runs what the pod could do anyway, as the pod"),
    ("listen_undeclared", Layer::Landlock, "the rules of its network still let nobody in"),
    ("exhaust_files", Layer::Rlimits, "what is open counts as the pod's memory"),
    ("raise_core", Layer::Rlimits, "a core is a file, and files have a limit"),
];

/// What each attempt came to: `None` is a breach.
type Outcomes = BTreeMap<String, Option<String>>;

const PORT: u16 = 45_871;
const MEMORY: u64 = 32 << 20;
const DISK: u64 = 8 << 20;
const TMP: u64 = 1 << 20;

struct Range {
    scratch: Scratch,
    runtime: Arc<dyn Runtime>,
    networks: Networks,
    program: PathBuf,
    victim: Child,
    neighbour: Option<PodNetwork>,
    runs: u32,
}

impl Drop for Range {
    fn drop(&mut self) {
        // Its standard input closes, and it takes away what it made.
        drop(self.victim.stdin.take());
        drop(self.victim.wait());
        if let Some(network) = &self.neighbour {
            self.networks.detach("neighbour", network);
        }
        drop(unmount_sized(&self.data()));
    }
}

impl Range {
    fn data(&self) -> PathBuf {
        self.scratch.path().join("own")
    }

    fn environment(&self, uid: u32) -> Vec<(String, String)> {
        let path = |name: &str| self.scratch.path().join(name).display().to_string();
        let neighbour = self
            .neighbour
            .as_ref()
            .map_or_else(|| "127.0.0.1".to_owned(), |network| network.address.to_string());
        let victim = self.victim.id().to_string();
        let pairs = [
            ("DATA", "/data".to_owned()),
            ("TMP", "/tmp".to_owned()),
            ("SECRET", path("secret")),
            ("PASSWD", "/etc/passwd".to_owned()),
            ("NEIGHBOUR_DATA", path("neighbour/shard")),
            ("SHARED", path("shared")),
            ("VICTIM", victim),
            ("VICTIM_PORT", PORT.to_string()),
            ("OPEN_PORT", (PORT + 1).to_string()),
            ("NEIGHBOUR", neighbour),
            ("GATEWAY", "10.253.249.1".to_owned()),
            ("CGROUP", cgroup()),
            ("MEMORY", MEMORY.to_string()),
            ("DISK", DISK.to_string()),
            ("TMP_LIMIT", TMP.to_string()),
            ("PIDS", "32".to_owned()),
            ("FILES", "64".to_owned()),
            ("USER", uid.to_string()),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Runs every attempt in a pod that has these layers and no others.
    async fn attempt(&mut self, layers: &Layers) -> Outcomes {
        self.runs += 1;
        let (uid, data) = (900_000_001, self.data());
        std::fs::create_dir_all(&data).unwrap();
        if layers.has(Layer::Disk) {
            mount_sized(&data, DISK).unwrap();
        }
        let owner = if layers.has(Layer::User) { uid } else { 0 };
        std::os::unix::fs::chown(&data, Some(owner), Some(owner)).unwrap();
        let network = layers.has(Layer::Network).then(|| self.networks.attach("own", &[], &[]).unwrap());
        let container = Container {
            id: ContainerId::try_from(format!("hostile-{}", self.runs)).unwrap(),
            hostname: "hostile".to_owned(),
            root: Root::Executable { file: self.program.clone(), name: "hostile".to_owned() },
            volumes: vec![Volume { source: data.clone(), target: "/data".into(), writable: true }],
            program: Program {
                path: "/hostile".into(),
                args: Vec::new(),
                env: self.environment(uid),
                directory: "/".into(),
            },
            uid,
            limits: Limits {
                cpu_milli: Some(2000),
                memory: Some(MEMORY),
                pids: 32,
                file_bytes: Some(DISK),
                files: 64,
                tmp_bytes: TMP,
                ..Limits::default()
            },
            listen: Vec::new(),
            connect: Some(Vec::new()),
            network: network.as_ref().map(PodNetwork::path),
            without: Layers::all().minus(layers),
        };
        self.runtime.start(&container).await.unwrap();
        let exit = self.runtime.wait(&container.id).await.unwrap();
        let said = log(&*self.runtime, &container.id);
        self.runtime.remove(&container.id).await.unwrap();
        if let Some(network) = network {
            self.networks.detach("own", &network);
        }
        unmount_sized(&data).unwrap();
        let mut outcomes: Outcomes = said.lines().filter_map(outcome).collect();
        // Where a whole group is killed at once the last attempt cannot report.
        outcomes
            .entry("exhaust_memory".to_owned())
            .or_insert_with(|| Some(format!("the pod ended with {}", exit.code)));
        assert!(outcomes.len() > 100, "only {} attempts reported; {exit:?}\n{said}", outcomes.len());
        outcomes
    }
}

fn outcome(line: &str) -> Option<(String, Option<String>)> {
    let mut words = line.split(' ');
    let name = words.next()?.to_owned();
    match words.next()? {
        "breach" => Some((name, None)),
        "denied" | "untried" => Some((name, Some(words.next()?.to_owned()))),
        _ => None,
    }
}

/// A group of the machine's own that a pod might write to.
fn cgroup() -> String {
    let places = ["/sys/fs/cgroup/memory/cgroup.procs", "/sys/fs/cgroup/cgroup.procs"];
    places.into_iter().find(|path| Path::new(path).exists()).unwrap_or(places[1]).to_owned()
}

fn compiled(scratch: &Scratch) -> PathBuf {
    let program = scratch.path().join("hostile");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/node/hostile.c");
    // The linker that builds this test is a C compiler, so there is one.
    let status =
        Command::new("cc").args(["-static", "-O1", "-w", "-o"]).arg(&program).arg(source).status().unwrap();
    assert!(status.success());
    program
}

async fn range(scratch: Scratch) -> Range {
    let program = compiled(&scratch);
    for directory in ["shared", "neighbour"] {
        std::fs::create_dir_all(scratch.path().join(directory)).unwrap();
    }
    let private = |name: &str| {
        let path = scratch.path().join(name);
        std::fs::copy("/etc/hostname", &path).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    private("secret");
    private("neighbour/shard");
    let mut victim = Command::new(&program)
        .args(["victim", &scratch.path().join("shared").display().to_string(), &PORT.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(victim.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n", "port {PORT} or a key is taken");
    let probe = scratch.probe();
    let config = RuntimeConfig {
        node: "hostile".to_owned(),
        directory: scratch.path().join("runtime"),
        program: bench::node_program(),
        demanded: Layers::none(),
        logs: LogLimits::default(),
    };
    let runtime: Arc<dyn Runtime> = Arc::new(ProcessRuntime::new(config, &probe).unwrap());
    let networks = Networks::new(Subnet::parse("10.253.249.0/28").unwrap(), "hostile");
    let neighbour =
        probe.had().has(Layer::Network).then(|| networks.attach("neighbour", &[PORT], &[]).unwrap());
    Range { scratch, runtime, networks, program, victim, neighbour, runs: 0 }
}

fn breaches(outcomes: &Outcomes) -> BTreeSet<&str> {
    outcomes.iter().filter(|(_, denied)| denied.is_none()).map(|(name, _)| name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_pod_gets_nowhere_and_no_layer_stands_alone() {
    let Some(scratch) = Scratch::as_root("a_hostile_pod_gets_nowhere_and_no_layer_stands_alone") else {
        return;
    };
    let mut range = range(scratch).await;
    let have = range.scratch.probe().had();

    let full = range.attempt(&have).await;
    assert_eq!(breaches(&full), BTreeSet::new(), "with every layer that this machine has");

    let mut alone: BTreeSet<(String, Layer)> = BTreeSet::new();
    for layer in have.iter() {
        let outcomes = range.attempt(&have.clone().without(layer)).await;
        alone.extend(breaches(&outcomes).into_iter().map(|name| (name.to_owned(), layer)));
    }
    let known: BTreeSet<(String, Layer)> =
        ONE_LAYER.iter().map(|(name, layer, _)| ((*name).to_owned(), *layer)).collect();
    let unknown: Vec<_> = alone.difference(&known).collect();
    assert!(unknown.is_empty(), "one layer alone stood against: {unknown:?}");
    for (name, layer, why) in ONE_LAYER {
        eprintln!("ONE LAYER: only {layer} denies {name}: {why}");
    }

    let open = range.attempt(&Layers::none()).await;
    let mut denied_by: BTreeMap<String, Vec<Layer>> = BTreeMap::new();
    for layer in have.iter() {
        for (name, denied) in range.attempt(&Layers::of([layer])).await {
            if denied.is_some() {
                denied_by.entry(name).or_default().push(layer);
            }
        }
    }
    attribute(&full, &open, &denied_by, &have);
}

/// Says who denies what; an attempt that a bare process succeeds with must be denied by a layer.
fn attribute(full: &Outcomes, open: &Outcomes, denied_by: &BTreeMap<String, Vec<Layer>>, have: &Layers) {
    let (mut by_layer, mut by_machine) = (0, 0);
    for (name, denied) in full {
        let with_all = denied.as_deref().unwrap_or("breach");
        match open.get(name) {
            Some(None) => {
                let layers = denied_by.get(name).cloned().unwrap_or_default();
                let names = Layers::of(layers.iter().copied()).to_string();
                eprintln!("{name:<28}{with_all:<12}{names}");
                // What it takes two to deny is told by no single one of them.
                by_layer += usize::from(!layers.is_empty());
            }
            other => {
                let reason = other.and_then(Option::as_deref).unwrap_or("not tried");
                eprintln!("{name:<28}{with_all:<12}(this machine denies it by itself: {reason})");
                by_machine += 1;
            }
        }
    }
    eprintln!(
        "{} attempts: {by_layer} denied by a layer that this test names, {by_machine} by this machine alone",
        full.len()
    );
    if *have == Layers::all() {
        assert!(by_layer >= 50, "only {by_layer} denials have a layer's name");
    }
}
