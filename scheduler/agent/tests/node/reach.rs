//! Pods reach what they declare, and nothing else; and have as much disk as
//! they declare.

use std::time::Duration;

use coffer_agent::Layer;
use serde_json::json;
use tokio::net::TcpStream;

use crate::fleet::{Fleet, phase, ready, waits};

async fn answers(address: &str, port: u16) -> bool {
    let connect = TcpStream::connect((address, port));
    matches!(tokio::time::timeout(Duration::from_secs(2), connect).await, Ok(Ok(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_reaches_what_it_declares_and_nothing_else() {
    let Some(fleet) = Fleet::new("reach").await else { return };
    if !fleet.probe().had().has(Layer::Network) {
        return;
    }
    let agent = fleet.start();
    let port = |number: u16| json!({ "ports": [{ "containerPort": number }] });
    fleet.create("open", &["serve", "7001"], port(7001)).await;
    // It listens where it declares nothing: Landlock refuses, and the rules would.
    fleet.create_with("secret", &["serve", "7002"], port(7003), json!({ "restartPolicy": "Never" })).await;
    let open = fleet.until("open", ready).await;
    fleet.until_says(&agent, "open", "ready").await;
    let address = open.status.unwrap().pod_ip.unwrap();
    assert!(answers(&address, 7001).await, "a declared port");
    assert!(!answers(&address, 7002).await, "an undeclared port");
    fleet.until("secret", |pod| phase(pod) == "Succeeded").await;
    assert!(fleet.log(&agent, "secret").await.contains("cannot listen"));

    let once = json!({ "restartPolicy": "Never" });
    let to = format!("{address}:7001");
    fleet.create_with("stranger", &["connect", &to], json!({}), once.clone()).await;
    fleet.until("stranger", |pod| phase(pod) == "Succeeded").await;
    assert_ne!(fleet.log(&agent, "stranger").await, "done\n");
    fleet.create_annotated("friend", &["connect", &to], json!({ "fleet.coffer/egress": to }), once).await;
    fleet.until("friend", |pod| phase(pod) == "Succeeded").await;
    assert_eq!(fleet.log(&agent, "friend").await, "done\n");
    agent.end_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_fills_its_own_disk_and_nobody_elses() {
    let Some(fleet) = Fleet::new("full").await else { return };
    if !fleet.probe().had().has(Layer::Disk) {
        return;
    }
    let agent = fleet.start_sized();
    let size: u64 = 16 << 20;
    let resources = json!({ "resources": { "limits": { "fleet.coffer/disk-bytes": size.to_string() } } });
    let once = json!({ "restartPolicy": "Never", "data": "a" });
    fleet.create_with("greedy", &["fill", "/data/all"], resources.clone(), once.clone()).await;
    fleet.until("greedy", |pod| phase(pod) == "Succeeded").await;
    let said = fleet.log(&agent, "greedy").await;
    let written: u64 = said.trim().trim_start_matches("wrote ").parse().unwrap();
    assert!(written > 0 && written <= size, "{said}");
    fleet.delete("greedy").await;
    fleet.until_gone("greedy").await;
    // The bytes are still there for the one that comes back.
    fleet.create_with("again", &["exists", "/data/all"], resources, once).await;
    fleet.until("again", |pod| phase(pod) == "Succeeded").await;
    agent.end_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_waits_until_its_predecessor_has_let_go_of_the_data() {
    let Some(fleet) = Fleet::new("handover").await else { return };
    let agent = fleet.start();
    let shared = json!({ "data": "a" });
    fleet.create_with("old", &["polite"], json!({}), shared.clone()).await;
    fleet.until("old", ready).await;
    fleet.create_with("new", &["wait"], json!({}), shared).await;
    fleet.until("new", |pod| waits(pod, "VolumeInUse")).await;
    fleet.delete("old").await;
    fleet.until("new", ready).await;
    agent.end_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_sees_its_secret_and_its_lease_and_cannot_change_them() {
    let Some(fleet) = Fleet::new("secrets").await else { return };
    let agent = fleet.start();
    fleet.secret("tls", "key", "dGhlIGtleQ==").await;
    let mounts = json!({ "volumeMounts": [{ "name": "tls", "mountPath": "/tls" }] });
    let volumes = json!({
        "restartPolicy": "Never",
        "volumes": [{ "name": "tls", "secret": { "secretName": "tls" } }],
    });
    for (name, args, says) in [
        ("reads", ["read", "/tls/key", ""], "the key\n"),
        ("writes", ["write", "/tls/key", "another"], "Read-only file system (os error 30)\n"),
        (
            "prolongs",
            ["write", "/run/coffer/lease/lease.json", "{}"],
            "Read-only file system (os error 30)\n",
        ),
    ] {
        let args: Vec<&str> = args.into_iter().filter(|arg| !arg.is_empty()).collect();
        fleet.create_with(name, &args, mounts.clone(), volumes.clone()).await;
        fleet.until(name, |pod| phase(pod) == "Succeeded").await;
        assert_eq!(fleet.log(&agent, name).await, says);
    }
    agent.end_all().await;
}
