//! The networks of pods: each pod has a network name space with one cable to
//! the node, one address of the node's subnet, and rules of its own that let in
//! what it declares and let out what it declares. The rules live in the pod's
//! name space, where it lacks the capability to touch them, and end with it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use crate::tool::{ToolError, run, run_with};

/// The addresses of one node's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// The first address; that of the node is the one after it.
    pub base: Ipv4Addr,
    /// Length of the prefix, 16 to 29.
    pub prefix: u8,
}

/// The text is no subnet of pods.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no subnet for pods: an IPv4 address, '/', and 16 to 29, as in 10.254.7.0/24")]
pub struct SubnetError(String);

impl Subnet {
    /// Reads `10.254.7.0/24`.
    ///
    /// # Errors
    /// It is something else, or too large or small.
    pub fn parse(text: &str) -> Result<Self, SubnetError> {
        let wrong = || SubnetError(text.to_owned());
        let (base, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let base: Ipv4Addr = base.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if !(16..=29).contains(&prefix) || u32::from(base) & (size(prefix) - 1) != 0 {
            return Err(wrong());
        }
        Ok(Self { base, prefix })
    }

    /// The address of the node's end of every cable.
    pub fn gateway(self) -> Ipv4Addr {
        self.at(1)
    }

    fn at(self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.base) + number)
    }

    /// The last address is left out: it would be a broadcast.
    fn numbers(self) -> std::ops::Range<u32> {
        2..size(self.prefix) - 1
    }
}

fn size(prefix: u8) -> u32 {
    1 << (32 - u32::from(prefix))
}

/// Where a pod may connect to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Egress {
    /// An address, or a range as `10.0.0.0/8`.
    pub to: String,
    /// The TCP port; `None` for any.
    pub port: Option<u16>,
}

/// A declaration of where a pod connects to could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no destination: ADDRESS[/BITS]:PORT, with * for any port, several joined by commas")]
pub struct EgressError(String);

impl Egress {
    /// Reads `10.0.0.0/8:9000,127.0.0.1:*`; of an empty text, nothing.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(text: &str) -> Result<Vec<Self>, EgressError> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(Self::one).collect()
    }

    fn one(text: &str) -> Result<Self, EgressError> {
        let wrong = || EgressError(text.chars().take(100).collect());
        let (to, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let (address, bits) = to.split_once('/').unwrap_or((to, "32"));
        address.parse::<Ipv4Addr>().map_err(|_| wrong())?;
        if bits.parse::<u8>().map_err(|_| wrong())? > 32 {
            return Err(wrong());
        }
        let port = match port {
            "*" => None,
            port => Some(port.parse().map_err(|_| wrong())?),
        };
        Ok(Self { to: to.to_owned(), port })
    }
}

/// The network of one pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodNetwork {
    /// Its address.
    pub address: Ipv4Addr,
    /// Name of its network name space, as `ip netns` has it.
    pub name: String,
}

impl PodNetwork {
    /// The name space as a file.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Whether it is there.
    pub fn exists(&self) -> bool {
        self.path().exists()
    }
}

/// Why a pod has no network.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Every address is taken.
    #[error("the node's subnet {0:?} has no address left")]
    Full(Subnet),
    /// A program refused.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// Forwarding could not be switched on.
    #[error("forwarding between pods cannot be switched on: {0}")]
    Forwarding(#[from] io::Error),
}

/// Makes the networks of one node's pods.
#[derive(Debug)]
pub struct Networks {
    subnet: Subnet,
    tag: String,
    taken: Mutex<BTreeMap<u32, String>>,
}

impl Networks {
    /// Networks of the node called `node`.
    pub fn new(subnet: Subnet, node: &str) -> Self {
        let digest = crate::image::ImageDigest::of(node.as_bytes());
        let tag = digest.hex().chars().take(6).collect();
        Self { subnet, tag, taken: Mutex::new(BTreeMap::new()) }
    }

    /// Counts a network that an earlier agent made.
    pub fn adopt(&self, pod: &str, network: &PodNetwork) {
        let number = u32::from(network.address).wrapping_sub(u32::from(self.subnet.base));
        self.taken().insert(number, pod.to_owned());
    }

    /// Makes the network of `pod`. Blocks.
    ///
    /// # Errors
    /// No address is left, or the machine refuses.
    pub fn attach(&self, pod: &str, listen: &[u16], egress: &[Egress]) -> Result<PodNetwork, NetworkError> {
        let number = self.claim(pod)?;
        let network =
            PodNetwork { address: self.subnet.at(number), name: format!("cf-{}-{number}", self.tag) };
        match self.build(&network, &self.cable(&network), listen, egress) {
            Ok(()) => Ok(network),
            Err(error) => {
                self.detach(pod, &network);
                Err(error)
            }
        }
    }

