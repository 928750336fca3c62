//! The flags of `coffer drill`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use coffer_client::backup::SnapshotId;
use coffer_client::drill::{Person, ScenarioKind, Trigger};
use coffer_model::{BucketName, Country, Timestamp};

use super::Seconds;
use super::values::{bucket, moment, person, seconds, size};

/// Which kind of loss, where the flags of lost things do not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Nothing is lost: the restoration alone.
    Rehearsal,
    /// Every catalogue is lost: a service makes them again from copies of the sites.
    Catalogue,
    /// The key service is lost: begins with its custodians, whose ceremony counts.
    KeyService,
    /// Service, catalogues and this profile's keys are lost: only sites, kit and shares are left.
    LostHost,
    /// The provider and its programs are gone: another reader restores from copies of the sites.
    ProviderExit,
    /// What must not be possible is tried.
    Negative,
}

impl From<Kind> for ScenarioKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Rehearsal => Self::Rehearsal,
            Kind::Catalogue => Self::Catalogue,
            Kind::KeyService => Self::KeyService,
            Kind::LostHost => Self::LostHost,
            Kind::ProviderExit => Self::ProviderExit,
            Kind::Negative => Self::Negative,
        }
    }
}

/// Why somebody drills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Why {
    /// A schedule.
    Scheduled,
    /// Somebody wants to know.
    SelfChallenge,
    /// Something was changed.
    Change,
    /// Something happened.
    Incident,
}

impl From<Why> for Trigger {
    fn from(why: Why) -> Self {
        match why {
            Why::Scheduled => Self::Scheduled,
            Why::SelfChallenge => Self::SelfChallenge,
            Why::Change => Self::Change,
            Why::Incident => Self::Incident,
        }
    }
}

/// What is to be drilled.
#[derive(Args)]
pub(crate) struct DrillWish {
    /// Bucket, of a repository or of objects.
    #[arg(long, value_parser = bucket)]
    pub(crate) bucket: BucketName,
    /// Site that is lost; repeat it for several.
    #[arg(long = "lose-site", value_name = "NAME")]
    pub(crate) sites: Vec<String>,
    /// Country that is lost with every site in it; repeat it for several.
    #[arg(long = "lose-country", value_name = "CC")]
    pub(crate) places: Vec<Country>,
    /// Everything was rewritten or deleted after this moment: restore what was there then.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) as_of: Option<Timestamp>,
    /// Kind of loss, where none of the above says it.
    #[arg(long, value_enum)]
    pub(crate) scenario: Option<Kind>,
    /// Snapshot of the tree [default: the latest].
    #[arg(long, value_name = "ID", conflicts_with_all = ["objects", "sample"])]
    pub(crate) snapshot: Option<SnapshotId>,
    /// Read the bucket's objects, not the tree in its repository.
    #[arg(long)]
    pub(crate) objects: bool,
    /// Draw so many objects, by a rule that nobody can steer.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) sample: Option<u64>,
    /// Recovery time objective.
    #[arg(long, default_value = "4h", value_parser = seconds)]
    pub(crate) rto: Seconds,
    /// Recovery point objective.
    #[arg(long, default_value = "24h", value_parser = seconds)]
    pub(crate) rpo: Seconds,
    /// Where the objectives come from.
    #[arg(long, default_value = "not stated", value_name = "TEXT")]
    pub(crate) objectives_from: String,
    /// Who takes part, as ROLE=NAME; repeat it for several.
    #[arg(long = "person", value_name = "ROLE=NAME", value_parser = person)]
    pub(crate) people: Vec<Person>,
    /// Why.
    #[arg(long, value_enum, default_value = "self-challenge")]
    pub(crate) trigger: Why,
    /// When the next drill of this kind is due, counted from now.
    #[arg(long, value_name = "DURATION", value_parser = seconds)]
    pub(crate) every: Option<Seconds>,
}

/// How a drill is carried out.
#[derive(Args)]
pub(crate) struct RunFlags {
    /// Directory for the restored tree, the state and the record.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Keep the restored tree.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Bytes a second to read at most, for example 20M.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub(crate) max_rate: Option<u64>,
    /// Go on where an interrupted run of the same plan stopped.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Exit code 4 also if it took more than half as long again as the drills of its kind before it.
    #[arg(long)]
    pub(crate) check_trend: bool,
    /// Id of another tenant, which must not be reachable; repeat it for several.
    #[arg(long = "not-tenant", value_name = "ID")]
    pub(crate) other_tenants: Vec<String>,
    /// Key in the bucket that was deleted and must not open; repeat it for several.
    #[arg(long = "deleted", value_name = "KEY")]
    pub(crate) deleted: Vec<String>,
    #[command(flatten)]
    pub(crate) left: LeftFlags,
}

