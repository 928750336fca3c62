//! The command line, exactly as it is typed.

mod audit;
mod drill;
#[cfg(feature = "embedded")]
mod durability;
mod evidence;
#[cfg(feature = "embedded")]
mod fleet;
mod hold;
#[cfg(feature = "embedded")]
mod replica;
mod report;
mod scrub;
mod site;
mod values;
mod witness;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use coffer_model::{BucketName, Geometry, Jurisdiction, Tier, Timestamp};

pub(crate) use audit::{AuditCommand, KeyFlags, LogCommand, LogFlags, OcsfFlags};
pub(crate) use drill::{DrillCommand, DrillWish, LeftFlags, PinnedKey, RecordOf, RunFlags, ScheduleCommand};
#[cfg(feature = "embedded")]
pub(crate) use drill::{RecoverFlags, StandInFlags};
#[cfg(feature = "embedded")]
pub(crate) use durability::DurabilityFlags;
pub(crate) use evidence::EvidenceCommand;
#[cfg(feature = "embedded")]
pub(crate) use fleet::{ControlFlags, FleetCommand, FleetFlags, FleetServeFlags, LogsFlags, PodRuntime};
pub(crate) use hold::{CaseCommand, HoldCommand};
#[cfg(feature = "embedded")]
pub(crate) use replica::{KubernetesName, ReplicaFlags};
pub(crate) use report::{MaterialFlags, ReportFlags, ReportFormat};
pub(crate) use scrub::{JobFlags, ScrubCommand};
pub(crate) use site::SiteCommand;
pub(crate) use values::{ByteRange, Metadata, ObjectAddress, Seconds, SnapshotName, SyslogTarget};
pub(crate) use witness::{WitnessCommand, WitnessFlags};

use values::{bucket, metadata, moment, object, object_prefix, range, seconds, server, size, snapshot};

