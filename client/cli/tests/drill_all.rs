//! Every scenario of a drill that needs no program of others, on a small
//! tenant: each as it should be, and with a fault that it must find. The exit
//! with another reader is done by `.ci/run`, through `tests/examples/drill_all.rs`.
#![cfg(feature = "embedded")]
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test makes and damages files")]

#[path = "support/rehearsal.rs"]
mod rehearsal;

use rehearsal::{Rehearsal, Size};
use std::path::Path;

#[test]
fn every_scenario_is_satisfied_as_it_should_be_and_finds_the_fault_that_is_planted() {
    let dir = tempfile::tempdir().unwrap();
    let size = Size { files: 300, bytes_each: 20_000 };
    let mut rehearsal = Rehearsal::begin(dir.path(), Path::new(env!("CARGO_BIN_EXE_coffer")), &[], size);
    for case in rehearsal.cases() {
        let done = rehearsal.act(&case);
        let (unmet, phases, peak) = (done.unmet(), done.phases(), done.peak_kib);
        assert!(done.is_right(&case), "{case:?}: {unmet:?} {phases:?} {peak} KiB {done:?} {}", done.words);
    }
}
