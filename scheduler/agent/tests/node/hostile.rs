//! A hostile pod: more than fifty attempts from inside to get at what is not
//! the pod's. All fail, with an answer: what could not be tried, hung or died is no
//! denial. Each one is attributed to the layers that deny it alone, or to the fewest
//! that do together; with any one layer switched off another still holds, but for the few that
//! `ONE_LAYER` names. Containers of `runc` are tried once as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use coffer_agent::conformance::log;
use coffer_agent::{
    Container, ContainerId, Layer, Layers, Limits, LogLimits, Networks, PodNetwork, ProcessRuntime, Program,
    Root, RuncRuntime, Runtime, RuntimeConfig, Subnet, Volume, mount_sized, unmount_sized,
};

use crate::bench::{self, Scratch};

/// Attempts that only one layer denies, and why that is borne.
const ONE_LAYER: &[(&str, Layer, &str)] = &[
    ("add_key", Layer::Seccomp, "keys of the pod's own user; nobody else's are reached"),
    ("join_keyring", Layer::Seccomp, "keys of the pod's own user; nobody else's are reached"),
    ("ring", Layer::Seccomp, "more of the kernel, but no more rights"),
    ("crypto_socket", Layer::Seccomp, "more of the kernel, but no more rights"),
    ("vsock_socket", Layer::Seccomp, "a socket that is not connected"),
    ("sctp_socket", Layer::Seccomp, "more of the kernel, but no more rights"),
    ("multipath_socket", Layer::Seccomp, "TCP over more ways, of which the pod's network has one"),
    ("unrandomize", Layer::Seccomp, "weakens the pod itself"),
    ("exhaust_files", Layer::Rlimits, "what is open counts as the pod's memory"),
    ("raise_core", Layer::Rlimits, "a core is a file, and files have a limit"),
];

/// Attempts that are denied by killing whoever makes them.
const KILLED: &[(&str, i32, &str)] =
    &[("exhaust_memory", 9, "the kernel kills what takes more than its group's memory")];

/// Attempts that a process without any layer does not succeed with either, and why.
const NO_LAYER: &[(&str, &str)] = &[
    ("crypto_socket", "a kernel without sockets of its ciphers"),
    ("sctp_socket", "a kernel without this protocol"),
    ("multipath_socket", "a kernel without this protocol"),
    ("input_output_ports", "a kernel without ports for processes"),
    ("load_kernel", "a kernel that starts no other"),
    ("load_module", "a kernel without modules"),
    ("load_module_file", "a kernel without modules"),
    ("make_disk_device", "a machine whose root may make or open no devices"),
    ("open_disk", "a machine whose root may open no devices, or whose disk is called otherwise"),
    ("open_kernel_memory", "a kernel without this file"),
    ("open_memory_device", "a machine without this device"),
    ("open_sysrq", "a kernel without this file"),
    ("raise_open_files", "a machine whose root may not raise the limits of processes"),
];

/// How many attempts there are at least.
const ATTEMPTS: usize = 100;

/// Denials that have a layer's name, on a machine that has all of them.
const ATTRIBUTED: usize = 90;

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Breach,
    /// The kernel's answer.
    Denied(String),
    /// It could not be made.
    Untried(String),
    /// It had no answer within 20 seconds.
    Hung,
    /// A signal ended it.
    Died(i32),
}

impl Outcome {
    fn parse(line: &str) -> Option<(String, Self)> {
        let words: Vec<&str> = line.split(' ').collect();
        let outcome = match words[1..] {
            ["breach"] => Self::Breach,
            ["denied", why] => Self::Denied(why.to_owned()),
            ["untried", why] => Self::Untried(why.to_owned()),
            ["hung"] => Self::Hung,
            ["died", signal] => Self::Died(signal.parse().ok()?),
            _ => return None,
        };
        Some((words[0].to_owned(), outcome))
    }

    fn is_breach(&self) -> bool {
        *self == Self::Breach
    }

