//! The runtime of confined processes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use std::{fmt, io};

use async_trait::async_trait;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use crate::cgroup::{Controller, Group, GroupLimits, Homes, Kind};
use crate::confine::enter::Entry;
use crate::confine::plan::{Limit, Plan};
use crate::confine::shim::{NOT_STARTED, Task};
use crate::io_limit::NotHeld;
use crate::layer::{Layer, Layers};
use crate::probe::Probe;
use crate::runtime::{Container, ContainerId, Exit, Limits, Runtime, RuntimeError, StartError, State, Usage};
use crate::shimmed::Shimmed;
use crate::{files, io_limit, process_id};

/// How logs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Size at which a log is rotated, in bytes.
    pub bytes: u64,
    /// How many are kept for each container, the current one included.
    pub files: u32,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { bytes: 10 << 20, files: 3 }
    }
}

/// Where a runtime keeps its containers, and what it demands.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Name of the node: part of the names of its control groups.
    pub node: String,
    /// Directory of the containers; made if it is not there.
    pub directory: PathBuf,
    /// The binary that knows the stages ([`stage`](crate::stage)); usually `/proc/self/exe`.
    pub program: PathBuf,
    /// Layers without which nothing is started.
    pub demanded: Layers,
    /// How logs are kept.
    pub logs: LogLimits,
}

/// Runs containers as confined processes.
pub struct ProcessRuntime {
    shimmed: Shimmed,
    homes: Homes,
    had: Layers,
    demanded: Layers,
    logs: LogLimits,
}

impl fmt::Debug for ProcessRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessRuntime").field("had", &self.had).finish_non_exhaustive()
    }
}

impl ProcessRuntime {
    /// A runtime with the layers that `probe` found.
    ///
    /// # Errors
    /// The directory cannot be made.
    pub fn new(config: RuntimeConfig, probe: &Probe) -> io::Result<Self> {
        let mut homes = Homes::find(&config.node)?;
        drop(homes.prepare());
        Ok(Self {
            shimmed: Shimmed::new(config.directory, config.program)?,
            homes,
            had: probe.had(),
            demanded: config.demanded,
            logs: config.logs,
        })
    }

    fn group(&self, id: &ContainerId) -> Group {
        Group::new(&self.homes, id.as_str())
    }

    fn plan(&self, container: &Container, layers: Layers, directory: &Path) -> Plan {
        let mut plan = Plan {
            hostname: container.hostname.clone(),
            cgroups: self.group(&container.id).entrances(),
            network: container.network.clone(),
            scaffold: directory.join("root"),
            root: container.root.clone(),
            volumes: container.volumes.clone(),
            tmp_bytes: container.limits.tmp_bytes,
            uid: container.uid,
            rlimits: rlimits(&container.limits),
            listen: container.listen.clone(),
            connect: container.connect.clone(),
            program: container.program.clone(),
            layers,
        };
        if !plan.layers.has(Layer::Mount) {
            translate(&mut plan);
        }
        plan
    }

    /// The file in which the kernel counts kills for want of memory.
    fn kills(&self, id: &ContainerId) -> Option<PathBuf> {
        let home = self.homes.of.get(&Controller::Memory)?;
        let file = match home.kind {
            Kind::First => "memory.oom_control",
            Kind::Second => "memory.events",
        };
        Some(home.directory.join(id.as_str()).join(file))
    }

    fn prepare(&self, container: &Container, layers: &Layers, directory: &Path) -> Result<(), StartError> {
        files::make_dirs(&directory.join("root"), 0o755)?;
        if layers.has(Layer::Cgroup) {
            let limits = &container.limits;
            // One that cannot be held is told, not refused: a disk without throttling is slow, not unsafe.
            let iops = io_limit::of(container, &self.homes).unwrap_or_default();
            // They went with the last container; what was had then is had now.
            drop(self.homes.clone().prepare());
            self.group(&container.id).make(&GroupLimits {
                cpu_milli: limits.cpu_milli,
                cpu_request_milli: limits.cpu_request_milli,
                memory: limits.memory,
                pids: Some(limits.pids),
                iops,
            })?;
        }
        let plan = self.plan(container, layers.clone(), directory);
        Ok(files::replace_json(&directory.join("plan.json"), &plan)?)
    }

