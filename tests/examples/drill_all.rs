//! Every scenario of a drill on a tenant of 20,000 files and 2 GiB and more, by
//! the real program: each once as it should be, and once with a planted fault
//! that it must find. Prints a table. Needs some 5 GB of disk; build first:
//!
//! ```console
//! $ cargo build --release -p coffer-cli
//! $ cargo run --release -p coffer-tests --example drill_all -- target/release/coffer DIR [SCALE [PYTHON]]
//! ```
//!
//! DIR is a new directory. SCALE is in hundredths: 100 is the whole. PYTHON is
//! an interpreter that has what `tests/outside/requirements.txt` names; without
//! it there is no exit of the provider.
#![expect(clippy::unwrap_used, reason = "a measurement stops at the first failure")]
#![expect(clippy::print_stdout, reason = "a measurement prints its findings")]
#![expect(clippy::disallowed_methods, reason = "a measurement makes files")]

#[path = "../../client/cli/tests/support/rehearsal.rs"]
mod rehearsal;

use std::path::Path;

use rehearsal::{Case, Done, Planted, Rehearsal, Size};

fn tell(case: &Case, done: &Done) {
    let told = &done.summary;
    let why: Vec<String> = done.unmet().into_iter().map(|(name, why)| format!("{name}: {why}")).collect();
    let planted =
        if case.planted == Planted::Nothing { String::new() } else { format!("{:?}", case.planted) };
    // What did not come back took no time that anybody would foresee.
    let off = match told["unreadable"].as_u64() {
        Some(0) => format!("{} %", told["prediction_error_percent"]),
        _ => String::new(),
    };
    // A program that was gone before it could be looked at is said to be so.
    let peak = if done.peak_kib == 0 { "?".to_owned() } else { (done.peak_kib >> 10).to_string() };
    println!(
        "| {} | {} of {} | {} | {} | {} | {off} | {} | {:?} | {planted} | {} | {} | {} | {} |",
        case.scenario,
        told["files"],
        told["expected"],
        told["bytes"],
        told["predicted_seconds"],
        told["predicted_part_seconds"],
        told["rta_seconds"],
        done.exit,
        why.join("; "),
        done.is_right(case),
        peak,
        done.phases().join(", "),
    );
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [coffer, directory, more @ ..] = arguments.as_slice() else {
        println!("drill_all COFFER DIR [SCALE [PYTHON]]");
        std::process::exit(2);
    };
    let scale: usize = more.first().map_or(100, |scale| scale.parse().unwrap());
    let reader = std::path::absolute("tests/outside/reader").unwrap().display().to_string();
    let reader: Vec<String> = more.get(1).map(|python| vec![python.clone(), reader]).unwrap_or_default();
    std::fs::create_dir(directory).unwrap();
    let size = Size { files: 210 * scale, bytes_each: 70_000 };
    let coffer = std::fs::canonicalize(coffer).unwrap();
    let mut rehearsal = Rehearsal::begin(Path::new(directory), &coffer, &reader, size);
    println!(
        "| scenario | entries | bytes | predicted s | measured s | off | RTA s | exit | planted | not satisfied, and why | right | peak MiB | phases, predicted and measured |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    let mut wrong = 0;
    for case in rehearsal.cases() {
        let done = rehearsal.act(&case);
        tell(&case, &done);
        if !done.is_right(&case) {
            wrong += 1;
            println!("{}", done.words);
        }
    }
    println!("\n{wrong} of the drills went wrong");
    std::process::exit(i32::from(wrong > 0));
}
