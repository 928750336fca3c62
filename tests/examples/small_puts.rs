//! What small objects cost: bytes at the sites for each 1 KiB object, the log's
//! share included, and 4 KiB puts a second beside what a store does that makes
//! a file of its own, with its fsyncs, for each object at each site. One run,
//! one disk, so that the ratios hold where absolute figures lie.
//!
//! `cargo run --release -p coffer-tests --example small_puts [-- bytes | rates]`
#![expect(clippy::unwrap_used, reason = "a measurement stops at the first failure")]
#![expect(clippy::print_stdout, reason = "a measurement prints its findings")]
#![expect(clippy::disallowed_methods, reason = "the disk's own limit is measured on plain files")]
#![expect(clippy::cast_precision_loss, reason = "rates are for people")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use coffer_custody::SystemClock;
use coffer_model::{BucketName, Clock};
use coffer_regions::{RecordKind, Site};
use coffer_server::RecoveryKit;
use coffer_tests::{Deployment, TenantClient, bucket_name, elapsed, object_key, pattern};

const OBJECTS: usize = 5000;
const OBJECT_BYTES: usize = 1024;
const SMALL_BYTES: usize = 4096;

/// What lies at all sites together.
#[derive(Clone, Copy, Debug, Default)]
struct Stored {
    volumes: u64,
    files: u64,
    records: u64,
    batches: u64,
    /// Bytes of bodies, by kind: shard, manifest, tombstone, wrap, registry, log.
    bodies: [u64; 6],
}

impl Stored {
    fn minus(self, before: Self) -> Self {
        let mut bodies = self.bodies;
        bodies.iter_mut().zip(before.bodies).for_each(|(now, then)| *now -= then);
        Self {
            volumes: self.volumes - before.volumes,
            files: self.files - before.files,
            records: self.records - before.records,
            batches: self.batches - before.batches,
            bodies,
        }
    }
}

/// Looks at every site while the service is stopped.
async fn look(deployment: &mut Deployment, kit: &RecoveryKit) -> Stored {
    deployment.stop().await;
    let mut stored = Stored::default();
    for address in &kit.sites {
        let name = &address.site.name;
        stored.files += bytes_under(&deployment.site_dir(name));
        let site = deployment.open_site(kit, name);
        let state = site.state().await;
        stored.volumes += state.volume_bytes;
        stored.records += state.records;
        stored.batches += state.reach.map_or(0, |reach| reach.sequence);
        for (sum, kind) in stored.bodies.iter_mut().zip(RecordKind::ALL) {
            let mut after = None;
            loop {
                let page = site.list(kind, after, 4096).await.unwrap();
                *sum += page.iter().map(|line| u64::from(line.body_bytes)).sum::<u64>();
                after = page.last().map(|line| line.id);
                if page.len() < 4096 {
                    break;
                }
            }
        }
    }
    deployment.start().await;
    stored
}

/// Bytes of all files under a directory, whatever they are called.
fn bytes_under(dir: &Path) -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let about = entry.metadata().unwrap();
        sum += if about.is_dir() { bytes_under(&entry.path()) } else { about.len() };
    }
    sum
}

/// Puts `each` objects from each of `clients` clients, over one connection each.
async fn puts(
    deployment: &Deployment,
    tenant: &TenantClient,
    bucket: &BucketName,
    load: (usize, usize, usize, &str),
) -> f64 {
    let (clients, each, size, name) = load;
    let mut connections = Vec::new();
    for _ in 0..clients {
        connections.push(deployment.connect(&tenant.credentials).await);
    }
    let body: Bytes = pattern(7, size);
    elapsed(async {
        let mut tasks = tokio::task::JoinSet::new();
        for (number, client) in connections.into_iter().enumerate() {
            let (bucket, body, name) = (bucket.clone(), body.clone(), name.to_owned());
            tasks.spawn(async move {
                for i in 0..each {
                    let key = object_key(&format!("{name}/{number}/{i}"));
                    client.put_bytes(&bucket, &key, &Default::default(), body.clone()).await.unwrap();
                }
            });
        }
        tasks.join_all().await;
    })
    .await
    .0
}