/// What is left after a loss, for drills that begin with nothing else.
#[derive(Args, Clone)]
#[command(next_help_heading = "Drills that begin cold")]
pub(crate) struct LeftFlags {
    /// Data directory with the sites; they are copied, and the copies are used.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Recovery kit [default: recovery-kit.json in the config directory].
    #[arg(long, value_name = "FILE")]
    pub(crate) kit: Option<PathBuf>,
    /// Share file of a provider's custodian; repeat it for a quorum.
    #[arg(long = "provider-share", value_name = "FILE")]
    pub(crate) provider_shares: Vec<PathBuf>,
    /// Share file of one of the tenant's people; repeat it for a quorum.
    #[arg(long = "tenant-share", value_name = "FILE")]
    pub(crate) tenant_shares: Vec<PathBuf>,
    /// Program that restores when the provider is gone; its calls are described in client/READER.md.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) reader: Option<PathBuf>,
    /// Argument of that program, before all others; repeat it for several.
    #[arg(long = "reader-arg", value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) reader_args: Vec<String>,
}

/// A drill that is carried out: a plan by its id, or what is wished for now.
#[derive(Args)]
pub(crate) struct DrillRun {
    /// Plan to carry out, by the drill's id [default: one that is made now].
    #[arg(long, value_name = "ID", conflicts_with = "bucket")]
    pub(crate) plan: Option<String>,
    #[command(flatten)]
    pub(crate) wish: Option<DrillWish>,
    #[command(flatten)]
    pub(crate) flags: RunFlags,
}

#[derive(Subcommand)]
pub(crate) enum DrillCommand {
    /// Say what a drill would show and how long it would take, and note the plan in the log.
    #[command(
        after_help = "Example: coffer drill plan --bucket documents --lose-country DE --lose-country FR"
    )]
    Plan(Box<DrillWish>),
    /// Carry out a plan, or plan and carry out, and sign the result.
    ///
    /// Exit code 0 if every objective was met, or if the loss cost exactly what the plan had foreseen; 4 else.
    #[command(after_help = "Example: coffer drill run --bucket documents --rto 4h --rpo 24h --out ./drill")]
    #[command(subcommand_negates_reqs = true)]
    Run(Box<DrillRun>),
    /// List the drills of the tenant, each record verified.
    #[command(after_help = "Example: coffer drill ls")]
    Ls,
    /// Show one drill: its plan, and its record if it has been carried out.
    #[command(after_help = "Example: coffer drill show 0f3c")]
    Show {
        /// The drill's id, or its beginning.
        drill: String,
        /// Write the files of the drill into this new directory, for others to check.
        #[arg(long, value_name = "DIR")]
        export: Option<PathBuf>,
    },
    /// Drills that come due.
    #[command(subcommand, after_help = "Example: coffer drill schedule ls")]
    Schedule(ScheduleCommand),
    /// Verify a signed record, without a server.
    #[command(after_help = "Example: coffer drill verify record.json --kit recovery-kit.json")]
    Verify {
        /// The record.
        record: PathBuf,
        /// Directory with the drill's other files (`coffer drill show --export`): its plan, population,
        /// seed, sample and log proof are verified too.
        #[arg(long, value_name = "DIR")]
        files: Option<PathBuf>,
        #[command(flatten)]
        pinned: PinnedKey,
        #[command(flatten)]
        whose: RecordOf,
    },
    /// Be the service that a drill makes again, until stdin closes.
    #[cfg(feature = "embedded")]
    #[command(hide = true)]
    StandIn(Box<StandInFlags>),
    /// Recover everything in one new process, and prove it.
    #[cfg(feature = "embedded")]
    #[command(hide = true)]
    Recover(Box<RecoverFlags>),
}

/// Whose record it must be. What is not named here is taken from the record,
/// and said to be.
#[derive(Args)]
pub(crate) struct RecordOf {
    /// Directory of an export of the tenant's log (`coffer audit export`): the population is held against its leaves.
    #[arg(long, value_name = "DIR", requires = "files")]
    pub(crate) log: Option<PathBuf>,
    /// Id of the tenant.
    #[arg(long, value_name = "ID")]
    pub(crate) of_tenant: Option<coffer_model::TenantId>,
    /// Public key of the tenant's cosigner, base64: the one that drew the sample.
    #[arg(long, value_name = "KEY")]
    pub(crate) cosigner: Option<String>,
}

