//! The programs of the tests: `storm` runs the whole system under seeds.
#![expect(clippy::print_stderr, reason = "says how it is called")]

use std::process::ExitCode;

use coffer_tests::storm::{Arguments, USAGE, run};

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let arguments = match words.next().as_deref() {
        Some("storm") => Arguments::parse(words),
        other => Err(other.unwrap_or_default().to_owned()),
    };
    match arguments {
        Ok(arguments) if run(&arguments) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(word) => {
            eprintln!("not understood: {word:?}\nusage: {USAGE}");
            ExitCode::from(2)
        }
    }
}
