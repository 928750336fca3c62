//! Faults on a whole fleet of real processes: a control plane, seven node agents,
//! each in a network namespace of its own where that is permitted, and six storage
//! pods with 4+2 data. A tenant writes and reads without pause; meanwhile, in turn:
//!
//! | step | what is shown |
//! |---|---|
//! | agent and pod killed (SIGKILL) | the pod is back on its disk within its lease and 10 s |
//! | pod stopped (SIGSTOP) | it is missed; it goes on where it was |
//! | agent stopped (SIGSTOP) | nobody renews the lease: the pod takes no writes from its end on |
//! | node cut off (nftables) | on its side of the cut the pod fences itself; a replacement serves on the spare node within lease and 10 s; after the healing nothing is written under the epoch before |
//! | disk full | one pod's file system is filled to its last block |
//! | control plane down (SIGKILL) | reads go on, writes for as long as leases hold; all is well within lease and 10 s of its return |
//!
//! After each step every acknowledged object is read back. One line for each,
//! with measured times; what the machine does not permit is said in its line. It
//! ends with 1 if something came too late, and as a failed test does if anything was wrong.
//!
//! `cargo build --bins && cargo run -p coffer-tests --example fleet_faults [-- SECONDS [runc]]`,
//! as root; SECONDS without control plane, 10 if nothing is said; with `runc` the pods are containers of the machine's `runc`.
#![expect(clippy::print_stdout, reason = "a measurement prints its findings")]

use std::process::ExitCode;
use std::time::Duration;

use coffer_tests::fleet::{Fleet, Measured, Programs, Runs, Story};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (seconds, runs) = match *words.as_slice() {
        [] => ("10", Runs::Process),
        [seconds] => (seconds, Runs::Process),
        [seconds, "runc"] => (seconds, Runs::Runc),
        _ => ("", Runs::Process),
    };
    let Ok(away) = seconds.parse() else {
        println!("usage: fleet_faults [SECONDS without control plane [runc]]");
        return ExitCode::from(2);
    };
    if let Some(reason) = runs.missing() {
        println!("this machine cannot: {reason}");
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(run(Duration::from_secs(away), runs)),
        Err(error) => {
            println!("no runtime: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(away: Duration, runs: Runs) -> ExitCode {
    let fleet = Fleet::start(&Programs::find(), runs).await;
    let networks = if fleet.has_namespaces() { "in networks of their own" } else { "on the loopback" };
    println!("six pods serve on seven nodes {networks}, {runs:?}");
    let mut story = Story::begin(fleet).await;
    let mut in_time = true;
    let mut tell = |measured: Measured| {
        println!("{measured}");
        in_time &= measured.in_time();
    };
    tell(story.agent_and_pod_killed().await);
    tell(story.pod_stopped().await);
    tell(story.agent_stopped().await);
    tell(story.node_cut_off().await);
    tell(story.disk_full().await);
    tell(story.control_plane_down(away).await);
    if in_time { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
