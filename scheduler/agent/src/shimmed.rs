//! What both runtimes share: the directory of a container, its shim, and the
//! notes that the shim leaves. `STATE.md` draws the files.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::clock;
use crate::confine::shim::{self, Ended, Running, Task};
use crate::files;
use crate::process_id;
use crate::runtime::{ContainerId, Exit, RuntimeError, StartError, State};

/// How long a shim may take to say that its container runs.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Containers in one directory, each under its shim.
#[derive(Debug, Clone)]
pub(crate) struct Shimmed {
    directory: PathBuf,
    program: PathBuf,
    executions: Arc<AtomicU64>,
}

impl Shimmed {
    /// Containers in `directory`; `program` is the binary that knows the stages.
    pub(crate) fn new(directory: PathBuf, program: PathBuf) -> io::Result<Self> {
        files::make_dirs(&directory, 0o711)?;
        Ok(Self { directory, program, executions: Arc::default() })
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    pub(crate) fn of(&self, id: &ContainerId) -> PathBuf {
        self.directory.join(id.as_str())
    }

    pub(crate) fn log(&self, id: &ContainerId) -> PathBuf {
        self.of(id).join("log")
    }

    /// The note of one execution inside a container: several run side by side,
    /// and none may read another's.
    pub(crate) fn note(&self, id: &ContainerId, what: &str) -> PathBuf {
        let number = self.executions.fetch_add(1, Ordering::Relaxed);
        self.of(id).join(format!("{what}-{number}"))
    }

    pub(crate) fn list(&self) -> io::Result<Vec<ContainerId>> {
        let names = files::names(&self.directory)?.into_iter();
        Ok(names.filter_map(|name| ContainerId::try_from(name).ok()).collect())
    }

    /// Makes the directory of a new container.
    pub(crate) fn claim(&self, id: &ContainerId) -> Result<PathBuf, StartError> {
        let directory = self.of(id);
        match std::fs::create_dir(&directory) {
            Ok(()) => Ok(directory),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(StartError::Exists(id.clone())),
            Err(error) => Err(error.into()),
        }
    }

    /// Starts the shim with its task, and waits until the container has started.
    pub(crate) async fn launch(&self, id: &ContainerId, task: &Task) -> Result<(), StartError> {
        let directory = self.of(id);
        files::replace_json(&directory.join(shim::TASK), task)?;
        let mut child = Command::new(&self.program)
            .arg(crate::stage::SHIM)
            .arg(&directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .current_dir("/")
            .spawn()?;
        let mut said = String::new();
        let out = child.stdout.take();
        reap(child)?;
        if let Some(out) = out {
            let mut out = Receiver::from_owned_fd(out.into())?;
            let read = out.read_to_string(&mut said);
            if tokio::time::timeout(START_LIMIT, read).await.is_err() {
                self.signal(id, Signal::KILL)?;
                return Err(StartError::Container(format!("it did not start within {START_LIMIT:?}")));
            }
        }
        match said.as_str() {
            shim::STARTED => Ok(()),
            "" => {
                let reason = self.ended(id)?.and_then(|ended| ended.not_started);
                Err(StartError::Container(reason.unwrap_or_else(|| "its shim ended early".to_owned())))
            }
            reason => Err(StartError::Container(reason.to_owned())),
        }
    }

    pub(crate) fn running(&self, id: &ContainerId) -> io::Result<Option<Running>> {
        files::read_json(&self.of(id).join(shim::RUNNING))
    }

    fn ended(&self, id: &ContainerId) -> io::Result<Option<Ended>> {
        files::read_json(&self.of(id).join(shim::ENDED))
    }

    pub(crate) fn state(&self, id: &ContainerId) -> Result<State, RuntimeError> {
        if !self.of(id).is_dir() {
            return Ok(State::Absent);
        }
        let running = self.running(id)?;
        // Asked before the note is looked for: a shim that has gone has written it.
        let lives = running.as_ref().is_some_and(|running| running.shim.lives());
        if let Some(ended) = self.ended(id)? {
            return Ok(State::Exited(exit(ended)));
        }
        match running {
            Some(running) if lives => Ok(State::Running { started_unix_ms: running.started_unix_ms }),
            running => Ok(State::Exited(lost(running.map_or(0, |running| running.started_unix_ms)))),
        }
    }

    /// Waits until the container has ended.
    pub(crate) async fn wait(&self, id: &ContainerId) -> Result<Exit, RuntimeError> {
        loop {
            match self.state(id)? {
                State::Absent => return Err(RuntimeError::Absent(id.clone())),
                State::Exited(exit) => return Ok(exit),
                State::Running { .. } => {}
            }
            let handle = self.running(id)?.and_then(|running| running.shim.handle());
            if let Some(handle) = handle {
                process_id::ended(handle).await?;
            }
        }
    }

    /// Sends a signal to the container's first process; whether it took it.
    pub(crate) fn signal(&self, id: &ContainerId, signal: Signal) -> io::Result<bool> {
        Ok(self.running(id)?.is_some_and(|running| running.init.signal(signal)))
    }

    pub(crate) fn remove(&self, id: &ContainerId) -> io::Result<()> {
        files::remove_tree(&self.of(id))
    }
}

/// Waits for the shim in a thread of its own, so that none is left as a zombie.
fn reap(mut child: Child) -> io::Result<()> {
    let wait = move || drop(child.wait());
    std::thread::Builder::new().name("shim".to_owned()).stack_size(64 << 10).spawn(wait).map(drop)
}

fn exit(ended: Ended) -> Exit {
    Exit {
        code: ended.code,
        signal: ended.signal,
        out_of_memory: ended.out_of_memory,
        not_started: ended.not_started,
        started_unix_ms: ended.started_unix_ms,
        finished_unix_ms: ended.finished_unix_ms,
    }
}

/// A shim that is gone without a note was killed, and its container with it.
fn lost(started_unix_ms: u64) -> Exit {
    Exit {
        code: 255,
        signal: None,
        out_of_memory: false,
        not_started: None,
        started_unix_ms,
        finished_unix_ms: clock::millis(clock::wall()),
    }
}
