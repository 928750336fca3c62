//! Network namespaces with a link to this one, cut by the packet filter of
//! their own kernel: for stories that want the real thing, where it may be had.

use std::net::Ipv4Addr;
use std::process::{Command, Output, Stdio};

/// One namespace; gone when this is dropped.
pub struct Namespace {
    name: String,
    /// The address of whoever listens in it.
    pub address: Ipv4Addr,
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
        let made = Self { name: name.clone(), address };
        run("ip", &["link", "add", &outer, "type", "veth", "peer", "name", &inner, "netns", &name])?;
        run("ip", &["addr", "add", &format!("{here}/30"), "dev", &outer])?;
        run("ip", &["link", "set", &outer, "up"])?;
        run("ip", &["-n", &name, "addr", "add", &format!("{address}/30"), "dev", &inner])?;
        run("ip", &["-n", &name, "link", "set", &inner, "up"])?;
        run("ip", &["-n", &name, "link", "set", "lo", "up"])?;
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

    /// What starts a program in it, in the place of the program.
    pub fn launcher(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.name].map(str::to_owned).to_vec()
    }

    fn filter(&self, rules: &str) -> Result<(), String> {
        run("ip", &["netns", "exec", &self.name, "nft", rules]).map(drop)
    }

    /// Drops every packet in either direction from now on.
    ///
    /// # Panics
    /// If the packet filter, which was asked before, does not do it.
    pub fn cut(&self) {
        let chain = |hook| {
            format!("add chain inet cut {hook} {{ type filter hook {hook} priority 0; policy drop; }}")
        };
        self.filter(&format!("add table inet cut; {}; {}", chain("input"), chain("output"))).unwrap();
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
