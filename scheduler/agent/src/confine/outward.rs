//! What the process gives up that talks to a registry. It needs a socket and the
//! names of hosts, and nothing else of the machine: no file to write, no program
//! to run, no capability, no user of anybody.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::plan::Limit;
use super::starter::{Step, StepError};
use super::{landlock, privileges, seccomp};
use crate::layer::{Layer, Layers};

/// Address space: room for what a runtime reserves, and for no image.
const ADDRESSES: u64 = 2 << 30;
/// Descriptors: two sockets to a registry, one to the agent, and what a resolver opens.
const FILES: u64 = 64;
/// Threads: one, and those that resolve names.
const THREADS: u64 = 8;

/// Files that say what a host's name means, and the libraries that read them.
const NAMES: [&str; 13] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/ld.so.cache",
    "/run/systemd/resolve",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
];

/// The layers between a registry and the machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outward {
    layers: Layers,
    user: u32,
}

impl Outward {
    /// Those of `had` that such a process can have, and the user that it becomes.
    pub(crate) fn new(had: &Layers, user: u32) -> Self {
        let layers = [Layer::Rlimits, Layer::Capabilities, Layer::User, Layer::Landlock, Layer::Seccomp];
        Self { layers: Layers::of(layers).and(had), user }
    }

    /// Gives up everything, for good, in the order in which it is possible.
    pub(crate) fn give_up(&self) -> Result<(), StepError> {
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let own_user = self.layers.has(Layer::User);
        if self.layers.has(Layer::Rlimits) {
            let mut limits = vec![
                (Limit::Core, 0),
                (Limit::FileSize, 0),
                (Limit::Files, FILES),
                (Limit::AddressSpace, ADDRESSES),
                (Limit::Locked, 64 << 10),
                (Limit::MessageQueues, 0),
            ];
            if own_user {
                // Processes are counted by user: without one of its own it would count others'.
                limits.push((Limit::Processes, THREADS));
            }
            privileges::limit(&limits).step("set the limits of the process")?;
        }
        if self.layers.has(Layer::Capabilities) {
            privileges::drop_bounding().step("drop the bounding set")?;
        }
        if own_user {
            privileges::become_user(self.user).step("become a user of its own")?;
        }
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
            .step("end with the agent")?;
        if self.layers.has(Layer::Capabilities) {
            privileges::drop_sets().step("drop the capabilities")?;
        }
        self.wall_in()
    }

    /// What holds for one thread and those that it makes.
    fn wall_in(&self) -> Result<(), StepError> {
        rustix::thread::set_no_new_privs(true).step("forbid new privileges")?;
        if self.layers.has(Layer::Landlock) {
            landlock::only_read(NAMES.into_iter().map(PathBuf::from))?;
        }
        if self.layers.has(Layer::Seccomp) {
            seccomp::outward()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::net::{TcpListener, UdpSocket};
    use std::process::Command;

    use super::*;

    /// What a thread behind the layers could do of what it should not, and could not do of what it must.
    fn attempts(layers: &[Layer]) -> (Vec<&'static str>, Vec<&'static str>) {
        let directory = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let new = directory.path().join("new");
        let outward = Outward { layers: Layers::of(layers.iter().copied()), user: 0 };
        let thread = std::thread::spawn(move || {
            outward.wall_in().unwrap();
            let create = OpenOptions::new().write(true).create_new(true).open(&new);
            let write = OpenOptions::new().append(true).open("/etc/hosts");
            let should_not = [
                ("read the machine's users", crate::files::open("/etc/passwd".as_ref()).is_ok()),
                ("list the root", std::fs::read_dir("/").is_ok()),
                ("read of another process", crate::files::open("/proc/1/environ".as_ref()).is_ok()),
                ("make a file", create.is_ok()),
                ("write a file that it may read", write.is_ok()),
                ("run a program", Command::new("/bin/true").status().is_ok()),
                ("listen", TcpListener::bind("127.0.0.1:0").is_ok()),
            ];
            let socket = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let reached = socket.block_on(tokio::net::TcpStream::connect(address)).is_ok();
            let must = [
                ("connect", reached),
                ("ask for a name by datagram", UdpSocket::bind("127.0.0.1:0").is_ok()),
                ("read the names of hosts", crate::files::open("/etc/hosts".as_ref()).is_ok()),
            ];
            let could = should_not.into_iter().filter(|(_, done)| *done).map(|(what, _)| what).collect();
            let could_not = must.into_iter().filter(|(_, done)| !*done).map(|(what, _)| what).collect();
            (could, could_not)
        });
        thread.join().unwrap()
    }

    #[test]
    fn whoever_takes_the_process_over_reaches_the_registry_and_nothing_of_the_machine() {
        let (could, could_not) = attempts(&[Layer::Landlock, Layer::Seccomp]);
        assert!(could.is_empty(), "it could {could:?}");
        assert!(could_not.is_empty(), "it could not {could_not:?}");
        let (could, _) = attempts(&[Layer::Seccomp]);
        assert!(!could.contains(&"run a program") && !could.contains(&"listen"), "it could {could:?}");
        let (could, _) = attempts(&[Layer::Landlock]);
        assert!(
            !could.iter().any(|what| what.contains("file") || what.contains("read")),
            "it could {could:?}"
        );
    }
}
