//! The fleet on one machine as a user runs it: real processes, real pods, exit
//! codes.
#![cfg(feature = "embedded")]
#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test makes files and looks at them"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

#[path = "support/built.rs"]
mod built;
#[path = "support/given_up.rs"]
mod given_up;
#[path = "support/program.rs"]
mod program;

use built::node_program;
use given_up::GivenUp;
use program::command;

/// One fleet at a time is enough for a small machine.
static ONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    node_program();
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks again and again until it is so.
fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    // Two minutes of looks: whoever comes here is stuck.
    for _ in 0..1200 {
        if let Some(found) = look() {
            return found;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("it never came: {what}")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A kubeconfig of an API that nobody serves.
fn nobody(dir: &Path) {
    let config = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "nobody",
        "clusters": [{ "name": "nobody", "cluster": { "server": "https://127.0.0.1:9" } }],
        "contexts": [{ "name": "nobody", "context": { "cluster": "nobody", "user": "nobody" } }],
        "users": [{ "name": "nobody", "user": {} }],
    });
    fs::write(dir.join("kubeconfig"), config.to_string()).unwrap();
}

fn told(dir: &Path, arguments: &[&str], stdin: &[u8]) -> Output {
    let mut command = command(dir, arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // Whoever has heard enough may close it.
    drop(pipe.write_all(stdin));
    drop(pipe);
    child.wait_with_output().unwrap()
}

#[test]
fn more_than_is_read_of_stdin_is_refused_and_never_applied_in_part() {
    let dir = tempfile::tempdir().unwrap();
    nobody(dir.path());
    let remark = "# nothing but remarks, and what was wanted would come after what is read\n";
    let mut documents = remark.repeat((4 << 20) / remark.len() + 1);
    assert!(documents.len() > 4 << 20);
    let arguments = ["fleet", "apply", "-", "--kubeconfig", "kubeconfig"];
    let refused = told(dir.path(), &arguments, documents.as_bytes());
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("longer than 4194304 bytes") && said.contains("nothing was changed"), "{said}");
    // What just fits is read.
    documents.truncate(4 << 20);
    let read = told(dir.path(), &arguments, documents.as_bytes());
    assert!(!text(&read.stderr).contains("longer than"), "{}", text(&read.stderr));
}

/// A process as its number and its start name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    pid: i32,
    start: u64,
}

impl Process {
    fn lives(self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        // After the name, which may contain anything; the 22nd field of all.
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>());
        let fields = fields.unwrap_or_default();
        let zombie = fields.first().is_some_and(|state| *state == "Z");
        !zombie && fields.get(19).is_some_and(|start| start.parse() == Ok(self.start))
    }

    fn kill(self, signal: Signal) {
        kill_process(Pid::from_raw(self.pid).unwrap(), signal).unwrap();
    }
}

/// Shims and pods of a fleet, as its agents noted them: directory and first process of each container.
fn containers(data: &Path) -> Vec<(PathBuf, Process, Process)> {
    let below = |dir: PathBuf| fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    let nodes = below(data.join("fleet/nodes"));
    let containers = nodes.flat_map(|node| below(node.join("agent/runtime")));
    let read = |dir: PathBuf| {
        let noted: Value = serde_json::from_slice(&fs::read(dir.join("running.json")).ok()?).ok()?;
        let process = |of: &str| Process {
            pid: i32::try_from(noted[of]["pid"].as_i64().unwrap()).unwrap(),
            start: noted[of]["start"].as_u64().unwrap(),
        };
        Some((dir, process("shim"), process("init")))
    };
    containers.filter_map(read).collect()
}

/// Every directory below, so many levels deep; some go while this looks.
fn directories_of(dir: &Path, levels: u32, found: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        found.push(entry.path());
        if let Some(levels) = levels.checked_sub(1) {
            directories_of(&entry.path(), levels, found);
        }
    }
}

