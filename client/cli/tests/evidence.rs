//! Commands about evidence with wrong input, as an auditor meets them: what is
//! not so is never told as if it were, and exit codes are those of the manual.
#![cfg(feature = "embedded")]
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test makes and damages files")]

use std::fs;
use std::path::Path;

#[path = "support/calls.rs"]
mod calls;
#[path = "support/process.rs"]
mod process;
#[path = "support/program.rs"]
mod program;
#[path = "support/running.rs"]
mod running;

use calls::coffer;
use program::command;
use running::{Running, SERVE, code, good};

const KIT: &str = ".config/coffer/recovery-kit.json";

/// A service with a tenant, a bucket and an object.
fn furnished(dir: &Path) -> Running {
    let service = Running::start(dir, &SERVE);
    assert!(service.said("endpoint").starts_with("https://"));
    good(dir, &["tenant", "create", "demo"]);
    good(dir, &["bucket", "create", "documents"]);
    fs::write(dir.join("file"), "some words").unwrap();
    good(dir, &["object", "put", "file", "documents/a"]);
    service
}

/// What it says on stderr, and how it ends.
fn refused(dir: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = coffer(dir, arguments);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_log_is_never_verified_as_another_ones() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _service = furnished(dir);
    good(dir, &["audit", "export", "own", "--service"]);
    let (ended, said) = refused(dir, &["audit", "verify", "own"]);
    assert!(ended == Some(4) && said.contains("not of"), "{said}");
    good(dir, &["audit", "verify", "own", "--kit", KIT]);
    good(dir, &["audit", "export", "log"]);
    let other = coffer(dir, &["audit", "verify", "log", "--checkpoint", "own/checkpoint"]);
    let found = String::from_utf8(other.stdout).unwrap();
    assert!(other.status.code() == Some(4) && !found.contains("forked"), "{found}");
}

#[test]
fn what_is_no_export_or_lacks_a_file_is_named_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _service = furnished(dir);
    good(dir, &["audit", "export", "log"]);
    fs::create_dir(dir.join("empty")).unwrap();
    let (ended, said) = refused(dir, &["audit", "verify", "empty"]);
    assert!(ended == Some(4) && said.contains("empty has no checkpoint"), "{said}");
    let (ended, said) = refused(dir, &["audit", "prove", "9999", "--export", "log", "-o", "proof"]);
    assert!(ended == Some(1) && said.contains("counted from 0"), "{said}");
    let (ended, said) = refused(dir, &["audit", "prove", "1", "--export", "empty", "-o", "proof"]);
    assert!(ended == Some(1) && said.contains("empty cannot be read as an export"), "{said}");
    let (ended, said) = refused(dir, &["audit", "verify", "log", "--kit", "file"]);
    assert!(ended == Some(1) && said.contains("file: the recovery kit"), "{said}");
    good(dir, &["audit", "tail", "--service"]);
    let kit = fs::read_to_string(dir.join(KIT)).unwrap();
    let mut kit: serde_json::Value = serde_json::from_str(&kit).unwrap();
    kit["evidence_key"] = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=".into();
    fs::write(dir.join("other.json"), kit.to_string()).unwrap();
    let (ended, said) = refused(dir, &["audit", "tail", "--service", "--kit", "other.json"]);
    assert!(ended == Some(1) && said.contains("another deployment's") && said.contains("keep it"), "{said}");
    fs::remove_dir_all(dir.join("log/tile/entries")).unwrap();
    let found = coffer(dir, &["audit", "verify", "log"]);
    let found: serde_json::Value = serde_json::from_slice(&found.stdout).unwrap();
    assert_eq!(found["findings"].as_array().unwrap().len(), 1, "{found}");
    let (ended, said) = refused(dir, &["witness", "show", "empty", "--kit", KIT]);
    assert!(ended == Some(1) && said.contains("holds no witness"), "{said}");
}

#[test]
fn questions_that_have_no_answer_are_refused_and_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _service = furnished(dir);
    let backwards = ["audit", "search", "--from", "2026-02-01", "--to", "2026-01-01"];
    assert_eq!(code(dir, &backwards), Some(2));
    assert_eq!(code(dir, &["audit", "tail", "--follow", "--ocsf", "events"]), Some(2), "it never ends");
    assert_eq!(code(dir, &["evidence", "residency", "--object", "documents/none"]), Some(1));
    good(dir, &["evidence", "residency", "--object", "documents/a"]);
    let later = ["drill", "plan", "--bucket", "documents", "--as-of", "2150-01-01T00:00:00Z"];
    assert_eq!(code(dir, &later), Some(2));
    let nothing = ["drill", "run", "--bucket", "documents", "--scenario", "negative", "--out", "drill"];
    assert_eq!(code(dir, &nothing), Some(2));
    assert!(coffer(dir, &["drill", "ls"]).stdout.is_empty(), "no plan was noted");
    assert!(!dir.join("drill").exists());
}

