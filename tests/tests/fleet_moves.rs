//! How many bytes a fleet of real processes copies when a machine reboots or is lost,
//! a site joins, and ten pods become three: `examples/fleet_moves.rs` in small.
#![expect(clippy::print_stderr, reason = "the figures are worth a look")]

use coffer_tests::fleet::Programs;
use coffer_tests::moves::{Figures, a_loss, a_new_site, a_reboot, alone, ten_become_three};

fn told(figures: &Figures) {
    eprintln!("{figures}");
    assert!(figures.holds(), "{figures}");
}

#[test]
fn a_reboot_within_the_grace_copies_not_a_byte() {
    let _alone = alone();
    let figures = a_reboot(&Programs::find(), 4, 1 << 20);
    told(&figures);
    assert_eq!(figures.copied, 0);
}

#[test]
fn a_loss_for_good_copies_what_lay_there_and_a_twentieth_more_at_most() {
    let _alone = alone();
    told(&a_loss(&Programs::find(), 6, 2 << 20));
}

/// The exception to the bound: `scheduler/DECISIONS.md` says why.
#[test]
fn a_loss_for_good_of_objects_that_lie_whole_copies_each_of_their_copies_and_no_more() {
    let _alone = alone();
    told(&a_loss(&Programs::find(), 12, 60_000));
}

#[test]
fn a_new_site_is_filled_to_its_share_for_a_tenth_more_at_most() {
    let _alone = alone();
    told(&a_new_site(&Programs::find(), 21, 1 << 20));
}

#[test]
fn ten_pods_over_three_countries_become_one_in_each_and_every_state_on_the_way_is_legal() {
    let _alone = alone();
    told(&ten_become_three(&Programs::find(), 6, 1 << 20));
}
