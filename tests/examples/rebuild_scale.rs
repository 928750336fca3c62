//! What the rebuild of catalogues costs as they grow, and whether the rebuilt
//! ones equal the lost: fills six sites by real puts of many clients, stops,
//! reads the catalogues with an independent reader, loses them and two sites,
//! recovers in a process of its own, reads again and compares. Then the two
//! sites come back and the next, larger filling begins.
//!
//! `cargo run --release -p coffer-tests --example rebuild_scale -- --objects 1000000`
#![expect(clippy::unwrap_used, reason = "a measurement stops at the first failure")]
#![expect(clippy::print_stdout, reason = "a measurement prints its findings")]
#![expect(clippy::disallowed_methods, reason = "kit and root key go to the other process by files")]
#![expect(clippy::cast_precision_loss, reason = "rates are for people")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use coffer_client::Client;
use coffer_custody::{OsEntropy, SystemClock};
use coffer_keys::RootKey;
use coffer_model::{BucketName, Clock, SiteId, TenantId};
use coffer_server::{Host, RecoveryKit, Service};
use coffer_tests::{Deployment, Ledger, TenantClient, bucket_name, catalogue_keys, object_key, pattern};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// The sites that every round loses.
const LOST: [&str; 2] = ["par1", "zrh1"];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match arguments.first().map(String::as_str) {
        Some("recover") => runtime.block_on(recover(Path::new(&arguments[1]), Path::new(&arguments[2]))),
        _ => runtime.block_on(measure(&Flags::parse(&arguments))),
    }
}

struct Flags {
    objects: u64,
    clients: u64,
}

impl Flags {
    fn parse(arguments: &[String]) -> Self {
        let value = |name: &str, default: u64| {
            let at = arguments.iter().position(|argument| argument == name);
            at.map_or(default, |at| arguments[at + 1].parse().unwrap())
        };
        Self { objects: value("--objects", 100_000), clients: value("--clients", 96) }
    }
}

/// The other process: recovers what is below DIR and prints what it took.
async fn recover(data: &Path, with: &Path) {
    let host = Host::of_this_machine(Arc::new(SystemClock), Arc::new(OsEntropy));
    let kit = RecoveryKit::from_json(&std::fs::read_to_string(with.join("kit.json")).unwrap()).unwrap();
    let key: [u8; 32] = std::fs::read(with.join("root")).unwrap().try_into().unwrap();
    let root = RootKey::danger_from_bytes(Zeroizing::new(key));
    let stages: Mutex<Vec<(&'static str, f64, u64)>> = Mutex::default();
    let start = SystemClock.monotonic();
    let progress = |stage: &'static str, _: u64| {
        let mut stages = stages.lock().unwrap();
        if stages.last().is_none_or(|(last, ..)| *last != stage) {
            let seconds = (SystemClock.monotonic() - start).as_secs_f64();
            stages.push((stage, seconds, memory("VmRSS")));
        }
    };
    let (service, report) = Service::recover(host, data, &root, &kit, &progress).await.unwrap();
    let seconds = (SystemClock.monotonic() - start).as_secs_f64();
    let peak = memory("VmHWM");
    let key = service.verifying_key().0;
    let stages: Vec<Value> = stages
        .into_inner()
        .unwrap()
        .into_iter()
        .map(|(stage, at, kib)| json!({ "stage": stage, "at": at, "rss_kib": kib }))
        .collect();
    println!(
        "{}",
        json!({
            "seconds": seconds, "peak_kib": peak, "versions": report.versions, "stages": stages,
            "unreadable": report.unreadable, "missing": report.missing_sites, "signing_key": key.to_vec(),
        })
    );
    service.shut_down().await.unwrap();
}

