//! Leaving the machine's name spaces. A narrow door in front of `unshare(2)`:
//! none of the flags that would make it unsafe can be said here.

use std::io;

use rustix::thread::UnshareFlags;

/// A name space that a process can leave for a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Space {
    /// Mounts.
    Mount,
    /// Process ids, for the children.
    Pid,
    /// System V and POSIX queues, semaphores, memory.
    Ipc,
    /// Host name.
    Uts,
    /// View of the control groups.
    Cgroup,
    /// Network.
    Network,
}

/// Puts the calling thread into new name spaces.
///
/// # Errors
/// What the kernel says: `EPERM` without the capability, `ENOSPC` at the machine's limit.
#[expect(
    deprecated,
    reason = "unshare is deprecated because of FILES, which leaves other threads with dangling descriptors; no Space is FILES, and the starter has one thread"
)]
pub(crate) fn leave(spaces: &[Space]) -> io::Result<()> {
    let mut flags = UnshareFlags::empty();
    for space in spaces {
        flags |= match space {
            Space::Mount => UnshareFlags::NEWNS,
            Space::Pid => UnshareFlags::NEWPID,
            Space::Ipc => UnshareFlags::NEWIPC,
            Space::Uts => UnshareFlags::NEWUTS,
            Space::Cgroup => UnshareFlags::NEWCGROUP,
            Space::Network => UnshareFlags::NEWNET,
        };
    }
    Ok(rustix::thread::unshare(flags)?)
}
