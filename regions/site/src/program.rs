//! `coffer-site`: serves the store of one site, looks at it, and measures what
//! its disk can do; all of it without any key that opens something.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::report::look;
use crate::{bench, pod_process};

const EXIT_FAILURE: u8 = 1;

/// The store of one site: serves it, checks it, describes it, measures it.
/// Needs no key that opens anything, since a site never has one.
///
/// Exit codes: 0 all is well, 1 it could not be done, 2 wrong usage, 4 damage
/// or a loss was found.
#[derive(Parser)]
#[command(name = "coffer-site", version)]
struct Flags {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create the empty store of the site that a certificate names.
    Create(pod_process::CreateFlags),
    /// Serve a store to listed callers, over gRPC with mutual TLS, until
    /// SIGTERM or SIGINT.
    Serve(pod_process::ServeFlags),
    /// Read every record of a site, verify it, and print what is damaged, and
    /// what the site's last checkpoint proves to be lost.
    ///
    /// Changes nothing, and needs no disk that can be written. The site must
    /// not be open elsewhere.
    Check {
        /// The site's directory.
        dir: PathBuf,
        /// Print one JSON object on one line; errors too.
        #[arg(long)]
        json: bool,
    },
    /// Print what a site holds, from its framing alone: quick, reads no bodies.
    Info {
        /// The site's directory.
        dir: PathBuf,
        /// Print one JSON object on one line; errors too.
        #[arg(long)]
        json: bool,
    },
    /// Create a site in a new directory, fill it with random records, and
    /// print how fast that was, beside plain writes with one fdatasync each.
    Bench(bench::BenchFlags),
}

/// Runs the program with the arguments of this process.
pub fn main() -> ExitCode {
    let outcome = match Flags::parse().command {
        Command::Create(flags) => pod_process::create(&flags).map(|()| ExitCode::SUCCESS),
        Command::Serve(flags) => pod_process::serve(flags).map(|()| ExitCode::SUCCESS),
        Command::Check { dir, json } => look(&dir, true, json),
        Command::Info { dir, json } => look(&dir, false, json),
        Command::Bench(flags) => bench::run(&flags).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|message| {
        eprintln!("coffer-site: {message}");
        ExitCode::from(EXIT_FAILURE)
    })
}
