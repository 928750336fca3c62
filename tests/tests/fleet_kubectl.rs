//! Nodes of a fleet with data, drained by the real `kubectl`.
#![expect(clippy::print_stderr, reason = "what was refused is worth a look")]

use coffer_tests::fleet::Programs;
use coffer_tests::moves::{alone, drained_by_kubectl};

#[test]
fn kubectl_drains_no_second_node_until_the_shards_of_the_first_lie_elsewhere() {
    let _alone = alone();
    if let Some(drains) = drained_by_kubectl(&Programs::find(), 3, 300_000) {
        eprintln!("{drains}");
    }
}