/// Sealed objects and backups, spread over sites in known jurisdictions,
/// with evidence.
///
/// Exit codes: 0 success, 1 failure, 2 wrong usage, 3 done but for single
/// entries, 4 differences or a failed verification, 5 nothing wrong found and
/// not all of it checked.
#[derive(Parser)]
#[command(name = "coffer", version, after_help = "Example: coffer try ~/Documents")]
pub(crate) struct Flags {
    /// Print results as JSON: one object, or one object per line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Draw no progress bars and make no remarks.
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Directory of credentials [default: $XDG_CONFIG_HOME/coffer, else ~/.config/coffer].
    #[arg(long, global = true, env = "COFFER_CONFIG_DIR", value_name = "DIR")]
    pub(crate) config_dir: Option<PathBuf>,
    /// Tenant of the profile to act as [default: the only one].
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) tenant: Option<String>,
    /// Where the service may be, https://HOST:PORT; repeat it, or put commas between several [default: the profile's `endpoint`].
    ///
    /// Every address of a name is tried, the one that served last first. Which service is the right one is
    /// for its certificate to say, so that it may be anywhere; one of another deployment is named and asked nothing.
    #[arg(long, global = true, env = "COFFER_SERVER", value_name = "URL", value_delimiter = ',', value_parser = server)]
    pub(crate) server: Vec<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Lose sites, catalogue and key service on purpose, and get every file back.
    #[cfg(feature = "embedded")]
    #[command(after_help = "Example: coffer try ~/Documents --lose 2")]
    Try(TryFlags),
    /// Run the service with its sites; the first start founds a deployment.
    #[cfg(feature = "embedded")]
    #[command(after_help = "Example: coffer serve --data-dir /srv/coffer")]
    Serve(Box<ServeFlags>),
    /// Tenants (operator).
    #[command(subcommand, after_help = "Example: coffer tenant create demo --allow EU --allow CH")]
    Tenant(TenantCommand),
    /// Buckets.
    #[command(subcommand, after_help = "Example: coffer bucket create documents")]
    Bucket(BucketCommand),
    /// Objects.
    #[command(subcommand, after_help = "Example: coffer object put report.pdf documents/2026/report.pdf")]
    Object(ObjectCommand),
    /// Back up a directory.
    #[command(after_help = "Example: coffer backup ~/Documents --bucket documents")]
    Backup {
        /// Directory to back up.
        directory: PathBuf,
        /// Bucket of the repository; made a repository by the first backup.
        #[arg(long, value_parser = bucket)]
        bucket: BucketName,
    },
    /// List the snapshots of a repository.
    #[command(after_help = "Example: coffer snapshots --bucket documents")]
    Snapshots {
        /// Bucket of the repository.
        #[arg(long, value_parser = bucket)]
        bucket: BucketName,
    },
    /// Restore a snapshot into a new or empty directory.
    #[command(after_help = "Example: coffer restore latest ./restored --bucket documents")]
    Restore {
        /// Snapshot id, or "latest".
        #[arg(value_parser = snapshot)]
        snapshot: SnapshotName,
        /// Directory to restore into.
        target: PathBuf,
        /// Bucket of the repository.
        #[arg(long, value_parser = bucket)]
        bucket: BucketName,
        /// From the repository as it was at this moment, whatever was written or deleted since.
        #[arg(long, value_name = "TIME", value_parser = moment)]
        as_of: Option<Timestamp>,
    },
    /// List the entries of a snapshot that was made with this profile.
    #[command(after_help = "Example: coffer ls latest photos/2026 --bucket documents")]
    Ls {
        /// Snapshot id, or "latest".
        #[arg(value_parser = snapshot)]
        snapshot: SnapshotName,
        /// Only this path and what is below it; \xHH for bytes that are not UTF-8.
        path: Option<String>,
        /// Bucket of the repository.
        #[arg(long, value_parser = bucket)]
        bucket: BucketName,
    },
    /// Timed restorations with signed records.
    #[command(subcommand, after_help = "Example: coffer drill verify record.json --kit recovery-kit.json")]
    Drill(DrillCommand),
    /// How durable and available the data is, and how long a restoration takes, by a model.
    ///
    /// Of the buckets of this tenant and the sites of its service; with --tier of sites that are only
    /// supposed. Beside each input stands where it is from: `given` by a flag, `measured` by what and
    /// when, or `supposed`, with what would measure it.
    #[cfg(feature = "embedded")]
    #[command(after_help = "Example: coffer durability --losses-per-year 0.02 --repair 3d --gib 500")]
    Durability(DurabilityFlags),
    /// Sites: any credentials may look, only the operator's change them.
    #[command(subcommand, after_help = "Example: coffer site ls")]
    Site(SiteCommand),
    /// The nodes and storage pods of a fleet, by its Kubernetes API: the embedded one, or a cluster's.
    #[cfg(feature = "embedded")]
    #[command(after_help = "Example: coffer fleet nodes")]
    Fleet(FleetFlags),
    /// Whether the sites hold what they were given (operator).
    #[command(subcommand, after_help = "Example: coffer scrub status")]
    Scrub(ScrubCommand),
    /// Bring everything back to what was promised, and see what is not.
    ///
    /// A repair looks at what every site lists, plans by least remaining redundancy, and counts a shard
    /// only when it was read back. `plan` shows what it would do, `run` does it, `ls` lists a tenant's
    /// objects that have less than was promised.
    #[command(subcommand, after_help = "Example: coffer repair plan")]
    Repair(RepairCommand),
    /// The audit log: read, searched, exported, verified, proven.
    ///
    /// Every leaf that is shown was proven to be in a log that extends the last checkpoint that this profile
    /// remembers. `verify` needs no service.
    #[command(subcommand, after_help = "Example: coffer audit tail")]
    Audit(AuditCommand),
    /// Legal holds: what may not be deleted.
    #[command(
        subcommand,
        after_help = "Example: coffer hold add documents/2026/ --reason \"case 7 of 2026\""
    )]
    Hold(HoldCommand),
    /// What lies under a legal hold, exported with its chain of custody, and verified.
    #[command(subcommand, after_help = "Example: coffer case verify ./case-7 --kit recovery-kit.json")]
    Case(CaseCommand),
    /// The checkpoint of the tenant's audit log.
    #[command(subcommand, after_help = "Example: coffer log checkpoint")]
    Log(LogCommand),
    /// Be a witness: see the states of logs, and cosign those that extend what was seen before.
    ///
    /// Run it away from the service that it watches. C2SP tlog-witness: any log that speaks it may ask.
    #[command(subcommand, after_help = "Example: coffer witness init ./witness --name witness.example/w1")]
    Witness(WitnessCommand),
    /// Say which objectives are satisfied, on which evidence.
    ///
    /// Made here from facts that the service signs, the tenant's whole log and the records of its drills,
    /// each verified first. Exit code 0 whatever the findings: a report of what is not satisfied is a report.
    #[command(after_help = "Example: coffer report --format html --from 2026-01-01 --out report.html")]
    Report(ReportFlags),
    /// Evidence packs: a report and everything that it rests on.
    #[command(subcommand, after_help = "Example: coffer evidence export --out ./evidence")]
    Evidence(EvidenceCommand),
    /// Print a completion script for a shell.
    #[command(after_help = "Example: coffer completions bash > /etc/bash_completion.d/coffer")]
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Flags of `try`.
#[derive(Args)]
pub(crate) struct TryFlags {
    /// Directory to back up, lose and restore.
    pub(crate) directory: PathBuf,
    /// Sites to destroy.
    #[arg(long, default_value_t = 2, value_name = "N")]
    pub(crate) lose: usize,
    /// New directory for service and sites [default: ./coffer-try-ID/data].
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// New directory for manifest, kit, shares, record and restored tree [default: ./coffer-try-ID/out].
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Run the sites as storage pods of an embedded fleet, and lose them by killing pods.
    ///
    /// The pods and their nodes' agents get SIGKILL; of the sites nothing is deleted. The programs coffer-node
    /// and coffer-site must be beside this one; as root the pods are confined in full.
    #[arg(long)]
    pub(crate) fleet: bool,
    /// What runs the fleet's pods [default: process].
    #[cfg(feature = "embedded")]
    #[arg(long, value_enum, value_name = "RUNTIME", requires = "fleet")]
    pub(crate) fleet_runtime: Option<PodRuntime>,
    /// Keep the data directory and the restored tree.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Site file [default: six simulated sites].
    #[arg(long, value_name = "FILE")]
    pub(crate) sites: Option<PathBuf>,
    /// Recovery time objective.
    #[arg(long, default_value = "4h", value_parser = seconds)]
    pub(crate) rto: Seconds,
    /// Recovery point objective.
    #[arg(long, default_value = "24h", value_parser = seconds)]
    pub(crate) rpo: Seconds,
}

