//! Programs of the machine that the agent runs: `ip`, `nft`, `runc`, `mount`.

use std::io::{self, Write};
use std::process::{Command, Stdio};

/// A program of the machine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It could not be run.
    #[error("{program} cannot be run ({cause}); is it installed?")]
    Absent {
        /// Which program.
        program: String,
        /// What the system said.
        cause: io::Error,
    },
    /// It said no.
    #[error("{command}: {said}")]
    Refused {
        /// The whole command.
        command: String,
        /// What it said.
        said: String,
    },
}

/// Runs a program with nothing but a search path in its environment; what it printed. Blocks.
pub(crate) fn run(program: &str, args: &[&str]) -> Result<String, ToolError> {
    run_with(program, args, "")
}

/// The same, with a text on its standard input.
pub(crate) fn run_with(program: &str, args: &[&str], input: &str) -> Result<String, ToolError> {
    let absent = |cause| ToolError::Absent { program: program.to_owned(), cause };
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(absent)?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends without reading says why by its exit code.
        drop(stdin.write_all(input.as_bytes()));
    }
    let output = child.wait_with_output().map_err(absent)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ToolError::Refused { command: format!("{program} {}", args.join(" ")), said })
}
