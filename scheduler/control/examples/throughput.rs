//! How many pods a second go through create, watch, decide and bind on the
//! embedded API with its store on disk, every commit an fsync.
//!
//! `cargo run --release -p coffer-control --example throughput` measures 10,000 pods on 5,000 nodes, basic and
//! with jurisdiction, hard spread and anti-affinity; `-- curve` from 100 to 10,000 nodes; `-- NODES PODS basic|hard` one case.
//! Pods come in sets of six, as storage pods do. The time runs from the first create to the last pod seen bound.
#![expect(clippy::unwrap_used, reason = "a measurement stops at the first failure")]
#![expect(clippy::print_stdout, reason = "a measurement prints its findings")]
#![expect(
    clippy::disallowed_methods,
    reason = "it measures with the machine's clock, and reads its own memory"
)]
#![expect(clippy::cast_precision_loss, reason = "rates are for people")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use coffer_control::attestation::{Attester, Statement, TrustedKeys};
use coffer_control::{
    Control, Measured, NAMESPACE, NoCertificates, Pace, PlacementRecord, Presumed, SiteSet, Transactions,
    install,
};
use coffer_custody::{OsEntropy, SystemClock};
use coffer_embedded::{Embedded, Options};
use coffer_model::{FailureDomain, Tier};
use coffer_scheduler::Ledger;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{ListParams, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use serde_json::json;

/// The adapter that ships with the program.
#[path = "../../../client/cli/src/commands/home/in_process.rs"]
mod in_process;

use in_process::InProcess;

const COUNTRIES: [&str; 8] = ["DE", "FR", "NL", "ES", "IT", "CH", "US", "JP"];
const PODS_OF_A_SET: u64 = 6;
/// Requests at once, as many as scheduler_perf has clients.
const AT_ONCE: usize = 100;

fn attester() -> Attester {
    Attester::danger_from_seed(&[9; 32])
}

fn node(n: u64) -> Node {
    let country = COUNTRIES[usize::try_from(n % 8).unwrap()];
    let name = format!("node-{n}");
    let statement = Statement {
        node: name.parse().unwrap(),
        country: country.parse().unwrap(),
        domain: FailureDomain(format!("{country}-{}", n / 16)),
        tier: Tier::III,
        not_before: 0,
        not_after: u64::MAX,
    };
    let amounts = json!({
        "cpu": "16", "memory": "64Gi", "pods": "110",
        "fleet.coffer/disk-bytes": (8_u64 << 40).to_string(), "fleet.coffer/iops": "50000",
    });
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": name, "annotations": { "fleet.coffer/attestation": attester().sign(&statement) } },
        "status": {
            "capacity": amounts, "allocatable": amounts,
            "conditions": [{ "type": "Ready", "status": "True" }],
        },
    }))
    .unwrap()
}

fn set(n: u64, hard: bool) -> SiteSet {
    let (residency, spread) = if hard {
        (
            json!({ "allow": ["EU"], "tierMin": "II" }),
            json!({ "perDomain": 1, "perCountry": 3, "countrySkew": 1 }),
        )
    } else {
        (json!({}), json!({ "perDomain": 6 }))
    };
    serde_json::from_value(json!({
        "apiVersion": "fleet.coffer/v1", "kind": "SiteSet",
        "metadata": { "name": format!("set-{n}") },
        "spec": {
            "replicas": PODS_OF_A_SET, "dataShards": 4, "parityShards": 2,
            "residency": residency, "spread": spread,
            "template": {
                "image": format!("coffer.local/site@sha256:{}", "0".repeat(64)),
                "resources": { "cpu": "500m", "memory": "2Gi", "diskBytes": 256_u64 << 30, "iops": 500 },
            },
        },
    }))
    .unwrap()
}

fn pod(set: u64, ordinal: u64) -> Pod {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("set-{set}-{ordinal}"),
            "labels": { "fleet.coffer/site-set": format!("set-{set}"), "fleet.coffer/ordinal": ordinal.to_string() },
        },
        "spec": {
            "schedulerName": "coffer",
            "containers": [{
                "name": "site", "image": format!("coffer.local/site@sha256:{}", "0".repeat(64)),
                "resources": { "requests": {
                    "cpu": "500m", "memory": "2Gi",
                    "fleet.coffer/disk-bytes": (256_u64 << 30).to_string(), "fleet.coffer/iops": "500",
                } },
            }],
        },
    }))
    .unwrap()
}

async fn create<K>(api: &Api<K>, objects: impl Iterator<Item = K>)
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let params = PostParams::default();
    futures::stream::iter(objects)
        .for_each_concurrent(AT_ONCE, |object| {
            let params = &params;
            async move { drop(api.create(params, &object).await.unwrap()) }
        })
        .await;
}

