//! What `fleet` is told.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Flags of every `fleet` command.
#[derive(Args)]
pub(crate) struct FleetFlags {
    /// How to reach the fleet's API [default: fleet/kubeconfig in the config directory].
    #[arg(long, global = true, env = "KUBECONFIG", value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The fleet's namespace.
    #[arg(long, global = true, default_value = "coffer", value_name = "NAME")]
    pub(crate) namespace: String,
    #[command(subcommand)]
    pub(crate) command: FleetCommand,
}

#[derive(Subcommand)]
pub(crate) enum FleetCommand {
    /// List the nodes, with what they have and where they are attested to stand.
    #[command(after_help = "Example: coffer fleet nodes")]
    Nodes,
    /// List the storage pods, with their nodes.
    #[command(after_help = "Example: coffer fleet pods")]
    Pods,
    /// Show what a pod writes, from its node.
    #[command(after_help = "Example: coffer fleet logs sites-0 --tail 20 --follow")]
    Logs(LogsFlags),
    /// Empty a node: its data moves first, then its pods go.
    ///
    /// Nothing is taken down that would leave an object with fewer shards than the loss budget demands.
    /// Interrupted, it goes on in the fleet; `coffer fleet uncordon` takes it back.
    #[command(after_help = "Example: coffer fleet drain fra1")]
    Drain {
        /// Name of the node.
        node: String,
        /// Only begin it; do not wait until the node is empty.
        #[arg(long)]
        no_wait: bool,
    },
    /// Let a node take no new pods.
    #[command(after_help = "Example: coffer fleet cordon fra1")]
    Cordon {
        /// Name of the node.
        node: String,
    },
    /// Let a node take pods again, and stop emptying it.
    #[command(after_help = "Example: coffer fleet uncordon fra1")]
    Uncordon {
        /// Name of the node.
        node: String,
    },
    /// Say whether a site set is placed; if not, which constraints conflict and what would help.
    #[command(after_help = "Example: coffer fleet explain sites")]
    Explain {
        /// Name of the site set.
        set: String,
    },
    /// Print the placement ledger, a JSON object a line; with --verify replay it, and say whether it is whole.
    ///
    /// Every decision has its inputs, the digest of its policy, what there was to choose from and what the choice costs.
    /// Of segments that are over the newest are kept; redirect the output to keep more.
    #[command(after_help = "Example: coffer fleet placements --verify")]
    Placements {
        /// Make every decision again, and compare it with the record.
        #[arg(long)]
        verify: bool,
    },
    /// Show what nodes and pods use.
    #[command(after_help = "Example: coffer fleet top")]
    Top,
    /// List what happened, the newest last.
    #[command(after_help = "Example: coffer fleet events --limit 50")]
    Events {
        /// The last so many.
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: usize,
    },
    /// Sign where a node stands, and print the text that its agent carries.
    ///
    /// A local command. The key is made with the first signature; its public half, which the fleet must
    /// trust, is printed beside the text with --json.
    #[command(
        after_help = "Example: coffer fleet attest fra1 --country DE --domain fra --tier III --days 365"
    )]
    Attest {
        /// Name of the node.
        node: String,
        /// Where its disks stand, ISO 3166-1 alpha-2.
        #[arg(long, value_name = "CC", value_parser = coffer_model::Country::typed)]
        country: coffer_model::Country,
        /// What it fails together with.
        #[arg(long, value_name = "NAME")]
        domain: String,
        /// Tier of the building: I, II, III or IV.
        #[arg(long, value_name = "TIER")]
        tier: coffer_model::Tier,
        /// For how many days it holds.
        #[arg(long, default_value_t = 365, value_name = "N")]
        days: u32,
        /// The operator's private key [default: fleet/attestation.key in the config directory].
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Take back where a node was said to stand: no new byte goes there, what is there moves, then its pods go.
    ///
    /// It takes effect at once, and for good: the statement is never believed again, by its id. To trust the node
    /// anew, sign another one with `coffer fleet attest`.
    #[command(after_help = "Example: coffer fleet revoke fra1 --reason \"moved to another building\"")]
    Revoke {
        /// Name of the node: the statement that it carries now is revoked.
        #[arg(required_unless_present = "attestation")]
        node: Option<String>,
        /// Revoke this statement instead, which no node carries perhaps: its text as `attest` printed it.
        #[arg(long, value_name = "TEXT", conflicts_with = "node")]
        attestation: Option<String>,
        /// Why, for people; kept beside the id.
        #[arg(long, default_value = "revoked by an operator", value_name = "TEXT")]
        reason: String,
    },
    /// Run scheduler and controllers against a cluster, until stopped.
    ///
    /// Without a kubeconfig it takes the account that its own pod has in the cluster. Several may run: one
    /// leads.
    ///
    /// Unless the service is asked (--ask-service), every pod is presumed to hold a shard of every object: then
    /// one pod at a time restarts, and none that serves ever leaves, so that a drain does not end and a set does
    /// not shrink. Unless it has an authority (--authority), somebody else puts each pod's certificate into its secret.
    #[command(
        after_help = "Example: coffer fleet control --trust 5f0c... --authority /authority --ask-service"
    )]
    Control(Box<ControlFlags>),
    /// Run a fleet on this machine without the service: its API, its controllers and its nodes.
    ///
    /// `coffer serve --sites FILE --discover kubernetes:coffer/sites` runs the service beside it, and lives on when this one
    /// is stopped or restarted: pods then serve reads, and writes until their leases end. The next start finds
    /// them; `coffer-node end` ends those of a node that is given up. The service that the profile names is
    /// asked where shards lie: while it does not answer, no pod that serves is taken down.
    #[command(after_help = "Example: coffer fleet serve --data-dir /srv/coffer")]
    Serve(Box<FleetServeFlags>),
    /// Apply objects from a file of YAML or JSON documents.
    #[command(after_help = "Example: coffer fleet apply site-set.yaml")]
    Apply {
        /// The file, or "-" for stdin.
        file: PathBuf,
        /// Only say what would be changed.
        #[arg(long)]
        dry_run: bool,
    },
}