    /// Takes the node's own groups away where no container is left; whether that
    /// is to be tried again: the kernel counts the memory of the last one down a
    /// moment later.
    fn homes_linger(&self) -> io::Result<bool> {
        Ok(self.shimmed.list()?.is_empty() && self.homes.clear())
    }

    fn clear(&self, id: &ContainerId) -> io::Result<()> {
        let group = self.group(id);
        group.kill();
        group.remove()?;
        self.shimmed.remove(id)?;
        Ok(())
    }
}

/// The limits of the process itself. They stand behind those of the control
/// groups, for a machine that has none: the address space leaves room for what
/// a program reserves and never touches.
fn rlimits(limits: &Limits) -> Vec<(Limit, u64)> {
    let mut rlimits = vec![
        (Limit::Core, 0),
        (Limit::Files, limits.files),
        (Limit::Processes, limits.pids),
        (Limit::Locked, 64 << 10),
        (Limit::MessageQueues, 64 << 10),
    ];
    if let Some(memory) = limits.memory {
        rlimits.push((Limit::AddressSpace, memory.saturating_mul(4).saturating_add(1 << 30)));
    }
    if let Some(bytes) = limits.file_bytes {
        rlimits.push((Limit::FileSize, bytes));
    }
    rlimits
}

/// Without a mount name space the pod sees the node's own paths: what names a
/// volume's target in its arguments and environment is made to name the source.
fn translate(plan: &mut Plan) {
    let volumes: BTreeMap<String, String> = plan
        .volumes
        .iter()
        .map(|volume| (volume.target.display().to_string(), volume.source.display().to_string()))
        .collect();
    let say = |text: &mut String| {
        let (flag, path) = match text.split_once('=') {
            Some((flag, path)) if flag.starts_with('-') => (format!("{flag}="), path.to_owned()),
            _ => (String::new(), text.clone()),
        };
        for (target, source) in volumes.iter().rev() {
            match path.strip_prefix(target.as_str()) {
                Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                    *text = format!("{flag}{source}{rest}");
                    return;
                }
                _ => {}
            }
        }
    };
    plan.program.args.iter_mut().for_each(say);
    plan.program.env.iter_mut().for_each(|(_, value)| say(value));
}

