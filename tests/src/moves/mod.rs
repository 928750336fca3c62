//! A fleet as an operator runs it, for stories about bytes that move: `coffer serve
//! --fleet` with real agents and real storage pods, and the command line. What was
//! copied is told three times: by the service's receipts, by the lengths of the sites'
//! volumes, and by where the objects lie, from which the least that could have been copied
//! is reckoned without the product.
#![expect(
    clippy::disallowed_methods,
    reason = "the stories make and read files, and wait for what others do"
)]

mod drain;
mod kubectl;
mod least;
mod stories;
mod trust;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use kube::api::{Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::fleet::{Container, Programs, containers_in};

pub use drain::{Drains, drained_by_kubectl};
pub use least::Lies;
use least::WHOLE;
pub use stories::{Figures, a_loss, a_new_site, a_reboot, ten_become_three};
pub use trust::{Trust, forged, relabelled, revoked};

/// Between two looks at a condition, and the most looks: whoever comes there is stuck.
const LOOK: Duration = Duration::from_millis(100);
const LOOKS: u32 = 1800;
/// The site set of a fleet at home.
const SET: &str = "sites";
/// Where its operator's kubeconfig is, below the story's directory.
const KUBECONFIG: &str = ".config/coffer/fleet/kubeconfig";

/// Looks again and again until it is so.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..LOOKS {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(LOOK);
    }
    unreachable!("it never came: {what}")
}

/// What a fleet is started with.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name and country of each node; each is a failure domain of its own.
    pub places: Vec<(String, &'static str)>,
    /// Nodes that have no pod at first.
    pub spare: usize,
    /// How long a silent node is waited for before what it holds is rebuilt.
    pub rebuild_after: &'static str,
    /// Shards of each object, as `K+M`.
    pub geometry: &'static str,
}

impl Plan {
    /// Seven nodes in seven countries, one of them to spare.
    pub fn seven(rebuild_after: &'static str) -> Self {
        let countries = ["DE", "NL", "FR", "IT", "AT", "ES", "PL"];
        let places = countries.iter().enumerate().map(|(n, country)| (format!("n{n}"), *country));
        Self { places: places.collect(), spare: 1, rebuild_after, geometry: "4+2" }
    }
}

/// The fleet with its service; all of it ends when this is dropped.
pub struct Home {
    programs: Programs,
    child: Child,
    /// Objects that were put, with their sizes.
    objects: Vec<(String, u64)>,
    runtime: tokio::runtime::Runtime,
    client: Client,
    /// Last: what ends writes there.
    dir: TempDir,
}

/// One fleet at a time is enough for a small machine.
static TURN: Mutex<()> = Mutex::new(());

