//! Bytes that move in a fleet of real processes (`coffer serve --fleet`, agents, storage
//! pods), one line for each story, and in it what the product says, what the sites' volumes say, and the
//! least that could have been copied, reckoned from where the objects lie:
//!
//! | story | what is shown |
//! |---|---|
//! | reboot within the grace | agent stopped, pod killed, back after another pod stood in: 0 bytes copied |
//! | loss for good | agent stopped, pod killed, given up: at most 1.05 times what lay there; 3.15 times for objects that lie whole |
//! | a seventh site | `coffer site rebalance --run`: at most 1.10 times its share, and the share is there |
//! | ten become three | over three countries: ends 1-1-1, and every state on the way is legal |
//! | attested elsewhere, forged, revoked | no new byte after 5 s; the pod goes when everything can be read without it |
//!
//! `cargo build --bins && cargo run -p coffer-tests --example fleet_moves [-- OBJECTS BYTES]`, as root; 21 objects
//! of 4 MiB if nothing is said. It ends with 1 if a bound was not kept, and as a failed test does if anything was wrong.
#![expect(clippy::print_stdout, reason = "a measurement prints its findings")]

use std::process::ExitCode;

use coffer_tests::fleet::Programs;
use coffer_tests::moves::{
    Figures, Trust, a_loss, a_new_site, a_reboot, forged, relabelled, revoked, ten_become_three,
};

fn main() -> ExitCode {
    let numbers: Option<Vec<u64>> = std::env::args().skip(1).map(|text| text.parse().ok()).collect();
    let (objects, size) = match numbers.as_deref() {
        Some([]) => (21, 4 << 20),
        Some([objects, size]) => (usize::try_from(*objects).unwrap_or(usize::MAX), *size),
        _ => {
            println!("usage: fleet_moves [OBJECTS BYTES]");
            return ExitCode::from(2);
        }
    };
    let programs = Programs::find();
    let mut kept = true;
    let stories: [fn(&Programs, usize, u64) -> Figures; 4] = [a_reboot, a_loss, a_new_site, ten_become_three];
    for story in stories {
        let figures = story(&programs, objects, size);
        println!("{figures}");
        kept &= figures.holds();
    }
    let stories: [fn(&Programs, u64) -> Trust; 3] = [relabelled, forged, revoked];
    for story in stories {
        let told = story(&programs, size);
        println!("{told}");
        kept &= told.holds();
    }
    if kept { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
