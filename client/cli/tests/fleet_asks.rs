//! A control plane of its own, as on a cluster, that asks a service over the
//! network where shards lie (`coffer fleet control --ask-service`): real nodes,
//! real pods, real gRPC, and a service that is away for a while.
#![cfg(feature = "embedded")]
#![expect(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test makes files and looks at them"
)]

#[path = "support/built.rs"]
mod built;
#[path = "support/calls.rs"]
mod calls;
#[path = "support/given_up.rs"]
mod given_up;
#[path = "support/places.rs"]
mod places;
#[path = "support/port.rs"]
mod port;
#[path = "support/process.rs"]
mod process;
#[path = "support/program.rs"]
mod program;
#[path = "support/stored.rs"]
mod stored;
#[path = "support/waiting.rs"]
mod waiting;

use std::path::Path;

use tempfile::TempDir;

use built::node_program;
use calls::good;
use given_up::GivenUp;
use places::PLACES;
use port::free_port;
use process::{Process, STUCK};
use stored::{homes, is_whole, put, reads_back, standing};
use waiting::until;

const KUBECONFIG: &str = ".config/coffer/fleet/kubeconfig";
const OBJECTS: u8 = 6;

/// The next line for people in which there is all of this.
fn until_says(process: &Process, all: &[&str]) -> String {
    let mut before = Vec::new();
    loop {
        match process.words.recv_timeout(STUCK) {
            Ok(line) if all.iter().all(|one| line.contains(one)) => return line,
            Ok(line) => before.push(line),
            Err(error) => panic!("it never said {all:?}: {error}; {before:#?}"),
        }
    }
}

/// The API and the nodes; no control plane, and no service.
struct Fleet {
    process: Process,
    port: u16,
    _given_up: GivenUp,
    /// Last: it goes when nobody needs it any more.
    dir: TempDir,
}

impl Fleet {
    fn start() -> Self {
        node_program();
        let kept = tempfile::tempdir().unwrap();
        let dir = kept.path();
        let given_up = GivenUp(dir.join("data"));
        places::write(dir, &PLACES);
        let flags = ["--sites", places::FILE, "--spare", "1", "--listen", "127.0.0.1:0", "--no-control"];
        let serve = [&["fleet", "serve", "--data-dir", "data"], &flags[..], &["--exit-with-stdin"]].concat();
        let process = Process::start(dir, &serve);
        process.until("nodes");
        Self { process, port: free_port(), _given_up: given_up, dir: kept }
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// `coffer fleet control`, with what the fleet's own would have.
    fn control(&self, more: &[&str]) -> Process {
        let place = ["--country", "DE", "--domain", "fra1", "--tier", "III"];
        let signed = good(self.dir(), &[&["fleet", "attest", "fra1"], &place[..]].concat());
        let trust = signed[0]["trust"].as_str().unwrap().to_owned();
        let flags = ["--trust", &trust, "--authority", ".config/coffer/fleet/site-authority"];
        let control = [&["fleet", "control", "--kubeconfig", KUBECONFIG], &flags[..], more].concat();
        let control = Process::start(self.dir(), &control);
        control.until("holder");
        control
    }

    /// The service on the pods, at the same address each time.
    fn service(&self, sites: &str) -> Process {
        let listen = format!("127.0.0.1:{}", self.port);
        let service = [
            ["serve", "--data-dir", "data"],
            ["--sites", sites, "--listen"],
            [&listen, "--discover", "kubernetes:coffer/sites"],
            ["--kubeconfig", KUBECONFIG, "--exit-with-stdin"],
        ];
        let service =
            Process::start(self.dir(), &[&service.concat()[..], &["--repair-every", "0s"]].concat());
        service.until("ready");
        service
    }
}

#[test]
fn a_drain_ends_where_the_service_says_that_the_data_has_moved_and_nothing_leaves_while_it_is_silent() {
    let fleet = Fleet::start();
    let dir = fleet.dir();
    // Until there are sites there is no service to ask.
    let presumes = fleet.control(&[]);
    let sites = fleet.process.until("sites");
    let sites = sites["sites"].as_str().unwrap().to_owned();
    let service = fleet.service(&sites);
    good(dir, &["tenant", "create", "demo"]);
    good(dir, &["bucket", "create", "documents"]);
    put(dir, 0, OBJECTS);
    drop(presumes);
    let before = homes(dir);
    assert_eq!(before.len(), 6, "{before:?}");
    let node = before["sites-2"].clone();
    let asks = fleet.control(&["--ask-service"]);

    // Whoever cannot be asked has not said that anything may leave.
    drop(service);
    let drain = Process::start(dir, &["fleet", "drain", &node]);
    until_says(&drain, &["waiting: ", "the ledger of shards does not answer"]);
    assert_eq!(homes(dir).get("sites-2"), Some(&node));

    // Nobody asks while this is looked at: from the next question on it is emptied.
    drop(asks);
    let _service = fleet.service(&sites);
    assert_eq!(standing(dir, "sites-2"), "active", "nobody was asked to empty it");
    let _asks = fleet.control(&["--ask-service"]);
    let emptied = loop {
        let event = drain.until("state");
        if event["state"] == "empty" {
            break event;
        }
    };
    assert_eq!(emptied["node"], *node);
    let after = homes(dir);
    assert!(after.len() == 6 && !after.values().any(|home| *home == node), "{after:?}");
    until("the site is retired", || standing(dir, "sites-2") == "retired");
    reads_back(dir, OBJECTS);
    until("everything is whole", || is_whole(dir));
}
