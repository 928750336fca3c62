//! The runtime of OCI containers: a bundle (runtime-spec 1.2) written here, run
//! by `runc` under the agent's own shim.

mod bundle;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::Signal;
use serde::Deserialize;

use crate::cgroup::Homes;
use crate::confine::shim::Task;
use crate::layer::{Layer, Layers};
use crate::process::{LogLimits, RuntimeConfig, run_limited};
use crate::process_id::ProcessId;
use crate::runtime::{Container, ContainerId, Exit, Runtime, RuntimeError, StartError, State, Usage};
use crate::shimmed::Shimmed;
use crate::tool::{self, ToolError};
use crate::{files, io_limit};

/// Layers that a container of `runc` has; it has no Landlock.
fn layers() -> Layers {
    Layers::all().without(Layer::Landlock)
}

/// Runs containers by `runc`.
#[derive(Debug)]
pub struct RuncRuntime {
    shimmed: Shimmed,
    root: PathBuf,
    node: String,
    /// What `runc` finds as well; it makes the groups itself.
    homes: Homes,
    demanded: Layers,
    logs: LogLimits,
}

/// Where `runc` keeps what it knows of its containers, a directory for each.
pub(crate) fn root(directory: &Path) -> PathBuf {
    directory.join("runc")
}

impl RuncRuntime {
    /// A runtime of `runc`.
    ///
    /// # Errors
    /// Its directories cannot be made.
    pub fn new(config: RuntimeConfig) -> io::Result<Self> {
        let root = root(&config.directory);
        files::make_dirs(&root, 0o700)?;
        let mut homes = Homes::find(&config.node)?;
        drop(homes.prepare());
        homes.clear();
        Ok(Self {
            homes,
            shimmed: Shimmed::new(config.directory.join("containers"), config.program)?,
            root,
            node: config.node,
            demanded: config.demanded,
            logs: config.logs,
        })
    }

    async fn runc(&self, args: &[&str]) -> Result<String, ToolError> {
        let root = self.root.display().to_string();
        let args: Vec<String> = ["--root", &root].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
        let run = move || tool::run("runc", &args.iter().map(String::as_str).collect::<Vec<_>>());
        tokio::task::spawn_blocking(run).await.unwrap_or_else(|error| {
            Err(ToolError::Absent { program: "runc".to_owned(), cause: io::Error::other(error) })
        })
    }

