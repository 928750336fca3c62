//! The node agents of a fleet at home, each a process of its own, and the program
//! that its pods run. A dead agent is started again; it finds its pods as they are.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sha2::Digest as _;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{NODE_DISK_BYTES, NODE_IOPS};
use crate::context::Context;
use crate::exit::Failure;
use crate::files;

/// Between the end of an agent and its next start.
const PAUSE: Duration = Duration::from_secs(1);
/// How often an agent is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// No program comes near.
const PROGRAM_MAX: u64 = 1 << 30;

/// The agents and their supervisors.
pub(super) struct Agents {
    node: PathBuf,
    site: PathBuf,
    digest: String,
    stop: watch::Sender<bool>,
    tasks: JoinSet<()>,
}

impl Agents {
    /// Finds the programs beside this one.
    pub(super) fn find(context: &Context<'_>) -> Result<Self, Failure> {
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
        Ok(Self { node, site, digest, stop: watch::Sender::new(false), tasks: JoinSet::new() })
    }

    /// The image of the pods: this machine's program, by its digest.
    pub(super) fn image(&self) -> String {
        format!("coffer.local/coffer-site@sha256:{}", self.digest)
    }

    /// Starts the agent of a node, and starts it again whenever it ends.
    pub(super) fn start(&mut self, name: &str, dir: &Path, number: usize) -> Result<(), Failure> {
        // Pods share the machine's network here: each node has a loopback address of its own.
        let last = u8::try_from(number.saturating_add(11))
            .map_err(|_| Failure::usage("a fleet at home has at most 244 nodes"))?;
        let mut command = Command::new(&self.node);
        command.arg("run").arg("--name").arg(name).arg("--dir").arg(dir.join("agent"));
        command.arg("--kubeconfig").arg(dir.join("kubeconfig"));
        command.arg("--executable").arg(&self.site);
        command.arg("--attestation").arg(dir.join("attestation"));
        command.arg("--address").arg(format!("127.0.0.{last}"));
        command.arg("--capacity").arg(format!("fleet.coffer/disk-bytes={NODE_DISK_BYTES}"));
        command.arg("--capacity").arg(format!("fleet.coffer/iops={NODE_IOPS}"));
        command.args(["--lease-seconds", "10", "--renew-seconds", "2"]);
        command.env_remove("KUBECONFIG").stdin(Stdio::null());
        let log = files::appender(&dir.join("agent.log"))?;
        command.stdout(log.try_clone()?).stderr(log);
        let mut stopped = self.stop.subscribe();
        let name = name.to_owned();
        self.tasks.spawn(async move {
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
                        let text = format_args!("coffer: the agent of {name} does not start: {error}\n");
                        drop(std::io::Write::write_fmt(&mut std::io::stderr(), text));
                    }
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Ok(())
    }

    /// Ends all agents.
    pub(super) async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
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
