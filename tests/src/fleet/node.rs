//! One node: its agent as a process, and the containers that it runs, found as
//! the next agent would find them.
#![expect(clippy::disallowed_methods, reason = "the story looks at what an agent noted")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{DISK, Programs, Runs};

/// A node of a fleet.
pub(super) struct Node {
    programs: Programs,
    /// What the fleet made for it.
    dir: PathBuf,
    /// Where it and its pods listen.
    address: Ipv4Addr,
    /// What starts its agent, if not this process itself.
    launcher: Vec<String>,
    /// What runs its pods.
    runs: Runs,
    agent: Option<Child>,
    /// Whether an agent ran here whose pods may run still.
    begun: bool,
}

/// A process as its number and its start name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pid: i32,
    start: u64,
}

impl Process {
    fn of(noted: &Value) -> Option<Self> {
        let pid = i32::try_from(noted["pid"].as_i64()?).ok()?;
        Some(Self { pid, start: noted["start"].as_u64()? })
    }

    /// Whether it is there, and no zombie.
    pub(crate) fn lives(self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
        let fields: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        fields.first().is_some_and(|state| *state != "Z")
            && fields.get(19).is_some_and(|start| start.parse() == Ok(self.start))
    }

    /// Sends a signal to it, if it is there.
    pub(crate) fn signal(self, signal: Signal) {
        if self.lives() {
            let _ = kill_process(Pid::from_raw(self.pid).unwrap(), signal);
        }
    }
}

/// A container, as its shim noted it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Container {
    pub(crate) shim: Process,
    /// Its first process.
    pub(crate) init: Process,
}

/// The containers of the node whose directory this is, as the next agent would find them.
pub(crate) fn containers_in(node: &Path) -> Vec<Container> {
    let runtime = node.join("agent/runtime");
    let below = |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().map(|entry| entry.unwrap().path());
    let json = |path: PathBuf| -> Option<Value> { serde_json::from_slice(&std::fs::read(path).ok()?).ok() };
    let process = |container: PathBuf| {
        let noted = json(container.join("running.json"))?;
        Some(Container { shim: Process::of(&noted["shim"])?, init: Process::of(&noted["init"])? })
    };
    // The shim knows runc; which process runc started is in runc's own notes.
    let runc = |container: PathBuf| {
        let state = json(runtime.join("runc").join(container.file_name()?).join("state.json"))?;
        let init = json!({ "pid": state["init_process_pid"], "start": state["init_process_start"] });
        Some(Container { init: Process::of(&init)?, ..process(container)? })
    };
    let processes = below(&runtime).filter_map(process);
    let by_runc = below(&runtime.join("containers")).filter_map(runc);
    processes.chain(by_runc).filter(|container| container.init.lives()).collect()
}

impl Node {
    pub(super) fn new(
        (programs, runs): (&Programs, Runs),
        dir: PathBuf,
        address: Ipv4Addr,
        launcher: Vec<String>,
    ) -> Self {
        Self { programs: programs.clone(), dir, address, launcher, runs, agent: None, begun: false }
    }

    /// Where it and its pods listen.
    pub(super) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Starts its agent, as the supervisor of the machine would.
    pub(super) fn start(&mut self) {
        let program = self.programs.node.display().to_string();
        let mut words = self.launcher.iter().chain([&program]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args(["run", "--lease-seconds", "10", "--renew-seconds", "2"]);
        command.args(["--runtime", self.runs.name()]);
        command.arg("--name").arg(self.dir.file_name().unwrap()).arg("--dir").arg(self.dir.join("agent"));
        command.arg("--kubeconfig").arg(self.dir.join("kubeconfig"));
        command.arg("--executable").arg(&self.programs.site);
        command.arg("--attestation").arg(self.dir.join("attestation"));
        command.arg("--address").arg(self.address.to_string());
        command.arg("--listen").arg(SocketAddr::from((self.address, 10_250)).to_string());
        command.arg("--tls-certificate").arg(self.dir.join("access.pem"));
        command.arg("--tls-key").arg(self.dir.join("access.key"));
        command.arg("--client-authority").arg(self.dir.join("access-ca.pem"));
        command.arg("--capacity").arg(format!("fleet.coffer/disk-bytes={}", 2 * DISK));
        command.args(["--capacity", "fleet.coffer/iops=10000"]);
        let log =
            std::fs::OpenOptions::new().append(true).create(true).open(self.dir.join("agent.log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.agent = Some(command.spawn().unwrap());
        self.begun = true;
    }

    /// `kill -9` of the agent.
    pub(super) fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }

    /// SIGSTOP or SIGCONT to the agent.
    pub(super) fn signal_agent(&self, signal: Signal) {
        let agent = self.agent.as_ref().unwrap();
        kill_process(Pid::from_child(agent), signal).unwrap();
    }

    /// The containers that run here.
    pub(super) fn containers(&self) -> Vec<Container> {
        containers_in(&self.dir)
    }

    /// The file system of a pod's data; `None` where it has none of its own.
    pub(super) fn disk(&self, pod: &str) -> Option<PathBuf> {
        let data = std::fs::canonicalize(self.dir.join("agent/data/site-data").join(pod)).ok()?;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let own = mounts.lines().filter_map(|line| line.split(' ').nth(4)).any(|at| data == Path::new(at));
        own.then_some(data)
    }

    /// Ends the agent and whatever it ran.
    pub(super) fn end(&mut self) {
        if let Some(agent) = &self.agent {
            // One that was stopped is killed all the same; its pods may be stopped too.
            let _ = kill_process(Pid::from_child(agent), Signal::CONT);
        }
        self.kill_agent();
        let mut command = Command::new(&self.programs.node);
        command.args(["end", "--runtime", self.runs.name()]).arg("--name").arg(self.dir.file_name().unwrap());
        let ended = command.arg("--dir").arg(self.dir.join("agent")).stdin(Stdio::null()).output();
        if let Ok(ended) = ended
            && !ended.status.success()
        {
            eprintln!("left running: {}", String::from_utf8_lossy(&ended.stderr));
        }
        self.begun = false;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Of a fleet that did not come to serve, too.
        if self.begun {
            self.end();
        }
    }
}