async fn bytes_stored(clients: usize) {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = deployment.tenant("measured").await;
    let bucket = bucket_name("objects");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let kit = deployment.service().kit().await.unwrap();
    let before = look(&mut deployment, &kit).await;
    deployment.reconnect(&mut tenant).await;
    puts(&deployment, &tenant, &bucket, (clients, OBJECTS / clients, OBJECT_BYTES, "bytes")).await;
    tenant.watch().advance(&tenant.client).await.unwrap();
    let stored = look(&mut deployment, &kit).await.minus(before);
    let per = |bytes: u64| bytes as f64 / (OBJECTS / clients * clients) as f64;
    let bodies: u64 = stored.bodies.iter().sum();
    let [shards, manifests, tombstones, wraps, registry, log] = stored.bodies;
    println!("{OBJECTS} objects of {OBJECT_BYTES} bytes, {clients} client(s), checkpoint signed:");
    println!("  at all sites together  {:8.1} bytes an object (target: below 4608)", per(stored.volumes));
    println!("  all files at the sites {:8.1}", per(stored.files));
    println!("  manifest records       {:8.1} (content {})", per(manifests), 3 * OBJECT_BYTES);
    println!("  log runs               {:8.1}", per(log));
    println!("  other records          {:8.1}", per(shards + tombstones + wraps + registry));
    println!("  framing and digests    {:8.1}", per(stored.volumes - bodies));
    println!("  records in a batch     {:8.1}\n", stored.records as f64 / stored.batches as f64);
}

/// Seconds for one object in a store that makes a file for it at each site,
/// one after the other, and fsyncs file and directory.
fn file_for_each(sites: &[PathBuf]) -> f64 {
    let body = pattern(9, SMALL_BYTES);
    let start = SystemClock.monotonic();
    let rounds = 200;
    for i in 0..rounds {
        for site in sites {
            let mut file = File::create_new(site.join(format!("object-{i}"))).unwrap();
            file.write_all(&body).unwrap();
            file.sync_all().unwrap();
            File::open(site).unwrap().sync_all().unwrap();
        }
    }
    (SystemClock.monotonic() - start).as_secs_f64() / f64::from(rounds)
}

/// Seconds for an append of 4 KiB with its fdatasync.
fn append(path: &Path) -> f64 {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    let body = pattern(9, SMALL_BYTES);
    let start = SystemClock.monotonic();
    let rounds = 300;
    for _ in 0..rounds {
        file.write_all(&body).unwrap();
        file.sync_data().unwrap();
    }
    (SystemClock.monotonic() - start).as_secs_f64() / f64::from(rounds)
}

fn limits(scratch: &Path, round: usize) -> (f64, f64, f64) {
    let sites = |count: usize| -> Vec<PathBuf> {
        let dirs = (0..count).map(|i| scratch.join(format!("naive-{round}-{count}-{i}")));
        dirs.inspect(|dir| fs::create_dir_all(dir).unwrap()).collect()
    };
    (1.0 / file_for_each(&sites(3)), 1.0 / file_for_each(&sites(6)), 1.0 / append(&scratch.join("append")))
}

async fn rates() {
    let mut deployment = Deployment::six_sites().await;
    let mut tenant = deployment.tenant("measured").await;
    let bucket = bucket_name("objects");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let kit = deployment.service().kit().await.unwrap();
    println!("puts of {SMALL_BYTES} bytes, six local sites, 3 holders, fsync on, loopback, mutual TLS:");
    println!("the limits are measured again before each line, in the same directory");
    for (round, (clients, each)) in [(1, 1500), (8, 500), (64, 200)].into_iter().enumerate() {
        let before = look(&mut deployment, &kit).await;
        deployment.reconnect(&mut tenant).await;
        let (three, six, appends) = limits(deployment.scratch(), round);
        puts(&deployment, &tenant, &bucket, (clients, 20, SMALL_BYTES, "warm")).await;
        let commits = deployment.service().grouping();
        let took = puts(&deployment, &tenant, &bucket, (clients, each, SMALL_BYTES, "rate")).await;
        let grouped = deployment.service().grouping();
        let rate = (clients * each) as f64 / took;
        let stored = look(&mut deployment, &kit).await.minus(before);
        println!("{clients:3} client(s) {rate:7.0} a second");
        println!(
            "      {:6.1} x a file with its fsyncs for each object at 3 sites ({three:.0}/s)",
            rate / three
        );
        println!("      {:6.1} x the same at 6 sites ({six:.0}/s)", rate / six);
        println!("      {:6.2} x append + fdatasync, one file ({appends:.0}/s)", rate / appends);
        println!(
            "      {:6.1} operations a commit of the catalogue, {:.1} records a batch at a site",
            (grouped.operations - commits.operations) as f64 / (grouped.commits - commits.commits) as f64,
            stored.records as f64 / stored.batches as f64,
        );
    }
}

fn main() {
    let only = std::env::args().nth(1);
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if wanted("bytes") {
            for clients in [1, 50] {
                bytes_stored(clients).await;
            }
        }
        if wanted("rates") {
            rates().await;
        }
    });
}
