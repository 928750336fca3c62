//! How an agent is configured.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::backoff::Backoff;
use super::places::Places;
use crate::image::ImageKeeping;
use crate::layer::Layers;
use crate::network::Subnet;
use crate::process::LogLimits;
use crate::pull::RegistryConfig;

/// Which runtime runs the pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeKind {
    /// Confined processes.
    Process,
    /// Containers of `runc`.
    Runc,
}

/// The times of a node's lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseTimes {
    /// How long a renewal holds.
    pub duration: Duration,
    /// How often it is renewed.
    pub renew: Duration,
}

impl Default for LeaseTimes {
    fn default() -> Self {
        Self { duration: Duration::from_secs(40), renew: Duration::from_secs(10) }
    }
}

/// How an agent is configured. [`AgentConfig::new`] has a default for
/// everything but the name and the directory.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Name of the node.
    pub name: String,
    /// Where everything of the agent and its pods is.
    pub directory: PathBuf,
    /// The binary that knows the stages ([`stage`](crate::stage)).
    pub program: PathBuf,
    /// Which runtime runs the pods.
    pub runtime: RuntimeKind,
    /// Layers of confinement without which the agent does not start.
    pub demanded: Layers,
    /// OCI image layouts on this machine.
    pub layouts: Vec<PathBuf>,
    /// Which registries are asked for images that are in no layout.
    pub registries: RegistryConfig,
    /// How long images are kept that no pod uses.
    pub keeping: ImageKeeping,
    /// Executables on this machine that pods may name by digest.
    pub executables: Vec<PathBuf>,
    /// Addresses of the pods; `None`: they share the machine's network.
    pub subnet: Option<Subnet>,
    /// Whether a data directory with a declared size becomes a file system of that size.
    pub sized_disks: bool,
    /// The address under which the node is reached.
    pub address: IpAddr,
    /// Port of the node's own logs and usage, if it serves them.
    pub port: Option<u16>,
    /// Capacity by resource, as Kubernetes quantities: replaces what was found, or adds to it.
    pub capacity: BTreeMap<String, String>,
    /// Labels of the node. Nobody believes them.
    pub labels: BTreeMap<String, String>,
    /// The file of the signed statement of where this node stands. It is read anew while the agent runs.
    pub attestation: Option<PathBuf>,
    /// An attestation of whose time less than so many percent are left is warned of.
    pub attestation_warning: u8,
    /// Times of the lease.
    pub lease: LeaseTimes,
    /// How often the node's status is told again.
    pub status_every: Duration,
    /// When a container that ended is started again.
    pub backoff: Backoff,
    /// How logs are kept.
    pub logs: LogLimits,
}

impl AgentConfig {
    /// The usual configuration.
    pub fn new(name: impl Into<String>, directory: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            directory: directory.into(),
            program: "/proc/self/exe".into(),
            runtime: RuntimeKind::Process,
            demanded: Layers::none(),
            layouts: Vec::new(),
            registries: RegistryConfig::default(),
            keeping: ImageKeeping::default(),
            executables: Vec::new(),
            subnet: None,
            sized_disks: true,
            address: IpAddr::from([127, 0, 0, 1]),
            port: None,
            capacity: BTreeMap::new(),
            labels: BTreeMap::new(),
            attestation: None,
            attestation_warning: 20,
            lease: LeaseTimes::default(),
            status_every: Duration::from_secs(60),
            backoff: Backoff::default(),
            logs: LogLimits::default(),
        }
    }

    /// What runs the containers that are left in the agent's directory.
    #[must_use]
    pub fn left_by(&self) -> RuntimeKind {
        let containers = crate::oci::root(&Places::runtime_in(&self.directory));
        // One that cannot be looked into is not empty.
        let none = std::fs::read_dir(containers).map_or_else(
            |error| error.kind() == std::io::ErrorKind::NotFound,
            |mut containers| containers.next().is_none(),
        );
        if none { RuntimeKind::Process } else { RuntimeKind::Runc }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_a_node_that_is_given_up_says_what_ran_its_pods() {
        let dir = tempfile::tempdir().unwrap();
        let config = AgentConfig::new("ash", dir.path());
        assert_eq!(config.left_by(), RuntimeKind::Process);
        let containers = dir.path().join("runtime/runc");
        std::fs::create_dir_all(&containers).unwrap();
        assert_eq!(config.left_by(), RuntimeKind::Process, "none is left");
        std::fs::create_dir(containers.join("pod.0")).unwrap();
        assert_eq!(config.left_by(), RuntimeKind::Runc);
    }
}
