//! `coffer drill` as a user runs it: real processes, a real service, exit
//! codes, and records that verify without it.
#![cfg(feature = "embedded")]
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test makes and damages files")]

use std::fs;
use std::path::Path;
use std::process::Output;

#[path = "support/calls.rs"]
mod calls;
#[path = "support/process.rs"]
mod process;
#[path = "support/program.rs"]
mod program;

use calls::good;
use process::Process;
use program::command;

fn coffer(dir: &Path, arguments: &[&str]) -> Output {
    command(dir, arguments).output().unwrap()
}

fn serve(dir: &Path) -> Process {
    let service = ["serve", "--data-dir", "data", "--listen", "127.0.0.1:0", "--exit-with-stdin"];
    let service = Process::start(dir, &service);
    assert_eq!(service.until("ready")["ready"], true);
    service
}

fn furnish(dir: &Path) {
    fs::create_dir_all(dir.join("tree/deep")).unwrap();
    for number in 0..20 {
        fs::write(dir.join(format!("tree/deep/file-{number}")), format!("{number} ").repeat(5000)).unwrap();
    }
    fs::hard_link(dir.join("tree/deep/file-1"), dir.join("tree/link")).unwrap();
    good(dir, &["tenant", "create", "demo"]);
    good(dir, &["bucket", "create", "documents"]);
    good(dir, &["backup", "tree", "--bucket", "documents"]);
    good(dir, &["bucket", "create", "things"]);
    for number in 0..6 {
        let (file, key) = (format!("tree/deep/file-{number}"), format!("things/object-{number}"));
        good(dir, &["object", "put", &file, &key]);
    }
}

#[test]
fn a_tree_comes_back_without_two_countries_and_its_record_verifies_without_the_service() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let service = serve(dir);
    furnish(dir);
    let plan = &good(
        dir,
        &["drill", "plan", "--bucket", "documents", "--lose-country", "DE", "--lose-country", "SE"],
    )[0];
    let id = plan["drill"].as_str().unwrap().to_owned();
    assert_eq!(plan["scenario"]["sites_lost"], serde_json::json!(["fra1", "sto1"]));
    let done = &good(dir, &["drill", "run", "--plan", &id, "--out", "drill"])[0];
    assert_eq!((&done["differences"], &done["satisfied"]), (&0.into(), &true.into()), "{done}");
    let again = coffer(dir, &["drill", "run", "--plan", &id, "--out", "again"]);
    assert_eq!(again.status.code(), Some(1), "a plan is carried out once");
    assert_eq!(good(dir, &["drill", "ls"])[0]["state"], "done");
    good(dir, &["drill", "show", &id[..6], "--export", "files"]);
    drop(service);
    let verify = ["drill", "verify", "drill/record.json", "--kit", ".config/coffer/recovery-kit.json"];
    good(dir, &verify);
    good(dir, &[&verify[..], &["--files", "files"]].concat());
    let population = fs::read_to_string(dir.join("files/population.txt")).unwrap();
    fs::write(dir.join("files/population.txt"), population.replacen(' ', " 1", 1)).unwrap();
    let bad = coffer(dir, &[&verify[..], &["--files", "files"]].concat());
    assert_eq!(bad.status.code(), Some(4));
}

#[test]
fn a_moment_before_a_mishap_comes_back_and_a_deleted_object_that_opens_ends_with_four() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _service = serve(dir);
    furnish(dir);
    let before = good(dir, &["object", "stat", "things/object-5"])[0]["created"].as_str().unwrap().to_owned();
    fs::write(dir.join("junk"), "encrypted by somebody else").unwrap();
    for number in 0..6 {
        let key = format!("things/object-{number}");
        good(dir, &["object", "put", "junk", &key]);
        good(dir, &["object", "rm", &key]);
    }
    let gone = coffer(dir, &["object", "get", "things/object-3"]);
    assert_eq!(gone.status.code(), Some(1));
    good(dir, &["object", "get", "things/object-3", "--as-of", &before, "-o", "back"]);
    assert_eq!(fs::read(dir.join("back")).unwrap(), fs::read(dir.join("tree/deep/file-3")).unwrap());
    let run = ["drill", "run", "--bucket", "things", "--as-of", &before, "--out"];
    let done = &good(dir, &[&run[..], &["past", "--deleted", "object-3"]].concat())[0];
    assert_eq!((&done["files"], &done["scenario"]), (&6.into(), &"ransomware".into()), "{done}");
    good(dir, &["object", "put", "junk", "things/object-3"]);
    let breach = coffer(dir, &[&run[..], &["breach", "--deleted", "object-3"]].concat());
    assert_eq!(breach.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&breach.stdout).contains("reads of objects that were deleted (1 of 1)"));
    good(dir, &["drill", "schedule", "add", "weekly", "--bucket", "documents", "--every", "7d"]);
    let due = good(dir, &["drill", "schedule", "run", "--out", "due"]);
    assert_eq!(due[0]["satisfied"], true, "{due:?}");
    assert!(good(dir, &["drill", "schedule", "run", "--out", "due"]).is_empty());
    assert_eq!(good(dir, &["drill", "schedule", "ls"])[0]["due"], false);
}