    /// Waits until `runc` has started the program, or has given up.
    async fn started(&self, id: &ContainerId) -> Result<(), StartError> {
        #[derive(Deserialize)]
        struct Said {
            status: String,
        }
        loop {
            match self.shimmed.state(id).await.map_err(|error| StartError::Container(error.to_string()))? {
                State::Exited(Exit { not_started: Some(reason), .. }) => {
                    return Err(StartError::Container(reason));
                }
                State::Exited(_) => return Ok(()),
                State::Absent => return Err(StartError::Container("it vanished".to_owned())),
                State::Running { .. } => {}
            }
            let said = self.runc(&["state", id.as_str()]).await.ok();
            let said: Option<Said> = said.and_then(|text| serde_json::from_str(&text).ok());
            if said.is_some_and(|said| said.status == "running") {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What `runc events --stats` prints.
#[derive(Deserialize)]
struct Events {
    data: Stats,
}

#[derive(Deserialize)]
struct Stats {
    cpu: CpuStats,
    memory: MemoryStats,
    pids: PidStats,
}

#[derive(Deserialize)]
struct CpuStats {
    usage: CpuUsage,
}

#[derive(Deserialize)]
struct CpuUsage {
    #[serde(default)]
    total: u64,
}

#[derive(Deserialize)]
struct MemoryStats {
    usage: MemoryUsage,
    #[serde(default)]
    raw: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct MemoryUsage {
    #[serde(default)]
    usage: u64,
}

#[derive(Deserialize)]
struct PidStats {
    #[serde(default)]
    current: u64,
}

#[async_trait]
impl Runtime for RuncRuntime {
    fn name(&self) -> &'static str {
        "runc"
    }

    async fn start(&self, container: &Container) -> Result<(), StartError> {
        let lacking = self.demanded.minus(&layers());
        if !lacking.is_empty() {
            return Err(StartError::Unconfined(lacking));
        }
        let id = &container.id;
        let directory = self.shimmed.claim(id)?;
        let iops = io_limit::of(container, &self.homes).unwrap_or_default();
        bundle::write(container, &directory, &self.node, iops)?;
        let text = |path: PathBuf| path.display().to_string();
        let complaints = directory.join("runc.log");
        let command = [
            "runc".to_owned(),
            "--root".to_owned(),
            text(self.root.clone()),
            "--log".to_owned(),
            text(complaints.clone()),
            "run".to_owned(),
            "--bundle".to_owned(),
            text(directory.clone()),
            id.to_string(),
        ];
        let task = Task {
            command: command.into(),
            pid_space: false,
            reports: false,
            log: self.shimmed.log(id),
            log_bytes: self.logs.bytes,
            log_files: self.logs.files,
            killed: None,
            complaints: Some(complaints),
        };
        self.shimmed.launch(id, &task).await?;
        self.started(id).await
    }

    fn not_held(&self, container: &Container) -> Option<String> {
        io_limit::of(container, &self.homes).err().map(|why| why.to_string())
    }

    async fn state(&self, id: &ContainerId) -> Result<State, RuntimeError> {
        self.shimmed.state(id).await
    }

    async fn wait(&self, id: &ContainerId) -> Result<Exit, RuntimeError> {
        let exit = self.shimmed.wait(id).await?;
        // One whose `runc` was killed still runs: it has lost its shim, and ends here.
        drop(self.runc(&["delete", "--force", id.as_str()]).await);
        Ok(exit)
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<Exit, RuntimeError> {
        // One that is still starting would hear of no signal.
        self.shimmed.state(id).await?;
        if !grace.is_zero() {
            // That it has ended meanwhile is what was wanted.
            drop(self.runc(&["kill", id.as_str(), "TERM"]).await);
            if let Ok(exit) = tokio::time::timeout(grace, self.wait(id)).await {
                return exit;
            }
        }
        drop(self.runc(&["kill", "--all", id.as_str(), "KILL"]).await);
        drop(self.runc(&["kill", id.as_str(), "KILL"]).await);
        self.wait(id).await
    }

    async fn usage(&self, id: &ContainerId) -> Result<Usage, RuntimeError> {
        match self.shimmed.state(id).await? {
            State::Absent => return Err(RuntimeError::Absent(id.clone())),
            State::Exited(_) => return Ok(Usage::default()),
            State::Running { .. } => {}
        }
        let said = self.runc(&["events", "--stats", id.as_str()]).await.map_err(io::Error::other)?;
        let Stats { cpu, memory, pids } =
            serde_json::from_str::<Events>(&said).map_err(io::Error::from)?.data;
        let cache =
            ["total_inactive_file", "inactive_file"].iter().find_map(|name| memory.raw.get(*name)?.as_u64());
        Ok(Usage {
            cpu: Duration::from_nanos(cpu.usage.total),
            memory: memory.usage.usage.saturating_sub(cache.unwrap_or(0)),
            pids: pids.current,
        })
    }

    async fn execute(
        &self,
        id: &ContainerId,
        command: &[String],
        limit: Duration,
    ) -> Result<i32, RuntimeError> {
        let State::Running { .. } = self.shimmed.state(id).await? else {
            return Err(RuntimeError::Absent(id.clone()));
        };
        let note = self.shimmed.note(id, "exec-pid");
        let mut runc = Command::new("runc");
        runc.arg("--root")
            .arg(&self.root)
            .args(["exec", "--pid-file"])
            .arg(&note)
            .arg(id.as_str())
            .args(command);
        let outcome = run_limited(&mut runc, limit).await;
        if let Err(RuntimeError::TimedOut(_)) = outcome {
            // `runc` was killed; what it started inside is not its child.
            let pid = files::read_text(&note).ok().and_then(|pid| pid.trim().parse().ok());
            if let Some(process) = pid.and_then(|pid| ProcessId::of(pid).ok()) {
                process.signal(Signal::KILL);
            }
        }
        // One that stays goes with the container's directory.
        drop(std::fs::remove_file(&note));
        match outcome? {
            // runc's own failures; a command that ends so as well is told the same.
            255 | 126 | 127 => Err(RuntimeError::Command("it did not start; is it in the image?".to_owned())),
            code => Ok(code),
        }
    }

    async fn list(&self) -> Result<Vec<ContainerId>, RuntimeError> {
        Ok(self.shimmed.list()?)
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        if let State::Running { .. } = self.shimmed.state(id).await? {
            return Err(RuntimeError::Runs(id.clone()));
        }
        drop(self.runc(&["delete", "--force", id.as_str()]).await);
        Ok(self.shimmed.remove(id)?)
    }

    fn log(&self, id: &ContainerId) -> PathBuf {
        self.shimmed.log(id)
    }
}