/// A line of `/proc/self/status`, KiB.
fn memory(what: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// One size, measured.
struct Round {
    objects: u64,
    per_object: f64,
}

async fn measure(flags: &Flags) {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = deployment.tenant("large").await;
    let small = deployment.tenant("small").await;
    let bucket = bucket_name("objects");
    let mut rounds = Vec::new();
    furnish(&tenant, &small).await;
    drop(small);
    let sizes = (4..).map(|power| 10_u64.pow(power)).take_while(|size| *size < flags.objects);
    let mut filled = 0;
    for size in sizes.chain([flags.objects]) {
        let start = SystemClock.monotonic();
        fill(&tenant, &bucket, filled..size, flags.clients).await;
        let seconds = (SystemClock.monotonic() - start).as_secs_f64();
        println!("\n{size} puts: {:.0} a second since {filled}", (size - filled) as f64 / seconds);
        filled = size;
        rounds.push(lose_and_rebuild(&mut deployment, &mut tenant, size).await);
    }
    let (first, last) = (rounds.first().unwrap(), rounds.last().unwrap());
    println!(
        "\ncost of one object at {} against that at {}: {:.2}",
        last.objects,
        first.objects,
        last.per_object / first.per_object
    );
}

/// What is not just many small objects: another tenant, a removed bucket,
/// objects of several stripes, refused and deleted ones.
async fn furnish(tenant: &TenantClient, small: &TenantClient) {
    for (who, seed) in [(tenant, 1), (small, 2)] {
        for bucket in ["objects", "removed"] {
            who.client.create_bucket(&bucket_name(bucket), None).await.unwrap();
        }
        for n in 0..20 {
            who.put(&bucket_name("objects"), &format!("striped-{n}"), pattern(seed, 70_000 + n)).await;
            who.put(&bucket_name("removed"), &format!("gone-{n}"), pattern(seed, 100 + n)).await;
            who.client.delete(&bucket_name("removed"), &object_key(&format!("gone-{n}"))).await.unwrap();
        }
        who.put(&bucket_name("objects"), "large", pattern(seed, 9 << 20)).await;
        who.client.remove_bucket(&bucket_name("removed")).await.unwrap();
    }
}

/// Puts objects by number; every fiftieth writes over an earlier one, and
/// every hundredth is deleted again.
async fn fill(tenant: &TenantClient, bucket: &BucketName, numbers: std::ops::Range<u64>, clients: u64) {
    let mut tasks = tokio::task::JoinSet::new();
    for own in 0..clients {
        let (client, bucket, numbers) = (tenant.client.clone(), bucket.clone(), numbers.clone());
        tasks.spawn(async move {
            for n in numbers.filter(|n| n % clients == own) {
                put(&client, &bucket, n).await;
            }
        });
    }
    tasks.join_all().await;
}

async fn put(client: &Client, bucket: &BucketName, n: u64) {
    let name = if n % 50 == 49 { n - 48 } else { n };
    let key = object_key(&format!("folder-{:03}/object-{name:08}", name % 997));
    let body = Bytes::from(n.to_be_bytes().repeat(32));
    let metadata = BTreeMap::from([("kind".to_owned(), "measured".to_owned())]);
    client.put_bytes(bucket, &key, &metadata, body).await.unwrap();
    if n % 100 == 30 {
        client.delete(bucket, &key).await.unwrap();
    }
}

async fn lose_and_rebuild(deployment: &mut Deployment, tenant: &mut TenantClient, size: u64) -> Round {
    let kit = deployment.service().kit().await.unwrap();
    let signing_key = deployment.service().verifying_key().0;
    deployment.stop().await;
    let data = deployment.data();
    let keys = catalogue_keys(&data, deployment.root()).await;
    let read = |leaves: &BTreeMap<TenantId, u64>, lost: &[SiteId]| -> BTreeMap<TenantId, Ledger> {
        let of = |tenant: &TenantId| leaves.get(tenant).copied().unwrap_or(u64::MAX);
        keys.iter().map(|(id, key)| (*id, Ledger::read(&data, *id, key, of(id), lost))).collect()
    };
    let lost = read(&BTreeMap::new(), &[]);
    let bytes = catalogue_bytes(&data);
    let aside = deployment.scratch().join("aside");
    std::fs::create_dir(&aside).unwrap();
    std::fs::write(aside.join("kit.json"), kit.to_json().unwrap()).unwrap();
    std::fs::write(aside.join("root"), deployment.root().danger_expose()).unwrap();
    deployment.lose_all_but_sites();
    for name in LOST {
        std::fs::rename(deployment.site_dir(name), aside.join(name)).unwrap();
    }
    let answer = run_recovery(&data, &aside);
    let ids: Vec<SiteId> = LOST.iter().map(|name| site_id(&kit, name)).collect();
    let leaves = lost.iter().map(|(id, ledger)| (*id, ledger.leaves)).collect();
    let rebuilt = read(&leaves, &ids);
    let mut differences: Vec<String> = Vec::new();
    for (id, ledger) in &lost {
        let found = rebuilt.get(id).map_or(vec!["not rebuilt".to_owned()], |other| ledger.differences(other));
        differences.extend(found.into_iter().map(|found| format!("tenant {}: {found}", keys[id].name)));
    }
    if answer["signing_key"] != json!(signing_key.to_vec()) {
        differences.push("the signing key is another".to_owned());
    }
    let round = print(size, &answer, &lost, bytes);
    println!("  equal in every bucket, name, version, tombstone, fact and leaf: {}", differences.is_empty());
    differences.iter().for_each(|difference| println!("  DIFFERENT: {difference}"));
    assert!(differences.is_empty(), "the rebuilt catalogues are not the lost ones");
    for name in LOST {
        std::fs::rename(aside.join(name), deployment.site_dir(name)).unwrap();
    }
    std::fs::remove_dir_all(&aside).unwrap();
    deployment.start().await;
    deployment.reconnect(tenant).await;
    round
}

fn run_recovery(data: &Path, aside: &Path) -> Value {
    let own: PathBuf = std::env::current_exe().unwrap();
    let done = Command::new(own).arg("recover").arg(data).arg(aside).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

fn site_id(kit: &RecoveryKit, name: &str) -> SiteId {
    kit.sites.iter().find(|address| address.site.name == name).unwrap().site.id
}

fn catalogue_bytes(data: &Path) -> u64 {
    let files = std::fs::read_dir(data.join("service/catalogues")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

fn print(size: u64, answer: &Value, lost: &BTreeMap<TenantId, Ledger>, bytes: u64) -> Round {
    let number = |field: &str| answer[field].as_f64().unwrap();
    let stages = answer["stages"].as_array().unwrap();
    let opened = stages.iter().find(|stage| stage["stage"] == "keys").unwrap();
    let (opened_at, opened_kib) = (opened["at"].as_f64().unwrap(), opened["rss_kib"].as_f64().unwrap());
    let seconds = number("seconds") - opened_at;
    let versions = number("versions");
    let leaves: u64 = lost.values().map(|ledger| ledger.leaves).sum();
    println!(
        "  {versions} versions and {leaves} leaves of {size} puts; catalogues {:.0} MB; missing {}",
        bytes as f64 / 1e6,
        answer["missing"]
    );
    println!(
        "  rebuilt in {seconds:.2} s after {opened_at:.2} s of opening sites: {:.0} objects/s, {:.1} us each",
        versions / seconds,
        seconds / versions * 1e6
    );
    println!(
        "  memory: {:.0} MB with the sites open, {:.0} MB at its peak: the rebuild took {:.0} MB",
        opened_kib / 1024.0,
        number("peak_kib") / 1024.0,
        (number("peak_kib") - opened_kib) / 1024.0
    );
    for pair in stages.windows(2) {
        let (from, to) = (pair[0]["at"].as_f64().unwrap(), pair[1]["at"].as_f64().unwrap());
        println!("  {:>12}: {:.2} s", pair[0]["stage"].as_str().unwrap(), to - from);
    }
    let last = stages.last().unwrap();
    println!(
        "  {:>12}: {:.2} s",
        last["stage"].as_str().unwrap(),
        number("seconds") - last["at"].as_f64().unwrap()
    );
    Round { objects: size, per_object: seconds / versions }
}
