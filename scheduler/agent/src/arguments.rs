//! The command line of `coffer-node`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use coffer_agent::{
    AgentConfig, ImageKeeping, Layer, Layers, LeaseTimes, PullLimits, Quantity, QuantityError, Registry,
    RegistryConfig, RuntimeKind, Subnet,
};

/// Runs the storage pods of one node.
#[derive(Parser)]
#[command(name = "coffer-node", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Tries every layer of confinement and says what this machine has and lacks.
    Probe {
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// A directory in which files may be made.
        #[arg(long, default_value = "/var/lib/coffer-node")]
        dir: PathBuf,
    },
    /// Runs the pods that are bound to this node.
    Run(Box<Run>),
    /// Kills every pod that an agent left running, unmounts their disks and takes their networks
    /// away; the bytes stay.
    ///
    /// For a node that is given up. Its agent must have ended before, else it starts them again.
    End {
        /// Name of the node.
        #[arg(long)]
        name: String,
        /// The agent's directory.
        #[arg(long, default_value = "/var/lib/coffer-node")]
        dir: PathBuf,
        /// What ran the pods [default: what the directory says].
        #[arg(long, value_enum)]
        runtime: Option<Runs>,
        /// Addresses of the pods, if they had some of their own.
        #[arg(long)]
        subnet: Option<String>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Runs {
    /// Confined processes.
    Process,
    /// OCI containers.
    Runc,
}

#[derive(Args)]
pub(crate) struct Run {
    /// Name of the node.
    #[arg(long)]
    pub name: String,
    /// Where everything of the agent and its pods is.
    #[arg(long, default_value = "/var/lib/coffer-node")]
    pub dir: PathBuf,
    /// How the API is reached; without it, as a pod of the cluster would.
    #[arg(long, env = "KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// What runs the pods.
    #[arg(long, value_enum, default_value = "process")]
    pub runtime: Runs,
    /// A layer without which the agent does not start; may be repeated, or `all`.
    #[arg(long)]
    pub demand: Vec<String>,
    /// An executable that pods may name by its digest; may be repeated.
    #[arg(long)]
    pub executable: Vec<PathBuf>,
    /// A directory that is an OCI image layout; may be repeated.
    #[arg(long)]
    pub layout: Vec<PathBuf>,
    /// A registry that is asked for images that are in no layout: HOST[:PORT] over TLS, http://HOST[:PORT]
    /// without it, or `any` for all of them over TLS; may be repeated. Without one nothing is pulled.
    #[arg(long, value_parser = Registry::parse)]
    pub registry: Vec<Registry>,
    /// The authorities that certificates of registries are checked by, PEM, in place of the machine's.
    #[arg(long, requires = "registry")]
    pub registry_ca: Option<PathBuf>,
    /// Logins at registries, as docker's config.json has them, for pods without imagePullSecrets.
    #[arg(long, requires = "registry")]
    pub registry_credentials: Option<PathBuf>,
    /// The most bytes that one image may declare, as 4Gi.
    #[arg(long, default_value = "4Gi", value_parser = bytes)]
    pub registry_bytes_max: u64,
    /// How long a registry may be silent or slower than 256 KiB in that time, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub registry_patience_seconds: u64,
    /// What was pulled or unpacked of an image is removed when no pod of the node has used it for so long, in seconds.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    pub image_unused_seconds: u64,
    /// When so many percent of the disk of the images are used, what no pod uses is removed at once. Set it higher
    /// where the data of pods fills the same disk; at 100 only a full one counts.
    #[arg(long, default_value_t = 85, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub image_disk_high: u8,
    /// Then images are removed, the longest unused first, until no more than so many percent are used.
    #[arg(long, default_value_t = 80, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub image_disk_low: u8,
    /// Addresses of the pods, as 10.254.7.0/24; without it they share the machine's network.
    #[arg(long)]
    pub subnet: Option<String>,
    /// The address under which this node is reached.
    #[arg(long, default_value = "127.0.0.1")]
    pub address: IpAddr,
    /// Where logs and usage are served.
    #[arg(long)]
    pub listen: Option<SocketAddr>,
    /// Certificate for that, PEM.
    #[arg(long)]
    pub tls_certificate: Option<PathBuf>,
    /// Its key, PEM.
    #[arg(long)]
    pub tls_key: Option<PathBuf>,
    /// The authority whose certificates may ask, PEM.
    #[arg(long)]
    pub client_authority: Option<PathBuf>,
    /// A capacity, as fleet.coffer/disk-bytes=10Ti; may be repeated.
    #[arg(long)]
    pub capacity: Vec<String>,
    /// A label, as name=value; may be repeated.
    #[arg(long)]
    pub label: Vec<String>,
    /// The file of the signed statement of where this node stands. What is put there while the agent runs is told, once.
    #[arg(long)]
    pub attestation: Option<PathBuf>,
    /// Warn when less than so many percent of the attestation's time are left.
    #[arg(long, default_value_t = 20, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub attestation_warning: u8,
    /// How long a renewal of the node's lease holds, in seconds.
    #[arg(long, default_value_t = 40)]
    pub lease_seconds: u64,
    /// How often it is renewed, in seconds.
    #[arg(long, default_value_t = 10)]
    pub renew_seconds: u64,
    /// End when stdin closes: for an agent that lives no longer than its parent. Its pods run on.
    #[arg(long, hide = true)]
    pub exit_with_stdin: bool,
}

/// A word of the command line that means nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArgumentError {
    /// Not a pair.
    #[error("{0:?} is no pair: write NAME=VALUE")]
    Pair(String),
    /// Not a layer.
    #[error("{0:?} is no layer; `coffer-node probe` lists them")]
    Layer(String),
    /// Not a subnet.
    #[error(transparent)]
    Subnet(#[from] coffer_agent::SubnetError),
    /// Marks the wrong way round.
    #[error(
        "--image-disk-low {low} is above --image-disk-high {high}: images are removed from the high one down to the low one"
    )]
    Marks {
        /// Up to where.
        low: u8,
        /// From where.
        high: u8,
    },
    /// A file that cannot be read.
    #[error("{0}: {1}")]
    File(PathBuf, std::io::Error),
}