/// Nothing of the fleet runs any more, and nothing of it is mounted.
fn nothing_is_left(dir: &Path, containers: &[(PathBuf, Process, Process)]) {
    let mut groups = Vec::new();
    directories_of(Path::new("/sys/fs/cgroup"), 6, &mut groups);
    for (container, shim, init) in containers {
        assert!(!shim.lives() && !init.lives(), "{} lives", container.display());
        let group = groups.iter().find(|group| group.file_name() == container.file_name());
        assert_eq!(group, None, "the control group of a container is there");
    }
    let (name, own) = (dir.display().to_string(), std::process::id().to_string());
    for process in fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap()) {
        let number = process.file_name().into_string().unwrap();
        if number.bytes().all(|byte| byte.is_ascii_digit()) && number != own {
            let line = text(&fs::read(process.path().join("cmdline")).unwrap_or_default());
            assert!(!line.contains(&name), "{number} lives: {line}");
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&name), "{mounts}");
}

fn tree(dir: &Path) {
    fs::create_dir_all(dir.join("tree/deep")).unwrap();
    fs::write(dir.join("tree/canary"), "canary content ".repeat(20_000)).unwrap();
    fs::write(dir.join("tree/deep/small"), "small").unwrap();
}

const TRY: [&str; 8] = ["--json", "try", "tree", "--fleet", "--data-dir", "data", "--out", "out"];

#[test]
fn pods_that_are_killed_in_a_trial_cost_no_file_and_nothing_of_the_fleet_is_left() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let tried = command(dir.path(), &TRY).output().unwrap();
    assert_eq!(tried.status.code(), Some(0), "{}", text(&tried.stderr));
    let told: Value = serde_json::from_slice(&tried.stdout).unwrap();
    assert_eq!((told["differences"].as_u64(), told["sites_lost"].as_u64()), (Some(0), Some(2)), "{told}");
    assert_eq!(told["pods_killed"], serde_json::json!(["sites-0", "sites-1"]));
    nothing_is_left(dir.path(), &[]);
    assert!(!dir.path().join("data").exists(), "{}", text(&tried.stderr));
    assert!(dir.path().join("out/record.json").exists());
    let verify = ["drill", "verify", "out/record.json", "--kit", "out/recovery-kit.json"];
    assert_eq!(command(dir.path(), &verify).output().unwrap().status.code(), Some(0));
}

#[test]
fn a_trial_without_the_programs_of_nodes_and_pods_says_so_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let (own, other) = (Path::new(env!("CARGO_BIN_EXE_coffer")), dir.path().join("coffer"));
    // By another process: a program that is still open for writing, be it in a child of this one, does not start.
    let copied = || Command::new("cp").args([own, &other]).status().is_ok_and(|status| status.success());
    assert!(fs::hard_link(own, &other).is_ok() || copied());
    let mut command = Command::new(&other);
    let tried =
        command.args(TRY).current_dir(dir.path()).env_clear().env("HOME", dir.path()).output().unwrap();
    assert_eq!(tried.status.code(), Some(1));
    assert!(text(&tried.stderr).contains("coffer-node is not beside"), "{}", text(&tried.stderr));
    nothing_is_left(dir.path(), &[]);
    fs::remove_file(&other).unwrap();
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["tree"]);
}

#[test]
fn a_fleet_too_small_for_its_shards_is_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let site =
        |n| format!("[[site]]\nname = \"s{n}\"\ncountry = \"DE\"\ndomain = \"d{n}\"\ntier = \"III\"\n");
    fs::write(dir.path().join("five.toml"), (0..5).map(site).collect::<String>()).unwrap();
    let small = [&TRY[..], &["--sites", "five.toml"]].concat();
    for refused in [&small[..], &["fleet", "serve", "--data-dir", "data", "--spare", "1"]] {
        let refused = command(dir.path(), refused).output().unwrap();
        let said = text(&refused.stderr);
        assert!(refused.status.code() == Some(2) && said.contains("6 shards"), "{said}");
        assert!(!dir.path().join("data").exists() && !dir.path().join("out").exists());
    }
}

#[test]
fn a_trial_that_loses_too_many_pods_says_so_and_leaves_nothing() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let tried = command(dir.path(), &[&TRY[..], &["--lose", "3"]].concat()).output().unwrap();
    assert_eq!(tried.status.code(), Some(1), "{}", text(&tried.stderr));
    let told: Value = serde_json::from_slice(&tried.stdout).unwrap();
    let what = told["error"]["what"].as_str().unwrap();
    assert!(what.contains("sites-2") && what.contains("1 more would suffice"), "{what}");
    nothing_is_left(dir.path(), &[]);
    assert!(!dir.path().join("data").exists() && !dir.path().join("out").exists());
}