/// A reader in three lines of shell; what `restore` does is its second word.
fn shell_reader(dir: &Path, name: &str, restore: &str) {
    let script = format!(
        "case \"$1\" in keys) echo '{{}}' ;; restore) while [ \"$1\" != --target ]; do shift; done; {restore} ;; esac\n"
    );
    fs::write(dir.join(name), script).unwrap();
}

#[test]
fn another_reader_is_believed_of_nothing_and_its_drill_needs_both_quorums() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _service = serve(dir);
    furnish(dir);
    let exit =
        ["drill", "run", "--bucket", "documents", "--scenario", "provider-exit", "--reader", "/bin/sh"];
    let shares: Vec<String> = (1..=3)
        .flat_map(|n| {
            let of = |flag: &str, name: &str| [flag.to_owned(), format!(".config/coffer/{name}-{n}.json")];
            [of("--provider-share", "custodians/custodian"), of("--tenant-share", "people/tenant-demo")]
                .concat()
        })
        .collect();
    let shares: Vec<&str> = shares.iter().map(String::as_str).collect();
    shell_reader(dir, "claims", r#"mkdir -p "$2"; echo '{"entries":24,"bytes":1000000}'"#);
    shell_reader(dir, "too-few", "exit 3");
    shell_reader(dir, "fails", "exit 77");
    let run = |reader: &str, more: &[&str]| {
        let out = format!("out-{reader}");
        coffer(dir, &[&["--json", "-q"], &exit[..], &["--reader-arg", reader, "--out", &out], more].concat())
    };
    assert_eq!(run("claims", &["--data-dir", "data"]).status.code(), Some(2), "no shares");
    assert_eq!(run("claims", &shares).status.code(), Some(2), "no disks");
    let all = [&["--data-dir", "data"][..], &shares].concat();
    for (reader, expected) in [
        ("claims", "differences: Missing"),
        ("too-few", "unreadable: too few shards or copies (1)"),
        ("fails", "unreadable: the reader refused (1)"),
    ] {
        let done = run(reader, &all);
        let told = String::from_utf8_lossy(&done.stdout).into_owned();
        assert_eq!(done.status.code(), Some(4), "{reader}: {told} {}", String::from_utf8_lossy(&done.stderr));
        assert!(told.contains(expected) && told.contains("\"satisfied\":false"), "{told}");
        assert!(
            !dir.join(reader).join("left").exists(),
            "the copies and the tenant's keys go with the drill"
        );
    }
}

#[test]
fn shares_that_opened_nothing_are_no_evidence() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _service = serve(dir);
    furnish(dir);
    let share = |n: u8| format!(".config/coffer/custodians/custodian-{n}.json");
    let shares: Vec<String> = (1..=3)
        .flat_map(|n| ["--provider-share".to_owned(), share(n), "--tenant-share".to_owned(), share(n)])
        .collect();
    let shares: Vec<&str> = shares.iter().map(String::as_str).collect();
    let run = ["drill", "run", "--bucket", "documents", "--scenario", "key-service", "--data-dir", "data"];
    let done = &good(dir, &[&run[..], &["--out", "out"], &shares].concat())[0];
    assert_eq!(done["satisfied"], true, "{done}");
    assert_eq!(done["shares"], serde_json::json!({ "provider": [1, 2, 3], "tenant": [] }), "{done}");
}

#[test]
fn a_drill_that_begins_cold_without_what_the_loss_leaves_is_refused_and_so_is_one_that_tries_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _service = serve(dir);
    furnish(dir);
    for (scenario, more) in [
        ("catalogue", &[][..]),
        ("key-service", &["--data-dir", "data"]),
        ("lost-host", &["--data-dir", "data"]),
        ("provider-exit", &["--data-dir", "data"]),
        ("negative", &[]),
    ] {
        let run = ["drill", "run", "--bucket", "documents", "--scenario", scenario, "--out", scenario];
        let refused = coffer(dir, &[&run[..], more].concat());
        let words = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(2), "{scenario}: {words}");
        assert!(!dir.join(scenario).join("left").exists(), "{scenario}");
    }
}
