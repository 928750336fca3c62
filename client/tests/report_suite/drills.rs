//! What a drill is evidence of, and what it is not: nothing that came back,
//! shares that opened nothing, records that are left out.

use std::collections::BTreeMap;

use coffer_client::drill::Shares;
use coffer_client::evidence::{MANIFEST, MANIFEST_SIGNATURE, verify_pack};
use coffer_client::report::{Report, Status};

use super::fixture::{NOW_MS, PRINCIPAL, World, all_lost, leaf, pack, second, signer};

/// Status and reason of each check.
fn answers(world: World) -> BTreeMap<&'static str, (Status, String)> {
    let material = world.material();
    let findings = Report::new(&material).findings;
    findings.into_iter().map(|one| (one.check.id, (one.answer.status, one.answer.reason))).collect()
}

#[test]
fn a_total_loss_that_was_foreseen_is_no_evidence_of_a_restoration() {
    let mut world = World::good();
    world.records.clear();
    assert!(all_lost().is_as_foreseen());
    world.seconds = vec![all_lost()];
    let answers = answers(world);
    for check in ["drill-recent", "drill-identical", "drill-rto", "drill-rpo", "drill-loss"] {
        let (status, reason) = &answers[check];
        assert_eq!(*status, Status::NotSatisfied, "{check}: {reason}");
    }
    assert!(!answers["drill-rpo"].1.contains("0.000 s"), "{}", answers["drill-rpo"].1);
}

#[test]
fn a_total_loss_that_was_foreseen_takes_nothing_from_a_restoration_before_it() {
    let mut world = World::good();
    let mut lost = all_lost();
    lost.timeline.declared = coffer_model::Timestamp((NOW_MS - 1000) * 1_000_000).into();
    lost.timeline.finished =
        coffer_model::Timestamp((NOW_MS - 1000) * 1_000_000 + lost.measured.rta_ns).into();
    world.seconds = vec![lost];
    let answers = answers(world);
    for check in ["drill-recent", "drill-identical", "drill-rto", "drill-rpo", "drill-loss"] {
        let (status, reason) = &answers[check];
        assert_eq!(*status, Status::Satisfied, "{check}: {reason}");
    }
    assert!(answers["drill-loss"].1.contains("2 of 6 sites"), "{}", answers["drill-loss"].1);
}

#[test]
fn a_loss_that_nobody_foresaw_is_not_passed_over() {
    let mut world = World::good();
    let mut lost = all_lost();
    lost.predicted.unrecoverable = 0;
    lost.predicted.recoverable = 12;
    lost.verdicts = lost.verdicts_of_numbers();
    world.seconds = vec![lost];
    let answers = answers(world);
    for check in ["drill-identical", "drill-rto", "drill-rpo"] {
        let (status, reason) = &answers[check];
        assert_eq!(*status, Status::NotSatisfied, "{check}: {reason}");
    }
}

#[test]
fn shares_count_only_where_what_they_opened_came_back() {
    let mut world = World::good();
    world.records.clear();
    let shares = Shares { provider: vec![1, 2], tenant: vec![1, 2] };
    let mut lost = all_lost();
    lost.keys.shares = shares.clone();
    world.seconds = vec![lost];
    assert_eq!(answers(world).remove("keys-quorum").unwrap().0, Status::NotSatisfied);
    let mut world = World::good();
    world.records.clear();
    let mut good = second();
    good.keys.shares = shares;
    world.seconds = vec![good];
    assert_eq!(answers(world).remove("keys-quorum").unwrap().0, Status::Satisfied);
}

#[test]
fn a_record_that_the_log_signs_and_that_is_left_out_is_named_by_its_leaf() {
    let mut world = World::good();
    let at = world.leaves.len();
    world.leaves.push(leaf("drill_sign", PRINCIPAL, &"cd".repeat(32), "done", NOW_MS - 9));
    let material = world.material();
    let files = pack(&material);
    let wrong = verify_pack(&files, &signer(), None).wrong;
    let named = wrong.iter().any(|one| one.item == format!("drills: leaf {at}"));
    assert!(named && wrong.len() == 1, "{wrong:?}");
    let report = Report::new(&material);
    let logged = report.findings.iter().find(|finding| finding.check.id == "drill-logged").unwrap();
    assert_eq!(logged.answer.status, Status::NotSatisfied);
    assert!(logged.answer.reason.contains(&format!("leaf {at}")), "{}", logged.answer.reason);
    // The pack itself is whole.
    assert!(files.contains_key(MANIFEST) && files.contains_key(MANIFEST_SIGNATURE));
}

#[test]
fn a_drill_that_was_planned_and_has_no_record_is_listed() {
    let mut world = World::good();
    let at = world.leaves.len();
    let subject = format!("drill-plan:{}", "cd".repeat(32));
    world.leaves.push(leaf("digest_note", PRINCIPAL, &subject, "done", NOW_MS - 9));
    let answers = answers(world);
    let (status, reason) = &answers["drill-logged"];
    assert_eq!(*status, Status::Satisfied);
    assert!(reason.contains(&format!("leaf {at}")), "{reason}");
}
