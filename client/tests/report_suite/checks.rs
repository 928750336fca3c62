//! Every check, on evidence on which it must fail.

use std::collections::{BTreeMap, BTreeSet};

use coffer_client::drill::{DrillRecordV2, Trend, Verdicts};
use coffer_client::report::{Report, Standard, Status, checks, dwellings};
use coffer_keys::{SigningKey, WitnessName};
use coffer_model::Timestamp;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::fixture::{NOTE, NOW_MS, PRINCIPAL, World, leaf, moment, second};

fn failed(world: World) -> BTreeSet<&'static str> {
    let material = world.material();
    Report::new(&material).failed().map(|finding| finding.check.id).collect()
}

type Change = fn(&mut World);

fn set(world: &mut World, pointer: &str, value: Value) {
    *world.facts.pointer_mut(pointer).unwrap() = value;
}

/// For each check a change after which it must fail.
fn cases() -> BTreeMap<&'static str, Vec<Change>> {
    let mut cases: BTreeMap<&'static str, Vec<Change>> = BTreeMap::new();
    for (id, change) in of_keys_and_places().into_iter().chain(of_drills()).chain(of_access_and_logging()) {
        cases.entry(id).or_default().push(change);
    }
    cases
}

fn of_keys_and_places() -> Vec<(&'static str, Change)> {
    vec![
        ("rest-sealed", |w| set(w, "/keys/versions_under_no_epoch", json!(1))),
        ("rest-sealed", |w| set(w, "/keys/epochs/1/versions", json!(2))),
        ("rest-format", |w| set(w, "/keys/content", json!("AES-256-CBC"))),
        ("rest-format", |w| set(w, "/keys/wrap", json!("none"))),
        ("keys-age", |w| set(w, "/keys/epochs/1/created", moment(NOW_MS - 400 * 86_400_000))),
        ("keys-age", |w| set(w, "/keys/epochs/1/created", Value::Null)),
        ("keys-age", |w| set(w, "/keys/epochs/1/created", moment(NOW_MS + 86_400_000))),
        ("keys-one-epoch", |w| set(w, "/keys/epochs/0/versions", json!(1))),
        ("keys-one-epoch", |w| set(w, "/keys/epochs", json!([]))),
        ("keys-limit", |w| set(w, "/keys/epochs/0/versions", json!(1_u64 << 30))),
        ("keys-quorum", |w| w.records[0].shares.provider = vec![1]),
        ("keys-quorum", |w| w.records[0].shares.tenant.clear()),
        ("keys-quorum", |w| w.records.clear()),
        ("place-policy", |w| set(w, "/buckets/0/policy/allow", json!([]))),
        ("place-inside", |w| set(w, "/buckets/0/sums/outside", json!(1))),
        ("place-inside", |w| set(w, "/versions/outside", json!(1))),
        ("place-tidy", |w| set(w, "/versions/out_of_place", json!(1))),
        ("place-history", |w| w.residency = None),
        ("place-history", |w| w.residency.as_mut().unwrap()[1].inside = false),
        ("place-history", |w| drop(w.residency.as_mut().unwrap().pop())),
        ("place-tiers", |w| set(w, "/sites/3/tier", json!("II"))),
        ("place-tiers", |w| set(w, "/sites/3/standing", json!("retired"))),
        ("keys-custody", |w| set(w, "/custody/kind", json!("passphrase file"))),
        ("keys-custody", |w| set(w, "/custody/threshold", json!(1))),
        ("keys-custody", |w| set(w, "/custody", Value::Null)),
        ("keys-certificates", |w| set(w, "/certificates/0/until", moment(NOW_MS + 20 * 86_400_000))),
        ("keys-certificates", |w| set(w, "/certificates/0/until", Value::Null)),
        ("keys-certificates", |w| set(w, "/certificates", json!([]))),
        ("place-certified", |w| set(w, "/sites/2/tier_certificate", Value::Null)),
        ("place-certified", |w| set(w, "/sites/2/tier_certificate/until", json!("2026-01-01"))),
        ("place-certified", |w| set(w, "/sites/2/tier_certificate/from", json!("2028-01-01"))),
        ("place-certified", |w| set(w, "/sites/2/tier_certificate/tier", json!("II"))),
        ("whole-versions", |w| set(w, "/versions/short", json!(1))),
        ("spread-domains", |w| set(w, "/sites/1/domain", json!("d0"))),
        ("spread-domains", |w| {
            (0..6).for_each(|n| set(w, &format!("/sites/{n}/country"), json!("DE")));
        }),
        ("spread-budget", |w| set(w, "/buckets/0/policy/parity", json!(1))),
        ("spread-budget", |w| set(w, "/buckets/0/policy/accept_degraded", json!(true))),
        ("sites-answer", |w| set(w, "/sites/0/answers", json!(false))),
        ("sites-answer", |w| set(w, "/sites/0/quarantined", json!(true))),
        ("sites-answer", |w| set(w, "/sites/0/read_only", json!(true))),
        ("sites-undamaged", |w| set(w, "/sites/5/damaged", json!(1))),
        ("scrub-coverage", |w| set(w, "/scrub/sites/4/kept", json!(false))),
        ("scrub-coverage", |w| set(w, "/scrub/sites/4/site", json!("another"))),
        ("possession", |w| set(w, "/scrub/sites/4/delay", json!("later"))),
        ("possession", |w| set(w, "/scrub/unchallenged_versions", json!(1))),
        ("possession", |w| set(w, "/scrub/trouble", json!("disk full"))),
    ]
}