/// Flags of `fleet control`.
#[derive(Args)]
pub(crate) struct ControlFlags {
    /// A public key whose attestations are believed, 64 hexadecimal digits; repeat it for several.
    #[arg(long = "trust", value_name = "KEY", required = true)]
    pub(crate) trust: Vec<String>,
    /// Shards that suffice to read an object.
    #[arg(long, default_value_t = 4, value_name = "K")]
    pub(crate) needed: u32,
    /// Ask the service of the profile where shards lie, as its operator, and tell it which pods are sites.
    #[arg(long, conflicts_with = "needed")]
    pub(crate) ask_service: bool,
    /// Nobody gives way to site sets with a priority that fit nowhere.
    #[arg(long)]
    pub(crate) no_preempt: bool,
    /// Issue and renew the certificates of the pods with the site authority in this directory.
    ///
    /// `coffer site authority` makes one. Its ca.pem, ca.key and certificate.pem are enough.
    #[arg(long, value_name = "DIR")]
    pub(crate) authority: Option<PathBuf>,
    /// For how many days a certificate holds; it is renewed when two thirds of them are over.
    #[arg(long, requires = "authority", default_value_t = 90, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=825))]
    pub(crate) certificate_days: u32,
    /// Its name among the control planes of the fleet [default: a random one].
    #[arg(long, value_name = "NAME", env = "COFFER_HOLDER")]
    pub(crate) holder: Option<String>,
}

/// Flags of `fleet logs`.
#[derive(Args)]
pub(crate) struct LogsFlags {
    /// Name of the pod.
    pub(crate) pod: String,
    /// Go on as the log grows, until stopped or the pod ends.
    #[arg(long, short)]
    pub(crate) follow: bool,
    /// The last so many lines [default: all that the node keeps].
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<u32>,
    /// Of the container before the pod's last restart.
    #[arg(long, short)]
    pub(crate) previous: bool,
    /// Each line with its time.
    #[arg(long)]
    pub(crate) timestamps: bool,
}

/// What runs the pods of a fleet at home.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PodRuntime {
    /// Processes that the node's agent confines itself.
    Process,
    /// OCI containers by the machine's runc.
    Runc,
}

impl PodRuntime {
    /// As `coffer-node` takes it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Runc => "runc",
        }
    }
}

/// Flags of `fleet serve`.
#[derive(Args)]
pub(crate) struct FleetServeFlags {
    /// The directory; what is the fleet's goes to fleet/ in it.
    #[arg(long, default_value = "coffer-data", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Where the fleet's API listens; it stays there for the agents' sake.
    #[arg(long, default_value = "127.0.0.1:7421", value_name = "ADDRESS")]
    pub(crate) listen: std::net::SocketAddr,
    /// A node for each site of this site file [default: six].
    #[arg(long, value_name = "FILE")]
    pub(crate) sites: Option<PathBuf>,
    /// So many of the nodes have no pod, and take one when another node is lost.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) spare: usize,
    /// Bytes of each pod's disk [default: 1 TiB, taken as it is used].
    #[arg(long, value_name = "BYTES")]
    pub(crate) disk: Option<u64>,
    /// Start no node agents: somebody else does, with what lies in fleet/nodes/NAME.
    #[arg(long)]
    pub(crate) no_agents: bool,
    /// What runs the pods; chosen with the fleet's first start [default: process].
    #[arg(long, value_enum, value_name = "RUNTIME", conflicts_with = "no_agents")]
    pub(crate) runtime: Option<PodRuntime>,
    /// Start no scheduler and no controllers: `coffer fleet control` does, with the kubeconfig and the site authority
    /// that lie in fleet/ of the config directory.
    #[arg(long)]
    pub(crate) no_control: bool,
    /// Stop when stdin closes.
    #[arg(long, hide = true)]
    pub(crate) exit_with_stdin: bool,
}
