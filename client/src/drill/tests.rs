//! Records that must not verify, and one that must.

use std::collections::BTreeMap;

use coffer_keys::{SigningKey, VerifierName, sign_statement};
use coffer_model::Timestamp;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::*;

const NAME: &str = "coffer-test";

fn key() -> SigningKey {
    SigningKey::danger_from_seed(Zeroizing::new([7; 32]))
}

fn signer() -> VerifierName {
    VerifierName { name: NAME.to_owned(), key: key().verifying_key() }
}

fn record() -> DrillRecord {
    let objectives = Objectives { rto_seconds: 10, rpo_seconds: 10 };
    let measured = Measured { rta_ns: 3_000_000_000, rpa_ns: 20_000_000_000 };
    let differences = Differences::default();
    let declared = Timestamp(1_700_000_000_000_000_000);
    DrillRecord {
        drill: "0f".repeat(16),
        tenant: "ten-00".to_owned(),
        scenario: "two sites burned".to_owned(),
        sites: 6,
        sites_lost: vec!["fra1".to_owned(), "par1".to_owned()],
        objectives,
        measured,
        declared: declared.into(),
        finished: Timestamp(declared.0 + measured.rta_ns).into(),
        phases: vec![
            Phase { name: "keys".to_owned(), start_ns: 0, duration_ns: 1_000_000_000, bytes: 0 },
            Phase {
                name: "restore".to_owned(),
                start_ns: 1_000_000_000,
                duration_ns: 2_000_000_000,
                bytes: 9,
            },
        ],
        files: 1,
        bytes: 9,
        manifests: Manifests {
            source_sha256: "ab".repeat(32),
            restored_sha256: "ab".repeat(32),
            source_note_index: 4,
        },
        verdicts: Verdicts::of(&objectives, &measured, &differences),
        differences,
        evidence: Evidence { checkpoint_before: None, checkpoint_after: "note".to_owned() },
        shares: Shares { provider: vec![1, 3, 5], tenant: vec![2, 3, 4] },
        software: Software::this(),
        not_proven: NOT_PROVEN.map(str::to_owned).to_vec(),
    }
}

fn signed(statement: &Value) -> Vec<u8> {
    sign_statement(&key(), NAME, PAYLOAD_TYPE, statement).unwrap()
}

fn verify_changed(change: impl FnOnce(&mut DrillRecord)) -> Inconsistency {
    let mut changed = record();
    change(&mut changed);
    match verify_record(&signed(&changed.to_statement()), &signer()) {
        Err(VerifyRecordError::Inconsistent(found)) => found,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_consistent_record_verifies_and_its_verdicts_follow_from_its_numbers() {
    let verified = verify_record(&signed(&record().to_statement()), &signer()).unwrap();
    assert_eq!(verified, record());
    let Verdicts { integrity, rto, rpo } = verified.verdicts;
    assert_eq!([integrity, rto, rpo], [Verdict::Satisfied, Verdict::Satisfied, Verdict::NotSatisfied]);
}

#[test]
fn no_single_byte_of_a_record_is_free() {
    let bytes = signed(&record().to_statement());
    for at in 0..bytes.len() {
        for flip in [0x01, 0x20, 0x80] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            assert!(verify_record(&changed, &signer()).is_err(), "byte {at} ^ {flip:#x}");
        }
    }
    for changed in [[bytes.as_slice(), b"\n"].concat(), [b" ", bytes.as_slice()].concat()] {
        assert!(verify_record(&changed, &signer()).is_err());
    }
    assert!(verify_record(&bytes[..bytes.len() - 1], &signer()).is_err());
}

#[test]
fn another_key_or_another_name_does_not_verify() {
    let bytes = signed(&record().to_statement());
    let other = SigningKey::danger_from_seed(Zeroizing::new([8; 32])).verifying_key();
    assert!(verify_record(&bytes, &VerifierName { key: other, ..signer() }).is_err());
    assert!(verify_record(&bytes, &VerifierName { name: "other".to_owned(), ..signer() }).is_err());
}

#[test]
fn a_signed_record_that_contradicts_itself_is_refused() {
    assert_eq!(verify_changed(|r| r.verdicts.rpo = Verdict::Satisfied), Inconsistency::Verdict);
    assert_eq!(verify_changed(|r| r.measured.rta_ns -= 1), Inconsistency::RecoveryTime);
    assert_eq!(verify_changed(|r| r.finished = Timestamp(5).into()), Inconsistency::RecoveryTime);
    assert_eq!(verify_changed(|r| r.differences.count = 1), Inconsistency::Differences);
    let one = || BTreeMap::from([("Content".to_owned(), 1)]);
    let hidden = |r: &mut DrillRecord| {
        r.differences = Differences { count: 1, by_class: one(), list_blake3: None };
    };
    assert_eq!(verify_changed(hidden), Inconsistency::DifferenceList);
    let equal = |r: &mut DrillRecord| {
        r.differences = Differences { count: 1, by_class: one(), list_blake3: Some("00".repeat(32)) };
    };
    assert_eq!(verify_changed(equal), Inconsistency::DifferenceList);
    assert_eq!(verify_changed(|r| r.phases[1].duration_ns += 1), Inconsistency::Phase);
    assert_eq!(verify_changed(|r| r.phases.swap(0, 1)), Inconsistency::Phase);
    assert_eq!(verify_changed(|r| r.sites_lost.push("fra1".to_owned())), Inconsistency::Sites);
    assert_eq!(verify_changed(|r| r.sites = 1), Inconsistency::Sites);
    assert_eq!(verify_changed(|r| drop(r.not_proven.pop())), Inconsistency::NotProven);
    assert_eq!(verify_changed(|r| r.manifests.source_sha256 = "AB".repeat(32)), Inconsistency::Digest);
}

#[test]
fn a_tree_with_differences_was_not_recovered_in_time() {
    let differences = Differences { count: 1, ..Differences::default() };
    let verdicts = Verdicts::of(&record().objectives, &record().measured, &differences);
    assert_eq!(verdicts.rto, Verdict::NotSatisfied);
}

#[test]
fn a_statement_about_something_else_is_no_drill_record() {
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut statement = record().to_statement();
        change(&mut statement);
        verify_record(&signed(&statement), &signer())
    };
    let form = |result| matches!(result, Err(VerifyRecordError::Form(_)));
    assert!(form(changed(&|s| s["predicateType"] = json!("urn:coffer:drill:v2"))));
    assert!(form(changed(&|s| s["_type"] = json!("https://in-toto.io/Statement/v0.1"))));
    assert!(form(changed(&|s| s["more"] = json!(1))));
    assert!(form(changed(&|s| s["predicate"]["more"] = json!(1))));
    assert!(form(changed(&|s| drop(s["predicate"].as_object_mut().unwrap().remove("files")))));
    let subject = changed(&|s| s["subject"][0]["digest"]["sha256"] = json!("cd".repeat(32)));
    assert!(matches!(subject, Err(VerifyRecordError::Inconsistent(Inconsistency::Subject))));
}

#[test]
fn a_record_of_great_length_is_not_looked_at() {
    let long = vec![b' '; RECORD_BYTES_MAX + 1];
    assert!(matches!(verify_record(&long, &signer()), Err(VerifyRecordError::TooLong)));
}