fn of_drills() -> Vec<(&'static str, Change)> {
    vec![
        ("drill-recent", |w| w.records.clear()),
        ("drill-identical", |w| differing(w)),
        ("drill-identical", |w| w.records.clear()),
        ("drill-noted", |w| w.leaves[NOTE] = leaf("object_stat", PRINCIPAL, "ver-01", "done", NOW_MS - 1)),
        ("drill-noted", |w| w.leaves[NOTE]["time"] = json!(NOW_MS - 86_400_000)),
        ("drill-noted", |w| w.records[0].manifests.source_note_index = 99),
        ("drill-rto", |w| {
            w.records[0].objectives.rto_seconds = 1;
            judge(w);
        }),
        ("drill-rto", |w| differing(w)),
        ("drill-rpo", |w| {
            w.records[0].objectives.rpo_seconds = 1;
            judge(w);
        }),
        ("drill-loss", |w| drop(w.records[0].sites_lost.pop())),
        ("drill-loss", |w| differing(w)),
        ("drill-logged", |w| w.records_noted = false),
        ("drill-logged", |w| w.records[0].tenant = "ten-02".to_owned()),
        ("drill-regression", |w| {
            let trend = Trend { earlier: 3, middle_ns: 1_000_000_000, regression: true };
            w.seconds = vec![DrillRecordV2 { trend: Some(trend), ..second() }];
        }),
        ("drill-due", |w| {
            let due = Timestamp((NOW_MS - 86_400_000) * 1_000_000).into();
            w.seconds = vec![DrillRecordV2 { next_due: Some(due), ..second() }];
        }),
    ]
}

fn of_access_and_logging() -> Vec<(&'static str, Change)> {
    vec![
        ("access-known", |w| {
            w.leaves.push(leaf("object_get", "pri-99", "ver-01", "done", NOW_MS - 5));
        }),
        ("access-known", |w| {
            w.leaves.push(leaf("object_get", "anonymous", "ver-01", "done", NOW_MS - 5));
        }),
        ("access-least", |w| set(w, "/principals/0/role", json!("operator"))),
        ("access-least", |w| set(w, "/principals", json!([]))),
        ("access-age", |w| set(w, "/principals/0/created", moment(NOW_MS - 400 * 86_400_000))),
        ("access-dual", |w| set(w, "/deletion/erases", json!(true))),
        ("access-dual", |w| set(w, "/deletion/reversible", json!(false))),
        ("access-denied", |w| {
            w.leaves.push(leaf("object_get", PRINCIPAL, "ver-01", "denied", NOW_MS - 6));
            w.leaves.push(leaf("object_get", PRINCIPAL, "ver-01", "done", NOW_MS - 5));
        }),
        ("access-denied", |w| w.leaves.push(leaf("object_get", "", "ver-01", "denied", NOW_MS - 6))),
        ("separate-log", |w| w.leaves[3]["cloud"]["account"]["uid"] = json!("ten-02")),
        ("log-facts", |w| w.facts_noted = false),
        ("log-whole", |w| drop(w.leaves.remove(0))),
        ("log-outcomes", |w| drop(w.leaves.remove(4))),
        ("log-content", |w| w.leaves[3]["status_detail"] = json!("perhaps")),
        ("log-content", |w| w.leaves[3]["time"] = json!(0)),
        ("log-time", |w| w.leaves[4]["time"] = json!(NOW_MS - 95 * 86_400_000)),
        ("log-time", |w| w.leaves[NOTE]["time"] = json!(NOW_MS + 86_400_000)),
        ("log-witnessed", |w| set(w, "/witnessed", Value::Null)),
        ("log-witnessed", |w| set(w, "/witnessed/checkpoint", Value::Null)),
        ("log-witnessed", |w| w.witnesses.clear()),
        ("log-witnessed", |w| {
            let other = SigningKey::danger_from_seed(Zeroizing::new([8; 32])).verifying_key();
            w.witnesses = vec![WitnessName { name: "witness.example/w2".to_owned(), key: other }.to_string()];
        }),
        ("log-witnessed", |w| w.leaves[1]["time"] = json!(NOW_MS - 99 * 86_400_000)),
        ("log-witnessed", |w| set(w, "/taken", moment(NOW_MS + 30 * 86_400_000))),
        ("log-privileged", |w| drop(w.leaves.remove(2))),
        ("log-privileged", |w| set(w, "/principals/0/id", json!("pri-77"))),
    ]
}