#[async_trait]
impl Runtime for ProcessRuntime {
    fn name(&self) -> &'static str {
        "confined-process"
    }

    async fn start(&self, container: &Container) -> Result<(), StartError> {
        let layers = self.had.minus(&container.without);
        let lacking = self.demanded.minus(&self.had);
        if !lacking.is_empty() {
            return Err(StartError::Unconfined(lacking));
        }
        let directory = self.shimmed.claim(&container.id)?;
        self.prepare(container, &layers, &directory)?;
        let plan = directory.join("plan.json");
        let command = [self.shimmed.program().as_os_str(), crate::stage::STARTER.as_ref(), plan.as_os_str()];
        let task = Task {
            command: command.map(|word| word.to_string_lossy().into_owned()).into(),
            pid_space: layers.has(Layer::Pid),
            reports: true,
            log: self.shimmed.log(&container.id),
            log_bytes: self.logs.bytes,
            log_files: self.logs.files,
            killed: self.kills(&container.id).filter(|_| layers.has(Layer::Cgroup)),
            complaints: None,
        };
        self.shimmed.launch(&container.id, &task).await
    }

    fn not_held(&self, container: &Container) -> Option<String> {
        if !self.had.minus(&container.without).has(Layer::Cgroup) {
            return container.limits.iops.map(|_| NotHeld::Controller.to_string());
        }
        io_limit::of(container, &self.homes).err().map(|why| why.to_string())
    }

    async fn state(&self, id: &ContainerId) -> Result<State, RuntimeError> {
        self.shimmed.state(id).await
    }

    async fn wait(&self, id: &ContainerId) -> Result<Exit, RuntimeError> {
        let exit = self.shimmed.wait(id).await?;
        // Without a process id name space its children may still be there.
        self.group(id).kill();
        Ok(exit)
    }

    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<Exit, RuntimeError> {
        // One that is still starting would hear of no signal.
        self.shimmed.state(id).await?;
        if !grace.is_zero() {
            self.shimmed.signal(id, Signal::TERM)?;
            if let Ok(exit) = tokio::time::timeout(grace, self.wait(id)).await {
                return exit;
            }
        }
        self.shimmed.signal(id, Signal::KILL)?;
        self.group(id).kill();
        self.wait(id).await
    }

    async fn usage(&self, id: &ContainerId) -> Result<Usage, RuntimeError> {
        match self.shimmed.state(id).await? {
            State::Absent => Err(RuntimeError::Absent(id.clone())),
            State::Exited(_) => Ok(Usage::default()),
            State::Running { .. } => {
                let usage = self.group(id).usage();
                Ok(Usage { cpu: usage.cpu, memory: usage.memory, pids: usage.pids })
            }
        }
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
        let init = self.shimmed.running(id)?.ok_or_else(|| RuntimeError::Absent(id.clone()))?.init.pid;
        let directory = self.shimmed.of(id);
        let plan: Option<Plan> = files::read_json(&directory.join("plan.json"))?;
        let mut plan = plan.ok_or_else(|| RuntimeError::Absent(id.clone()))?;
        let (program, args) =
            command.split_first().ok_or_else(|| RuntimeError::Command("it is empty".to_owned()))?;
        plan.program.path = program.into();
        plan.program.args = args.to_vec();
        let note = self.shimmed.note(id, "entry");
        files::replace_json(&note, &Entry { plan, init })?;
        let mut enter = Command::new(self.shimmed.program());
        let outcome = run_limited(enter.arg(crate::stage::ENTER).arg(&note), limit).await;
        // One that stays goes with the container's directory.
        drop(std::fs::remove_file(&note));
        outcome
    }

    async fn list(&self) -> Result<Vec<ContainerId>, RuntimeError> {
        Ok(self.shimmed.list()?)
    }

    async fn remove(&self, id: &ContainerId) -> Result<(), RuntimeError> {
        match self.shimmed.state(id).await? {
            State::Running { .. } => Err(RuntimeError::Runs(id.clone())),
            State::Absent | State::Exited(_) => {
                let mut cleared = self.clear(id);
                for _ in 0..50 {
                    if cleared.is_ok() && !self.homes_linger()? {
                        return Ok(());
                    }
                    // Killed processes leave their group a moment later.
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    if cleared.is_err() {
                        cleared = self.clear(id);
                    }
                }
                Ok(cleared?)
            }
        }
    }

    async fn close(&self) -> Result<(), RuntimeError> {
        for _ in 0..500 {
            if !self.homes_linger()? {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(io::Error::from(io::ErrorKind::ResourceBusy).into())
    }

    fn log(&self, id: &ContainerId) -> PathBuf {
        self.shimmed.log(id)
    }
}

/// A child that does not outlive whoever waits for it.
struct Watched(Child);

impl Drop for Watched {
    fn drop(&mut self) {
        // Neither matters for one that has ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Runs a command for at most `limit`, its output thrown away; its exit code.
pub(crate) async fn run_limited(command: &mut Command, limit: Duration) -> Result<i32, RuntimeError> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = Watched(command.spawn()?);
    let pid = i32::try_from(child.0.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::InvalidData).map_err(io::Error::from)?;
    let end = pidfd_open(pid, PidfdFlags::empty()).map_err(io::Error::from)?;
    match tokio::time::timeout(limit, process_id::ended(end)).await {
        Err(_) => return Err(RuntimeError::TimedOut(limit)),
        Ok(ended) => ended?,
    }
    match child.0.wait()?.code() {
        Some(code) if code == i32::from(NOT_STARTED) => {
            Err(RuntimeError::Command("it did not start; is it in the image?".to_owned()))
        }
        code => Ok(code.unwrap_or(255)),
    }
}
