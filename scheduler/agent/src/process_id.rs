//! A process by number and moment of its start: numbers are given again, and a
//! signal must never reach who came after.

use std::io;
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::files;

/// One process, and no other that later has its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    /// Its number on this machine.
    pub pid: i32,
    /// When it started, in clock ticks since boot: field 22 of `proc(5)` stat.
    pub start: u64,
    /// Which boot.
    pub boot: String,
}

impl ProcessId {
    /// The calling process.
    pub(crate) fn own() -> io::Result<Self> {
        Self::of(rustix::process::getpid().as_raw_nonzero().get())
    }

    /// The process that has the number `pid` now.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        Ok(Self { pid, start: start_of(pid)?, boot: boot()? })
    }

    /// A child of the caller that was not waited for: its number is its own
    /// until then, also where it has ended already.
    pub(crate) fn of_child(pid: i32) -> io::Result<Self> {
        Ok(Self { pid, start: Stat::of(pid)?.start, boot: boot()? })
    }

    /// A handle to the process, if it still is this one and has not ended.
    pub(crate) fn handle(&self) -> Option<OwnedFd> {
        // First the handle, then the look: a number that changed hands in
        // between belongs to a later start.
        let handle = pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::NONBLOCK).ok()?;
        let same = boot().is_ok_and(|boot| boot == self.boot)
            && start_of(self.pid).is_ok_and(|start| start == self.start);
        same.then_some(handle)
    }

    /// Whether it still runs.
    pub(crate) fn lives(&self) -> bool {
        self.handle().is_some()
    }

    /// Sends a signal; whether there was somebody to take it.
    pub(crate) fn signal(&self, signal: Signal) -> bool {
        self.handle().is_some_and(|handle| pidfd_send_signal(handle, signal).is_ok())
    }
}

/// Waits until the process behind a handle has ended. A thread of its own does
/// the waiting: it ends when the process does, whoever still listens.
pub(crate) async fn ended(handle: OwnedFd) -> io::Result<()> {
    let (tell, told) = tokio::sync::oneshot::channel();
    let wait = move || {
        let mut fds = [PollFd::new(&handle, PollFlags::IN)];
        while matches!(poll(&mut fds, None), Err(rustix::io::Errno::INTR)) {}
        // Nobody may be listening any more.
        let _ = tell.send(());
    };
    drop(std::thread::Builder::new().name("end".to_owned()).stack_size(64 << 10).spawn(wait)?);
    told.await.map_err(io::Error::other)
}

/// The id of this boot of the machine.
pub(crate) fn boot() -> io::Result<String> {
    Ok(files::read_text(Path::new("/proc/sys/kernel/random/boot_id"))?.trim().to_owned())
}

/// The start of a process that has not ended.
fn start_of(pid: i32) -> io::Result<u64> {
    let stat = Stat::of(pid)?;
    if stat.over { Err(io::ErrorKind::NotFound.into()) } else { Ok(stat.start) }
}

/// What is asked of `proc(5)` stat.
struct Stat {
    start: u64,
    /// It has ended, and nobody has waited for it yet.
    over: bool,
}

impl Stat {
    fn of(pid: i32) -> io::Result<Self> {
        let stat = files::read_text(&Path::new("/proc").join(pid.to_string()).join("stat"))?;
        // The name is in brackets and may hold anything: fields count from the last bracket.
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
        let mut fields = fields.split_whitespace();
        let over = fields.next().is_some_and(|state| state == "Z" || state == "X");
        let start = fields.nth(18).and_then(|field| field.parse().ok()).ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { start, over })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::process::Command;

    /// Waits until a child of this process has ended, and leaves it unwaited for.
    fn let_end(pid: i32) {
        let id = rustix::process::WaitId::Pid(Pid::from_raw(pid).unwrap());
        let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(id, options).unwrap();
    }

    #[test]
    fn a_child_that_has_ended_already_is_still_known_to_its_parent_and_lives_no_more() {
        let mut child = Command::new("/bin/true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let_end(pid);
        assert_eq!(ProcessId::of(pid).unwrap_err().kind(), io::ErrorKind::NotFound);
        let known = ProcessId::of_child(pid).unwrap();
        assert!(!known.lives());
        child.wait().unwrap();
        assert!(ProcessId::of_child(pid).is_err());
    }
}
