//! The real program: killed while it writes, and looking at sites.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

use coffer_model::{Entropy as _, RecordId, SiteDescription};
use coffer_regions::Site;
use coffer_site::{DirectorySite, OpenSiteError, SiteOptions, inspect};
use serde_json::{Value, json};
use support::{Sample, copy_dir, quick, record, volume, volumes};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_coffer-site");

fn run(arguments: &[&str], dir: &Path) -> Output {
    Command::new(PROGRAM).args(arguments).arg(dir).output().unwrap()
}

/// What `check` prints for people, after the exit code that it must have.
fn check_text(dir: &Path, code: i32) -> String {
    let output = run(&["check"], dir);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// What it prints for programs: one object on one line.
fn check_json(dir: &Path, code: i32) -> Value {
    let output = run(&["check", "--json"], dir);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn small_volumes() -> SiteOptions {
    SiteOptions { volume_bytes: Some(4 << 10), ..quick() }
}

/// A site of several volumes with 18 records, closed, hence with a checkpoint.
async fn closed() -> TempDir {
    let dir = TempDir::new().unwrap();
    let site = support::open_with(dir.path(), small_volumes()).unwrap();
    for n in 0..18 {
        site.put(vec![record(n, 400)]).await.unwrap();
    }
    drop(site);
    assert!(volumes(dir.path()).len() > 2 && dir.path().join("CHECKPOINT").exists());
    dir
}

fn cut(path: &Path, length: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(length).unwrap();
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn length(path: &Path) -> u64 {
    path.metadata().unwrap().len()
}

/// Every path below, with what a change would leave: kind, length, mode, mtime.
fn listing(dir: &Path) -> BTreeMap<PathBuf, (bool, u64, u32, SystemTime)> {
    let (mut found, mut dirs) = (BTreeMap::new(), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        let paths = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path());
        for path in paths.chain([dir.clone()]).collect::<Vec<_>>() {
            let meta = path.symlink_metadata().unwrap();
            if meta.is_dir() && path != dir {
                dirs.push(path.clone());
            }
            let mode = meta.permissions().mode();
            found.insert(path, (meta.is_dir(), meta.len(), mode, meta.modified().unwrap()));
        }
    }
    found
}

#[tokio::test]
async fn what_a_killed_process_acknowledged_is_there_when_the_site_is_opened_again() {
    for (bytes, putters, acknowledged) in [("100", "16", 1), ("4096", "64", 300), ("300000", "8", 40)] {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("site");
        let mut child = Command::new(PROGRAM)
            .args([
                "bench",
                "--acknowledge",
                "--records",
                "100000000",
                "--bytes",
                bytes,
                "--putters",
                putters,
            ])
            .arg(&path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen: Vec<_> = lines.by_ref().take(acknowledged).map(Result::unwrap).collect();
        assert!(matches!(inspect(&path, false), Err(OpenSiteError::Locked { .. })));
        child.kill().unwrap();
        child.wait().unwrap();
        seen.extend(lines.map_while(Result::ok).filter(|line| line.len() == 36 + 1 + 64));
        assert!(seen.len() >= acknowledged);
        let id = inspect(&path, false).unwrap().site;
        let description = SiteDescription { id, ..support::description(1) };
        let entropy = std::sync::Arc::new(support::CountingEntropy::default());
        let site = DirectorySite::open(&path, description, entropy).unwrap();
        for line in &seen {
            let (id, digest) = line.split_once(' ').unwrap();
            let record = site.get(id.parse::<RecordId>().unwrap()).await.unwrap();
            assert_eq!(record.digest().to_string(), digest);
        }
        assert_eq!(site.state().await.damaged, 0);
        site.put(vec![record(1, 10)]).await.unwrap();
        assert_eq!(site.scrub().await, Ok(Vec::new()));
    }
}

#[tokio::test]
async fn check_says_what_is_damaged_and_changes_nothing() {
    let sample = Sample::of(vec![vec![record(1, 40), record(2, 40)], vec![record(3, 40)]]).await;
    let whole = run(&["check"], sample.dir.path());
    assert_eq!(whole.status.code(), Some(0), "{whole:?}");
    let mut bytes = sample.bytes();
    bytes[128 + 92 + 112] ^= 1;
    bytes.extend_from_slice(b"torn");
    let image = sample.image(&bytes);
    let damaged = run(&["check", "--json"], image.path());
    assert_eq!(damaged.status.code(), Some(4), "{damaged:?}");
    let printed: Value = serde_json::from_slice(&damaged.stdout).unwrap();
    assert_eq!(printed["findings"][0]["record"], support::id(1).to_string());
    assert_eq!((&printed["records"], &printed["torn_bytes"]), (&2.into(), &4.into()));
    assert_eq!(support::read(&volume(image.path(), 0)), bytes);
    assert_eq!(run(&["info"], image.path()).status.code(), Some(0), "info reads no bodies");
}

#[test]
fn a_directory_without_a_site_is_a_failure_and_wrong_flags_are_wrong_usage() {
    let dir = TempDir::new().unwrap();
    let output = run(&["check"], dir.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not a site directory"));
    assert_eq!(run(&["check", "--nonsense"], dir.path()).status.code(), Some(2));
}

#[tokio::test]
async fn volumes_that_the_checkpoint_names_and_the_disk_lost_are_found() {
    let dir = closed().await;
    let names = volumes(dir.path());
    assert_eq!(check_json(dir.path(), 0)["checkpoint"], "compared");
    let first = TempDir::new().unwrap();
    copy_dir(dir.path(), first.path());
    // The last one leaves no gap in the chain.
    for name in names.iter().rev() {
        std::fs::remove_file(dir.path().join("volumes").join(name)).unwrap();
        let text = check_text(dir.path(), 4);
        assert!(text.contains(&format!("lost         {name}")), "{name}: {text}");
        assert_eq!(run(&["info"], dir.path()).status.code(), Some(4), "{name}");
    }
    let printed = check_json(dir.path(), 4);
    let findings = printed["findings"].as_array().unwrap();
    assert_eq!(findings.len(), names.len(), "{printed}");
    assert!(findings.iter().all(|finding| finding["kind"] == "missing-volume"), "{printed}");
    let lost: u64 = findings.iter().map(|finding| finding["records"].as_u64().unwrap()).sum();
    assert_eq!((lost, &printed["records"]), (18, &json!(0)));
    // And the first alone.
    std::fs::remove_file(volume(first.path(), 0)).unwrap();
    assert!(check_text(first.path(), 4).contains("lost         00000000.vol"));
}

#[tokio::test]
async fn a_file_that_was_cut_after_the_checkpoint_is_a_loss_and_no_write_that_nobody_was_told_of() {
    let dir = closed().await;
    let last = dir.path().join("volumes").join(volumes(dir.path()).pop().unwrap());
    let whole = length(&last);
    // In the middle of the last batch, and then where it began.
    for (gone, torn) in [(10, 92 + 56 + 400 - 10), (92 + 56 + 400, 0)] {
        cut(&last, whole - gone);
        let text = check_text(dir.path(), 4);
        assert!(!text.contains("never acknowledged") && text.contains("lost "), "{text}");
        let printed = check_json(dir.path(), 4);
        let found = &printed["findings"][0];
        assert_eq!(
            (&found["kind"], &found["bytes"], &found["records"]),
            (&json!("cut-volume"), &json!(gone), &json!(1))
        );
        assert_eq!(found["place"], last.file_name().unwrap().to_str().unwrap());
        assert_eq!(printed["torn_bytes"], torn);
        let acknowledged = if torn > 0 { json!(true) } else { Value::Null };
        assert_eq!(printed["torn_acknowledged"], acknowledged, "{printed}");
    }
}

#[tokio::test]
async fn a_torn_tail_is_called_unacknowledged_only_where_that_is_known() {
    let dir = closed().await;
    let last = dir.path().join("volumes").join(volumes(dir.path()).pop().unwrap());
    let bytes = [support::read(&last), b"torn".to_vec()].concat();
    support::write(&last, &bytes);
    for without in ["nothing", "CHECKPOINT"] {
        drop(std::fs::remove_file(dir.path().join(without)));
        let text = check_text(dir.path(), 0);
        let told = "torn tail    4 bytes";
        assert!(text.contains(told) && !text.contains("never acknowledged"), "{text}");
        let printed = check_json(dir.path(), 0);
        assert_eq!((&printed["torn_bytes"], &printed["torn_acknowledged"]), (&json!(4), &Value::Null));
    }
    assert!(check_text(dir.path(), 0).contains("checkpoint   none"));
    support::write(&dir.path().join("CHECKPOINT"), b"rotten");
    assert_eq!(check_json(dir.path(), 0)["checkpoint"], "unreadable");
}

#[tokio::test]
async fn what_was_lost_before_the_site_went_on_is_found_while_its_checkpoint_is_there() {
    let others = closed().await;
    let dir = closed().await;
    for name in volumes(dir.path()) {
        std::fs::remove_file(dir.path().join("volumes").join(name)).unwrap();
    }
    // Killed after its first put: a new volume stands under the old number.
    let entropy = std::sync::Arc::new(support::CountingEntropy::default());
    entropy.fill(&mut [0]);
    let described = support::description(1);
    let site = DirectorySite::open_with(dir.path(), described, entropy, small_volumes()).unwrap();
    site.put(vec![record(90, 400)]).await.unwrap();
    let killed = TempDir::new().unwrap();
    copy_dir(dir.path(), killed.path());
    drop(site);
    let printed = check_json(killed.path(), 4);
    assert_eq!(printed["findings"][0]["kind"], "exchanged-volume", "{printed}");

    // The last record is cut away, and the file then grows beyond it.
    let last = others.path().join("volumes").join(volumes(others.path()).pop().unwrap());
    cut(&last, length(&last) - 10);
    let site =
        support::open_with(others.path(), SiteOptions { volume_bytes: Some(1 << 20), ..quick() }).unwrap();
    site.put(vec![record(91, 3000)]).await.unwrap();
    let killed = TempDir::new().unwrap();
    copy_dir(others.path(), killed.path());
    drop(site);
    let printed = check_json(killed.path(), 4);
    let found = &printed["findings"][0];
    assert_eq!(
        (&found["kind"], &found["record"]),
        (&json!("missing-record"), &json!(support::id(17).to_string()))
    );
    assert!(check_text(killed.path(), 4).contains(&format!("lost         {}", support::id(17))));
}

#[tokio::test]
async fn what_was_removed_replaced_or_compacted_since_the_checkpoint_is_no_loss() {
    let dir = closed().await;
    let old = support::read(&dir.path().join("CHECKPOINT"));
    let site = support::open_with(dir.path(), small_volumes()).unwrap();
    site.delete((0..12).map(support::id).collect()).await.unwrap();
    site.put(vec![record(3, 100)]).await.unwrap();
    let before = TempDir::new().unwrap();
    copy_dir(dir.path(), before.path());
    support::maintain_all(&site).await;
    drop(site);
    support::write(&dir.path().join("CHECKPOINT"), &old);
    assert!(dir.path().join("RETIRED").exists());
    for dir in [before.path(), dir.path()] {
        let printed = check_json(dir, 0);
        assert_eq!((&printed["checkpoint"], &printed["findings"]), (&json!("compared"), &json!([])));
    }
}

#[tokio::test]
async fn check_leaves_a_directory_that_takes_no_writes_as_it_is() {
    let dir = closed().await;
    let mut paths: Vec<_> = listing(dir.path()).into_keys().collect();
    paths.reverse();
    for path in &paths {
        let mode = if path.is_dir() { 0o555 } else { 0o444 };
        set_mode(path, mode);
    }
    let before = listing(dir.path());
    for command in ["check", "info"] {
        let output = run(&[command], dir.path());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
    }
    assert_eq!(listing(dir.path()), before);
    paths.iter().rev().for_each(|path| set_mode(path, 0o755));
    // Modes do not bind everybody; that a folder is only opened for reading does.
    std::fs::remove_file(dir.path().join("LOCK")).unwrap();
    std::fs::create_dir(dir.path().join("LOCK")).unwrap();
    assert_eq!(check_json(dir.path(), 0)["locked"], true);
}

#[tokio::test]
async fn check_makes_no_lock_where_there_is_none_and_says_that_nothing_is_locked() {
    let dir = closed().await;
    std::fs::remove_file(dir.path().join("LOCK")).unwrap();
    let before = listing(dir.path());
    assert!(check_text(dir.path(), 0).contains("lock         none"));
    assert_eq!(check_json(dir.path(), 0)["locked"], false);
    assert_eq!(listing(dir.path()), before);
}

#[tokio::test]
async fn directories_that_a_copy_left_out_are_findings_and_an_empty_quarantine_is_none() {
    let dir = closed().await;
    std::fs::remove_dir(dir.path().join("quarantine")).unwrap();
    assert!(check_text(dir.path(), 0).contains("quarantine   0 files"));
    for (nth, name) in ["slots", "volumes"].into_iter().enumerate() {
        std::fs::remove_dir_all(dir.path().join(name)).unwrap();
        let text = check_text(dir.path(), 4);
        assert!(text.contains(&format!("lost         the directory {name}/")), "{text}");
        let printed = check_json(dir.path(), 4);
        let findings = printed["findings"].as_array().unwrap();
        let missing = findings.iter().filter(|finding| finding["kind"] == "missing-directory");
        assert_eq!(missing.count(), nth + 1, "{printed}");
        if name == "slots" {
            assert_eq!(findings.len(), 1, "told once: {printed}");
        }
    }
}

#[test]
fn errors_are_objects_where_objects_were_asked_for() {
    let dir = TempDir::new().unwrap();
    for command in ["check", "info"] {
        let output = run(&[command, "--json"], dir.path());
        assert_eq!(output.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&output.stderr).contains("is not a site directory"));
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let error = &serde_json::from_str::<Value>(&text).unwrap()["error"];
        assert!(error["what"].as_str().unwrap().contains("is not a site directory"), "{text}");
        assert!(error["safe"].is_string() && error["next"].is_string(), "{text}");
    }
}

#[test]
fn a_measurement_of_nothing_is_wrong_usage() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("site");
    for flags in [["--putters", "0"], ["--records", "0"], ["--putters", "100000"], ["--bytes", "16777217"]] {
        let output = run(&["bench", flags[0], flags[1]], &path);
        assert_eq!(output.status.code(), Some(2), "{flags:?}: {output:?}");
        assert!(!path.exists(), "{flags:?}");
    }
    let output = run(&["bench", "--putters", "1", "--records", "1", "--bytes", "0"], &path);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}
