//! Directories that somebody made to keep a verifier waiting: what is no file
//! is named, and nothing of it is read.
#![expect(clippy::disallowed_methods, reason = "a test makes what somebody else would")]

use std::path::Path;

use coffer_client::audit::{Trusted, verify_export};
use coffer_client::case::verify_case;
use coffer_client::drill::PAYLOAD_TYPE;
use coffer_keys::{sign_statement, to_canonical};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::fixture::{NAME, key, signer};

fn pipe(path: &Path) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).unwrap();
}

fn verified(dir: &Path) -> Vec<String> {
    let signer = signer();
    let trusted = Trusted { key: &signer, pinned: None, witnesses: None };
    let report = verify_export(dir, trusted, &mut |_, _| ()).unwrap();
    assert!(!report.is_good());
    report.findings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_pipe_in_an_export_is_named_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    pipe(&dir.path().join("checkpoint"));
    let findings = verified(dir.path());
    assert!(findings.iter().any(|one| one.contains("not a regular file")), "{findings:?}");
    let dir = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/dev/zero", dir.path().join("checkpoint")).unwrap();
    assert_eq!(verified(dir.path()).len(), 1);
}

/// A case of one object, signed, with nothing in its place yet.
fn case(dir: &Path) {
    let contents = json!({
        "format": 1,
        "hold": {
            "id": "hold-1", "bucket": "documents", "prefix": "", "exact": false, "reason": "a test",
            "placed": "2026-01-01T00:00:00Z", "placed_by": "pri-01",
        },
        "log": "coffer-test/log/ten-01",
        "log_size": 1,
        "exported": "2026-01-01T00:00:00Z",
        "exported_by": "somebody",
        "objects": [{
            "file": { "name": "objects/000000", "bytes": 4, "sha256": "ab".repeat(32) },
            "key": "a", "version": "ver-01", "created": "2026-01-01T00:00:00Z", "blake3": "cd".repeat(32),
            "metadata": {},
        }],
        "leaves": [],
    });
    let bytes = to_canonical(&contents).unwrap();
    let sha256 = Sha256::digest(&bytes).iter().fold(String::new(), |all, byte| format!("{all}{byte:02x}"));
    let statement: Value = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{ "name": "contents.json", "digest": { "sha256": sha256 } }],
        "predicateType": "urn:coffer:case:v1",
        "predicate": { "hold": "hold-1" },
    });
    let envelope = sign_statement(&key(), NAME, PAYLOAD_TYPE, &statement).unwrap();
    std::fs::write(dir.join("contents.json"), bytes).unwrap();
    std::fs::write(dir.join("case.json"), envelope).unwrap();
    std::fs::create_dir(dir.join("objects")).unwrap();
}

fn found(dir: &Path) -> Vec<String> {
    let report = verify_case(dir, &signer()).unwrap();
    assert!(!report.is_good());
    report.findings.iter().map(ToString::to_string).collect()
}

#[test]
fn an_object_of_a_case_that_never_ends_is_named_and_not_read() {
    let dir = tempfile::tempdir().unwrap();
    case(dir.path());
    let object = dir.path().join("objects/000000");
    std::os::unix::fs::symlink("/dev/zero", &object).unwrap();
    let findings = found(dir.path());
    assert!(findings.iter().any(|one| one.starts_with("objects/000000: ")), "{findings:?}");
    std::fs::remove_file(&object).unwrap();
    pipe(&object);
    let findings = found(dir.path());
    assert!(findings.iter().any(|one| one.contains("not a regular file")), "{findings:?}");
    // And one that is longer than was listed is another, however long it is.
    std::fs::remove_file(&object).unwrap();
    std::fs::File::create(&object).unwrap().set_len(1 << 40).unwrap();
    let findings = found(dir.path());
    assert!(findings.contains(&"objects/000000: is not what was exported".to_owned()), "{findings:?}");
}
