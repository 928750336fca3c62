//! A fleet on one machine with data on it, as an operator runs it: real agents,
//! real pods, and a service that is asked before anything is taken down.
#![cfg(feature = "embedded")]
#![expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test makes and reads files")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coffer"));
    command.args(arguments).current_dir(dir).env_clear().env("HOME", dir);
    command
}

fn coffer(dir: &Path, arguments: &[&str]) -> Output {
    command(dir, &[&["--json"], arguments].concat()).output().unwrap()
}

/// What a command that succeeds prints.
fn good(dir: &Path, arguments: &[&str]) -> Vec<Value> {
    let output = coffer(dir, arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// One fleet at a time: their nodes have the same addresses.
static TURN: Mutex<()> = Mutex::new(());

/// `coffer serve --fleet`, which ends in order when this is dropped.
struct Fleet(Child);

impl Fleet {
    /// Seven nodes, six pods.
    fn start(dir: &Path) -> Self {
        for name in ["coffer-node", "coffer-site"] {
            let program = Path::new(env!("CARGO_BIN_EXE_coffer")).with_file_name(name);
            assert!(program.exists(), "build the programs first: cargo build --workspace --bins");
        }
        let places = [
            ("fra1", "DE"),
            ("ams1", "NL"),
            ("par1", "FR"),
            ("mil1", "IT"),
            ("vie1", "AT"),
            ("mad1", "ES"),
            ("war1", "PL"),
        ];
        let site = |(name, country): (&str, &str)| {
            format!(
                "[[site]]\nname = \"{name}\"\ncountry = \"{country}\"\ndomain = \"{name}\"\ntier = \"III\"\n"
            )
        };
        fs::write(dir.join("sites.toml"), places.map(site).concat()).unwrap();
        let flags = "--json serve --data-dir data --listen 127.0.0.1:0 --fleet --fleet-listen 127.0.0.1:0 \
             --fleet-spare 1 --sites sites.toml --repair-every 0s --exit-with-stdin";
        let flags: Vec<&str> = flags.split_whitespace().collect();
        let mut child = command(dir, &flags);
        child.stdin(Stdio::piped()).stdout(Stdio::piped());
        // Found beside the test's output where something goes wrong.
        child.stderr(fs::File::options().create(true).append(true).open(dir.join("serve.log")).unwrap());
        let mut child = child.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut values = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        let ready = values.any(|value| value["ready"] == true);
        assert!(ready, "{}", fs::read_to_string(dir.join("serve.log")).unwrap());
        Self(child)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The nodes of the pods.
fn homes(dir: &Path) -> BTreeMap<String, String> {
    let pods = good(dir, &["fleet", "pods"]);
    let text = |pod: &Value, field: &str| pod[field].as_str().unwrap_or_default().to_owned();
    pods.iter().map(|pod| (text(pod, "pod"), text(pod, "node"))).collect()
}

fn standing(dir: &Path, site: &str) -> String {
    let sites = good(dir, &["site", "ls"]);
    let site = sites.iter().find(|one| one["site"] == site).unwrap();
    site["standing"].as_str().unwrap().to_owned()
}

/// Objects of both kinds, with what is in them.
fn put(dir: &Path, from: u8, to: u8) {
    for n in from..to {
        let size = if n % 2 == 0 { 300 } else { 700_000 };
        fs::write(dir.join(format!("in-{n}")), vec![n; size]).unwrap();
        good(dir, &["object", "put", &format!("in-{n}"), &format!("documents/{n}")]);
    }
}

fn reads_back(dir: &Path, count: u8) {
    for n in 0..count {
        let out = format!("out-{n}");
        good(dir, &["object", "get", &format!("documents/{n}"), "-o", &out]);
        assert!(fs::read(dir.join(&out)).unwrap() == fs::read(dir.join(format!("in-{n}"))).unwrap(), "{n}");
        fs::remove_file(dir.join(out)).unwrap();
    }
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

/// Asks again and again, so often at most.
fn until(what: &str, holds: impl Fn() -> bool) {
    assert!((0..3000).any(|_| holds()), "{what}");
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
    let fleet = Fleet::start(dir);
    good(dir, &["tenant", "create", "demo"]);
    good(dir, &["bucket", "create", "documents"]);
    put(dir, 0, 6);
    let before = homes(dir);
    assert_eq!(before.len(), 6);
    let places = ["fra1", "ams1", "par1", "mil1", "vie1", "mad1", "war1"];
    let spare = places.into_iter().find(|place| !before.values().any(|node| node == place)).unwrap();
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
    let plan = good(dir, &["repair", "plan"]);
    assert_eq!((&plan[0]["steps"], &plan[0]["versions_short"]), (&0.into(), &0.into()), "{plan:?}");
    until("the retired site's bytes are off the disk", || is_gone(dir, &bytes));

    // And so it stays over a restart.
    drop(fleet);
    let _fleet = Fleet::start(dir);
    assert_eq!(homes(dir), after);
    reads_back(dir, 8);
}

#[test]
fn a_node_that_changes_country_takes_no_new_byte_and_what_it_held_is_rebuilt_elsewhere() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let _fleet = Fleet::start(dir);
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
    let lies = good(dir, &["object", "stat", "documents/6", "--shards"]);
    assert!(!lies.is_empty() && !format!("{lies:?}").contains("sites-2"), "{lies:?}");
    until("the site is retired", || standing(dir, "sites-2") == "retired");
    let after = homes(dir);
    assert!(after.len() == 6 && !after.contains_key("sites-2"), "{after:?}");
    until("no shard is left in the country that was left", || is_gone(dir, &bytes));
    reads_back(dir, 7);
    let plan = good(dir, &["repair", "plan"]);
    assert_eq!((&plan[0]["steps"], &plan[0]["versions_short"]), (&0.into(), &0.into()), "{plan:?}");
}