/// Who keeps the root key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum CustodianKind {
    /// A passphrase file beside the service.
    Passphrase,
    /// A quorum of people with share files; nothing on this machine opens it.
    Quorum,
}

/// Flags of `serve`.
#[derive(Args)]
pub(crate) struct ServeFlags {
    /// Directory of the service and its sites.
    #[arg(long, default_value = "coffer-data", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:7420", value_name = "ADDRESS")]
    pub(crate) listen: std::net::SocketAddr,
    /// Site file of a new deployment [default: six simulated sites].
    #[arg(long, value_name = "FILE")]
    pub(crate) sites: Option<PathBuf>,
    /// Run the sites as storage pods of an embedded fleet: a node with its agent for each site of the site file.
    ///
    /// `coffer fleet` looks at it and changes it; kubectl may, with fleet/kubeconfig of the config directory.
    /// The programs coffer-node and coffer-site must be beside this one.
    #[arg(long)]
    pub(crate) fleet: bool,
    /// Where the fleet's API listens; it stays there for the agents' sake.
    #[arg(long, default_value = "127.0.0.1:7421", value_name = "ADDRESS", requires = "fleet")]
    pub(crate) fleet_listen: std::net::SocketAddr,
    /// So many of the fleet's nodes carry no pod: room for the pods of a node that is drained or lost.
    #[arg(long, default_value_t = 0, value_name = "N", requires = "fleet")]
    pub(crate) fleet_spare: usize,
    /// How long a silent node is waited for before what its pods hold is rebuilt elsewhere. Its place is taken much earlier, so that writes go on.
    #[arg(long, default_value = "10m", value_parser = seconds, value_name = "DURATION", requires = "fleet")]
    pub(crate) fleet_rebuild_after: Seconds,
    /// What runs the fleet's pods; chosen with its first start [default: process].
    #[cfg(feature = "embedded")]
    #[arg(long, value_enum, value_name = "RUNTIME", requires = "fleet")]
    pub(crate) fleet_runtime: Option<PodRuntime>,
    /// Who gives the root key at later starts.
    #[arg(long, value_enum, default_value = "passphrase")]
    pub(crate) custodian: CustodianKind,
    /// Share file of a custodian; repeat it for a quorum.
    #[arg(long = "share", value_name = "FILE")]
    pub(crate) shares: Vec<PathBuf>,
    /// Passphrase file [default: passphrase in the config directory].
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Where a new deployment's share files go [default: custodians in the config directory].
    #[arg(long, value_name = "DIR")]
    pub(crate) shares_out: Option<PathBuf>,
    /// Where the recovery kit goes [default: recovery-kit.json in the config directory].
    #[arg(long, value_name = "FILE")]
    pub(crate) kit_out: Option<PathBuf>,
    /// A site that is lost for good, for a start that would wait for it to make a catalogue again; repeat it.
    ///
    /// However many of them there are, the catalogue is made from the other sites, and its log says so. Objects
    /// and deletions that these sites alone knew are left out, even if one of them comes back later.
    #[arg(long = "without-site", value_name = "NAME")]
    pub(crate) without_sites: Vec<String>,
    /// Where the pods are now: JSON that whoever places them replaces when one has moved [default: where the site file says].
    #[arg(long, value_name = "FILE")]
    pub(crate) endpoints_file: Option<PathBuf>,
    /// This replica's lease of the deployment: JSON with `epoch` and `valid_until_unix_ms`, renewed by whoever runs replicas; `endpoint` says where its holder answers [default: there are no replicas].
    #[arg(long, value_name = "FILE")]
    pub(crate) lease_file: Option<PathBuf>,
    #[command(flatten)]
    #[cfg(feature = "embedded")]
    pub(crate) replica: ReplicaFlags,
    /// Address for the figures, in the text format of Prometheus, at /metrics. On the loopback in clear;
    /// elsewhere over TLS, for certificates of operators only.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) metrics: Option<std::net::SocketAddr>,
    /// Policy with the witnesses that cosign the checkpoints (C2SP tlog-policy); those with a URL are asked.
    #[arg(long, value_name = "FILE")]
    pub(crate) witnesses: Option<PathBuf>,
    /// How often the witnesses are shown each log that grew; 0s: only when a client asks.
    #[arg(long, default_value = "1m", value_parser = seconds, value_name = "DURATION")]
    pub(crate) witness_every: Seconds,
    #[command(flatten)]
    pub(crate) jobs: JobFlags,
    /// Stop when stdin closes: for a service that lives no longer than its parent.
    #[arg(long, hide = true)]
    pub(crate) exit_with_stdin: bool,
}

