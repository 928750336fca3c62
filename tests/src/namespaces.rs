//! Network namespaces with a link to this one, cut by the packet filter of
//! their own kernel: for stories that want the real thing, where it may be had.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::process::{Command, Output, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// One namespace; gone when this is dropped.
pub struct Namespace {
    name: String,
    /// The address of whoever listens in it.
    pub address: Ipv4Addr,
    /// The address of this end of its link; from the others it is reached too.
    pub gateway: Ipv4Addr,
}

/// The way of a thread into a namespace.
pub(crate) struct Door(File);

impl Door {
    /// The thread that calls this is in the namespace from now on, with every
    /// socket that it makes. What it has already stays where it is.
    pub(crate) fn enter(&self) {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }
}

/// Runs a command; why it could not be done.
fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let done = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let said = |done: Output| match done.status.success() {
        true => Ok(String::from_utf8_lossy(&done.stdout).into_owned()),
        false => Err(format!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&done.stderr))),
    };
    done.map_err(|error| format!("{program}: {error}")).and_then(said)
}

impl Namespace {
    /// The `n`-th of this process, with a link of its own and a packet filter
    /// that could be asked.
    ///
    /// # Errors
    /// What this machine does not have, or does not permit.
    pub fn make(n: u32) -> Result<Self, String> {
        let process = std::process::id();
        let name = format!("coffer-{process}-{n}");
        // Networks of four addresses in the range for benchmarks (RFC 2544),
        // by process, so that two runs at once do not meet.
        let network = u32::from(Ipv4Addr::new(198, 18, 0, 0)) + (process * 8 + n) % 0x8000 * 4;
        let (here, address) = (Ipv4Addr::from(network + 1), Ipv4Addr::from(network + 2));
        let (outer, inner) = (format!("cf{process:x}h{n}"), format!("cf{process:x}p{n}"));
        run("ip", &["netns", "add", &name])?;
        // From here on dropping it removes whatever was made.
        let made = Self { name: name.clone(), address, gateway: here };
        run("ip", &["link", "add", &outer, "type", "veth", "peer", "name", &inner, "netns", &name])?;
        run("ip", &["addr", "add", &format!("{here}/30"), "dev", &outer])?;
        run("ip", &["link", "set", &outer, "up"])?;
        run("ip", &["-n", &name, "addr", "add", &format!("{address}/30"), "dev", &inner])?;
        run("ip", &["-n", &name, "link", "set", &inner, "up"])?;
        run("ip", &["-n", &name, "link", "set", "lo", "up"])?;
        run("ip", &["-n", &name, "route", "add", "default", "via", &here.to_string()])?;
        made.filter("add table inet probe; delete table inet probe")?;
        Ok(made)
    }

    /// As many as are wanted; `None`, said aloud, where they cannot be had.
    pub fn make_all(count: u32) -> Option<Vec<Self>> {
        match (0..count).map(Self::make).collect::<Result<Vec<_>, _>>() {
            Ok(all) => Some(all),
            Err(reason) => {
                eprintln!("no network namespaces with a packet filter here, the story is SKIPPED: {reason}");
                None
            }
        }
    }

    fn file(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// What starts a program in it, in the place of the program. Its network is
    /// another one, and nothing else: mounts, control groups and processes are the machine's.
    pub fn launcher(&self) -> Vec<String> {
        ["nsenter".to_owned(), format!("--net={}", self.file()), "--".to_owned()].to_vec()
    }

    /// A way into it for a thread.
    #[expect(clippy::disallowed_methods, reason = "a namespace has a file by which it is entered")]
    pub(crate) fn door(&self) -> Door {
        Door(File::open(self.file()).unwrap())
    }

    fn filter(&self, rules: &str) -> Result<(), String> {
        run("ip", &["netns", "exec", &self.name, "nft", rules]).map(drop)
    }

    /// Drops every packet to and from other networks from now on; who is inside still hears himself.
    ///
    /// # Panics
    /// If the packet filter, which was asked before, does not do it.
    pub fn cut(&self) {
        let chain = |hook| {
            format!("add chain inet cut {hook} {{ type filter hook {hook} priority 0; policy drop; }}")
        };
        let own = "add rule inet cut input iif lo accept; add rule inet cut output oif lo accept";
        self.filter(&format!("add table inet cut; {}; {}; {own}", chain("input"), chain("output"))).unwrap();
    }

    /// Lets everything through again.
    ///
    /// # Panics
    /// As [`Namespace::cut`].
    pub fn mend(&self) {
        self.filter("delete table inet cut").unwrap();
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its end of the link goes with it, and so the other one.
        let _ = run("ip", &["netns", "del", &self.name]);
    }
}
