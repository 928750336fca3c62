//! `coffer-node`: the node agent as a program of its own.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use coffer_agent::Probe;

/// Runs the storage pods of one node.
#[derive(Parser)]
#[command(name = "coffer-node", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tries every layer of confinement and says what this machine has and lacks.
    Probe {
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// A directory in which files may be made.
        #[arg(long, default_value = "/var/lib/coffer-node")]
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    // Before anything else: a starter must have one thread.
    if let Some(code) = coffer_agent::stage(std::env::args_os()) {
        return code;
    }
    match run(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            drop(writeln!(io::stderr(), "coffer-node: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, io::Error> {
    match arguments.command {
        Command::Probe { json, dir } => probe(json, &dir),
    }
}

fn probe(json: bool, dir: &std::path::Path) -> Result<ExitCode, io::Error> {
    std::fs::create_dir_all(dir)?;
    let probe = Probe::run("/proc/self/exe".as_ref(), dir, "probe");
    let mut out = io::stdout();
    if json {
        serde_json::to_writer_pretty(&mut out, &probe)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{probe}")?;
    }
    Ok(ExitCode::SUCCESS)
}