    /// Whether it proves anything about this attempt.
    fn answers(&self, name: &str) -> bool {
        match self {
            Self::Breach | Self::Denied(_) => true,
            Self::Died(signal) => KILLED.iter().any(|known| (known.0, known.1) == (name, *signal)),
            Self::Untried(_) | Self::Hung => false,
        }
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Breach => f.write_str("breach"),
            Self::Denied(why) => f.write_str(why),
            Self::Untried(why) => write!(f, "untried: {why}"),
            Self::Hung => f.write_str("hung"),
            Self::Died(signal) => write!(f, "killed by {signal}"),
        }
    }
}

/// What each attempt came to.
type Outcomes = BTreeMap<String, Outcome>;

/// Below those that the kernel gives to whoever asks for any: a connection of somebody else's is not to take it.
const PORT: u16 = 21_871;
const MEMORY: u64 = 32 << 20;
const DISK: u64 = 8 << 20;
const TMP: u64 = 1 << 20;

struct Range {
    scratch: Scratch,
    runtime: Arc<dyn Runtime>,
    runc: Option<Arc<dyn Runtime>>,
    networks: Networks,
    program: PathBuf,
    victim: Child,
    neighbour: Option<PodNetwork>,
    /// Who may be called in the neighbour's network.
    listener: Option<Child>,
    runs: u32,
}

impl Drop for Range {
    fn drop(&mut self) {
        // Their standard input closes, and they take away what they made.
        for child in [Some(&mut self.victim), self.listener.as_mut()].into_iter().flatten() {
            drop(child.stdin.take());
            drop(child.wait());
        }
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
        let runtime = Arc::clone(&self.runtime);
        self.attempt_by(&*runtime, layers, None).await
    }

    /// Whether an attempt fails where there are only these layers.
    async fn fails(&mut self, name: &str, layers: &Layers) -> bool {
        let runtime = Arc::clone(&self.runtime);
        let outcomes = self.attempt_by(&*runtime, layers, Some(name)).await;
        !outcomes[name].is_breach()
    }

    /// Runs all attempts, or only one; each of them must have come to something that proves what it says.
    async fn attempt_by(&mut self, runtime: &dyn Runtime, layers: &Layers, only: Option<&str>) -> Outcomes {
        self.runs += 1;
        let least = if only.is_none() { ATTEMPTS } else { 1 };
        let memory_is_tried = only.is_none_or(|only| only == "exhaust_memory");
        let only = only.map(|name| ("ONLY".to_owned(), name.to_owned()));
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
                env: self.environment(uid).into_iter().chain(only).collect(),
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
        let address = network.as_ref().map_or(Ipv4Addr::LOCALHOST, |network| network.address);
        let calling = tokio::spawn(call(address));
        runtime.start(&container).await.unwrap();
        let exit = runtime.wait(&container.id).await.unwrap();
        calling.abort();
        let said = log(runtime, &container.id);
        runtime.remove(&container.id).await.unwrap();
        if let Some(network) = network {
            self.networks.detach("own", &network);
        }
        unmount_sized(&data).unwrap();
        let mut outcomes: Outcomes = said.lines().filter_map(Outcome::parse).collect();
        // Where a whole group is killed at once the last attempt cannot report.
        if memory_is_tried && exit.code == 128 + 9 {
            outcomes.entry("exhaust_memory".to_owned()).or_insert(Outcome::Died(9));
        }
        let open: Vec<_> = outcomes.iter().filter(|(name, outcome)| !outcome.answers(name)).collect();
        assert!(open.is_empty(), "with {layers}: {open:?} prove nothing");
        let last = outcomes.contains_key("exhaust_memory") || !memory_is_tried;
        assert!(outcomes.len() >= least && last, "with {layers}: the attempts ended early: {exit:?}\n{said}");
        outcomes
    }
}

