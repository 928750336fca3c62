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
/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(10);

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
        let alive = files::lock(&directory.join(shim::ALIVE))?;
        files::replace_json(&directory.join(shim::TASK), task)?;
        let mut child = Command::new(&self.program)
            .arg(crate::stage::SHIM)
            .arg(&directory)
            .stdin(alive)
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

    /// How a container is. A shim that has not come to start it yet is waited
    /// for: it may have been started by an agent that was killed since.
    pub(crate) async fn state(&self, id: &ContainerId) -> Result<State, RuntimeError> {
        let mut waited = Duration::ZERO;
        while waited < START_LIMIT {
            if let Some(state) = self.settled(id)? {
                return Ok(state);
            }
            tokio::time::sleep(LOOK).await;
            waited += LOOK;
        }
        let why = format!("the shim of {id} has not started its container within {START_LIMIT:?}");
        Err(io::Error::new(io::ErrorKind::TimedOut, why).into())
    }

    /// How a container is; nothing while its shim is still starting.
    fn settled(&self, id: &ContainerId) -> io::Result<Option<State>> {
        let directory = self.of(id);
        if !directory.is_dir() {
            return Ok(Some(State::Absent));
        }
        let running = self.running(id)?;
        // Asked before the note is looked for: a shim that has gone has written it.
        let lives = match &running {
            Some(running) => running.shim.lives(),
            None => files::is_locked(&directory.join(shim::ALIVE))?,
        };
        if let Some(ended) = self.ended(id)? {
            return Ok(Some(State::Exited(exit(ended))));
        }
        Ok(match running {
            None if lives => None,
            Some(running) if lives => Some(State::Running { started_unix_ms: running.started_unix_ms }),
            running => Some(State::Exited(lost(running.map_or(0, |running| running.started_unix_ms)))),
        })
    }

    /// Waits until the container has ended.
    pub(crate) async fn wait(&self, id: &ContainerId) -> Result<Exit, RuntimeError> {
        loop {
            match self.state(id).await? {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Says that it began, waits for a word, and ends like a container that never ran.
    const SLOW: &str = r#"#!/bin/sh
: > "$2/begun"
read -r word < "$2/go"
printf '{"code":9,"signal":null,"out_of_memory":false,"not_started":"%s","started_unix_ms":1,"finished_unix_ms":2}' "$word" > "$2/exit.json.new"
mv "$2/exit.json.new" "$2/exit.json"
"#;

    fn ran(program: &str, args: &[&std::ffi::OsStr]) {
        assert!(Command::new(program).args(args).status().unwrap().success());
    }

    #[tokio::test]
    async fn a_shim_that_is_still_starting_has_not_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (text, program) = (dir.path().join("text"), dir.path().join("slow-shim"));
        files::replace(&text, SLOW.as_bytes(), 0o600).unwrap();
        // By another process: a program that this one holds open cannot be run.
        ran("install", &["-m755".as_ref(), text.as_ref(), program.as_ref()]);
        let shimmed = Shimmed::new(dir.path().join("containers"), program).unwrap();
        let id = ContainerId::try_from("pod.0".to_owned()).unwrap();
        let directory = shimmed.claim(&id).unwrap();
        ran("mkfifo", &[directory.join("go").as_ref()]);
        let task = Task {
            command: Vec::new(),
            pid_space: false,
            reports: false,
            log: shimmed.log(&id),
            log_bytes: 1,
            log_files: 1,
            killed: None,
            complaints: None,
        };
        let look = async {
            while !directory.join("begun").exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let let_go = async { files::set(&directory.join("go"), "told\n").unwrap() };
            tokio::join!(shimmed.state(&id), let_go).0
        };
        let (started, state) = tokio::join!(shimmed.launch(&id, &task), look);
        assert!(started.is_err());
        let State::Exited(exit) = state.unwrap() else { panic!("it runs") };
        assert_eq!((exit.code, exit.not_started.as_deref()), (9, Some("told")), "it was waited for");
    }
}
