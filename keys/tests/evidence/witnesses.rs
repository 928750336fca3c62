//! Cosignatures, submissions to witnesses, and policies about them.

use coffer_keys::{
    Checkpoint, CosignatureError, NoteError, PolicyError, Refusal, SigningKey, Submission, SubmissionError,
    Unwitnessed, VerifierName, VerifierNameError, WitnessName, WitnessPolicy, consistency_proof, cosign,
    cosignature_among, leaf_hash, open_checkpoint, root_of, sign_checkpoint, verify_cosignature,
};
use coffer_model::Digest;

use crate::seeded::Seeded;

const LOG: &str = "coffer.example/ten";

struct Log {
    key: SigningKey,
    leaves: Vec<Digest>,
}

impl Log {
    fn new(leaves: u32) -> Self {
        let key = SigningKey::generate(&Seeded::new(1));
        Self { key, leaves: (0..leaves).map(|n| leaf_hash(&n.to_be_bytes())).collect() }
    }

    fn name(&self) -> VerifierName {
        VerifierName { name: LOG.to_owned(), key: self.key.verifying_key() }
    }

    fn at(&self, size: usize) -> Checkpoint {
        Checkpoint { origin: LOG.to_owned(), size: size as u64, root: root_of(&self.leaves[..size]) }
    }

    fn note(&self, size: usize) -> String {
        sign_checkpoint(&self.key, LOG, &self.at(size))
    }

    fn submission(&self, old: usize, size: usize) -> Submission {
        let proof = consistency_proof(&self.leaves[..size], old as u64).unwrap();
        Submission { old: old as u64, proof, note: self.note(size) }
    }
}

fn witness(seed: u64, name: &str) -> (SigningKey, WitnessName) {
    let key = SigningKey::generate(&Seeded::new(seed));
    let name = WitnessName { name: name.to_owned(), key: key.verifying_key() };
    (key, name)
}

#[test]
fn a_cosignature_holds_for_its_key_its_name_its_time_and_its_checkpoint_only() {
    let log = Log::new(42);
    let (key, name) = witness(2, "witness.example/w1");
    let note = log.note(42);
    let line = cosign(&note, &key, &name.name, 1_700_000_000).unwrap();
    let cosigned = format!("{note}{line}");
    assert_eq!(verify_cosignature(&cosigned, &name), Ok(1_700_000_000));
    assert_eq!(open_checkpoint(&cosigned, LOG, &log.key.verifying_key()), Ok(log.at(42)));
    assert_eq!(verify_cosignature(&note, &name), Err(CosignatureError::Missing));
    let (_, other) = witness(3, "witness.example/w1");
    assert_eq!(verify_cosignature(&cosigned, &other), Err(CosignatureError::Missing));
    let renamed = WitnessName { name: "witness.example/w2".to_owned(), key: name.key };
    assert_eq!(verify_cosignature(&cosigned, &renamed), Err(CosignatureError::Missing));
    let moved = format!("{}{line}", log.note(41));
    assert_eq!(verify_cosignature(&moved, &name), Err(CosignatureError::False));
    let again = cosign(&note, &key, &name.name, 1_700_000_001).unwrap();
    assert_eq!(verify_cosignature(&format!("{cosigned}{again}"), &name), Err(CosignatureError::Twice));
    assert!(matches!(verify_cosignature("no note", &name), Err(CosignatureError::Note(NoteError::NotANote))));
}

#[test]
fn no_changed_byte_of_a_cosigned_note_leaves_its_cosignature_true() {
    let log = Log::new(7);
    let (key, name) = witness(2, "w");
    let note = log.note(7);
    let signed_by_log = note.len();
    let cosigned = format!("{note}{}", cosign(&note, &key, "w", 5).unwrap());
    let body = note.rfind("\n\n").unwrap() + 2;
    // The log's own line is not what a witness signs.
    for at in (0..cosigned.len()).filter(|at| *at < body || *at >= signed_by_log) {
        let mut bytes = cosigned.clone().into_bytes();
        bytes[at] ^= 1;
        let Ok(text) = String::from_utf8(bytes) else { continue };
        assert!(verify_cosignature(&text, &name).is_err(), "byte {at}");
    }
}

#[test]
fn a_note_without_form_a_name_with_spaces_and_a_time_beyond_the_standard_get_no_cosignature() {
    let log = Log::new(1);
    let (key, _) = witness(2, "w");
    assert!(cosign("nothing", &key, "w", 1).is_err());
    assert!(cosign(&log.note(1), &key, "w w", 1).is_err());
    assert!(cosign(&log.note(1), &key, "w", 1 << 63).is_err());
}

#[test]
fn of_an_answer_only_the_line_of_the_witness_that_was_asked_is_taken() {
    let log = Log::new(9);
    let note = log.note(9);
    let ((one, name), (two, other)) = (witness(2, "one"), witness(3, "two"));
    let mine = cosign(&note, &one, "one", 1).unwrap();
    let foreign = cosign(&note, &two, "two", 1).unwrap();
    let of_another_note = cosign(&log.note(8), &one, "one", 1).unwrap();
    let answer = format!("{foreign}{of_another_note}{mine}");
    assert_eq!(cosignature_among(&note, &answer, &name), Some(mine.clone()));
    assert_eq!(cosignature_among(&note, &mine, &other), None);
    assert_eq!(cosignature_among(&note, mine.trim_end(), &name), None, "a line without its end");
    assert_eq!(cosignature_among(&note, "", &name), None);
}

