//! What an operator is told of the scrub: what was read and verified, what was not, and what came to light.
#![cfg(feature = "embedded")]
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test makes files")]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Instant;

use serde_json::Value;

#[path = "support/calls.rs"]
mod calls;
#[path = "support/places.rs"]
mod places;
#[path = "support/process.rs"]
mod process;
#[path = "support/program.rs"]
mod program;

use calls::{coffer, good};
use places::PLACES;
use process::{Process, STUCK};
use program::command;

/// A service that does nothing by itself, and ends with the test.
fn serve(dir: &Path, more: &[&str]) -> Process {
    let service = ["serve", "--data-dir", "data", "--listen", "127.0.0.1:0", "--exit-with-stdin"];
    let idle = ["--repair-every", "0s", "--challenge-every", "0s", "--scrub-rate", "0"];
    let service = Process::start(dir, &[&service[..], &idle, more].concat());
    assert_eq!(service.until("ready")["ready"], true);
    service
}

/// A deployment in which every site has some megabytes.
fn served(dir: &Path) -> Process {
    places::write(dir, &PLACES[..6]);
    let service = serve(dir, &["--sites", places::FILE]);
    good(dir, &["tenant", "create", "demo"]);
    good(dir, &["bucket", "create", "documents"]);
    let body: Vec<u8> = (0_u32..2 << 20).flat_map(u32::to_le_bytes).collect();
    fs::write(dir.join("large"), body).unwrap();
    good(dir, &["object", "put", "large", "documents/large"]);
    service
}

fn code(dir: &Path, arguments: &[&str]) -> Option<i32> {
    coffer(dir, arguments).status.code()
}

/// Exit code and text of a command as people call it.
fn told(dir: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = command(dir, arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn of<'a>(sites: &'a Value, name: &str) -> &'a Value {
    sites["sites"].as_array().unwrap().iter().find(|site| site["site"] == name).unwrap()
}

/// Turns a bit in the middle of the first shard on a site's disk.
fn rot(dir: &Path, site: &str) {
    let volumes = dir.join("data/sites").join(site).join("volumes");
    let middle = 600_000;
    let holds =
        |path: &Path| fs::read(path).unwrap().get(middle..).is_some_and(|rest| rest.iter().any(|b| *b != 0));
    let mut paths = fs::read_dir(volumes).unwrap().map(|entry| entry.unwrap().path());
    let path = paths.find(|path| holds(path)).unwrap();
    let volume = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    volume.read_exact_at(&mut byte, middle as u64).unwrap();
    volume.write_all_at(&[byte[0] ^ 1], middle as u64).unwrap();
}

#[test]
fn the_check_fails_until_every_byte_was_verified_and_again_once_that_is_too_long_ago() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let service = served(dir);
    assert_eq!(code(dir, &["scrub", "status"]), Some(0), "who only looks is told no failure");
    let (exit, said) = told(dir, &["scrub", "status", "--check"]);
    println!("{said}");
    assert_eq!(exit, Some(4), "{said}");
    assert!(
        said.contains("it is not shown that every byte was read and verified within 30.0 days"),
        "{said}"
    );

    // One site that does not answer is one of which nothing is known.
    good(dir, &["site", "kill", "mad1"]);
    assert_eq!(code(dir, &["scrub", "run"]), Some(3));
    assert_eq!(code(dir, &["scrub", "status", "--check"]), Some(4));
    good(dir, &["site", "revive", "mad1"]);
    good(dir, &["scrub", "run", "mad1"]);
    let (exit, said) = told(dir, &["scrub", "status", "--check"]);
    println!("{said}");
    assert_eq!(exit, Some(0), "{said}");
    assert!(said.contains("every byte was read and verified within "), "{said}");

    // The passes are remembered, and grow old.
    drop(service);
    let _service = serve(dir, &["--scrub-within", "1s"]);
    let began = Instant::now();
    while code(dir, &["scrub", "status", "--check"]) != Some(4) {
        assert!(began.elapsed() < STUCK, "a pass of more than a second ago counts as one within it");
    }
    let (_, said) = told(dir, &["scrub", "status"]);
    println!("{said}");
    assert!(said.contains("LATE: "), "{said}");
}

#[test]
fn rot_is_told_by_the_scrub_with_its_site_and_no_more_once_it_is_mended() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let _service = served(dir);
    good(dir, &["scrub", "run"]);
    rot(dir, "fra1");
    let found = coffer(dir, &["scrub", "run", "--anew"]);
    assert_eq!(found.status.code(), Some(4));
    for line in String::from_utf8(found.stdout).unwrap().lines() {
        let site: Value = serde_json::from_str(line).unwrap();
        assert_eq!(site["findings"], u64::from(site["site"] == "fra1"), "{line}");
    }
    let status = &good(dir, &["scrub", "status"])[0];
    assert_eq!((&of(status, "fra1")["damaged"], &of(status, "ams1")["damaged"]), (&1.into(), &0.into()));
    good(dir, &["repair", "run"]);
    good(dir, &["scrub", "run", "--anew"]);
    assert_eq!(of(&good(dir, &["scrub", "status"])[0], "fra1")["damaged"], 0);
}

#[test]
fn a_site_that_is_not_there_is_not_scrubbed_and_the_list_of_sites_is_offered() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path();
    let _service = served(dir);
    for asked in [&["scrub", "run", "nowhere1"][..], &["scrub", "challenge", "nowhere1"]] {
        let output = command(dir, asked).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("nowhere1") && said.contains("nothing was done") && said.contains("coffer site ls"),
            "{said}"
        );
    }
}
