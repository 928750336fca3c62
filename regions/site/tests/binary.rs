//! The real program: killed while it writes, and looking at sites.

#[expect(dead_code, reason = "shared with tests that need more of it")]
mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use coffer_model::{RecordId, SiteDescription};
use coffer_regions::Site;
use coffer_site::{DirectorySite, OpenSiteError, inspect};
use support::{Sample, record};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_coffer-site");

#[expect(clippy::unwrap_used, reason = "a program that cannot be started fails the test")]
fn run(arguments: &[&str], dir: &Path) -> Output {
    Command::new(PROGRAM).args(arguments).arg(dir).output().unwrap()
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
    let printed: serde_json::Value = serde_json::from_slice(&damaged.stdout).unwrap();
    assert_eq!(printed["findings"][0]["record"], support::id(1).to_string());
    assert_eq!((&printed["records"], &printed["torn_bytes"]), (&2.into(), &4.into()));
    assert_eq!(support::read(&support::volume(image.path(), 0)), bytes);
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
