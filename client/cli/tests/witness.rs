//! Witnesses as they are run: a service and witnesses in processes of their
//! own, over real sockets, and policies that hold or do not.
#![cfg(feature = "embedded")]
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test makes and damages files")]

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use coffer_client::PublicKit;
use coffer_client::keys::VerifierName;

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

fn witness(dir: &Path, name: &str) -> Running {
    let place = format!("witness-{name}");
    if !dir.join(&place).exists() {
        good(dir, &["witness", "init", &place, "--name", &format!("witness.example/{name}")]);
    }
    let kit = ".config/coffer/recovery-kit.json";
    Running::start(dir, &["witness", "serve", &place, "--listen", "127.0.0.1:0", "--kit", kit])
}

/// A deployment with a tenant, founded and stopped, and its policy written.
fn furnish(dir: &Path) -> (Running, Running) {
    {
        let _service = Running::start(dir, &SERVE);
        good(dir, &["tenant", "create", "demo"]);
        good(dir, &["bucket", "create", "documents"]);
    }
    let (one, two) = (witness(dir, "w1"), witness(dir, "w2"));
    let (first, second) = (one.said("key"), two.said("key"));
    let lines = |gone: &str| {
        format!(
            "witness w1 {first} {}\nwitness w2 {second} {gone}\ngroup both all w1 w2\nquorum both\n",
            one.said("url")
        )
    };
    fs::write(dir.join("both.policy"), lines(&two.said("url"))).unwrap();
    fs::write(dir.join("one.policy"), lines("").replace("group both all", "group both any")).unwrap();
    (one, two)
}

/// The policy of both, for the log of that key.
fn both_for(dir: &Path, log: &VerifierName) -> &'static str {
    let policy = fs::read_to_string(dir.join("both.policy")).unwrap();
    fs::write(dir.join("named.policy"), format!("log {log}\n{policy}")).unwrap();
    "named.policy"
}

/// The key of the deployment's logs.
fn log_key(dir: &Path) -> VerifierName {
    let kit = fs::read_to_string(dir.join(".config/coffer/recovery-kit.json")).unwrap();
    PublicKit::from_json(&kit).unwrap().evidence
}

fn serve(dir: &Path) -> Running {
    Running::start(dir, &[&SERVE[..], &["--witnesses", "both.policy", "--witness-every", "0s"]].concat())
}

#[test]
fn what_both_witnesses_cosigned_verifies_under_their_policy_and_under_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (one, two) = furnish(dir);
    let _service = serve(dir);
    let checkpoint = good(dir, &["log", "checkpoint", "--witnesses", "both.policy"]);
    let note = checkpoint["checkpoint"].as_str().unwrap();
    assert!(note.contains("\u{2014} witness.example/w1 ") && note.contains("\u{2014} witness.example/w2 "));
    good(dir, &["bucket", "create", "more"]);
    good(dir, &["audit", "export", "log", "--witnesses", "both.policy"]);
    good(dir, &["audit", "verify", "log", "--witnesses", "both.policy"]);
    assert_eq!(code(dir, &["audit", "verify", "log"]), Some(4), "signatures that nothing checks");
    let first = one.said("key");
    assert_eq!(code(dir, &["audit", "verify", "log", "--witness", &first]), Some(4), "and of the other one");
    good(dir, &["audit", "verify", "log", "--witness", &first, "--witness", &two.said("key")]);
    good(dir, &["audit", "prove", "1", "-o", "leaf.tlog-proof", "--witnesses", "both.policy"]);
    good(dir, &["audit", "verify", "leaf.tlog-proof", "--witness", &first]);
    let pack = ["evidence", "export", "--out", "pack", "--witnesses", "both.policy"];
    good(dir, &pack);
    let key = fs::read_to_string(dir.join("pack/keys/evidence.vkey")).unwrap();
    let verified =
        good(dir, &["evidence", "verify", "pack", "--key", key.trim(), "--witnesses", "both.policy"]);
    assert_eq!(verified["witnesses"], serde_json::json!(["w1", "w2"]));
    let text = fs::read_to_string(dir.join("log/checkpoint")).unwrap();
    let at = text.find("witness.example/w2 ").unwrap() + 40;
    let (head, tail) = text.split_at(at);
    let changed = format!("{head}{}{}", if tail.starts_with('A') { "B" } else { "A" }, &tail[1..]);
    fs::write(dir.join("log/checkpoint"), changed).unwrap();
    assert_eq!(code(dir, &["audit", "verify", "log", "--witnesses", "both.policy"]), Some(4));
}

#[test]
fn a_silent_witness_stops_no_call_but_its_quorum_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (_one, two) = furnish(dir);
    drop(two);
    let _service = serve(dir);
    good(dir, &["bucket", "create", "more"]);
    assert_eq!(code(dir, &["log", "checkpoint", "--witnesses", "both.policy"]), Some(4));
    good(dir, &["log", "checkpoint", "--witnesses", "one.policy"]);
    assert_eq!(code(dir, &["audit", "export", "log", "--witnesses", "both.policy"]), Some(4));
    assert!(!dir.join("log/checkpoint").exists(), "and so it is no export");
}