fn judge(world: &mut World) {
    let record = &mut world.records[0];
    record.verdicts = Verdicts::of(&record.objectives, &record.measured, &record.differences);
}

fn differing(world: &mut World) {
    let record = &mut world.records[0];
    record.differences.count = 1;
    record.differences.by_class = BTreeMap::from([("Content".to_owned(), 1)]);
    record.differences.list_blake3 = Some("cd".repeat(32));
    record.manifests.restored_sha256 = "ef".repeat(32);
    judge(world);
}

#[test]
fn on_good_evidence_every_objective_is_satisfied() {
    let material = World::good().material();
    let report = Report::new(&material);
    let failed: Vec<_> = report.failed().map(|f| (f.check.id, f.answer.reason.clone())).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(report.satisfied(), report.findings.len());
}

#[test]
fn every_check_fails_on_evidence_that_speaks_against_it() {
    let cases = cases();
    for check in checks() {
        let changes = cases.get(check.id).unwrap_or_else(|| panic!("nothing makes {} fail", check.id));
        for (number, change) in changes.iter().enumerate() {
            let mut world = World::good();
            change(&mut world);
            assert!(failed(world).contains(check.id), "{} does not fail, case {number}", check.id);
        }
    }
    assert_eq!(cases.len(), checks().count(), "a case for a check that there is not");
}

#[test]
fn a_finding_names_its_evidence_and_its_reason_and_never_says_compliant() {
    let mut world = World::good();
    set(&mut world, "/versions/short", json!(2));
    let material = world.material();
    for finding in Report::new(&material).findings {
        assert!(!finding.answer.evidence.is_empty(), "{}", finding.check.id);
        assert!(!finding.answer.reason.is_empty(), "{}", finding.check.id);
        let texts = [finding.check.objective, finding.check.title, finding.check.remedy];
        assert!(texts.iter().all(|text| !text.to_lowercase().contains("complian")), "{}", finding.check.id);
    }
    assert_eq!(Status::NotSatisfied.text(), "not satisfied");
}

#[test]
fn every_check_has_an_id_of_its_own_and_stands_under_a_control_of_nist() {
    let ids: BTreeSet<&str> = checks().map(|check| check.id).collect();
    assert_eq!(ids.len(), checks().count());
    assert!(ids.len() >= 20);
    for check in checks() {
        assert_eq!(check.references.first().map(|one| one.standard), Some(Standard::Nist), "{}", check.id);
    }
    for standard in Standard::ALL {
        let asked = checks().filter(|check| check.references.iter().any(|one| one.standard == standard));
        assert!(asked.count() >= 5, "{}", standard.name());
    }
}

#[test]
fn what_a_silent_site_elsewhere_keeps_of_an_object_that_moved_is_not_known() {
    let moved = || {
        let mut world = World::good();
        world.residency.as_mut().unwrap()[1].revision = 1;
        let at = NOW_MS - 40 * 86_400_000;
        world.leaves.push(leaf("repair", "service", "ver-01 at s0 s1", "done", at));
        world
    };
    assert!(!failed(moved()).contains("place-history"));
    let mut world = moved();
    // In Sweden, where nothing of it lies.
    set(&mut world, "/sites/3/answers", json!(false));
    let material = world.material();
    let told: Vec<String> = dwellings(&material).unwrap().iter().map(|one| one.sentence()).collect();
    assert!(told[1].contains("what s3 (SE) still holds of it is not known"), "{told:?}");
    assert!(!told[0].contains("not known"), "it never moved: {told:?}");
    let report = Report::new(&material);
    assert!(report.failed().any(|finding| finding.check.id == "place-history"));
    // In a country where it lies anyway.
    let mut world = moved();
    set(&mut world, "/sites/0/answers", json!(false));
    assert!(!failed(world).contains("place-history"));
}
