//! `coffer try` and its relatives as a user runs them: real processes, real
//! files, exit codes.
#![cfg(feature = "embedded")]
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test makes and damages files")]

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Output};

fn coffer(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_coffer"))
        .args(arguments)
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn small_tree(dir: &Path) {
    let tree = dir.join("tree");
    fs::create_dir_all(tree.join("deep/er")).unwrap();
    fs::write(tree.join("canary"), "canary content ".repeat(10_000)).unwrap();
    fs::hard_link(tree.join("canary"), tree.join("deep/er/link")).unwrap();
    std::os::unix::fs::symlink("nowhere", tree.join("deep/symlink")).unwrap();
    fs::write(tree.join(std::ffi::OsStr::from_bytes(b"not-utf8-\xff")), "").unwrap();
    fs::File::create(tree.join("sparse")).unwrap().set_len(5 << 20).unwrap();
}

fn trial(dir: &Path, more: &[&str]) -> Output {
    let base = ["--json", "try", "tree", "--data-dir", "data", "--out", "out"];
    coffer(dir, &[&base[..], more].concat())
}

#[test]
fn two_lost_sites_give_every_file_back_and_a_record_of_which_no_byte_is_free() {
    let dir = tempfile::tempdir().unwrap();
    small_tree(dir.path());
    let tried = trial(dir.path(), &["--keep"]);
    assert_eq!(tried.status.code(), Some(0), "{}", text(&tried.stderr));
    let told: serde_json::Value = serde_json::from_slice(&tried.stdout).unwrap();
    assert_eq!((told["differences"].as_u64(), told["sites_lost"].as_u64()), (Some(0), Some(2)), "{told}");
    for field in [
        "files",
        "bytes",
        "sites",
        "rto_seconds",
        "rta_seconds",
        "rpo_seconds",
        "rpa_seconds",
        "phases",
        "record",
    ] {
        assert!(!told[field].is_null(), "{field}");
    }
    let record = dir.path().join("out/record.json");
    let verify =
        || coffer(dir.path(), &["drill", "verify", "out/record.json", "--kit", "out/recovery-kit.json"]);
    assert_eq!(verify().status.code(), Some(0));
    let bytes = fs::read(&record).unwrap();
    let mut changed = bytes.clone();
    changed[bytes.len() / 2] ^= 1;
    fs::write(&record, changed).unwrap();
    let refused = verify();
    assert_eq!(refused.status.code(), Some(4));
    assert!(text(&refused.stderr).contains("does not verify"), "{}", text(&refused.stderr));
    assert!(!dir.path().join("out/profile").exists(), "the client's keys died with the loss");
}

#[test]
fn three_lost_sites_are_refused_by_name_and_leave_nothing_that_passes_as_whole() {
    let dir = tempfile::tempdir().unwrap();
    small_tree(dir.path());
    let tried = trial(dir.path(), &["--lose", "3", "--keep"]);
    assert_eq!(tried.status.code(), Some(1));
    let told: serde_json::Value = serde_json::from_slice(&tried.stdout).unwrap();
    let what = told["error"]["what"].as_str().unwrap();
    for expected in ["fra1", "par1", "ams1", "1 more would suffice"] {
        assert!(what.contains(expected), "{what}");
    }
    assert!(told["error"]["safe"].as_str().unwrap().contains("nothing was harmed"));
    assert!(told["error"]["next"].as_str().unwrap().contains("--lose 2 or less"), "{told}");
    assert!(!dir.path().join("out/restored").exists());
}

#[test]
fn without_keep_only_what_people_keep_is_left() {
    let dir = tempfile::tempdir().unwrap();
    small_tree(dir.path());
    let tried = trial(dir.path(), &[]);
    assert_eq!(tried.status.code(), Some(0), "{}", text(&tried.stderr));
    assert!(!dir.path().join("data").exists());
    assert!(!dir.path().join("out/restored").exists());
    assert!(dir.path().join("out/record.json").exists());
}

#[test]
fn a_trial_refuses_directories_in_use_and_ones_inside_its_source() {
    let dir = tempfile::tempdir().unwrap();
    small_tree(dir.path());
    fs::create_dir(dir.path().join("out")).unwrap();
    fs::write(dir.path().join("out/mine"), "mine").unwrap();
    assert_eq!(trial(dir.path(), &[]).status.code(), Some(2));
    assert_eq!(fs::read(dir.path().join("out/mine")).unwrap(), b"mine");
    let inside = coffer(dir.path(), &["try", "tree", "--data-dir", "tree/data", "--out", "out2"]);
    assert_eq!(inside.status.code(), Some(2));
    assert!(!dir.path().join("tree/data").exists());
}

#[test]
fn a_trial_refused_for_its_usage_leaves_no_directory_behind() {
    let dir = tempfile::tempdir().unwrap();
    small_tree(dir.path());
    for refused in [
        &["try", "tree", "--lose", "7"][..],
        &["try", "tree", "--lose", "7", "--keep"],
        &["try", "tree", "--out", "tree/out"],
        &["try", "tree", "--data-dir", "a", "--out", "a/b"],
    ] {
        let tried = coffer(dir.path(), refused);
        assert_eq!(tried.status.code(), Some(2), "{refused:?}: {}", text(&tried.stderr));
        let left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["tree"], "{refused:?}");
    }
}

#[test]
fn wrong_usage_ends_with_2_and_a_command_without_a_profile_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(coffer(dir.path(), &["object", "get", "no-key"]).status.code(), Some(2));
    let listed = coffer(dir.path(), &["site", "ls"]);
    assert_eq!(listed.status.code(), Some(1));
    assert!(text(&listed.stderr).contains("coffer serve"), "{}", text(&listed.stderr));
}