    fn build(
        &self,
        network: &PodNetwork,
        cable: &str,
        listen: &[u16],
        egress: &[Egress],
    ) -> Result<(), NetworkError> {
        let PodNetwork { address, name } = network;
        let (address, gateway) = (format!("{address}/32"), format!("{}/32", self.subnet.gateway()));
        let via = self.subnet.gateway().to_string();
        // What a crash may have left of a pod that had this address.
        self.take_away(network);
        run("ip", &["netns", "add", name])?;
        // The rules come before the cable: no moment without them.
        run_with("ip", &["netns", "exec", name, "nft", "-f", "-"], &rules(listen, egress))?;
        run("ip", &["link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", name])?;
        run("ip", &["address", "add", &gateway, "dev", cable])?;
        run("ip", &["link", "set", cable, "up"])?;
        run("ip", &["-n", name, "link", "set", "lo", "up"])?;
        run("ip", &["-n", name, "address", "add", &address, "dev", "eth0"])?;
        run("ip", &["-n", name, "link", "set", "eth0", "up"])?;
        run("ip", &["-n", name, "route", "add", &gateway, "dev", "eth0", "scope", "link"])?;
        run("ip", &["-n", name, "route", "add", "default", "via", &via])?;
        run("ip", &["route", "replace", &address, "dev", cable, "src", &via])?;
        Ok(crate::files::set(Path::new("/proc/sys/net/ipv4/ip_forward"), "1")?)
    }

    /// Takes the network of `pod` away. Blocks.
    pub fn detach(&self, pod: &str, network: &PodNetwork) {
        self.take_away(network);
        self.taken().retain(|_, taken| taken != pod);
    }

    /// The cable first: with its name space it would go some time later, and
    /// its name is wanted again. Either may be gone already.
    fn take_away(&self, network: &PodNetwork) {
        drop(run("ip", &["link", "delete", &self.cable(network)]));
        drop(run("ip", &["netns", "delete", &network.name]));
    }

    /// The name of the node's end; a link may have fifteen letters.
    fn cable(&self, network: &PodNetwork) -> String {
        let number = u32::from(network.address).wrapping_sub(u32::from(self.subnet.base));
        format!("cf{}.{number}", self.tag)
    }

    fn claim(&self, pod: &str) -> Result<u32, NetworkError> {
        let mut taken = self.taken();
        let free = self.subnet.numbers().find(|number| !taken.contains_key(number));
        let free = free.ok_or(NetworkError::Full(self.subnet))?;
        taken.insert(free, pod.to_owned());
        Ok(free)
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, String>> {
        self.taken.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The rules of one pod, as `nft` reads them.
fn rules(listen: &[u16], egress: &[Egress]) -> String {
    let mut input = String::new();
    let mut output = String::new();
    for port in listen {
        // Writing to a text cannot fail.
        let _ = writeln!(input, "    tcp dport {port} accept");
    }
    for to in egress {
        let port = to.port.map_or_else(|| "meta l4proto tcp".to_owned(), |port| format!("tcp dport {port}"));
        let _ = writeln!(output, "    ip daddr {} {port} accept", to.to);
    }
    format!(
        "table inet pod {{\n  chain input {{\n    type filter hook input priority 0; policy drop;\n    \
         ct state established accept\n    iif lo accept\n{input}    counter\n  }}\n  chain output {{\n    \
         type filter hook output priority 0; policy drop;\n    ct state established accept\n    \
         oif lo accept\n{output}    counter\n  }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_that_does_not_begin_where_it_says_is_refused() {
        assert!(Subnet::parse("10.254.7.0/24").is_ok());
        for text in ["10.254.7.1/24", "10.254.7.0/8", "10.254.7.0/30", "10.254.7.0", "pods/24"] {
            assert!(Subnet::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_destination_cannot_smuggle_in_a_rule() {
        for text in
            ["10.0.0.0/8 accept;:1", "0.0.0.0/0}:1", "10.0.0.1", "10.0.0.1:x", "10.0.0.1/33:1", "host:1"]
        {
            assert!(Egress::parse(text).is_err(), "{text}");
        }
        let good = Egress::parse("10.0.0.0/8:9000, 127.0.0.1:*").unwrap();
        assert_eq!(good.len(), 2);
        assert_eq!(good[1].port, None);
    }

    #[test]
    fn two_pods_never_have_one_address() {
        let networks = Networks::new(Subnet::parse("10.254.7.0/29").unwrap(), "n1");
        let numbers: Vec<u32> = (0..5).map(|pod| networks.claim(&pod.to_string()).unwrap()).collect();
        assert_eq!(numbers, [2, 3, 4, 5, 6]);
        assert!(matches!(networks.claim("one too many"), Err(NetworkError::Full(_))));
    }
}
