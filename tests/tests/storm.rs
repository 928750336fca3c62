//! A few seeds of the storm, and the promise that one seed is one story: the
//! same events and the same end, in one process or in two.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::path::Path;
use std::process::Command;

use coffer_tests::storm::{Outcome, storm};

/// The line by which a child process tells what a seed came to.
fn told(outcome: &Outcome) -> String {
    format!("{} {} {}", outcome.events, outcome.trace, outcome.state)
}

fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn seeds_hold(seeds: std::ops::Range<u64>) {
    let scratch = scratch();
    for seed in seeds {
        let outcome = storm(seed, scratch.path(), false);
        assert_eq!(outcome.violation, None, "seed {seed}:\n{}", outcome.recent.join("\n"));
        assert!(outcome.events > 0 && !outcome.operations.is_empty());
    }
}

#[test]
fn every_promise_holds_in_the_first_seeds() {
    seeds_hold(0..6);
}

#[test]
fn every_promise_holds_in_a_few_more_seeds() {
    seeds_hold(1000..1006);
}

#[test]
fn a_seed_replays_event_by_event_and_ends_in_the_same_state() {
    let scratch = scratch();
    for seed in [3, 4, 5] {
        let (once, again) = (storm(seed, scratch.path(), false), storm(seed, scratch.path(), false));
        let first = once.recent.iter().zip(&again.recent).position(|(a, b)| a != b);
        assert_eq!(told(&once), told(&again), "seed {seed} parts at line {first:?} of its last events");
    }
}

#[test]
fn two_seeds_are_two_stories() {
    let scratch = scratch();
    let (one, other) = (storm(3, scratch.path(), false), storm(4, scratch.path(), false));
    assert_ne!(one.trace, other.trace);
}

#[test]
fn a_seed_replays_in_another_process() {
    let here = storm(7, scratch().path(), false);
    let arguments = ["storm", "--seed", "7", "--json", "--scratch"];
    let there = scratch();
    let mut child = Command::new(Path::new(env!("CARGO_BIN_EXE_coffer-tests")));
    let output = child.args(arguments).arg(there.path()).output().unwrap();
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let digests = summary.pointer("/digests/7").and_then(serde_json::Value::as_str).unwrap();
    assert_eq!(digests, told(&here));
}