#[test]
fn a_service_that_goes_back_gets_no_cosignature_even_from_a_witness_that_was_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (one, two) = furnish(dir);
    // What an operator would keep who means to take something back.
    let copy = Command::new("cp").args(["-a", "data", "data-before"]).current_dir(dir).status().unwrap();
    assert!(copy.success());
    {
        let _service = serve(dir);
        for number in 0..5 {
            good(dir, &["bucket", "create", &format!("bucket-{number}")]);
        }
        good(dir, &["log", "checkpoint", "--witnesses", "both.policy"]);
    }
    drop((one, two));
    fs::remove_dir_all(dir.join("data")).unwrap();
    fs::rename(dir.join("data-before"), dir.join("data")).unwrap();
    // The tenant's own memory would refuse it as well: this one has none.
    let profile = dir.join(".config/coffer/tenants/demo/checkpoint");
    fs::remove_file(&profile).unwrap();
    let (one, two) = (witness(dir, "w1"), witness(dir, "w2"));
    let policy = fs::read_to_string(dir.join("both.policy")).unwrap();
    let moved = policy.lines().map(|line| {
        let url = if line.starts_with("witness w1") { one.said("url") } else { two.said("url") };
        match line.rsplit_once(' ') {
            Some((head, _)) if line.starts_with("witness") => format!("{head} {url}\n"),
            _ => format!("{line}\n"),
        }
    });
    fs::write(dir.join("both.policy"), moved.collect::<String>()).unwrap();
    let _service = serve(dir);
    let refused = coffer(dir, &["log", "checkpoint", "--witnesses", "both.policy"]);
    assert_eq!(refused.status.code(), Some(4));
    let said =
        String::from_utf8_lossy(&refused.stdout).into_owned() + &String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("cosigned by none of them"), "{said}");
    good(dir, &["log", "checkpoint"]);
}

#[test]
fn the_services_own_log_is_exported_and_proven_with_its_witnesses() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _witnesses = furnish(dir);
    let _service = serve(dir);
    good(dir, &["audit", "export", "own", "--service", "--witnesses", "both.policy"]);
    let kit = ".config/coffer/recovery-kit.json";
    good(dir, &["audit", "verify", "own", "--kit", kit, "--witnesses", "both.policy"]);
    good(dir, &["audit", "prove", "0", "--service", "-o", "plain.tlog-proof"]);
    good(dir, &["audit", "prove", "0", "--service", "-o", "own.tlog-proof", "--witnesses", "both.policy"]);
    good(dir, &["audit", "verify", "own.tlog-proof", "--kit", kit, "--witnesses", "both.policy"]);
}

#[test]
fn a_proof_out_of_an_export_is_refused_without_the_witnesses_that_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _witnesses = furnish(dir);
    let _service = serve(dir);
    good(dir, &["audit", "export", "plain"]);
    let prove = |export: &str| {
        let rest = ["-o", "leaf.tlog-proof", "--witnesses", "both.policy"];
        code(dir, &[&["audit", "prove", "1", "--export", export], &rest[..]].concat())
    };
    assert_eq!(prove("plain"), Some(4));
    assert!(!dir.join("leaf.tlog-proof").exists());
    good(dir, &["audit", "export", "cosigned", "--witnesses", "both.policy"]);
    assert_eq!(prove("cosigned"), Some(0));
}

#[test]
fn a_policy_for_another_log_is_refused_wherever_one_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _witnesses = furnish(dir);
    let key = log_key(dir);
    {
        let _service = serve(dir);
        let policy = both_for(dir, &key);
        good(dir, &["log", "checkpoint", "--witnesses", policy]);
        good(dir, &["audit", "export", "log", "--witnesses", policy]);
        good(dir, &["audit", "prove", "1", "-o", "leaf.tlog-proof", "--witnesses", policy]);
        good(dir, &["evidence", "export", "--out", "pack", "--witnesses", policy]);
        let other = both_for(dir, &VerifierName { name: "log.example".to_owned(), ..key });
        let kit = ".config/coffer/recovery-kit.json";
        for refused in [
            &["log", "checkpoint"][..],
            &["audit", "export", "log-2"],
            &["audit", "prove", "1", "-o", "leaf-2.tlog-proof"],
            &["audit", "prove", "1", "--export", "log", "-o", "leaf-2.tlog-proof"],
            &["audit", "verify", "log"],
            &["audit", "verify", "leaf.tlog-proof"],
            &["evidence", "export", "--out", "pack-2"],
            &["evidence", "verify", "pack", "--kit", kit],
            &["report", "--out", "report-2"],
        ] {
            let refused = [refused, &["--witnesses", other]].concat();
            assert_eq!(code(dir, &refused), Some(4), "{refused:?}");
        }
        assert!(!dir.join("leaf-2.tlog-proof").exists());
    }
    let serve = [&SERVE[..], &["--witnesses", "named.policy"]].concat();
    assert_eq!(code(dir, &serve), Some(2), "its witnesses would be shown another log");
}

#[test]
fn witnesses_in_clear_are_asked_by_a_machine_without_certificate_authorities() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _witnesses = furnish(dir);
    let bare = |policy: &str| {
        let mut command = command(dir, &["--json", "-q"]);
        command.args(SERVE).args(["--witnesses", policy, "--exit-with-stdin"]);
        command.env("SSL_CERT_FILE", dir.join("none.pem")).env("SSL_CERT_DIR", dir.join("none"));
        command
    };
    fs::create_dir(dir.join("none")).unwrap();
    fs::write(dir.join("none.pem"), "").unwrap();
    let ended = bare("both.policy").stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(said.contains("\"ready\":true"), "{said}{}", String::from_utf8_lossy(&ended.stderr));
    let policy = fs::read_to_string(dir.join("both.policy")).unwrap();
    fs::write(dir.join("tls.policy"), policy.replace("http://", "https://")).unwrap();
    let refused = bare("tls.policy").stdin(Stdio::null()).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("certificate authorities"), "and says so");
}