/// Where bytes may lie, and how they are coded.
#[derive(Args)]
pub(crate) struct PolicyFlags {
    /// Country code, EU or EEA in which bytes may lie; repeat it for several [default: all].
    #[arg(long, value_name = "PLACE", value_parser = Jurisdiction::typed)]
    pub(crate) allow: Vec<Jurisdiction>,
    /// Country code, EU or EEA in which no byte may lie.
    #[arg(long, value_name = "PLACE", value_parser = Jurisdiction::typed)]
    pub(crate) deny: Vec<Jurisdiction>,
    /// Lowest tier of a site: I, II, III or IV [default: I].
    #[arg(long, value_name = "TIER")]
    pub(crate) tier_min: Option<Tier>,
    /// Data and parity shards [default: 4+2].
    #[arg(long, value_name = "K+M")]
    pub(crate) geometry: Option<Geometry>,
    /// Accept writes while a site is down, with a smaller loss budget.
    #[arg(long)]
    pub(crate) accept_degraded: bool,
}

impl PolicyFlags {
    /// Whether any wish was stated at all.
    pub(crate) fn any(&self) -> bool {
        let Self { allow, deny, tier_min, geometry, accept_degraded } = self;
        !allow.is_empty() || !deny.is_empty() || tier_min.is_some() || geometry.is_some() || *accept_degraded
    }
}

