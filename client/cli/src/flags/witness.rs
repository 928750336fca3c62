//! What `witness` is told, and which witnesses a verification asks for.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::KeyFlags;

#[derive(Subcommand)]
pub(crate) enum WitnessCommand {
    /// Make the key and the directory of a new witness; its public key is printed.
    #[command(after_help = "Example: coffer witness init ./witness --name witness.example/w1")]
    Init {
        /// New directory.
        directory: PathBuf,
        /// Name under which it cosigns: a URL without its scheme is usual.
        #[arg(long, value_name = "NAME")]
        name: String,
    },
    /// Answer the logs that it is told of, until it is stopped.
    ///
    /// What it cosigned is on disk before it answers, so that it never cosigns a log that went back.
    #[command(after_help = "Example: coffer witness serve ./witness --kit recovery-kit.json")]
    Serve {
        /// Its directory.
        directory: PathBuf,
        /// Address to listen on; port 0 takes a free one.
        #[arg(long, default_value = "127.0.0.1:7430", value_name = "ADDRESS")]
        listen: SocketAddr,
        /// The key of a deployment whose logs it watches; repeat it for several.
        #[arg(long = "log", value_name = "KEY")]
        logs: Vec<String>,
        /// Recovery kit with such a key; repeat it for several.
        #[arg(long = "kit", value_name = "FILE")]
        kits: Vec<PathBuf>,
        /// Stop when stdin closes: for a witness that lives no longer than its parent.
        #[arg(long, hide = true)]
        exit_with_stdin: bool,
    },
    /// Show its key, and the newest state of each log that it cosigned.
    #[command(after_help = "Example: coffer witness show ./witness --kit recovery-kit.json")]
    Show {
        /// Its directory.
        directory: PathBuf,
        #[command(flatten)]
        key: KeyFlags,
    },
}

/// Which witnesses must have cosigned.
#[derive(Args, Clone)]
#[group(id = "cosigned", required = false, multiple = true)]
pub(crate) struct WitnessFlags {
    /// Policy that says which witnesses must have cosigned the checkpoint (C2SP tlog-policy).
    #[arg(long, value_name = "FILE", conflicts_with = "witness")]
    pub(crate) witnesses: Option<PathBuf>,
    /// Key of a witness that must have cosigned the checkpoint; repeat it for several.
    #[arg(long, value_name = "KEY")]
    pub(crate) witness: Vec<String>,
}
