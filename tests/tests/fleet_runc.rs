//! The shortest step of `tests/fleet_faults.rs` with containers of the machine's `runc` for pods.
#![expect(clippy::print_stderr, reason = "what could not be tested must be seen")]

use coffer_tests::fleet::{Fleet, Programs, Runs, Story};

#[tokio::test(flavor = "multi_thread")]
async fn containers_of_runc_come_back_to_their_data_after_they_were_killed_with_their_agent() {
    if let Some(reason) = Runs::Runc.missing() {
        eprintln!("NOT TESTED HERE: a fleet of containers: {reason}");
        return;
    }
    let mut story = Story::begin(Fleet::start(&Programs::find(), Runs::Runc).await).await;
    eprintln!("by runc: {}", story.agent_and_pod_killed().await);
}