/// The key that a record must be signed with.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(crate) struct PinnedKey {
    /// Recovery kit with the key.
    #[arg(long, value_name = "FILE")]
    pub(crate) kit: Option<PathBuf>,
    /// The key itself, name+hash+base64.
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
}

/// Flags of `drill stand-in`.
#[cfg(feature = "embedded")]
#[derive(Args)]
pub(crate) struct StandInFlags {
    /// Directory in which only copies of sites are.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Recovery kit.
    #[arg(long, value_name = "FILE")]
    pub(crate) kit: PathBuf,
    /// Share file of a provider's custodian.
    #[arg(long = "provider-share", value_name = "FILE")]
    pub(crate) provider_shares: Vec<PathBuf>,
    /// Slot of the root key, where no shares are given.
    #[arg(long, value_name = "FILE", requires = "passphrase_file")]
    pub(crate) slot: Option<PathBuf>,
    /// Passphrase of that slot.
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Id of a tenant that gets a new credential.
    #[arg(long, value_name = "ID")]
    pub(crate) issue_to: Option<coffer_model::TenantId>,
}

/// Flags of `drill recover`.
#[cfg(feature = "embedded")]
#[derive(Args)]
pub(crate) struct RecoverFlags {
    /// Recovery kit.
    #[arg(long, value_name = "FILE")]
    pub(crate) kit: PathBuf,
    /// Directory in which only sites are left.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Share file of a provider's custodian.
    #[arg(long = "provider-share", value_name = "FILE", required = true)]
    pub(crate) provider_shares: Vec<PathBuf>,
    /// Share file of one of the tenant's people.
    #[arg(long = "tenant-share", value_name = "FILE", required = true)]
    pub(crate) tenant_shares: Vec<PathBuf>,
    /// A site that is lost for good; repeat it. However many of them there are, the rest is recovered; what they alone knew is left out.
    #[arg(long = "without-site", value_name = "NAME")]
    pub(crate) without_sites: Vec<String>,
    /// Bucket of the repository [default: the only one].
    #[arg(long, value_parser = bucket)]
    pub(crate) bucket: Option<BucketName>,
    /// Snapshot to restore [default: the latest].
    #[arg(long)]
    pub(crate) snapshot: Option<SnapshotId>,
    /// New directory to restore into.
    #[arg(long, value_name = "DIR")]
    pub(crate) target: PathBuf,
    /// Source-time manifest.
    #[arg(long, value_name = "FILE")]
    pub(crate) manifest: PathBuf,
    /// Leaf of the tenant's log that notes the manifest's digest.
    #[arg(long, value_name = "INDEX")]
    pub(crate) manifest_note: u64,
    /// When the loss was declared, nanoseconds since 1970 [default: now].
    #[arg(long, value_name = "NS")]
    pub(crate) declared_at: Option<u64>,
    /// What was lost, in words.
    #[arg(long, default_value = "a drill", value_name = "TEXT")]
    pub(crate) scenario: String,
    /// Where the signed record goes.
    #[arg(long, value_name = "FILE")]
    pub(crate) record_out: PathBuf,
    /// Recovery time objective.
    #[arg(long, default_value = "4h", value_parser = seconds)]
    pub(crate) rto: Seconds,
    /// Recovery point objective.
    #[arg(long, default_value = "24h", value_parser = seconds)]
    pub(crate) rpo: Seconds,
    /// Print progress events as JSON lines, and end when stdin closes.
    #[arg(long)]
    pub(crate) watched: bool,
}

#[derive(Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Enter a drill that comes due again and again.
    #[command(
        after_help = "Example: coffer drill schedule add weekly --bucket documents --sample 50 --every 7d"
    )]
    Add {
        /// Name of the schedule.
        name: String,
        #[command(flatten)]
        wish: DrillWish,
    },
    /// List the schedules and when each is due.
    #[command(after_help = "Example: coffer drill schedule ls")]
    Ls,
    /// Take a schedule out.
    #[command(after_help = "Example: coffer drill schedule rm weekly")]
    Rm {
        /// Name of the schedule.
        name: String,
    },
    /// Carry out every drill that is due: for a timer.
    #[command(after_help = "Example: coffer drill schedule run --out ./drills")]
    Run {
        #[command(flatten)]
        flags: RunFlags,
    },
}
