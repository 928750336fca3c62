//! Records of the second version that must not verify, and those that must;
//! and a record that a released program wrote in the first one.

use std::collections::BTreeMap;

use coffer_keys::{SigningKey, VerifierName, sign_statement};
use coffer_model::Timestamp;
use zeroize::Zeroizing;

use super::record::{Differences, Measured, Phase, Software};
use super::*;

const NAME: &str = "coffer-test";

fn key() -> SigningKey {
    SigningKey::danger_from_seed(Zeroizing::new([7; 32]))
}

fn signer() -> VerifierName {
    VerifierName { name: NAME.to_owned(), key: key().verifying_key() }
}

fn results(sample: String) -> Results {
    Results {
        expected: 2,
        expected_bytes: 20,
        restored: 1,
        restored_bytes: 10,
        unreadable: 1,
        failures: BTreeMap::from([("too few shards or copies".to_owned(), 1)]),
        expected_sha256: sample,
        restored_sha256: "33".repeat(32),
        differences: Differences::default(),
        sites_answered: BTreeMap::from([("par1".to_owned(), 1)]),
        sites: 6,
    }
}

/// A drawn sample of two of three objects, one of which was foreseen to be lost and was.
fn record() -> DrillRecordV2 {
    let declared = Timestamp(1_700_000_000_000_000_000);
    let note = "origin\n5\nAAAA\n\n\u{2014} origin c2lnbmVk\n";
    let checkpoint = cosign(note, &key(), 1_700_000_000);
    let sample = "11".repeat(32);
    let plan = [0xab; 32];
    let mut record = DrillRecordV2 {
        drill: "0f".repeat(16),
        tenant: "ten-00".to_owned(),
        plan: PlanNote { sha256: "ab".repeat(32), log_index: 4 },
        trigger: Trigger::SelfChallenge,
        people: vec![Person { role: "operator".to_owned(), name: "A".to_owned() }],
        scenario: Scenario {
            kind: ScenarioKind::Sites,
            sites_lost: vec!["fra1".to_owned()],
            places_lost: vec![],
            as_of: None,
        },
        scope: Scope {
            bucket: "things".to_owned(),
            subject: Subject::Objects,
            snapshot: None,
            source_manifest_sha256: None,
            source_note_index: None,
            objects: 3,
            bytes: 30,
            population_sha256: "22".repeat(32),
            population: 3,
            rule: SAMPLE_RULE.to_owned(),
            sample: 2,
            covered_before: 0,
            cosigner: Some(cosigner_text(&key())),
        },
        drawn: Some(Drawn {
            seed: crate::digits::hex(&seed(&checkpoint, &plan)),
            checkpoint,
            log_index: 6,
            sample_sha256: sample.clone(),
        }),
        promise: Promise { rto_seconds: 10, rpo_seconds: 10, source: "a contract".to_owned() },
        environment: Environment { target: "memory".to_owned(), separation: vec![], max_rate: None },
        timeline: TimeAxis {
            clock: "a test's".to_owned(),
            declared: declared.into(),
            finished: Timestamp(declared.0 + 2_000_000_000).into(),
            phases: vec![Phase {
                name: "read".to_owned(),
                start_ns: 0,
                duration_ns: 2_000_000_000,
                bytes: 10,
            }],
        },
        results: results(sample),
        keys: KeyEvidence::default(),
        negative: vec![NegativeCheck { tried: "another tenant".to_owned(), count: 7, possible: 0 }],
        predicted: Prediction { recoverable: 1, unrecoverable: 1, ..Prediction::default() },
        measured: Measured { rta_ns: 2_000_000_000, rpa_ns: 0 },
        deviations: vec![],
        verdicts: BTreeMap::new(),
        previous: None,
        trend: None,
        coverage: None,
        next_due: None,
        checkpoint_before: None,
        checkpoint_after: "note".to_owned(),
        software: Software::this(),
        not_proven: NOT_PROVEN_V2.map(str::to_owned).to_vec(),
    };
    record.verdicts = record.verdicts_of_numbers();
    record
}

