//! `coffer-site`: serves the store of one site, looks at it, and measures what
//! its disk can do; all of it without any key that opens something.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serde_json::json;

use crate::{Inspection, bench, inspect, pod_process};

const EXIT_FAILURE: u8 = 1;
const EXIT_DAMAGE: u8 = 4;

/// The store of one site: serves it, checks it, describes it, measures it.
/// Needs no key that opens anything, since a site never has one.
///
/// Exit codes: 0 all is well, 1 it could not be done, 2 wrong usage, 4 damage
/// was found.
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
    /// Read every record of a site, verify it, and print what is damaged.
    ///
    /// Changes nothing. The site must not be open elsewhere.
    Check {
        /// The site's directory.
        dir: PathBuf,
        /// Print one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Print what a site holds, from its framing alone: quick, reads no bodies.
    Info {
        /// The site's directory.
        dir: PathBuf,
        /// Print one JSON document.
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

fn look(dir: &std::path::Path, read_bodies: bool, as_json: bool) -> Result<ExitCode, String> {
    let found = inspect(dir, read_bodies).map_err(|error| error.to_string())?;
    let text = if as_json { format!("{:#}\n", to_json(&found)) } else { describe(&found, read_bodies) };
    let printed = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
    printed.map_err(|error| format!("standard output: {error}"))?;
    Ok(if found.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_DAMAGE) })
}

fn to_json(found: &Inspection) -> serde_json::Value {
    let findings = found
        .findings
        .iter()
        .map(|finding| json!({ "record": finding.record.map(|id| id.to_string()), "place": finding.place }));
    json!({
        "site": found.site.to_string(),
        "volumes": found.volumes,
        "records": found.records,
        "volume_bytes": found.volume_bytes,
        "dead_bytes": found.dead_bytes,
        "slots": found.slots,
        "quarantined_files": found.quarantined,
        "torn_bytes": found.torn_bytes,
        "findings": findings.collect::<Vec<_>>(),
    })
}

fn describe(found: &Inspection, read_bodies: bool) -> String {
    let mut lines = vec![
        format!("site         {}", found.site),
        format!("records      {}", found.records),
        format!(
            "volumes      {}, {} bytes, of them {} dead",
            found.volumes, found.volume_bytes, found.dead_bytes
        ),
        format!("key slots    {}", found.slots),
        format!("quarantine   {} files", found.quarantined),
    ];
    if found.torn_bytes > 0 {
        let torn = found.torn_bytes;
        lines.push(format!("torn tail    {torn} bytes, never acknowledged; the next start cuts them"));
    }
    for finding in &found.findings {
        let record = finding.record.map_or_else(|| "what lies there".to_owned(), |id| id.to_string());
        lines.push(format!("damaged      {record} at {}", finding.place));
    }
    let scope = if read_bodies { "every record was read" } else { "bodies were not read; see `check`" };
    lines.push(format!("damage       {} findings; {scope}\n", found.findings.len()));
    lines.join("\n")
}
