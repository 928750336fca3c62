//! The agent as a process of its own, killed as by a machine that is out of
//! memory: its pods run on, and the next one finds them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use coffer_embedded::Identity;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;

use crate::bench;
use crate::fleet::{Fleet, container, ready, restarts};

/// Serves the fleet's API without TLS: to this machine, in this test.
async fn plain(fleet: &Fleet) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = fleet.embedded().service(Identity::inside());
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let service = service.clone();
            let one = service_fn(move |request| tower::ServiceExt::oneshot(service.clone(), request));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), one));
        }
    });
    address
}

fn kubeconfig(fleet: &Fleet, api: SocketAddr) -> PathBuf {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{ "name": "test", "cluster": { "server": format!("http://{api}") } }],
        "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
        "users": [{ "name": "test", "user": {} }],
    });
    let path = fleet.directory().join("kubeconfig");
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).open(&path).unwrap();
    serde_json::to_writer(file, &config).unwrap();
    path
}

/// A process that does not outlive the test.
struct Agent(Child);

impl Agent {
    fn start(fleet: &Fleet, kubeconfig: &PathBuf) -> Self {
        let mut command = Command::new(bench::node_program());
        command.args(["run", "--name", "killed", "--lease-seconds", "2", "--renew-seconds", "1", "--dir"]);
        command.arg(fleet.directory().join("agent")).arg("--kubeconfig").arg(kubeconfig);
        command.arg("--executable").arg(bench::sample_program()).stdout(Stdio::null());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_takes_no_pod_with_it_and_the_next_one_finds_them() {
    let Some(fleet) = Fleet::new("killed").await else { return };
    let kubeconfig = kubeconfig(&fleet, plain(&fleet).await);
    let first = Agent::start(&fleet, &kubeconfig);
    fleet.create("stays", &["wait"], json!({})).await;
    let before = fleet.until("stays", ready).await;
    let process = fleet.process(&before, 0);
    drop(first);
    assert!(rustix::process::test_kill_process(process).is_ok(), "the pod went with its agent");
    fleet.create("new", &["polite"], json!({})).await;
    let second = Agent::start(&fleet, &kubeconfig);
    fleet.until("new", ready).await;
    let after = fleet.until("stays", ready).await;
    assert_eq!(
        (restarts(&after), container(&after).container_id.clone()),
        (0, container(&before).container_id.clone())
    );
    assert_eq!(fleet.process(&after, 0), process);
    for name in ["stays", "new"] {
        fleet.delete(name).await;
        fleet.until_gone(name).await;
    }
    assert!(rustix::process::test_kill_process(process).is_err(), "the pod outlived its deletion");
    drop(second);
}
