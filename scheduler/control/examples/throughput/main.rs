//! How many pods a second go through create, watch, decide and bind on the
//! embedded API with its store on disk, every commit an fsync.
//!
//! `cargo run --release -p coffer-control --example throughput` prints the whole table: from 100 to 10,000 nodes, `basic`
//! (room alone) and `hard` (jurisdiction, tier, hard spread, and required anti-affinity to pods of other sets by node), and at 5,000
//! nodes `spread` (hard without anti-affinity), and all of it beside the platform controllers and with the audit file.
//! `-- NODES PODS basic|spread|hard [platform] [audit]` is one case, with `platform` beside the platform
//! controllers of the embedded home, with `audit` with the log that `coffer fleet serve` writes; without it nobody
//! takes down who changed what. Each case runs in a process of its own, on a store in the working directory: its disk is what is measured.
//! Pods come in sets of six, as storage pods do. The time runs from the first create to the last pod seen bound.
//!
//! Clients, scheduler and API are in one process and one runtime. Objects go as JSON through the same `kube` client and the
//! same service as over the network, authorization included, but not through TLS and sockets.
#![expect(clippy::unwrap_used, reason = "a measurement stops at the first failure")]
#![expect(clippy::print_stdout, reason = "a measurement prints its findings")]
#![expect(
    clippy::disallowed_methods,
    reason = "it measures with the machine's clock, and reads its own memory"
)]
#![expect(clippy::cast_precision_loss, reason = "rates are for people")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coffer_control::attestation::TrustedKeys;
use coffer_control::{
    Control, Measured, NAMESPACE, NoCertificates, Pace, PlacementRecord, Presumed, Transactions, install,
};
use coffer_custody::{OsEntropy, SystemClock};
use coffer_embedded::store::Figures;
use coffer_embedded::{Embedded, Options};
use coffer_scheduler::Ledger;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};

/// The adapter that ships with the program.
#[path = "../../../../client/cli/src/commands/home/in_process.rs"]
mod in_process;

/// The audit log that ships with the program, and what it stands on there.
#[path = "../../../../client/cli/src/commands/home/api_audit.rs"]
mod api_audit;
mod stands;

mod fleet;
mod machine;
mod times;

use stands::{exit, files, output};

use api_audit::{AuditFile, Written};
use fleet::{COLOUR, Kind, PODS_OF_A_SET, attester, colours, node, pod, set};
use in_process::InProcess;
use times::{Step, Timed, Times};

/// Requests at once, as many as scheduler_perf has clients.
const AT_ONCE: usize = 100;

/// Creates all of them, so many at once, each client a task.
async fn create<K>(api: &Api<K>, objects: impl Iterator<Item = K>, times: &Arc<Times>)
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + serde::Serialize + std::fmt::Debug,
    K: Send + Sync + 'static,
{
    futures::stream::iter(objects)
        .map(|object| {
            let (api, times) = (api.clone(), Arc::clone(times));
            tokio::spawn(async move {
                let name = || object.meta().name.clone().into_iter();
                times.note(Step::Sent, name());
                drop(api.create(&PostParams::default(), &object).await.unwrap());
                times.note(Step::Created, name());
            })
        })
        .for_each_concurrent(AT_ONCE, |created| async { created.await.unwrap() })
        .await;
}

/// Until so many pods have been seen bound.
async fn bound(client: Client, wanted: u64, times: Arc<Times>) {
    let mut seen = BTreeSet::new();
    let mut stream = watcher::watcher(Api::<Pod>::all(client), watcher::Config::default()).boxed();
    while (seen.len() as u64) < wanted {
        if let Event::Apply(pod) | Event::InitApply(pod) = stream.next().await.unwrap().unwrap()
            && pod.spec.is_some_and(|spec| spec.node_name.is_some())
        {
            let name = pod.metadata.name.unwrap();
            times.note(Step::Seen, std::iter::once(name.clone()));
            seen.insert(name);
        }
    }
}

/// What is measured.
#[derive(Clone, Copy)]
struct Case {
    nodes: u64,
    pods: u64,
    kind: Kind,
    /// Beside the platform controllers.
    platform: bool,
    /// With the audit log on the disk.
    audit: bool,
}

struct Found {
    case: Case,
    pods: u64,
    took: Duration,
    cpu: Duration,
    store_cpu: Duration,
    figures: Figures,
    decisions: Vec<Duration>,
    times: Arc<Times>,
    memory: u64,
}

async fn open(dir: &Path, audited: bool) -> (Embedded, Option<Written>) {
    let (audit, written): (Arc<dyn coffer_embedded::Audit>, _) = match audited {
        true => {
            let (audit, written) = AuditFile::open(&dir.join("audit")).unwrap();
            (Arc::new(audit), Some(written))
        }
        false => (Arc::new(coffer_embedded::NoAudit), None),
    };
    let options = Options {
        path: dir.join("fleet.sqlite"),
        limits: coffer_embedded::store::Limits::default(),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(OsEntropy),
        nodes: Arc::new(coffer_embedded::NoNodeAccess),
        audit,
    };
    (Embedded::open(options).await.unwrap(), written)
}

