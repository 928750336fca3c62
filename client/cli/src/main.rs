//! The binary `coffer`: flags, then a plan, then the act. Everything that it
//! does is in the SDK and the service; here are words, bars and exit codes.
#![cfg_attr(
    not(feature = "embedded"),
    expect(dead_code, unused_imports, reason = "some parts serve only the commands of the embedded service")
)]

mod commands;
mod context;
mod cpu;
mod exit;
mod files;
mod flags;
mod output;
mod progress;
mod timeline;

use clap::Parser as _;

fn main() -> std::process::ExitCode {
    if let Err(failure) = cpu::check() {
        return output::Output::new(false, false).failure(&failure).into();
    }
    // clap answers --help and usage errors itself, with exit codes 0 and 2.
    let flags = flags::Flags::parse();
    let output = output::Output::new(flags.json, flags.quiet);
    match commands::run(flags, &output) {
        Ok(exit) => output.finish(exit).into(),
        Err(failure) => output.failure(&failure).into(),
    }
}
