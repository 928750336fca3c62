//! The port through which the agent runs containers. Two adapters: a confined
//! process ([`ProcessRuntime`](crate::ProcessRuntime)) and an OCI runtime
//! ([`RuncRuntime`](crate::RuncRuntime)); [`conformance`](crate::conformance)
//! says what both must do.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::confine::{Program, Root, Volume};
use crate::layer::Layers;

/// The name of a container on its node: letters, digits, `-` and `.`, at most 100.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

/// The text is not the name of a container.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no container id: 1 to 100 of a-z, 0-9, '-' and '.', beginning with a letter or digit")]
pub struct ContainerIdError(String);

impl ContainerId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ContainerId {
    type Error = ContainerIdError;

    fn try_from(text: String) -> Result<Self, ContainerIdError> {
        let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'.';
        let begins = text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric());
        if begins && text.len() <= 100 && text.bytes().all(good) {
            Ok(Self(text))
        } else {
            Err(ContainerIdError(text))
        }
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What one container may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Thousandths of a processor; `None` is no limit.
    pub cpu_milli: Option<u64>,
    /// Thousandths of a processor that it asked for: its weight against others.
    pub cpu_request_milli: u64,
    /// Bytes of memory; `None` is no limit.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
    /// Operations a second, reading and writing each, on the device of `data`.
    pub iops: Option<u64>,
    /// Largest file, in bytes; `None` is no limit.
    pub file_bytes: Option<u64>,
    /// Open files.
    pub files: u64,
    /// Size of the private `/tmp`, in bytes.
    pub tmp_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            cpu_milli: None,
            cpu_request_milli: 100,
            memory: None,
            pids: 256,
            iops: None,
            file_bytes: None,
            files: 8192,
            tmp_bytes: 16 << 20,
        }
    }
}

/// One container to be started.
#[derive(Debug, Clone)]
pub struct Container {
    /// Its name on this node.
    pub id: ContainerId,
    /// Host name inside.
    pub hostname: String,
    /// What it sees as `/`.
    pub root: Root,
    /// What else it sees.
    pub volumes: Vec<Volume>,
    /// What it runs.
    pub program: Program,
    /// User and group id.
    pub uid: u32,
    /// What it may use.
    pub limits: Limits,
    /// TCP ports on which it may listen.
    pub listen: Vec<u16>,
    /// TCP ports to which it may connect; `None` for any.
    pub connect: Option<Vec<u16>>,
    /// A network name space made for it; `None` for the machine's network.
    pub network: Option<PathBuf>,
    /// Layers that it goes without, beside those that the machine lacks.
    pub without: Layers,
}

/// How a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// There is none of that name.
    Absent,
    /// It runs.
    Running {
        /// Since when, milliseconds since 1970.
        started_unix_ms: u64,
    },
    /// It has ended.
    Exited(Exit),
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Exit code, or 128 plus the signal.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Whether the kernel killed in it for want of memory.
    pub out_of_memory: bool,
    /// Why the program never ran, if it did not.
    pub not_started: Option<String>,
    /// When it started, milliseconds since 1970.
    pub started_unix_ms: u64,
    /// When it ended, milliseconds since 1970.
    pub finished_unix_ms: u64,
}

/// What a container uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on processors since its start.
    pub cpu: Duration,
    /// Bytes of memory, without what the kernel can take back unnoticed.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u64,
}

/// Why a container was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// One of that name is there.
    #[error("container {0} exists; remove it first")]
    Exists(ContainerId),
    /// The machine lacks layers that the agent's configuration demands.
    #[error("this machine cannot confine as demanded; it lacks: {0} (`coffer-node probe` says why)")]
    Unconfined(Layers),
    /// The container cannot be as it was described.
    #[error("the container did not start: {0}")]
    Container(String),
    /// The machine failed.
    #[error("the machine could not start the container: {0}")]
    Machine(#[from] io::Error),
}

/// Why the runtime could not do or say something about a container.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// There is none of that name.
    #[error("there is no container {0}")]
    Absent(ContainerId),
    /// It runs, and may not.
    #[error("container {0} runs; stop it first")]
    Runs(ContainerId),
    /// The command of a probe took too long and was killed.
    #[error("the command took longer than {0:?}")]
    TimedOut(Duration),
    /// The command of a probe could not be run.
    #[error("the command could not be run: {0}")]
    Command(String),
    /// The machine failed.
    #[error("the machine failed: {0}")]
    Machine(#[from] io::Error),
}

/// Runs containers. Containers outlive the process that holds this: another one
/// that is given the same directory finds them again.
#[async_trait]
pub trait Runtime: Send + Sync {
    /// What it is called in the node's status.
    fn name(&self) -> &'static str;

    /// Starts a container; when this returns its program runs, or has ended.
    ///
    /// # Errors
    /// It exists, it cannot be as described, or the machine fails.
    async fn start(&self, container: &Container) -> Result<(), StartError>;

    /// Which of its limits is not held here, and why; nothing where all are.
    fn not_held(&self, container: &Container) -> Option<String>;

    /// How a container is.
    ///
    /// # Errors
    /// The machine fails.
    async fn state(&self, id: &ContainerId) -> Result<State, RuntimeError>;

    /// Waits until it has ended; of one that has, it says again how.
    ///
    /// # Errors
    /// There is none, or the machine fails.
    async fn wait(&self, id: &ContainerId) -> Result<Exit, RuntimeError>;

    /// Asks it to end, and kills it and all that it started after `grace`.
    ///
    /// # Errors
    /// There is none, or the machine fails.
    async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<Exit, RuntimeError>;

    /// Kills it and all that it started.
    ///
    /// # Errors
    /// There is none, or the machine fails.
    async fn kill(&self, id: &ContainerId) -> Result<Exit, RuntimeError> {
        self.stop(id, Duration::ZERO).await
    }

    /// What it uses now; nothing if it has ended.
    ///
    /// # Errors
    /// There is none, or the machine fails.
    async fn usage(&self, id: &ContainerId) -> Result<Usage, RuntimeError>;

    /// Runs a command inside, confined as the container is; its exit code.
    ///
    /// # Errors
    /// It does not run, the command does not, or not within `limit`.
    async fn execute(
        &self,
        id: &ContainerId,
        command: &[String],
        limit: Duration,
    ) -> Result<i32, RuntimeError>;

    /// Every container that was started and not removed, sorted.
    ///
    /// # Errors
    /// The machine fails.
    async fn list(&self) -> Result<Vec<ContainerId>, RuntimeError>;

    /// Forgets one that has ended, and its log.
    ///
    /// # Errors
    /// It runs, or the machine fails. That there is none is no error.
    async fn remove(&self, id: &ContainerId) -> Result<(), RuntimeError>;

    /// Takes away what containers have together, such as the groups of their
    /// groups, once there is none. The next start makes it anew.
    ///
    /// # Errors
    /// The machine keeps it.
    async fn close(&self) -> Result<(), RuntimeError> {
        Ok(())
    }

    /// Where its log is.
    fn log(&self, id: &ContainerId) -> PathBuf;
}