#[test]
fn keys_of_logs_and_of_witnesses_are_not_taken_for_each_other() {
    let log = Log::new(1);
    let (_, name) = witness(2, "w");
    assert_eq!(name.to_string().parse(), Ok(name.clone()));
    let refused = VerifierNameError::Type { found: 4, wanted: 1 };
    assert_eq!(name.to_string().parse::<VerifierName>(), Err(refused));
    let refused = VerifierNameError::Type { found: 1, wanted: 4 };
    assert_eq!(log.name().to_string().parse::<WitnessName>(), Err(refused));
}

#[test]
fn a_submission_reads_back_and_another_spelling_of_it_does_not() {
    let log = Log::new(300);
    let submission = log.submission(17, 300);
    let text = submission.to_text();
    assert_eq!(Submission::parse(&text), Ok(submission.clone()));
    assert_eq!(submission.origin().unwrap(), LOG);
    for (bad, line) in [
        (text.replacen("old 17", "old 017", 1), 1),
        (text.replacen("old 17", "old +17", 1), 1),
        (text.replacen("old 17", "new 17", 1), 1),
        (text.replacen("old 17\n", "old 17\nAAAA\n", 1), 2),
        (text.replacen("\n\n", "\n", 1).replacen("\n\n", "\n", 1), 1),
        (String::new(), 1),
        ("x".repeat(1 << 20), 1),
    ] {
        assert_eq!(Submission::parse(&bad), Err(SubmissionError(line)), "{bad:.40}");
    }
    let hash = submission.proof[0];
    let long = Submission { proof: vec![hash; 64], ..submission };
    assert_eq!(Submission::parse(&long.to_text()), Err(SubmissionError(65)));
}

#[test]
fn a_witness_takes_what_extends_what_it_knows_and_nothing_else() {
    let log = Log::new(100);
    let judge = |submission: &Submission, known: Option<usize>| {
        submission.judge(&log.name(), known.map(|size| log.at(size)).as_ref())
    };
    assert_eq!(judge(&log.submission(0, 60), None), Ok(log.at(60)));
    assert_eq!(judge(&log.submission(60, 100), Some(60)), Ok(log.at(100)));
    assert_eq!(judge(&log.submission(60, 60), Some(60)), Ok(log.at(60)), "asked again");
    assert_eq!(judge(&log.submission(0, 100), Some(60)), Err(Refusal::Conflict { size: 60 }));
    assert_eq!(judge(&log.submission(60, 100), None), Err(Refusal::Conflict { size: 0 }));
    assert_eq!(judge(&log.submission(40, 50), Some(60)), Err(Refusal::Conflict { size: 60 }), "went back");
    let shrunk = Submission { old: 100, ..log.submission(60, 60) };
    assert_eq!(judge(&shrunk, Some(100)), Err(Refusal::Shrinks { old: 100, new: 60 }));
    let mut unproven = log.submission(60, 100);
    unproven.proof.pop();
    assert_eq!(judge(&unproven, Some(60)), Err(Refusal::Inconsistent));
    let surplus = Submission { proof: vec![leaf_hash(b"x")], ..log.submission(0, 60) };
    assert_eq!(judge(&surplus, None), Err(Refusal::Inconsistent));
}

#[test]
fn a_log_that_forks_is_refused_whatever_proof_it_brings() {
    let (log, mut forked) = (Log::new(100), Log::new(100));
    forked.leaves[10] = leaf_hash(b"another past");
    let known = log.at(60);
    let fork = forked.submission(60, 100);
    assert_eq!(fork.judge(&log.name(), Some(&known)), Err(Refusal::Inconsistent));
    let same_size = forked.submission(60, 60);
    assert_eq!(same_size.judge(&log.name(), Some(&known)), Err(Refusal::Conflict { size: 60 }));
}

#[test]
fn a_checkpoint_that_the_log_did_not_sign_is_refused() {
    let log = Log::new(10);
    let (stranger, _) = witness(7, "w");
    let note = sign_checkpoint(&stranger, LOG, &log.at(10));
    let forged = Submission { note, ..log.submission(0, 10) };
    assert_eq!(forged.judge(&log.name(), None), Err(Refusal::Unsigned));
    let altered = Submission { note: log.note(10).replacen("\n10\n", "\n11\n", 1), ..log.submission(0, 10) };
    assert_eq!(altered.judge(&log.name(), None), Err(Refusal::Unsigned));
    let none = Submission { note: "nothing".to_owned(), ..log.submission(0, 10) };
    assert_eq!(none.judge(&log.name(), None).unwrap_err().status(), 400);
}