#[test]
fn an_interrupted_trial_ends_every_process_and_removes_every_directory() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let mut command = command(dir.path(), &TRY);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let running = until("six pods run", || {
        let running = containers(&dir.path().join("data"));
        (running.len() == 6).then_some(running)
    });
    assert!(running.iter().all(|(_, shim, init)| shim.lives() && init.lives()));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", text(&ended.stderr));
    assert!(text(&ended.stderr).contains("interrupted"), "{}", text(&ended.stderr));
    nothing_is_left(dir.path(), &running);
    let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["tree"]);
}

/// Whether a pod's disk is a file system of its own here.
fn mounted(dir: &Path) -> bool {
    let dir = fs::canonicalize(dir).unwrap_or_default().display().to_string();
    fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&format!(" {dir} "))
}

#[test]
fn a_trial_that_cannot_end_all_of_its_fleet_keeps_what_says_how_and_fails() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    tree(dir.path());
    let data = dir.path().join("data");
    let given_up = GivenUp(data.clone());
    let mut command = command(dir.path(), &TRY);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("six pods run", || (containers(&data).len() == 6).then_some(()));
    let disk = until("the disk of the first pod", || {
        let nodes = fs::read_dir(data.join("fleet/nodes")).ok()?;
        let mut disks = nodes.map(|node| node.unwrap().path().join("agent/data/site-data/sites-0"));
        disks.find(|disk| disk.exists())
    });
    if !mounted(&disk) {
        drop(writeln!(std::io::stderr(), "NOT TESTED: pods have no disks of their own here."));
        drop(child.wait_with_output());
        return;
    }
    // Somebody looks at the data of a pod that the trial loses.
    let looks = fs::File::open(&disk).unwrap();
    let tried = child.wait_with_output().unwrap();
    let said = text(&tried.stderr);
    assert_eq!(tried.status.code(), Some(1), "{said}");
    assert!(said.contains("could be ended") && said.contains("coffer-node end"), "{said}");
    assert!(mounted(&disk));
    drop(looks);
    assert!(given_up.end() && !mounted(&disk));
    nothing_is_left(dir.path(), &[]);
}

/// `coffer serve --fleet`, which ends with its stdin.
struct Served {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Served {
    fn start(dir: &Path) -> Self {
        Self::by(dir, &["serve", "--fleet", "--fleet-listen", "127.0.0.1:0"])
    }

    fn by(dir: &Path, verb: &[&str]) -> Self {
        let more = ["--json", "--exit-with-stdin", "--data-dir", "data", "--listen", "127.0.0.1:0"];
        let mut command = command(dir, &[verb, &more].concat());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("\"ready\":true")), "it serves");
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, stdin }
    }

    fn end(mut self) {
        drop(self.stdin.take());
        assert!(self.child.wait().unwrap().success(), "it ends in order");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // A test that failed leaves no pod behind either.
        let _ = self.child.wait();
    }
}

#[test]
fn a_killed_service_takes_no_pod_with_it_and_the_next_one_finds_them() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut served = Served::start(dir.path());
    let before = containers(&dir.path().join("data"));
    served.child.kill().unwrap();
    served.child.wait().unwrap();
    assert!(before.iter().all(|(_, shim, init)| shim.lives() && init.lives()), "pods outlive their service");
    drop(served);
    let served = Served::start(dir.path());
    let after = containers(&dir.path().join("data"));
    assert_eq!(after.iter().collect::<std::collections::BTreeSet<_>>(), before.iter().collect());
    served.end();
    nothing_is_left(dir.path(), &before);
}

#[test]
fn a_control_plane_that_stops_in_order_takes_no_pod_with_it_either() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let given_up = GivenUp(data.clone());
    let served = Served::by(dir.path(), &["fleet", "serve"]);
    let before = containers(&data);
    assert_eq!(before.len(), 6);
    served.end();
    assert!(before.iter().all(|(_, shim, init)| shim.lives() && init.lives()), "pods outlive it");
    let served = Served::by(dir.path(), &["fleet", "serve"]);
    let after = containers(&data);
    assert_eq!(after.iter().collect::<std::collections::BTreeSet<_>>(), before.iter().collect());
    served.end();
    assert!(given_up.end());
    nothing_is_left(dir.path(), &before);
}