/// Until this is dropped no other story of this process has a fleet.
pub fn alone() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Home {
    /// Starts it, and founds a tenant with a bucket `documents`.
    ///
    /// # Panics
    /// If it does not come to serve.
    pub fn start(programs: &Programs, plan: &Plan) -> Self {
        let dir = TempDir::new_in(std::env::temp_dir().canonicalize().unwrap()).unwrap();
        let site = |(name, country): &(String, &str)| {
            format!(
                "[[site]]\nname = \"{name}\"\ncountry = \"{country}\"\ndomain = \"{name}\"\ntier = \"III\"\n"
            )
        };
        fs::write(dir.path().join("places.toml"), plan.places.iter().map(site).collect::<String>()).unwrap();
        let child = serve(programs, dir.path(), plan);
        let (runtime, client) = operator(dir.path());
        let home = Self { programs: programs.clone(), child, objects: Vec::new(), runtime, client, dir };
        home.good(&["tenant", "create", "demo", "--geometry", plan.geometry]);
        home.good(&["bucket", "create", "documents", "--geometry", plan.geometry]);
        home
    }

    /// Ends all of it in order, and starts it again.
    ///
    /// # Panics
    /// If it does not come to serve.
    pub fn restart(&mut self, plan: &Plan) {
        self.end();
        self.child = serve(&self.programs, self.dir.path(), plan);
        (self.runtime, self.client) = operator(self.dir.path());
    }

    /// A command of the operator, or of the tenant.
    ///
    /// # Panics
    /// If it does not start.
    pub fn coffer(&self, arguments: &[&str]) -> Output {
        let arguments = [&["--json"], arguments].concat();
        command(&self.programs, self.dir.path(), &arguments).output().unwrap()
    }

    /// What a command that succeeds prints.
    ///
    /// # Panics
    /// If it does not succeed.
    pub fn good(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.coffer(arguments);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Puts so many objects of this size.
    pub fn put(&mut self, count: usize, size: u64) {
        for _ in 0..count {
            let name = format!("o{}", self.objects.len());
            assert!(self.try_put(&name, size), "{name} was refused");
            self.objects.push((name, size));
        }
    }

    /// Whether an object is taken; it is not among those that are read back.
    fn try_put(&self, name: &str, size: u64) -> bool {
        let length = usize::try_from(size).unwrap();
        fs::write(self.file("in"), content(name, length)).unwrap();
        self.coffer(&["object", "put", "in", &format!("documents/{name}")]).status.success()
    }

    /// Reads everything back and compares every byte.
    ///
    /// # Panics
    /// If an object is not what was put.
    pub fn reads_back(&self) -> usize {
        for (name, size) in &self.objects {
            self.good(&["object", "get", &format!("documents/{name}"), "-o", "out"]);
            let wanted = content(name, usize::try_from(*size).unwrap());
            assert!(fs::read(self.file("out")).unwrap() == wanted, "{name} is not what was put");
            fs::remove_file(self.file("out")).unwrap();
        }
        self.objects.len()
    }

    /// Nothing is short, and nothing lies where it should not.
    fn is_whole(&self) -> bool {
        let plan = self.good(&["repair", "plan"]);
        (plan[0]["steps"].as_u64(), plan[0]["versions_short"].as_u64()) == (Some(0), Some(0))
    }

    /// The nodes of the pods.
    fn homes(&self) -> BTreeMap<String, String> {
        let pods = self.good(&["fleet", "pods"]);
        let text = |pod: &Value, field: &str| pod[field].as_str().unwrap_or_default().to_owned();
        pods.iter().map(|pod| (text(pod, "pod"), text(pod, "node"))).collect()
    }

    /// What the service says of each site, by its name.
    fn sites(&self) -> BTreeMap<String, Value> {
        let sites = self.good(&["site", "ls"]);
        sites.into_iter().map(|site| (site["site"].as_str().unwrap().to_owned(), site)).collect()
    }

    fn standing(&self, site: &str) -> Option<String> {
        Some(self.sites().get(site)?["standing"].as_str()?.to_owned())
    }

    /// The sites that take data.
    fn active(&self) -> BTreeSet<String> {
        self.sites()
            .into_iter()
            .filter(|(_, site)| site["standing"] == "active" && site["alive"] == true)
            .map(|(name, _)| name)
            .collect()
    }

    /// Bytes of shards and manifest records that sites acknowledged so far, by site.
    fn written(&self) -> BTreeMap<String, u64> {
        self.sites().into_iter().map(|(name, site)| (name, site["written_bytes"].as_u64().unwrap())).collect()
    }

    /// Bytes of each site's volumes, as its disk has them.
    fn on_disk(&self) -> BTreeMap<String, u64> {
        let nodes = below(&self.data().join("fleet/nodes")).into_iter();
        let sites = nodes.flat_map(|node| below(&node.join("agent/data/site-data")));
        let volumes = |site: &Path| below(&site.join("store/volumes")).into_iter();
        let length =
            |site: &Path| volumes(site).filter_map(|one| there(one.metadata())).map(|one| one.len()).sum();
        let named = |site: PathBuf| (site.file_name().unwrap().to_string_lossy().into_owned(), length(&site));
        sites.map(named).collect()
    }

    /// Containers that run on a node.
    fn containers(&self, node: &str) -> Vec<Container> {
        containers_in(&self.data().join("fleet/nodes").join(node))
    }

    /// Sends a signal to the agent of a node; its supervisor starts one anew that has ended.
    fn signal_agent(&self, node: &str, signal: Signal) -> usize {
        // Told by where the service was started.
        let dir = format!("data/fleet/nodes/{node}/agent");
        let is = |words: &[&str]| {
            words.first().is_some_and(|program| program.ends_with("coffer-node"))
                && words.get(1) == Some(&"run")
                && words.contains(&dir.as_str())
        };
        let mut found = BTreeMap::new();
        for process in fs::read_dir("/proc").unwrap().filter_map(Result::ok) {
            let Ok(number) = process.file_name().to_string_lossy().parse::<i32>() else { continue };
            let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            let here = fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd == self.dir.path());
            if here && is(&line.split('\0').collect::<Vec<_>>()) {
                found.insert(number, parent(number));
            }
        }
        // A child of an agent looks like it until it has become another program.
        let is_child = |of: &Option<i32>| of.is_some_and(|of| found.contains_key(&of));
        let agents: Vec<i32> =
            found.iter().filter(|(_, of)| !is_child(of)).map(|(number, _)| *number).collect();
        for number in &agents {
            // It may have ended just now.
            let _ = kill_process(Pid::from_raw(*number).unwrap(), signal);
        }
        agents.len()
    }

    /// Changes what is wanted of the site set.
    fn patch(&self, spec: &Value) {
        let api: Api<kube::api::DynamicObject> = Api::namespaced_with(
            self.client.clone(),
            "coffer",
            &kube::api::ApiResource {
                group: "fleet.coffer".to_owned(),
                version: "v1".to_owned(),
                api_version: "fleet.coffer/v1".to_owned(),
                kind: "SiteSet".to_owned(),
                plural: "sitesets".to_owned(),
            },
        );
        let patch = Patch::Merge(serde_json::json!({ "spec": spec }));
        self.runtime.block_on(api.patch(SET, &PatchParams::default(), &patch)).unwrap();
    }
}