impl Runs {
    fn kind(self) -> RuntimeKind {
        match self {
            Self::Process => RuntimeKind::Process,
            Self::Runc => RuntimeKind::Runc,
        }
    }
}

/// The configuration that finds what an agent left.
pub(crate) fn leftovers(
    name: String,
    dir: PathBuf,
    runtime: Option<Runs>,
    subnet: Option<&str>,
) -> Result<AgentConfig, ArgumentError> {
    let mut config = AgentConfig::new(name, dir);
    // By the wrong one no pod is found, and what is noted of the pods would be taken for all that there was.
    config.runtime = runtime.map_or_else(|| config.left_by(), Runs::kind);
    config.subnet = subnet.map(Subnet::parse).transpose()?;
    Ok(config)
}

impl Run {
    pub(crate) fn config(&self) -> Result<AgentConfig, ArgumentError> {
        let mut config = AgentConfig::new(self.name.clone(), self.dir.clone());
        config.runtime = self.runtime.kind();
        config.demanded = demanded(&self.demand)?;
        config.executables.clone_from(&self.executable);
        config.layouts.clone_from(&self.layout);
        config.registries = self.registries();
        config.keeping = self.keeping()?;
        config.subnet = self.subnet.as_deref().map(Subnet::parse).transpose()?;
        config.address = self.address;
        config.port = self.listen.map(|address| address.port());
        config.capacity = self.capacity.iter().map(|text| pair(text)).collect::<Result<_, _>>()?;
        config.labels = self.label.iter().map(|text| pair(text)).collect::<Result<_, _>>()?;
        config.attestation.clone_from(&self.attestation);
        config.attestation_warning = self.attestation_warning;
        let (duration, renew) =
            (Duration::from_secs(self.lease_seconds), Duration::from_secs(self.renew_seconds));
        config.lease = LeaseTimes { duration, renew };
        Ok(config)
    }

    fn keeping(&self) -> Result<ImageKeeping, ArgumentError> {
        let (low, high) = (self.image_disk_low, self.image_disk_high);
        if low > high {
            return Err(ArgumentError::Marks { low, high });
        }
        let unused = Duration::from_secs(self.image_unused_seconds);
        Ok(ImageKeeping { unused, high, low, ..ImageKeeping::default() })
    }

    fn registries(&self) -> RegistryConfig {
        let limits = PullLimits {
            bytes: self.registry_bytes_max,
            patience: Duration::from_secs(self.registry_patience_seconds),
            ..PullLimits::default()
        };
        RegistryConfig {
            registries: self.registry.clone(),
            roots: self.registry_ca.clone(),
            credentials: self.registry_credentials.clone(),
            limits,
        }
    }

    /// Certificate, key and authority, if all are given.
    pub(crate) fn tls(&self) -> Result<Option<(String, String, String)>, ArgumentError> {
        match (&self.tls_certificate, &self.tls_key, &self.client_authority) {
            (Some(certificate), Some(key), Some(clients)) => {
                Ok(Some((text(certificate)?, text(key)?, text(clients)?)))
            }
            _ => Ok(None),
        }
    }
}

fn demanded(words: &[String]) -> Result<Layers, ArgumentError> {
    if words.iter().any(|word| word == "all") {
        return Ok(Layers::all());
    }
    let layer = |word: &String| {
        Layer::ALL
            .into_iter()
            .find(|layer| layer.name() == word)
            .ok_or_else(|| ArgumentError::Layer(word.clone()))
    };
    Ok(Layers::of(words.iter().map(layer).collect::<Result<Vec<_>, _>>()?))
}

fn bytes(text: &str) -> Result<u64, QuantityError> {
    Quantity::parse(text).map(Quantity::whole)
}

fn pair(text: &str) -> Result<(String, String), ArgumentError> {
    let (name, value) = text.split_once('=').ok_or_else(|| ArgumentError::Pair(text.to_owned()))?;
    Ok((name.to_owned(), value.to_owned()))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the command line of a program reads the files that it is given"
)]
fn text(path: &PathBuf) -> Result<String, ArgumentError> {
    std::fs::read_to_string(path).map_err(|error| ArgumentError::File(path.clone(), error))
}
