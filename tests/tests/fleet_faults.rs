//! The steps of `examples/fleet_faults.rs` on real processes, without its
//! clock: each waits for what must come, and none asserts how long it took.
#![expect(clippy::print_stderr, reason = "what could not be tested must be seen")]

use std::time::Duration;

use coffer_tests::fleet::{Fleet, Programs, Runs, Story};

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_whose_parts_are_killed_stopped_cut_off_and_filled_up_loses_nothing() {
    let mut story = Story::begin(Fleet::start(&Programs::find(), Runs::Process).await).await;
    eprintln!("{}", story.agent_and_pod_killed().await);
    eprintln!("{}", story.pod_stopped().await);
    eprintln!("{}", story.agent_stopped().await);
    eprintln!("{}", story.node_cut_off().await);
    eprintln!("{}", story.disk_full().await);
    eprintln!("{}", story.control_plane_down(Duration::ZERO).await);
}