/// Until so many pods have been seen bound.
async fn bound(client: Client, wanted: u64) {
    let mut seen = std::collections::BTreeSet::new();
    let mut stream = watcher::watcher(Api::<Pod>::all(client), watcher::Config::default()).boxed();
    while (seen.len() as u64) < wanted {
        if let Event::Apply(pod) | Event::InitApply(pod) = stream.next().await.unwrap().unwrap()
            && pod.spec.is_some_and(|spec| spec.node_name.is_some())
        {
            seen.insert(pod.metadata.name.unwrap());
        }
    }
}

fn memory_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

async fn case(nodes: u64, pods: u64, hard: bool) {
    let dir = tempfile::tempdir_in(".").unwrap();
    let clock = Arc::new(SystemClock);
    let options = Options {
        path: dir.path().join("fleet.sqlite"),
        limits: coffer_embedded::store::Limits::default(),
        clock: clock.clone(),
        entropy: Arc::new(OsEntropy),
        nodes: Arc::new(coffer_embedded::NoNodeAccess),
        audit: Arc::new(coffer_embedded::NoAudit),
    };
    let embedded = Embedded::open(options).await.unwrap();
    let client = embedded.client();
    install(&client, NAMESPACE).await.unwrap();
    let sets = pods / PODS_OF_A_SET;
    let wanted = sets * PODS_OF_A_SET;
    create(&Api::all(client.clone()), (0..nodes).map(node)).await;
    create(&Api::namespaced(client.clone(), NAMESPACE), (0..sets).map(|n| set(n, hard))).await;
    let measured = Arc::new(Measured::default());
    let control = Control {
        client: client.clone(),
        clock,
        namespace: NAMESPACE.to_owned(),
        holder: "throughput".to_owned(),
        lease: Duration::from_secs(600),
        trusted: TrustedKeys::new(&[attester().verifying_key()]).unwrap(),
        shards: Arc::new(Presumed { needed: 4 }),
        certificates: Arc::new(NoCertificates),
        bind: Some(Arc::new(Transactions::new(client.clone(), InProcess(embedded)))),
        pace: Pace::default(),
        keeps_sets: false,
        trouble: Arc::new(|what| eprintln!("{what}")),
        measured: Some(measured.clone()),
    };
    let running = tokio::spawn(control.run());
    // The scheduler is at work before the time runs: its first record holds all nodes.
    let records: Api<PlacementRecord> = Api::namespaced(client.clone(), NAMESPACE);
    while records.list(&ListParams::default()).await.unwrap().items.is_empty() {
        assert!(!running.is_finished(), "{:?}", running.await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let waiting = tokio::spawn(bound(client.clone(), wanted));
    let start = Instant::now();
    let objects = (0..sets).flat_map(|n| (0..PODS_OF_A_SET).map(move |ordinal| pod(n, ordinal)));
    create(&api, objects).await;
    let created = start.elapsed().as_secs_f64();
    waiting.await.unwrap();
    let took = start.elapsed().as_secs_f64();
    let memory = memory_mib();
    let mut times = measured.times();
    times.sort();
    let at = |per_cent: usize| times[(times.len() - 1) * per_cent / 100].as_secs_f64() * 1e3;
    println!(
        "{nodes:6} nodes {wanted:6} pods {}  {:7.0} pods/s (created at {:5.0}/s)  decision of a set p50 {:6.3} ms p99 {:6.3} ms max {:6.3} ms  {memory} MiB",
        if hard { "hard " } else { "basic" },
        wanted as f64 / took,
        wanted as f64 / created,
        at(50),
        at(99),
        at(100),
    );
    running.abort();
    replay(&records, wanted).await;
}

/// What was written down leads to the same bindings.
async fn replay(records: &Api<PlacementRecord>, wanted: u64) {
    let mut items = records.list(&ListParams::default()).await.unwrap().items;
    items.sort_by_key(|record| record.spec.first);
    let lines: Vec<&str> =
        items.iter().flat_map(|record| record.spec.lines.iter().map(String::as_str)).collect();
    let ledger =
        Ledger::replay(lines.iter().copied(), items.last().map(|record| record.spec.end.as_str())).unwrap();
    assert_eq!(ledger.cluster().bound().count() as u64, wanted);
    println!("       the ledger of {} lines replays to the same {wanted} bindings", lines.len());
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match texts[..] {
        ["curve"] => {
            for nodes in [100, 500, 1000, 2000, 5000, 10_000] {
                // As many as fit on a hundred nodes with room for others.
                let pods = (nodes * 10).min(10_000);
                case(nodes, pods, false).await;
                case(nodes, pods, true).await;
            }
        }
        [nodes, pods, kind] => case(nodes.parse().unwrap(), pods.parse().unwrap(), kind == "hard").await,
        _ => {
            case(5000, 10_000, false).await;
            case(5000, 10_000, true).await;
        }
    }
}