#[test]
fn a_file_that_is_missing_beside_a_record_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _service = furnished(dir);
    let run = good(dir, &["drill", "run", "--bucket", "documents", "--out", "drill"]);
    good(dir, &["drill", "show", run["drill"].as_str().unwrap(), "--export", "shown"]);
    let verify = ["drill", "verify", "drill/record.json", "--kit", KIT, "--files", "shown"];
    good(dir, &verify);
    fs::remove_file(dir.join("shown/plan.json")).unwrap();
    let (ended, said) = refused(dir, &verify);
    assert!(ended == Some(4) && said.contains("shown/plan.json: No such file"), "{said}");
}

#[test]
fn a_record_is_held_against_the_tenant_the_cosigner_and_the_log_that_the_caller_knows() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _service = furnished(dir);
    let run = ["drill", "run", "--bucket", "documents", "--sample", "1", "--out", "drill"];
    let run = good(dir, &run);
    good(dir, &["drill", "show", run["drill"].as_str().unwrap(), "--export", "shown"]);
    good(dir, &["audit", "export", "log"]);
    let plan = fs::read_to_string(dir.join("shown/plan.json")).unwrap();
    let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
    let (tenant, key) = (plan["tenant"].as_str().unwrap(), plan["scope"]["cosigner"].as_str().unwrap());
    let verify = ["drill", "verify", "drill/record.json", "--kit", KIT, "--files", "shown"];
    let all = good(dir, &[&verify[..], &["--of-tenant", tenant, "--cosigner", key, "--log", "log"]].concat());
    for what in ["tenant", "cosigner", "population in the log"] {
        assert!(all["verified"].as_array().unwrap().contains(&what.into()), "{all}");
    }
    // Where no profile knows the key, it is the record's own word.
    let fewer = good(dir, &[&verify[..], &["--config-dir", "nobody"]].concat());
    assert!(!fewer["verified"].as_array().unwrap().contains(&"cosigner".into()), "{fewer}");
    let stranger = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    let (ended, said) = refused(dir, &[&verify[..], &["--cosigner", stranger]].concat());
    assert!(ended == Some(4) && said.contains("was drawn with the key"), "{said}");
    let other = "ten-00000000000040008000000000000000";
    let (ended, said) = refused(dir, &[&verify[..], &["--of-tenant", other]].concat());
    assert!(ended == Some(4) && said.contains("of the tenant"), "{ended:?} {said}");
    // Of another log, and so no word about this population.
    good(dir, &["audit", "export", "own", "--service"]);
    let (ended, said) = refused(dir, &[&verify[..], &["--log", "own"]].concat());
    assert!(ended == Some(4) && said.contains("no good export"), "{said}");
}

#[test]
fn a_scheduled_drill_that_fails_stays_due_and_keeps_no_other_from_its_turn() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _service = furnished(dir);
    let add = |name: &str, bucket: &str, more: &[&str]| {
        let add = ["drill", "schedule", "add", name, "--bucket", bucket, "--every", "1d"];
        code(dir, &[&add[..], more].concat())
    };
    assert_eq!(add("a", "nowhere", &[]), Some(1));
    // It tries nothing, and so fails each time; it comes first.
    assert_eq!(add("a", "documents", &["--scenario", "negative"]), Some(0));
    assert_eq!(add("b", "documents", &[]), Some(0));
    assert_eq!(code(dir, &["drill", "schedule", "run", "--out", "due"]), Some(2));
    let listed = String::from_utf8(coffer(dir, &["drill", "schedule", "ls"]).stdout).unwrap();
    let due: Vec<bool> = listed.lines().map(|line| line.contains("\"due\":true")).collect();
    assert_eq!(due, [true, false], "{listed}");
    let (ended, said) = refused(dir, &["drill", "schedule", "rm", "nothing"]);
    assert!(ended == Some(1) && said.contains("there is no schedule nothing"), "{said}");
}

#[test]
fn a_report_to_stdout_is_the_report_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _service = furnished(dir);
    good(dir, &["report", "--format", "csv", "--out", "report.csv"]);
    let report = fs::read_to_string(dir.join("report.csv")).unwrap();
    let shown = coffer(dir, &["report", "--format", "csv", "--out", "-"]);
    assert_eq!(shown.status.code(), Some(0));
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(
        (shown.lines().next(), shown.lines().count()),
        (report.lines().next(), report.lines().count())
    );
    assert!(!dir.join("-").exists());
    assert_eq!(code(dir, &["report", "--format", "oscal", "--out", "-"]), Some(2));
}

#[test]
fn events_that_nobody_took_are_not_marked_as_handed_on() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _service = furnished(dir);
    for format in [&["--json"][..], &["--ocsf", "-"]] {
        let mut follow = command(dir, &["audit", "tail", "--follow", "--resume", "mark"]);
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert!(follow.args(format).stdout(writer).status().unwrap().success(), "{format:?}");
        assert!(!dir.join("mark").exists(), "{format:?}");
    }
}
