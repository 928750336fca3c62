//! The shim: one small process for each container, which outlives the agent. It
//! starts the container, writes its output to the log, waits for its end, and
//! leaves a note of both, so that an agent that was killed finds everything.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use super::unshare::{Space, leave};
use crate::clock;
use crate::files;
use crate::logs::LogWriter;
use crate::process_id::ProcessId;

/// Exit code of a starter that did not become the program.
pub(crate) const NOT_STARTED: u8 = 125;

/// What the shim is asked to do: `shim.json` in its directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Task {
    /// The command to run.
    pub command: Vec<String>,
    /// Whether it becomes process 1 of a process id name space of its own.
    pub pid_space: bool,
    /// Whether the command tells on its standard input that it started.
    pub reports: bool,
    /// The log.
    pub log: PathBuf,
    /// Size at which the log is rotated, in bytes.
    pub log_bytes: u64,
    /// How many logs are kept, the current one included.
    pub log_files: u32,
    /// The file in which the kernel counts what it killed for want of memory.
    pub killed: Option<PathBuf>,
    /// Where the command writes why it could not start the container.
    pub complaints: Option<PathBuf>,
}

/// The container runs, or is about to: `running.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    /// The shim.
    pub shim: ProcessId,
    /// The first process of the container, as the machine sees it.
    pub init: ProcessId,
    /// When it started, milliseconds since 1970.
    pub started_unix_ms: u64,
}

/// The container ended: `exit.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
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

/// What the shim says to the agent when the program runs; else it says why not.
pub(crate) const STARTED: &str = "started";

/// Names of the files in a shim's directory.
pub(crate) const TASK: &str = "shim.json";
pub(crate) const RUNNING: &str = "running.json";
pub(crate) const ENDED: &str = "exit.json";
/// Whose lock the shim holds as long as it lives: its standard input, locked by
/// the agent before there is a shim, so that there is no moment in between.
pub(crate) const ALIVE: &str = "alive";

/// Runs the task in `directory` until its container has ended.
pub(crate) fn run(directory: &Path) -> ExitCode {
    let started_unix_ms = clock::millis(clock::wall());
    let ended = supervise(directory, started_unix_ms).unwrap_or_else(|error| Ended {
        code: i32::from(NOT_STARTED),
        signal: None,
        out_of_memory: false,
        not_started: Some(error.to_string()),
        started_unix_ms,
        finished_unix_ms: clock::millis(clock::wall()),
    });
    match files::replace_json(&directory.join(ENDED), &ended) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn supervise(directory: &Path, started_unix_ms: u64) -> io::Result<Ended> {
    // Failing means being the leader of a session already.
    let _ = rustix::process::setsid();
    let task: Task = files::read_json(&directory.join(TASK))?.ok_or(io::ErrorKind::NotFound)?;
    let log = LogWriter::open(&task.log, task.log_bytes, task.log_files)?;
    let (ours, theirs) = UnixStream::pair()?;
    if task.pid_space {
        leave(&[Space::Pid])?;
    }
    let mut child = spawn(&task, theirs)?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    let running = Running {
        shim: ProcessId::own()?,
        init: ProcessId::of_child(pid.as_raw_nonzero().get())?,
        started_unix_ms,
    };
    files::replace_json(&directory.join(RUNNING), &running)?;
    let reason = if task.reports { told(ours)? } else { None };
    let mut out = io::stdout();
    // The agent may be gone; the note in the file is enough.
    drop(out.write_all(reason.as_deref().unwrap_or(STARTED).as_bytes()).and_then(|()| out.flush()));
    rustix::stdio::dup2_stdout(files::open(Path::new("/dev/null"))?)?;
    carry(&mut child, pid, log)?;
    let status = child.wait()?;
    Ok(ended(&task, status, reason, started_unix_ms))
}

fn spawn(task: &Task, report: UnixStream) -> io::Result<Child> {
    let (program, args) = task.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let stdin = if task.reports { Stdio::from(OwnedFd::from(report)) } else { Stdio::null() };
    Command::new(program).args(args).stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

fn ended(task: &Task, status: ExitStatus, reason: Option<String>, started_unix_ms: u64) -> Ended {
    let signal = status.signal();
    let code = status.code().unwrap_or_else(|| 128_i32.saturating_add(signal.unwrap_or(0)));
    let killed = task.killed.as_ref().and_then(|path| files::read_text(path).ok()).unwrap_or_default();
    let out_of_memory =
        killed.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count.trim() != "0");
    let complaint = task.complaints.as_ref().filter(|_| code != 0);
    let complaint =
        complaint.and_then(|path| files::read_text(path).ok()).filter(|text| !text.trim().is_empty());
    let finished_unix_ms = clock::millis(clock::wall());
    let not_started = reason.or_else(|| complaint.map(|text| text.trim().to_owned()));
    Ended { code, signal, out_of_memory, not_started, started_unix_ms, finished_unix_ms }
}

/// Carries the output to the log until the container has ended.
fn carry(child: &mut Child, pid: Pid, mut log: LogWriter) -> io::Result<()> {
    let end = pidfd_open(pid, PidfdFlags::empty())?;
    let mut streams = Vec::new();
    if let Some(out) = child.stdout.take() {
        streams.push(("stdout", File::from(OwnedFd::from(out))));
    }
    if let Some(err) = child.stderr.take() {
        streams.push(("stderr", File::from(OwnedFd::from(err))));
    }
    for (_, stream) in &streams {
        rustix::io::ioctl_fionbio(stream, true)?;
    }
    loop {
        let mut fds: Vec<PollFd<'_>> =
            streams.iter().map(|(_, stream)| PollFd::new(stream, PollFlags::IN)).collect();
        fds.push(PollFd::new(&end, PollFlags::IN));
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other?,
        };
        let over = fds.last().is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        let mut open = Vec::new();
        for (name, mut stream) in streams {
            if drain(name, &mut stream, &mut log)? {
                open.push((name, stream));
            }
        }
        streams = open;
        if over {
            break;
        }
    }
    log.end();
    Ok(())
}

/// Moves what is there into the log; whether more may come.
fn drain(name: &'static str, stream: &mut File, log: &mut LogWriter) -> io::Result<bool> {
    let mut buffer = [0; 16 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(read) => log.write(name, buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What the starter says before it ends; nothing if it became the program.
fn told(report: UnixStream) -> io::Result<Option<String>> {
    let mut said = Vec::new();
    report.take(4096).read_to_end(&mut said)?;
    Ok(Some(String::from_utf8_lossy(&said).into_owned()).filter(|said| !said.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_goes_on_while_the_disk_of_its_log_is_full() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let log = LogWriter::open(&path, 1 << 20, 2).unwrap();
        let script = "i=0; while [ $i -lt 2000 ]; do echo $i || exit 9; i=$((i+1)); done; exit 7";
        let mut child = Command::new("/bin/sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        carry(&mut child, pid, log).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(7));
    }
}