/// What is in a directory.
fn below(dir: &Path) -> Vec<PathBuf> {
    let entries = there(fs::read_dir(dir)).into_iter().flatten();
    entries.filter_map(there).map(|entry| entry.path()).collect()
}

/// What was found; `None`: it is not there, perhaps any more. An agent discards what a retired site has left.
/// There is nothing below a file either.
fn there<T>(found: io::Result<T>) -> Option<T> {
    match found {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => None,
        found => Some(found.unwrap()),
    }
}

/// Who started a process that still runs.
fn parent(process: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // After the name, which may contain anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// What an object contains: different for each name.
fn content(name: &str, length: usize) -> Vec<u8> {
    let mut stream = blake3::Hasher::new().update(name.as_bytes()).finalize_xof();
    let mut bytes = vec![0; length];
    stream.fill(&mut bytes);
    bytes
}

/// `coffer serve --fleet` in this directory, once it serves.
fn serve(programs: &Programs, dir: &Path, plan: &Plan) -> Child {
    let spare = plan.spare.to_string();
    let flags = "--json serve --data-dir data --listen 127.0.0.1:0 --fleet --fleet-listen 127.0.0.1:0 \
         --sites places.toml --repair-every 0s --challenge-every 0s --exit-with-stdin";
    let flags: Vec<&str> = flags
        .split_whitespace()
        .chain(["--fleet-spare", &spare, "--fleet-rebuild-after", plan.rebuild_after])
        .collect();
    let mut child = command(programs, dir, &flags);
    let log = fs::File::options().create(true).append(true).open(dir.join("serve.log")).unwrap();
    child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    let mut child = child.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut values = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    let ready = values.any(|value| value["ready"] == true);
    assert!(ready, "{}", fs::read_to_string(dir.join("serve.log")).unwrap());
    child
}

/// The fleet's API, as its operator reaches it.
fn operator(dir: &Path) -> (tokio::runtime::Runtime, Client) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let kubeconfig = dir.join(KUBECONFIG);
    let client = runtime.block_on(async {
        let file = Kubeconfig::read_from(kubeconfig).unwrap();
        let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.unwrap();
        config.default_retry = false;
        Client::try_from(config)
    });
    (runtime, client.unwrap())
}

fn command(programs: &Programs, dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(programs.coffer());
    command.args(arguments).current_dir(dir).env_clear().env("HOME", dir);
    // The programs of mounts and networks that node agents call.
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

impl Home {
    fn end(&mut self) {
        // Agents that were stopped do not hear that they are to end.
        let nodes = fs::read_dir(self.data().join("fleet/nodes")).into_iter().flatten();
        for node in nodes.filter_map(Result::ok) {
            let name = node.file_name().to_string_lossy().into_owned();
            for container in self.containers(&name) {
                container.init.signal(Signal::CONT);
            }
            self.signal_agent(&name, Signal::CONT);
        }
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.end();
    }
}