/// The kubectl of this machine, past a dispatcher that would choose a version.
fn kubectl() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let behind = places
        .iter()
        .filter_map(|place| Some(fs::canonicalize(place.join("kubectl")).ok()?.parent()?.to_path_buf()));
    let all: Vec<PathBuf> = places.iter().cloned().chain(behind).collect();
    let named = |name: &'static str| all.iter().map(move |place| place.join(name));
    named("kubectl.1.32").chain(named("kubectl")).find(|binary| {
        let said = Command::new(binary).args(["version", "--client", "-o", "json"]).output();
        said.is_ok_and(|said| {
            let said = text(&said.stdout);
            said.contains("\"gitVersion\": \"v1.32") && !said.contains("dispatcher")
        })
    })
}

fn logs(dir: &Path, more: &[&str]) -> Output {
    command(dir, &[&["fleet", "logs"], more].concat()).output().unwrap()
}

#[test]
fn the_log_of_a_pod_is_shown_followed_to_its_end_and_kept_for_one_restart() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let served = Served::start(dir.path());
    let shown = logs(dir.path(), &["sites-0"]);
    assert_eq!(shown.status.code(), Some(0), "{}", text(&shown.stderr));
    assert!(text(&shown.stdout).contains("ready: "), "{}", text(&shown.stdout));
    let last = logs(dir.path(), &["sites-0", "--tail", "1"]);
    assert_eq!(text(&last.stdout).lines().count(), 1, "{}", text(&last.stdout));
    let none = logs(dir.path(), &["sites-9"]);
    assert_eq!(none.status.code(), Some(1), "{}", text(&none.stderr));
    let before = logs(dir.path(), &["sites-0", "--previous"]);
    assert_eq!(before.status.code(), Some(1));
    assert!(text(&before.stderr).contains("no container before"), "{}", text(&before.stderr));
    let told = command(dir.path(), &["--json", "fleet", "logs", "sites-0"]).output().unwrap();
    let line: Value = serde_json::from_str(text(&told.stdout).lines().next().unwrap()).unwrap();
    assert_eq!(line["pod"], "sites-0");
    match kubectl() {
        None => {
            drop(writeln!(std::io::stderr(), "NOT TESTED: kubectl logs: this machine has no kubectl v1.32."))
        }
        Some(binary) => {
            let kubeconfig = dir.path().join(".config/coffer/fleet/kubeconfig");
            let mut command = Command::new(binary);
            command.env("HOME", dir.path()).arg("--kubeconfig").arg(kubeconfig);
            let asked = command.args(["-n", "coffer", "logs", "sites-0", "--tail=5"]).output().unwrap();
            assert!(text(&asked.stdout).contains("ready: "), "{}", text(&asked.stderr));
        }
    }

    let top = command(dir.path(), &["--json", "fleet", "top"]).output().unwrap();
    let used = text(&top.stdout);
    assert_eq!(used.lines().count(), 12, "six nodes and six pods: {used}");
    // Whoever may have no control groups cannot count.
    let counted = !used.contains("\"memory_bytes\":0");
    assert!(counted || !rustix::process::geteuid().is_root(), "{used}");

    // Followed until its container ends, which the shim sees.
    let mut command = command(dir.path(), &["fleet", "logs", "sites-0", "--follow"]);
    let mut following = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("ready: ")));
    let of_pod = |dir: &Path| {
        let named = |(dir, _, _): &(PathBuf, Process, Process)| {
            text(&fs::read(dir.join("plan.json")).unwrap_or_default()).contains("site-data/sites-0")
        };
        containers(&dir.join("data")).into_iter().find(named)
    };
    let (_, _, init) = of_pod(dir.path()).expect("a confined pod has a plan that names its data");
    init.kill(Signal::KILL);
    lines.for_each(drop);
    assert!(following.wait().unwrap().success());
    until("the log before the restart is shown", || {
        let before = logs(dir.path(), &["sites-0", "--previous"]);
        text(&before.stdout).contains("ready: ").then_some(())
    });
    let running = containers(&dir.path().join("data"));
    served.end();
    nothing_is_left(dir.path(), &running);
}