fn policy(lines: &str) -> String {
    let vkeys = ["a", "b", "c"].map(|name| {
        let seed = u64::from(name.as_bytes()[0]);
        format!(
            "witness {name} {} http://127.0.0.1:1/{name}\n",
            witness(seed, &format!("w.example/{name}")).1
        )
    });
    format!("# who saw the log\n\n{}{lines}", vkeys.concat())
}

#[test]
fn a_quorum_counts_each_witness_once_and_groups_by_their_threshold() {
    let log = Log::new(5);
    let note = log.note(5);
    let with = |names: &[&str]| {
        names.iter().fold(note.clone(), |note, name| {
            let (key, full) = witness(u64::from(name.as_bytes()[0]), &format!("w.example/{name}"));
            format!("{note}{}", cosign(&note, &key, &full.name, 9).unwrap())
        })
    };
    let two = WitnessPolicy::parse(&policy("group g 2 a b c\nquorum g\n")).unwrap();
    assert_eq!(two.check(&log.name(), &with(&["a", "c"])), Ok(vec!["a".to_owned(), "c".to_owned()]));
    let few = Unwitnessed::NoQuorum { quorum: "g".to_owned(), cosigned: vec!["b".to_owned()] };
    assert_eq!(two.check(&log.name(), &with(&["b"])), Err(few));
    assert!(two.check(&log.name(), &with(&["a", "a"])).is_err(), "one witness twice is one that chose");
    let nested = WitnessPolicy::parse(&policy("group x any a b\ngroup y all x c\nquorum y")).unwrap();
    assert!(nested.check(&log.name(), &with(&["b", "c"])).is_ok());
    assert!(nested.check(&log.name(), &with(&["a", "b"])).is_err());
    let one = WitnessPolicy::parse(&policy("quorum a")).unwrap();
    assert!(one.check(&log.name(), &with(&["a"])).is_ok() && one.check(&log.name(), &with(&["b"])).is_err());
    let none = WitnessPolicy::parse(&policy("quorum none")).unwrap();
    assert_eq!(none.check(&log.name(), &note), Ok(vec![]));
    let named = ["a", "b"].map(|name| witness(u64::from(name.as_bytes()[0]), &format!("w.example/{name}")).1);
    let all = WitnessPolicy::all_of(named.to_vec());
    assert!(
        all.check(&log.name(), &with(&["a", "b"])).is_ok() && all.check(&log.name(), &with(&["a"])).is_err()
    );
}

#[test]
fn a_policy_that_means_two_things_or_nothing_is_refused() {
    let parse = |lines: &str| WitnessPolicy::parse(&policy(lines)).unwrap_err();
    assert_eq!(parse(""), PolicyError::Quorum);
    assert_eq!(parse("quorum a\nquorum b"), PolicyError::Quorum);
    assert_eq!(parse("quorum d"), PolicyError::Member(6));
    assert_eq!(parse("group g any d\nquorum g"), PolicyError::Member(6));
    assert_eq!(parse("group g any a\ngroup h any a\nquorum h"), PolicyError::Member(7));
    assert_eq!(parse("group g any a a\nquorum g"), PolicyError::Member(6));
    assert_eq!(parse("group a any b\nquorum a"), PolicyError::Twice(6));
    assert_eq!(parse("group none any b\nquorum none"), PolicyError::Twice(6));
    assert_eq!(parse("group g 0 a\nquorum g"), PolicyError::Line(6));
    assert_eq!(parse("group g 3 a b\nquorum g"), PolicyError::Line(6));
    assert_eq!(parse("witness d"), PolicyError::Line(6));
    let log = Log::new(1).name();
    assert!(matches!(parse(&format!("witness d {log}")), PolicyError::Key { line: 6, .. }));
    assert_eq!(parse(&format!("log {log}\nlog {log}\nquorum a")), PolicyError::Twice(7));
    assert_eq!(WitnessPolicy::parse("quorum\u{7} none"), Err(PolicyError::Text));
}

#[test]
fn a_policy_that_names_logs_admits_no_other() {
    let log = Log::new(1).name();
    let named = WitnessPolicy::parse(&policy(&format!("log {log} http://x\nquorum a"))).unwrap();
    assert_eq!(named.admits(&log), Ok(()));
    let other = VerifierName { name: "other".to_owned(), ..log.clone() };
    let refused = Err(Unwitnessed::OtherLog(other.clone()));
    assert_eq!(named.admits(&other), refused);
    let (key, full) = witness(u64::from(b'a'), "w.example/a");
    let note = Log::new(1).note(1);
    let cosigned = format!("{note}{}", cosign(&note, &key, &full.name, 9).unwrap());
    assert_eq!(named.check(&log, &cosigned), Ok(vec!["a".to_owned()]));
    assert_eq!(named.check(&other, &cosigned), refused.map(|()| Vec::new()), "whoever cosigned it");
    assert_eq!(WitnessPolicy::parse(&policy("quorum a")).unwrap().admits(&log), Ok(()));
    assert_eq!(named.witnesses()[0].url.as_deref(), Some("http://127.0.0.1:1/a"));
}