/// What Kubernetes has of its own, as the embedded home runs it.
async fn platform(client: Client) {
    let told = Arc::new(|fault| println!("{fault}"));
    let settings = coffer_embedded::platform::Settings::default();
    let never = std::future::pending();
    coffer_embedded::platform::run(client, Arc::new(SystemClock), settings, told, never).await;
}

/// A fleet with its scheduler at work.
async fn measure(case: Case) {
    let Case { nodes, pods, kind, .. } = case;
    let dir = tempfile::tempdir_in(".").unwrap();
    let (embedded, written) = open(dir.path(), case.audit).await;
    let client = embedded.client();
    install(&client, NAMESPACE).await.unwrap();
    let sets = pods / PODS_OF_A_SET;
    let (aside, times) = (Arc::new(Times::default()), Arc::new(Times::default()));
    create(&Api::all(client.clone()), (0..nodes).map(node), &aside).await;
    create(&Api::namespaced(client.clone(), NAMESPACE), (0..sets).map(|n| set(n, kind)), &aside).await;
    let measured = Arc::new(Measured::default());
    let transactions = Transactions::new(client.clone(), InProcess(embedded.clone()));
    let control = Control {
        client: client.clone(),
        clock: Arc::new(SystemClock),
        namespace: NAMESPACE.to_owned(),
        holder: "throughput".to_owned(),
        lease: Duration::from_secs(600),
        trusted: TrustedKeys::new(&[attester().verifying_key()]).unwrap(),
        shards: Arc::new(Presumed { needed: 4 }),
        certificates: Arc::new(NoCertificates),
        bind: Some(Arc::new(Timed { by: Box::new(transactions), times: Arc::clone(&times) })),
        pace: Pace::default(),
        keeps_sets: false,
        preempts: true,
        trouble: Arc::new(|what| eprintln!("{what}")),
        measured: Some(measured.clone()),
    };
    let running = tokio::spawn(control.run());
    let beside = case.platform.then(|| tokio::spawn(platform(client.clone())));
    // The scheduler is at work before the time runs: its first records hold all nodes.
    let records: Api<PlacementRecord> = Api::namespaced(client.clone(), NAMESPACE);
    let lines =
        |records: Vec<PlacementRecord>| records.iter().map(|one| one.spec.lines.len() as u64).sum::<u64>();
    while lines(records.list(&ListParams::default()).await.unwrap().items) < nodes {
        assert!(!running.is_finished(), "{:?}", running.await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let api: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let waiting = tokio::spawn(bound(client.clone(), sets * PODS_OF_A_SET, Arc::clone(&times)));
    let (cpu, store_cpu, before) =
        (machine::cpu(""), machine::cpu("fleet-store"), embedded.store().figures());
    let start = Instant::now();
    let colours = (kind == Kind::Hard).then(|| colours(nodes, pods));
    let objects = (0..sets).flat_map(|n| (0..PODS_OF_A_SET).map(move |ordinal| pod(n, ordinal, colours)));
    create(&api, objects, &times).await;
    waiting.await.unwrap();
    let found = Found {
        case,
        pods: sets * PODS_OF_A_SET,
        took: start.elapsed(),
        cpu: machine::cpu("") - cpu,
        store_cpu: machine::cpu("fleet-store") - store_cpu,
        figures: embedded.store().figures().since(&before),
        decisions: measured.times(),
        times,
        memory: machine::memory_mib(),
    };
    running.abort();
    beside.inspect(|task| task.abort());
    print(&found, dir.path());
    replay(&records, &found).await;
    if let Some(written) = written {
        drop((records, api, client, embedded));
        audited(dir.path(), written, found.pods).await;
    }
}

/// Who made each pod was written down.
async fn audited(dir: &Path, written: Written, pods: u64) {
    // The scheduler may have the log open still; what it wrote is waited for by its bytes.
    let made = || {
        let files = std::fs::read_dir(dir.join("audit")).unwrap();
        let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap_or_default());
        texts.map(|text| text.lines().filter(|line| line.contains("\"pods\"")).count() as u64).sum::<u64>()
    };
    drop(tokio::time::timeout(Duration::from_secs(10), written.done()).await);
    assert!(made() >= pods, "{} of {pods} pods are in the audit log", made());
    println!("       the audit log has them all");
}

fn print(found: &Found, dir: &Path) {
    let seconds = found.took.as_secs_f64();
    let pods = found.pods as f64;
    let mut decisions = found.decisions.clone();
    decisions.sort_unstable();
    let at =
        |times: &[Duration], per_cent: usize| times[(times.len() - 1) * per_cent / 100].as_secs_f64() * 1e3;
    let way = found.times.between(Step::Sent, Step::Seen);
    let mean = |from, to| {
        let times = found.times.between(from, to);
        times.iter().sum::<Duration>().as_secs_f64() * 1e3 / times.len() as f64
    };
    let (binding, batches) = found.times.binding();
    let deciding: Duration = decisions.iter().sum();
    let share = |time: Duration| time.as_secs_f64() / seconds * 100.0;
    let Figures { groups, rows, bytes } = found.figures;
    let limit = machine::rows_a_second(dir, &found.figures) * pods / rows as f64;
    println!(
        "{:6} {:6} {:6}  {:6.0}  {:7.3} {:7.3} {:7.3}  {:6.0}  {:5}  {:6.0}  {:6.0}",
        found.case.nodes,
        found.pods,
        found.case.kind.name(),
        pods / seconds,
        at(&decisions, 50),
        at(&decisions, 99),
        at(&decisions, 100),
        at(&way, 99),
        found.memory,
        groups as f64 / seconds,
        limit,
    );
    println!(
        "       a pod's way, mean ms: create {:.0}, watch and queue {:.0}, bind {:.0}, watch {:.0}; of the time: store's thread {:.0} % CPU, deciding {:.0} %, binding {:.0} % ({batches} transactions); all threads {:.0} % CPU, {:.0} us a pod; {rows} rows of {} bytes",
        mean(Step::Sent, Step::Created),
        mean(Step::Created, Step::Decided),
        mean(Step::Decided, Step::Bound),
        mean(Step::Bound, Step::Seen),
        share(found.store_cpu),
        share(deciding),
        share(binding),
        share(found.cpu),
        found.cpu.as_secs_f64() * 1e6 / pods,
        bytes / rows.max(1),
    );
}

/// What was written down leads to the same bindings.
async fn replay(records: &Api<PlacementRecord>, found: &Found) {
    let wanted = found.pods;
    let mut items = records.list(&ListParams::default()).await.unwrap().items;
    items.sort_by_key(|record| record.spec.first);
    let lines: Vec<&str> =
        items.iter().flat_map(|record| record.spec.lines.iter().map(String::as_str)).collect();
    let ledger =
        Ledger::replay(lines.iter().copied(), items.last().map(|record| record.spec.end.as_str())).unwrap();
    let cluster = ledger.cluster();
    assert_eq!(cluster.bound().count() as u64, wanted);
    let mut seen = BTreeSet::new();
    for (pod, node) in cluster.bound() {
        let colour = cluster.traits(pod).and_then(|traits| traits.labels.get(COLOUR));
        assert_eq!(colour.is_some(), found.case.kind == Kind::Hard, "{pod}");
        let alone = colour.is_none_or(|colour| seen.insert((node.clone(), colour.clone())));
        assert!(alone, "{pod} is on {node} beside another one of its colour");
    }
    println!("       the ledger of {} lines replays to the same {wanted} bindings", lines.len());
}

/// Each in a process of its own, so that its memory is its own.
fn table() {
    println!(
        " nodes   pods case    pods/s  decision of a set, ms   create to  peak   fsyncs  limit: pods/s\n{:25}p50     p99     max   bound p99  MiB   /s      of bare SQLite",
        ""
    );
    println!("{:47}ms", "");
    for nodes in [100_u64, 500, 1000, 2000, 5000, 10_000] {
        // As many as fit on a hundred nodes with room for others.
        let pods = (nodes * 10).min(10_000);
        for kind in ["basic", "hard"] {
            alone(&[&nodes.to_string(), &pods.to_string(), kind]);
        }
    }
    println!("\nWithout anti-affinity:");
    alone(&["5000", "10000", "spread"]);
    for (title, beside) in [
        ("beside the platform controllers", &["platform"][..]),
        ("with the audit log of coffer fleet serve", &["audit"]),
        ("with both, as coffer fleet serve runs it", &["platform", "audit"]),
    ] {
        println!("\nThe same {title}:");
        for kind in ["basic", "hard"] {
            alone(&[&["5000", "10000", kind], beside].concat());
        }
    }
}

fn alone(arguments: &[&str]) {
    let mut one = std::process::Command::new(std::env::current_exe().unwrap());
    assert!(one.args(arguments).status().unwrap().success());
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let [nodes, pods, kind, ref beside @ ..] = texts[..] {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let (nodes, pods) = (nodes.parse().unwrap(), pods.parse().unwrap());
        let (platform, audit) = (beside.contains(&"platform"), beside.contains(&"audit"));
        let kind = Kind::called(kind).unwrap();
        runtime.block_on(measure(Case { nodes, pods, kind, platform, audit }));
    } else {
        table();
    }
}