fn signed(record: &DrillRecordV2) -> Vec<u8> {
    sign_statement(&key(), NAME, PAYLOAD_TYPE, &record.to_statement()).unwrap()
}

#[test]
fn a_loss_that_was_foreseen_verifies_is_no_success_and_no_failure_of_the_drill() {
    let AnyRecord::V2(verified) = verify_any_record(&signed(&record()), &signer()).unwrap() else {
        panic!("the second version");
    };
    assert_eq!(*verified, record());
    assert!(!verified.is_satisfied() && verified.is_as_foreseen());
    assert_eq!(verified.verdicts["completeness"].verdict, Verdict::NotSatisfied);
    assert_eq!(verified.verdicts["outcome as foreseen"].verdict, Verdict::Satisfied);
    // The same loss, unforeseen.
    let mut other = record();
    other.predicted.unrecoverable = 0;
    other.verdicts = other.verdicts_of_numbers();
    assert!(!other.is_as_foreseen());
}

#[test]
fn a_signed_record_of_the_second_version_that_contradicts_itself_is_refused() {
    let refused = |change: &dyn Fn(&mut DrillRecordV2)| {
        let mut changed = record();
        change(&mut changed);
        match verify_any_record(&signed(&changed), &signer()) {
            Err(VerifyRecordError::Inconsistent(found)) => found,
            other => panic!("{other:?}"),
        }
    };
    let lie = |r: &mut DrillRecordV2| {
        let judged = r.verdicts.get_mut("completeness").unwrap();
        judged.verdict = Verdict::Satisfied;
    };
    assert_eq!(refused(&lie), Inconsistency::Verdict);
    assert_eq!(refused(&|r| drop(r.verdicts.remove("negative"))), Inconsistency::Verdict);
    assert_eq!(refused(&|r| r.results.unreadable = 0), Inconsistency::Counts);
    assert_eq!(refused(&|r| r.results.restored = 3), Inconsistency::Counts);
    assert_eq!(refused(&|r| r.scope.covered_before = 1), Inconsistency::Counts);
    assert_eq!(refused(&|r| r.negative[0].possible = 8), Inconsistency::Counts);
    assert_eq!(refused(&|r| r.plan.sha256 = "ac".repeat(32)), Inconsistency::Sample);
    assert_eq!(refused(&|r| r.drawn.as_mut().unwrap().log_index = 4), Inconsistency::Sample);
    assert_eq!(refused(&|r| r.plan.log_index = 5), Inconsistency::Sample);
    assert_eq!(refused(&|r| r.drawn = None), Inconsistency::Sample);
    assert_eq!(refused(&|r| r.scope.cosigner = None), Inconsistency::Sample);
    assert_eq!(refused(&|r| r.measured.rta_ns += 1), Inconsistency::RecoveryTime);
    assert_eq!(refused(&|r| r.timeline.phases[0].duration_ns += 1), Inconsistency::Phase);
    assert_eq!(refused(&|r| r.scenario.sites_lost.push("fra1".to_owned())), Inconsistency::Sites);
    assert_eq!(refused(&|r| drop(r.not_proven.pop())), Inconsistency::NotProven);
    assert_eq!(refused(&|r| r.drill = "x".to_owned()), Inconsistency::Digest);
}

/// The same with a prediction as plans of format 2 make it.
fn third() -> DrillRecordV2 {
    let rates = Rates { object_ns: 1_000_000, ..Rates::default() };
    let foreseen = Prediction::of(Work { objects: 2, ..Work::default() }, rates, None, &[]);
    let mut record = record();
    record.predicted = Prediction { recoverable: 1, unrecoverable: 1, ..foreseen };
    record
}