#[derive(Subcommand)]
pub(crate) enum TenantCommand {
    /// Create a tenant, its credentials and its recovery shares.
    #[command(after_help = "Example: coffer tenant create demo --allow EU --allow CH --people-out ./people")]
    Create {
        /// Name, 1 to 128 characters.
        name: String,
        #[command(flatten)]
        policy: PolicyFlags,
        /// Where the five recovery share files go [default: people in the config directory].
        #[arg(long, value_name = "DIR")]
        people_out: Option<PathBuf>,
    },
}

#[derive(Subcommand)]
pub(crate) enum BucketCommand {
    /// Create a bucket; without flags it has the tenant's policy.
    ///
    /// With any of the policy flags the bucket has a policy of its own, which
    /// takes nothing from the tenant's: flags left out have their defaults.
    #[command(after_help = "Example: coffer bucket create documents --allow EU --geometry 3+2")]
    Create {
        /// Name.
        #[arg(value_parser = bucket)]
        name: BucketName,
        /// Have a policy of its own, from the flags below, even if none is given: the defaults.
        #[arg(long)]
        own_policy: bool,
        #[command(flatten)]
        policy: PolicyFlags,
    },
    /// List the buckets.
    #[command(after_help = "Example: coffer bucket ls")]
    Ls,
    /// Policies of buckets.
    #[command(
        subcommand,
        after_help = "Example: coffer bucket policy set documents --allow EU --geometry 3+2"
    )]
    Policy(BucketPolicyCommand),
    /// Remove an empty bucket.
    #[command(after_help = "Example: coffer bucket rm documents")]
    Rm {
        /// Name.
        #[arg(value_parser = bucket)]
        name: BucketName,
    },
}

#[derive(Subcommand)]
pub(crate) enum BucketPolicyCommand {
    /// Give a bucket another policy; repair moves what must move.
    ///
    /// New objects lie under it at once. Older ones keep their coding, and stay readable while the next
    /// repair moves them, each with a leaf of the audit log. Flags left out have their defaults.
    #[command(after_help = "Example: coffer bucket policy set documents --allow EU --geometry 3+2")]
    Set {
        /// Name.
        #[arg(value_parser = bucket)]
        name: BucketName,
        #[command(flatten)]
        policy: PolicyFlags,
    },
}

#[derive(Subcommand)]
pub(crate) enum RepairCommand {
    /// Show what a repair would do now; nothing is changed (operator).
    ///
    /// Exit code 4 if something is beyond repair.
    #[command(after_help = "Example: coffer repair plan --lines 20")]
    Plan {
        /// Bytes that one round may read and write, for example 512M [default: 1G].
        #[arg(long, value_name = "SIZE", value_parser = size)]
        budget: Option<u64>,
        /// Steps to spell out.
        #[arg(long, default_value_t = 20, value_name = "N")]
        lines: u32,
    },
    /// Repair until nothing is left to do (operator).
    ///
    /// It goes on in the service if this command is interrupted; `coffer repair status` follows it.
    /// Exit code 3 if steps failed or wait for a site, 4 if something is beyond repair.
    #[command(after_help = "Example: coffer repair run --rate 100M")]
    Run {
        /// Bytes a second to read and write at most [default: 256M].
        #[arg(long, value_name = "SIZE", value_parser = size)]
        rate: Option<u64>,
        /// As fast as it goes, without giving way to the calls of tenants.
        #[arg(long)]
        full_speed: bool,
        /// Bytes that one round may read and write [default: 1G].
        #[arg(long, value_name = "SIZE", value_parser = size)]
        budget: Option<u64>,
    },
    /// Say how the repair is doing that is under way, or was last (operator).
    #[command(after_help = "Example: coffer repair status")]
    Status,
    /// List the tenant's objects that have less than was promised.
    #[command(after_help = "Example: coffer repair ls")]
    Ls,
}

