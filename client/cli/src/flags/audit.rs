//! What `audit` and `log` are told.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use coffer_model::Timestamp;

use super::values::day_or_moment;
use super::{SyslogTarget, WitnessFlags};

#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// Show the newest events of the log, each proven against a checkpoint that extends the last one.
    #[command(after_help = "Example: coffer audit tail -n 50 --follow")]
    Tail {
        /// Events to show at first.
        #[arg(short = 'n', long, default_value_t = 20, value_name = "N",
              value_parser = clap::value_parser!(u64).range(1..=16_384))]
        count: u64,
        /// Go on as the log grows, until it is interrupted.
        #[arg(short, long)]
        follow: bool,
        /// Keep in this file how far the events were handed on, and go on from there: none is left out, and
        /// after a crash the last ones may come twice.
        #[arg(long, value_name = "FILE", requires = "follow", conflicts_with = "count")]
        resume: Option<PathBuf>,
        #[command(flatten)]
        log: LogFlags,
        #[command(flatten)]
        events: OcsfFlags,
    },
    /// Search the whole log, proving each leaf on the way.
    #[command(after_help = "Example: coffer audit search --operation object_delete --from 2026-11-01")]
    Search {
        /// For example object_put, object_get, object_delete, bucket_policy.
        #[arg(long, value_name = "NAME")]
        operation: Option<String>,
        /// Id of a principal, "service" or "anonymous".
        #[arg(long, value_name = "ID")]
        actor: Option<String>,
        /// Id or digest that it was about, or its beginning.
        #[arg(long, value_name = "ID")]
        subject: Option<String>,
        /// How it ended.
        #[arg(long, value_parser = ["intent", "done", "denied", "failed", "interrupted"])]
        outcome: Option<String>,
        /// Not before: 2026-11-24, or 2026-11-24T10:15:00Z.
        #[arg(long, value_name = "TIME", value_parser = day_or_moment)]
        from: Option<Timestamp>,
        /// Before.
        #[arg(long, value_name = "TIME", value_parser = day_or_moment)]
        to: Option<Timestamp>,
        #[command(flatten)]
        log: LogFlags,
        #[command(flatten)]
        events: OcsfFlags,
    },
    /// Write the whole log as files that other people's programs verify (C2SP tlog-tiles).
    ///
    /// The checkpoint is written last: a directory without it is no export.
    #[command(after_help = "Example: coffer audit export ./log-2026 && coffer audit verify ./log-2026")]
    Export {
        /// New or empty directory.
        directory: PathBuf,
        #[command(flatten)]
        log: LogFlags,
        #[command(flatten)]
        events: OcsfFlags,
        #[command(flatten)]
        witnesses: WitnessFlags,
    },
    /// Verify an export, or a proof of one leaf, without a service.
    ///
    /// The key is taken from the profile, or from --kit or --key. What is wrong is named, file by file and
    /// leaf by leaf; exit code 4 if anything is.
    #[command(after_help = "Example: coffer audit verify ./log-2026 --kit recovery-kit.json")]
    Verify {
        /// Directory of an export, or a .tlog-proof file.
        path: PathBuf,
        /// A checkpoint of the log that you kept: the export must extend it.
        #[arg(long, value_name = "FILE")]
        checkpoint: Option<PathBuf>,
        #[command(flatten)]
        key: KeyFlags,
        #[command(flatten)]
        witnesses: WitnessFlags,
    },
    /// Prove one leaf in one file (C2SP tlog-proof).
    #[command(after_help = "Example: coffer audit prove 1204 -o deletion.tlog-proof")]
    Prove {
        /// Index of the leaf, as `audit search` shows it.
        index: u64,
        /// File, or "-" for stdout.
        #[arg(short, long, value_name = "FILE", default_value = "-")]
        output: PathBuf,
        /// Make it from an export, without a service.
        #[arg(long, value_name = "DIR")]
        export: Option<PathBuf>,
        #[command(flatten)]
        log: LogFlags,
        #[command(flatten)]
        witnesses: WitnessFlags,
    },
}

/// Which log.
#[derive(Args)]
pub(crate) struct LogFlags {
    /// The service's own log, as its operator, in place of the tenant's.
    #[arg(long)]
    pub(crate) service: bool,
    #[command(flatten)]
    pub(crate) key: KeyFlags,
}

/// Where the key of the log comes from, if not from the profile.
#[derive(Args)]
#[group(required = false, multiple = false)]
pub(crate) struct KeyFlags {
    /// Recovery kit with the key.
    #[arg(long, value_name = "FILE")]
    pub(crate) kit: Option<PathBuf>,
    /// The key itself, name+hash+base64.
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
}

/// Events for other people's programs.
#[derive(Args)]
pub(crate) struct OcsfFlags {
    /// Write the events as OCSF 1.5.0, one a line, to a file, or "-" for stdout.
    #[arg(long, value_name = "FILE")]
    pub(crate) ocsf: Option<PathBuf>,
    /// Send the events as OCSF 1.5.0 to a syslog (RFC 5424): unix:/dev/log, udp:HOST:PORT or tcp:HOST:PORT.
    #[arg(long, value_name = "WHERE", conflicts_with = "ocsf")]
    pub(crate) syslog: Option<SyslogTarget>,
}

#[derive(Subcommand)]
pub(crate) enum LogCommand {
    /// Fetch and verify the newest checkpoint, and remember it.
    ///
    /// With --witnesses or --witness it is shown to the service's witnesses first, and refused without the
    /// cosignatures that are asked for.
    #[command(after_help = "Example: coffer log checkpoint > checkpoint.txt")]
    Checkpoint {
        #[command(flatten)]
        witnesses: WitnessFlags,
    },
}