#[test]
fn a_record_of_the_third_version_verifies_and_is_refused_where_its_prediction_does_not_add_up() {
    let AnyRecord::V2(verified) = verify_any_record(&signed(&third()), &signer()).unwrap() else {
        panic!("the third version");
    };
    assert_eq!((verified.predicate_type(), *verified), (PREDICATE_TYPE_V3, third()));
    let refused = |change: &dyn Fn(&mut Prediction)| {
        let mut changed = third();
        change(&mut changed.predicted);
        let found = verify_any_record(&signed(&changed), &signer());
        matches!(found, Err(VerifyRecordError::Inconsistent(Inconsistency::Prediction)))
    };
    assert!(refused(&|p| p.total_ns += 1));
    assert!(refused(&|p| p.phases[0].duration_ns += 1));
    assert!(refused(&|p| p.phases[0].parts[0] += 5000));
    assert!(refused(&|p| p.phases[0].learned_milli[0] = 1500));
    assert!(refused(&|p| p.phases[0].learned_milli.clear()));
    assert!(refused(&|p| p.spread_percent = None));
}

#[test]
fn a_statement_of_one_version_with_the_prediction_of_another_is_refused() {
    let swapped = |record: &DrillRecordV2, named: &str| {
        let mut statement = record.to_statement();
        statement["predicateType"] = named.into();
        let bytes = sign_statement(&key(), NAME, PAYLOAD_TYPE, &statement).unwrap();
        verify_any_record(&bytes, &signer()).is_err()
    };
    assert!(swapped(&record(), PREDICATE_TYPE_V3) && swapped(&third(), PREDICATE_TYPE_V2));
}

#[test]
fn a_record_of_the_second_version_still_verifies_with_its_plan_and_sample() {
    let key = include_str!("../../fixtures/drill/v2/key.txt").trim().parse().unwrap();
    let bytes = include_bytes!("../../fixtures/drill/v2/record.json");
    let AnyRecord::V2(record) = verify_any_record(bytes, &key).unwrap() else { panic!("the second version") };
    assert_eq!((record.predicate_type(), record.results.restored), (PREDICATE_TYPE_V2, 2));
    let files = SampleFiles {
        plan: include_bytes!("../../fixtures/drill/v2/plan.json").to_vec(),
        population: include_str!("../../fixtures/drill/v2/population.txt").to_owned(),
        seed: include_str!("../../fixtures/drill/v2/seed.txt").to_owned(),
        sample: include_str!("../../fixtures/drill/v2/sample.txt").to_owned(),
    };
    assert_eq!(DrillPlan::from_bytes(&files.plan).unwrap().format, 1);
    verify_sample(&record, &files).unwrap();
    // A record that claims to have foreseen better than its plan did.
    let mut other = *record;
    other.predicted.total_ns += 1;
    assert_eq!(verify_sample(&other, &files), Err(SampleFault::Prediction));
}

#[test]
fn a_plan_of_format_1_with_what_came_later_is_refused_and_so_is_one_that_does_not_add_up() {
    let plan = DrillPlan::from_bytes(include_bytes!("../../fixtures/drill/v2/plan.json")).unwrap();
    let refused = |change: &dyn Fn(&mut DrillPlan)| {
        let mut changed = plan.clone();
        change(&mut changed);
        DrillPlan::from_bytes(&changed.to_bytes().unwrap()).is_err()
    };
    assert!(refused(&|p| p.prediction.spread_percent = Some(10)));
    assert!(refused(&|p| p.format = 2));
    assert!(refused(&|p| p.format = 3));
    assert!(!refused(&|p| (p.format, p.prediction) = (2, third().predicted)));
}

#[test]
fn a_record_that_a_lost_site_answered_for_is_not_satisfied() {
    let mut record = record();
    record.results.sites_answered.insert("fra1".to_owned(), 1);
    let judged = &record.verdicts_of_numbers()["without what is lost"];
    assert_eq!(judged.verdict, Verdict::NotSatisfied);
    assert!(judged.reason.contains("fra1"));
}

#[test]
fn a_record_that_an_earlier_release_wrote_still_verifies() {
    let bytes = include_bytes!("../../fixtures/drill/v1/record.json");
    let key = include_str!("../../fixtures/drill/v1/key.txt").trim().parse().unwrap();
    let AnyRecord::V1(record) = verify_any_record(bytes, &key).unwrap() else { panic!("the first version") };
    assert_eq!((record.sites, record.sites_lost.len(), record.differences.count), (6, 2, 0));
    assert!(matches!(verify_any_record(bytes, &signer()), Err(VerifyRecordError::Envelope(_))));
}
