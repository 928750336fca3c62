//! The node agents of a fleet at home, each a process of its own, and the program
//! that its pods run. A dead agent is started again; it finds its pods as they are.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sha2::Digest as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::NODE_IOPS;
use crate::context::Context;
use crate::exit::Failure;
use crate::files;
use crate::flags::PodRuntime;
use crate::output::trouble;

/// Between the end of an agent and its next start.
const PAUSE: Duration = Duration::from_secs(1);
/// How often an agent is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// No program comes near.
const PROGRAM_MAX: u64 = 1 << 30;
/// Where an agent serves logs and usage, on its node's own address.
const ACCESS_PORT: u16 = 10_250;

/// The agents and their supervisors.
pub(super) struct Agents {
    node: PathBuf,
    site: PathBuf,
    digest: String,
    runtime: PodRuntime,
    running: BTreeMap<String, Supervised>,
}

/// The supervisor of one agent; dropped, it ends the agent.
struct Supervised {
    stop: watch::Sender<bool>,
    task: JoinSet<()>,
}

/// What an agent is started with beside what lies in its directory.
pub(super) struct Agent<'a> {
    /// Its node.
    pub(super) name: &'a str,
    /// The directory with its credentials.
    pub(super) dir: &'a Path,
    /// The node's address.
    pub(super) address: IpAddr,
    /// The disk that the node has.
    pub(super) disk_bytes: u64,
}

impl Agents {
    /// Finds the programs beside this one.
    pub(super) fn find(context: &Context<'_>, runtime: PodRuntime) -> Result<Self, Failure> {
        let own = std::env::current_exe()?;
        let beside = |name: &str| {
            let path = own.with_file_name(name);
            path.exists().then_some(path).ok_or_else(|| {
                Failure::new(format!("the program {name} is not beside {}", own.display()))
                    .safe("nothing was started")
                    .next(format!("build it with `cargo build --bin {name}`, or install it there"))
            })
        };
        let (node, site) = (beside("coffer-node")?, beside("coffer-site")?);
        let digest = coffer_client::hex(&sha2::Sha256::digest(files::read_small(&site, PROGRAM_MAX)?));
        context.output.remark(format_args!("node agents run {}", site.display()));
        Ok(Self { node, site, digest, runtime, running: BTreeMap::new() })
    }

    /// The image of the pods: this machine's program, by its digest.
    pub(super) fn image(&self) -> String {
        format!("coffer.local/coffer-site@sha256:{}", self.digest)
    }

    /// Starts the agent of a node, and starts it again whenever it ends.
    pub(super) fn start(&mut self, agent: &Agent<'_>) -> Result<(), Failure> {
        let Agent { name, dir, address, disk_bytes } = *agent;
        let mut command = Command::new(&self.node);
        command.arg("run").arg("--name").arg(name).arg("--dir").arg(dir.join("agent"));
        command.arg("--kubeconfig").arg(dir.join("kubeconfig"));
        command.arg("--executable").arg(&self.site).args(["--runtime", self.runtime.name()]);
        command.arg("--attestation").arg(dir.join("attestation"));
        // Pods share the machine's network here: each node has a loopback address of its own.
        command.arg("--address").arg(address.to_string());
        command.arg("--listen").arg(SocketAddr::from((address, ACCESS_PORT)).to_string());
        command.arg("--tls-certificate").arg(dir.join("access.pem"));
        command.arg("--tls-key").arg(dir.join("access.key"));
        command.arg("--client-authority").arg(dir.join("access-ca.pem"));
        command.arg("--capacity").arg(format!("fleet.coffer/disk-bytes={disk_bytes}"));
        command.arg("--capacity").arg(format!("fleet.coffer/iops={NODE_IOPS}"));
        command.args(["--lease-seconds", "10", "--renew-seconds", "2", "--exit-with-stdin"]);
        // Held open: should this process be killed, its agents end, and the next ones find the pods.
        command.env_remove("KUBECONFIG").stdin(Stdio::piped());
        // Ctrl-C is for this process, which ends them in order.
        command.process_group(0);
        let log = files::appender(&dir.join("agent.log"))?;
        command.stdout(log.try_clone()?).stderr(log);
        let (stop, mut stopped) = watch::channel(false);
        let mut task = JoinSet::new();
        let of = name.to_owned();
        task.spawn(async move {
            while !*stopped.borrow() {
                match command.spawn() {
                    Ok(child) => {
                        let mut child = Owned(child);
                        tokio::select! {
                            () = child.ended() => {}
                            _ = stopped.wait_for(|stop| *stop) => return,
                        }
                    }
                    Err(error) => {
                        trouble(format_args!("the agent of {of} does not start: {error}"));
                    }
                }
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    _ = stopped.wait_for(|stop| *stop) => return,
                }
            }
        });
        self.running.insert(name.to_owned(), Supervised { stop, task });
        Ok(())
    }

    /// Kills the agent of a node with SIGKILL, and does not start it again.
    pub(super) async fn kill(&mut self, name: &str) {
        if let Some(mut supervised) = self.running.remove(name) {
            supervised.stop.send_replace(true);
            while supervised.task.join_next().await.is_some() {}
        }
    }

    /// Ends all agents.
    pub(super) async fn stop(&mut self) {
        // All are told before any is waited for.
        for supervised in self.running.values() {
            supervised.stop.send_replace(true);
        }
        let names: Vec<String> = self.running.keys().cloned().collect();
        for name in names {
            self.kill(&name).await;
        }
    }

    /// What the agents of these directories, which have ended, left running is killed
    /// with SIGKILL, and its disks are unmounted. Returns what could not be ended.
    pub(super) async fn end_leftovers(&self, dirs: &[PathBuf]) -> Vec<String> {
        let mut ending = JoinSet::new();
        for (name, dir) in dirs.iter().map(|dir| (dir.file_name(), dir.join("agent"))) {
            let Some(name) = name.filter(|_| dir.exists()) else { continue };
            let mut command = Command::new(&self.node);
            command.arg("end").arg("--name").arg(name).arg("--dir").arg(&dir).stdin(Stdio::null());
            command.args(["--runtime", self.runtime.name()]).process_group(0);
            ending.spawn_blocking(move || match command.output() {
                Ok(done) if done.status.success() => None,
                Ok(done) => Some(String::from_utf8_lossy(&done.stderr).trim().to_owned()),
                Err(error) => Some(format!("{}: {error}", dir.display())),
            });
        }
        ending.join_all().await.into_iter().flatten().collect()
    }
}

/// An agent that ends with whoever supervises it.
struct Owned(Child);

impl Owned {
    async fn ended(&mut self) {
        while matches!(self.0.try_wait(), Ok(None)) {
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Ended already, or ended by its own id.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
