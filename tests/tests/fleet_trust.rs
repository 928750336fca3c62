//! A node that is not believed any more loses its pod after its data, and no object is lost.
//! That it takes no new byte after five seconds is held by `examples/fleet_moves.rs`: no test asserts a time.
#![expect(clippy::print_stderr, reason = "the figures are worth a look")]

use coffer_tests::fleet::Programs;
use coffer_tests::moves::{alone, forged, relabelled, revoked};

#[test]
fn a_node_that_is_attested_elsewhere_loses_its_pod_and_no_object() {
    let _alone = alone();
    eprintln!("{}", relabelled(&Programs::find(), 300_000));
}

#[test]
fn a_forged_attestation_costs_a_node_its_pod_and_a_label_brings_none() {
    let _alone = alone();
    eprintln!("{}", forged(&Programs::find(), 300_000));
}

#[test]
fn a_revoked_attestation_costs_a_node_its_pod_once_everything_can_be_read_without_it() {
    let _alone = alone();
    eprintln!("{}", revoked(&Programs::find(), 300_000));
}