/// Somebody outside who asks for the pod's undeclared port all the time.
async fn call(address: Ipv4Addr) {
    loop {
        let called = tokio::net::TcpStream::connect((address, PORT + 1));
        // Nobody there, or nobody let through, is what is expected.
        drop(tokio::time::timeout(Duration::from_millis(100), called).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
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

/// Starts somebody who says when he is ready, and stays until his standard input closes.
fn ready(command: &mut Command) -> Child {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert_eq!(said, "ready\n", "port {PORT} or a key is taken");
    child
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
    let shared = scratch.path().join("shared").display().to_string();
    let victim = ready(Command::new(&program).args(["victim", &shared, &PORT.to_string()]));
    let probe = scratch.probe();
    let config = |directory: &str| RuntimeConfig {
        node: "hostile".to_owned(),
        directory: scratch.path().join(directory),
        program: bench::node_program(),
        demanded: Layers::none(),
        logs: LogLimits::default(),
    };
    let runtime: Arc<dyn Runtime> = Arc::new(ProcessRuntime::new(config("runtime"), &probe).unwrap());
    let runc = || Arc::new(RuncRuntime::new(config("runc")).unwrap()) as Arc<dyn Runtime>;
    let runc = match &probe.runc {
        Ok(_) => Some(runc()),
        Err(reason) => {
            eprintln!("NOT TESTED HERE: a hostile container of runc: {reason}");
            None
        }
    };
    let networks = Networks::new(Subnet::parse("10.253.249.0/28").unwrap(), "hostile");
    let neighbour =
        probe.had().has(Layer::Network).then(|| networks.attach("neighbour", &[PORT], &[]).unwrap());
    let listener = neighbour.as_ref().map(|network| {
        let path = network.path();
        let space = path.file_name().unwrap().to_str().unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", space]).arg(&program).args(["listener", &PORT.to_string()]);
        ready(&mut command)
    });
    Range { scratch, runtime, runc, networks, program, victim, neighbour, listener, runs: 0 }
}

fn breaches(outcomes: &Outcomes) -> BTreeSet<&str> {
    outcomes.iter().filter(|(_, outcome)| outcome.is_breach()).map(|(name, _)| name.as_str()).collect()
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
    let mut denied_by: BTreeMap<String, Layers> = BTreeMap::new();
    for layer in have.iter() {
        for (name, outcome) in range.attempt(&Layers::of([layer])).await {
            if !outcome.is_breach() {
                let layers = denied_by.entry(name).or_insert_with(Layers::none);
                *layers = Layers::of(layers.iter().chain([layer]));
            }
        }
    }
    let mut together: BTreeMap<String, Layers> = BTreeMap::new();
    for name in breaches(&open).into_iter().filter(|name| !denied_by.contains_key(*name)) {
        let mut fewest = have.clone();
        for layer in have.iter() {
            let less = fewest.clone().without(layer);
            if range.fails(name, &less).await {
                fewest = less;
            }
        }
        together.insert(name.to_owned(), fewest);
    }
    attribute(&full, &open, (&denied_by, &together), &have);

    if let Some(runc) = range.runc.clone() {
        let outcomes = range.attempt_by(&*runc, &have, None).await;
        assert_eq!(breaches(&outcomes), BTreeSet::new(), "in a container of runc");
        eprintln!("by runc: {} attempts, all denied", outcomes.len());
    }
}

/// Says who denies what; an attempt that a bare process succeeds with must be denied by layers, and one with
/// which it does not must be known for the reason.
fn attribute(
    full: &Outcomes,
    open: &Outcomes,
    (alone, together): (&BTreeMap<String, Layers>, &BTreeMap<String, Layers>),
    have: &Layers,
) {
    let (mut by_layer, mut by_machine, mut unknown) = (0, 0, Vec::new());
    for (name, outcome) in full {
        let outcome = outcome.to_string();
        let known = NO_LAYER.iter().find(|known| known.0 == name);
        match (open.get(name), alone.get(name), together.get(name), known) {
            (Some(Outcome::Breach), Some(layers), ..) => {
                eprintln!("{name:<28}{outcome:<14}{layers}");
                by_layer += 1;
            }
            (Some(Outcome::Breach), None, Some(layers), _) => {
                eprintln!("{name:<28}{outcome:<14}{layers} together");
                by_layer += 1;
            }
            (Some(without), _, _, Some((_, reason))) => {
                eprintln!("{name:<28}{outcome:<14}({without} without any layer: {reason})");
                by_machine += 1;
            }
            (without, ..) => unknown.push((name, without)),
        }
    }
    assert!(unknown.is_empty(), "denied, and nobody knows by what: {unknown:?}");
    eprintln!(
        "{} attempts: {by_layer} denied by layers that this test names, {by_machine} by this machine alone",
        full.len()
    );
    if *have == Layers::all() {
        assert!(by_layer >= ATTRIBUTED, "only {by_layer} denials have a layer's name");
    }
}
