//! A fleet on one machine with data on it, as an operator runs it: real agents,
//! real pods, and a service that is asked before anything is taken down.
#![cfg(feature = "embedded")]
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test makes and reads files")]

#[path = "support/built.rs"]
mod built;
#[path = "support/calls.rs"]
mod calls;
#[path = "support/places.rs"]
mod places;
#[path = "support/process.rs"]
mod process;
#[path = "support/program.rs"]
mod program;
#[path = "support/stored.rs"]
mod stored;
#[path = "support/waiting.rs"]
mod waiting;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use built::node_program;
use calls::{coffer, good};
use places::PLACES;
use process::Process;
use program::command;
use stored::{homes, is_whole, put, reads_back, standing};
use waiting::until;

/// One fleet at a time: their nodes have the same addresses.
static TURN: Mutex<()> = Mutex::new(());

/// `coffer serve --fleet` with seven nodes and six pods.
fn start(dir: &Path) -> Process {
    node_program();
    places::write(dir, &PLACES);
    let flags = "serve --data-dir data --listen 127.0.0.1:0 --fleet --fleet-listen 127.0.0.1:0 \
         --fleet-spare 1 --repair-every 0s --exit-with-stdin";
    let flags: Vec<&str> = flags.split_whitespace().chain(["--sites", places::FILE]).collect();
    let fleet = Process::start(dir, &flags);
    assert_eq!(fleet.until("ready")["ready"], true);
    fleet
}

/// A drain that is waited for until it says why it does not go on; then it is left alone.
fn blocked(dir: &Path, node: &str) -> String {
    let mut drain = command(dir, &["fleet", "drain", node]);
    let mut drain = drain.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(drain.stderr.take().unwrap()).lines().map_while(Result::ok);
    let why = lines.into_iter().find(|line| line.contains("cannot move") && line.contains("uncordon"));
    drain.kill().unwrap();
    drain.wait().unwrap();
    why.unwrap()
}

/// Where the bytes of a site are on its node.
fn bytes_of(dir: &Path, node: &str, site: &str) -> PathBuf {
    dir.join("data/fleet/nodes").join(node).join("agent/data/site-data").join(site)
}

/// Asks the fleet as well, which takes its time: a node is told, and says that it is done.
fn is_gone(dir: &Path, bytes: &Path) -> bool {
    good(dir, &["fleet", "nodes"]);
    !bytes.exists()
}

#[test]
fn a_drained_node_loses_its_pod_after_its_data_and_every_object_reads_back() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let fleet = start(dir);
    good(dir, &["tenant", "create", "demo"]);
    good(dir, &["bucket", "create", "documents"]);
    put(dir, 0, 6);
    let before = homes(dir);
    assert_eq!(before.len(), 6);
    let spare = PLACES
        .map(|(place, _)| place)
        .into_iter()
        .find(|place| !before.values().any(|node| node == place))
        .unwrap();
    let node = &before["sites-2"];

    // Without a free node there is nowhere to move to, and six sites are needed: nothing happens but words.
    good(dir, &["fleet", "cordon", spare]);
    let why = blocked(dir, node);
    assert!(why.contains("sites-2 holds shards of") && why.contains("must be left"), "{why}");
    assert!(why.contains("could not be satisfied") && why.contains(&format!("uncordon {spare}")), "{why}");
    assert_eq!(standing(dir, "sites-2"), "active");
    assert_eq!(homes(dir)["sites-2"], *node);
    put(dir, 6, 8);

    let bytes = bytes_of(dir, node, "sites-2");
    assert!(bytes.exists());

    // With one, the drain ends by itself.
    good(dir, &["fleet", "uncordon", spare]);
    let drained = good(dir, &["fleet", "drain", node]);
    assert_eq!(drained.last().unwrap()["state"], "empty");
    let after = homes(dir);
    assert_eq!(after.len(), 6, "{after:?}");
    assert!(
        after.values().any(|node| node == spare) && !after.values().any(|other| other == node),
        "{after:?}"
    );
    assert_eq!(standing(dir, "sites-2"), "retired");
    reads_back(dir, 8);
    until("everything is whole", || is_whole(dir));
    until("the retired site's bytes are off the disk", || is_gone(dir, &bytes));

    // And so it stays over a restart.
    drop(fleet);
    let _fleet = start(dir);
    assert_eq!(homes(dir), after);
    reads_back(dir, 8);
}

#[test]
fn a_node_that_changes_country_takes_no_new_byte_and_what_it_held_is_rebuilt_elsewhere() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _fleet = start(dir);
    good(dir, &["tenant", "create", "demo"]);
    good(dir, &["bucket", "create", "documents"]);
    put(dir, 0, 6);
    let node = &homes(dir)["sites-2"];
    let bytes = bytes_of(dir, node, "sites-2");
    assert!(bytes.exists());
    // The operator signs where it stands now.
    let place = ["--country", "US", "--domain", node, "--tier", "III"];
    let signed = good(dir, &[&["fleet", "attest", node], &place[..]].concat());
    let annotations = serde_json::json!({ "fleet.coffer/attestation": signed[0]["attestation"] });
    let object = serde_json::json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": node, "annotations": annotations },
    });
    fs::write(dir.join("node.json"), object.to_string()).unwrap();
    good(dir, &["fleet", "apply", "node.json"]);
    until("the site takes no new data", || standing(dir, "sites-2") != "active");
    // While six places cannot be had a put is refused; where it is taken, it is somewhere else.
    fs::write(dir.join("in-6"), [6; 300_000]).unwrap();
    until("another site takes its place", || {
        coffer(dir, &["object", "put", "in-6", "documents/6"]).status.success()
    });
    until("all of it is heard where it lies", || {
        let lies = coffer(dir, &["object", "stat", "documents/6", "--shards"]);
        let text = String::from_utf8_lossy(&lies.stdout);
        assert!(!text.is_empty() && !text.contains("sites-2"), "{text}");
        lies.status.success()
    });
    until("the site is retired", || standing(dir, "sites-2") == "retired");
    let after = homes(dir);
    assert!(after.len() == 6 && !after.contains_key("sites-2"), "{after:?}");
    until("no shard is left in the country that was left", || is_gone(dir, &bytes));
    reads_back(dir, 7);
    until("everything is whole", || is_whole(dir));
}