#[derive(Subcommand)]
pub(crate) enum ObjectCommand {
    /// Write an object from a file or stdin.
    #[command(
        after_help = "Example: coffer object put report.pdf documents/2026/report.pdf --meta kind=report"
    )]
    Put {
        /// File, or "-" for stdin.
        file: PathBuf,
        /// BUCKET/KEY; \xHH for bytes that are not UTF-8, \\ for a backslash.
        #[arg(value_parser = object)]
        object: ObjectAddress,
        /// Metadata of the object; repeat it for several: at most 32 pairs, 4 KiB together.
        #[arg(long = "meta", value_name = "KEY=VALUE", value_parser = metadata)]
        metadata: Vec<Metadata>,
    },
    /// Read an object, or a range of it.
    #[command(after_help = "Example: coffer object get documents/2026/report.pdf -o report.pdf")]
    Get {
        /// BUCKET/KEY.
        #[arg(value_parser = object)]
        object: ObjectAddress,
        /// First and last byte, counted from 0; the last may be left out.
        #[arg(long, value_name = "FIRST-LAST", value_parser = range)]
        range: Option<ByteRange>,
        /// The version of this moment, for example 2026-03-01T12:00:00Z, whatever was written or deleted since.
        #[arg(long, value_name = "TIME", value_parser = moment)]
        as_of: Option<Timestamp>,
        /// File, or "-" for stdout. A file gets its name when it is whole.
        #[arg(short, long, value_name = "FILE", default_value = "-")]
        output: PathBuf,
    },
    /// List objects.
    #[command(after_help = "Example: coffer object ls documents/2026/")]
    Ls {
        /// BUCKET, or BUCKET/PREFIX.
        #[arg(value_parser = object_prefix)]
        prefix: (BucketName, Vec<u8>),
    },
    /// Describe an object and where it lies.
    ///
    /// With --shards, where each shard lies and in what state: `listed` (its site says so), `verified` (it
    /// was read just now), `missing`, `damaged`, `silent` (the site does not answer), or `quarantined` (the
    /// site answers, but came back older than it was: what it has does not count until a repair has compared it).
    /// Exit code 3 if anything is not as promised: not listed or verified, or out of place.
    #[command(after_help = "Example: coffer object stat documents/2026/report.pdf --shards --verify")]
    Stat {
        /// BUCKET/KEY.
        #[arg(value_parser = object)]
        object: ObjectAddress,
        /// Ask every site what it holds of it.
        #[arg(long)]
        shards: bool,
        /// Read every shard back, do not only ask.
        #[arg(long, requires = "shards")]
        verify: bool,
    },
    /// Delete an object; reversible until retention ends.
    #[command(after_help = "Example: coffer object rm documents/2026/report.pdf")]
    Rm {
        /// BUCKET/KEY.
        #[arg(value_parser = object)]
        object: ObjectAddress,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Flags::command().debug_assert();
    }

    #[test]
    fn every_visible_command_shows_an_example() {
        fn check(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
                let name = format!("{path} {}", sub.get_name());
                let help = sub.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example: coffer "), "{name} shows no example");
                check(sub, &name);
            }
        }
        check(&Flags::command(), "coffer");
    }

    #[test]
    fn every_policy_flag_alone_gives_a_bucket_its_own_policy() {
        let states_a_wish = |more: &str| {
            let line = format!("coffer bucket create documents{more}");
            let Command::Bucket(BucketCommand::Create { policy, .. }) =
                Flags::try_parse_from(line.split(' ')).unwrap().command
            else {
                panic!("not a bucket: {line}");
            };
            policy.any()
        };
        assert!(!states_a_wish(""));
        for flag in ["--tier-min I", "--geometry 4+2", "--accept-degraded", "--allow EU", "--deny DE"] {
            assert!(states_a_wish(&format!(" {flag}")), "{flag}");
        }
    }

    #[test]
    fn a_record_is_verified_against_exactly_one_pinned_key() {
        let parse = |line: &str| Flags::try_parse_from(line.split(' ')).is_ok();
        assert!(!parse("coffer drill verify r.json"));
        assert!(!parse("coffer drill verify r.json --kit k --key v"));
        assert!(parse("coffer drill verify r.json --kit k"));
        assert!(parse("coffer drill verify r.json --key v --json"));
    }
}
