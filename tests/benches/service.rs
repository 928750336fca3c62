//! What the service costs, beside what this machine could do at best: seal,
//! code, hash and disk measured alone, then puts and gets over the wire and a
//! backup with its restore, each as a ratio to those limits. One run, one
//! machine, so that the ratios hold where absolute figures lie.
//!
//! `cargo bench -p coffer-tests --bench service -- [large] [small] [backup] [slow]`
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first failure")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its findings")]
#![expect(clippy::disallowed_methods, reason = "the tree that is backed up is plain files")]
#![expect(clippy::cast_precision_loss, reason = "rates are for people")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coffer_client::BucketStore;
use coffer_client::backup::{BackupOptions, Quiet, Repository, backup, plan_restore, restore};
use coffer_custody::{OsEntropy, SystemClock};
use coffer_keys::RepositoryKey;
use coffer_model::{BucketName, RecordId};
use coffer_regions::{ClearGeometry, Record, RecordKind};
use coffer_server::{Host, SiteFile, SiteOpener as _};
use coffer_tests::{
    Deployment, Limits, SlowDisk, SlowSites, TenantClient, bucket_name, elapsed, host, median, object_key,
    pattern,
};

const MIB: usize = 1 << 20;

async fn large(tenant: &TenantClient, bucket: &BucketName, limits: &Limits, size: usize, rounds: usize) {
    let body = pattern(2, size);
    let (mut puts, mut gets, mut streams) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        puts.push(elapsed(tenant.put(bucket, "object", body.clone())).await.0);
        let (took, got) = elapsed(tenant.get(bucket, "object")).await;
        assert!(got.unwrap() == body);
        gets.push(took);
        streams.push(elapsed(drain(tenant, bucket)).await.0);
    }
    let name = if size >= MIB { format!("{} MiB", size / MIB) } else { format!("{} KiB", size >> 10) };
    let of = |times: &[f64]| size as f64 / median(times);
    let (put, get) = (of(&puts), of(&gets));
    println!("put {name:>7}  {:8.0} MB/s   {:5.2} of the limit", put / 1e6, put / limits.put());
    for (get, how) in [(get, "into memory"), (of(&streams), "piece by piece")] {
        println!(
            "get {name:>7}  {:8.0} MB/s   {:5.2} of the limit   {:5.2} of that with the wire   {how}",
            get / 1e6,
            get / limits.get(),
            get / limits.get_over_wire()
        );
    }
}

/// Reads the object and keeps nothing.
async fn drain(tenant: &TenantClient, bucket: &BucketName) {
    let (_, mut body) = tenant.client.get(bucket, &object_key("object"), None).await.unwrap();
    while body.next().await.unwrap().is_some() {}
}

/// Puts a second of 4 KiB with so many clients at once.
async fn small(tenant: &Arc<TenantClient>, bucket: &BucketName, clients: usize, each: usize) -> f64 {
    let (took, ()) = elapsed(async {
        let mut tasks = tokio::task::JoinSet::new();
        for client in 0..clients {
            let (tenant, bucket) = (Arc::clone(tenant), bucket.clone());
            tasks.spawn(async move {
                for i in 0..each {
                    tenant.put(&bucket, &format!("small/{client}/{i}"), Bytes::from_static(&[5; 4096])).await;
                }
            });
        }
        tasks.join_all().await;
    })
    .await;
    (clients * each) as f64 / took
}

/// Objects a second where each is stored at six sites one after the other,
/// one fsync for each object and site, by one writer: what group commit, many
/// clients and sites at the same time are held against.
async fn one_after_the_other(disk: SlowDisk, scratch: &Path, objects: usize) -> f64 {
    let file = SiteFile::shipped().unwrap();
    let opener = SlowSites::on(disk, Arc::new(OsEntropy));
    let mut sites = Vec::new();
    for address in file.addresses(&OsEntropy) {
        sites.push(opener.create(scratch, &address).await.unwrap().site);
    }
    let (took, ()) = elapsed(async {
        for _ in 0..objects {
            let id = RecordId::generate(&OsEntropy);
            let body = Bytes::from_static(&[5; 4096]);
            let record = Record::new(RecordKind::Manifest, id, ClearGeometry::default(), body).unwrap();
            for site in &sites {
                site.put(vec![record.clone()]).await.unwrap();
            }
        }
    })
    .await;
    objects as f64 / took
}

/// Small puts on sites whose disks take so much longer for an fsync than this
/// machine's. The catalogue lies on this machine's disk as it is.
async fn small_at(latency: Duration) {
    let disk = SlowDisk::of(latency);
    let sites = Arc::new(SlowSites::on(disk, Arc::new(OsEntropy)));
    let deployment = Deployment::six_sites_on(Host { sites, ..host() }).await;
    let tenant = Arc::new(deployment.tenant("benchmark").await);
    let bucket = bucket_name("objects");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let scratch = deployment.scratch().join("serial");
    let objects = if latency.is_zero() { 500 } else { 60 };
    let serial = one_after_the_other(disk, &scratch, objects).await;
    let ms = latency.as_millis();
    println!("fsync of a site + {ms} ms: {serial:6.0} objects a second, one after the other at six sites");
    for (clients, each) in [(1, 100), (8, 100), (64, 64)] {
        let rate = small(&tenant, &bucket, clients, each).await;
        let of_serial = rate / serial;
        println!("put   4 KiB x {clients:2} clients  {rate:6.0} a second   {of_serial:5.1} times that");
    }
}

async fn backup_and_restore(tenant: &TenantClient, scratch: &Path) {
    let source = scratch.join("source");
    fs::create_dir_all(&source).unwrap();
    for i in 0..2000 {
        fs::write(source.join(format!("small-{i}")), pattern(i, 8192)).unwrap();
    }
    for i in 0..4 {
        fs::write(source.join(format!("large-{i}")), pattern(9000 + i, 64 * MIB)).unwrap();
    }
    let total = (2000 * 8192 + 4 * 64 * MIB) as f64;
    let bucket = bucket_name("backups");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    let store = Arc::new(BucketStore::new(tenant.client.clone(), bucket));
    let key = RepositoryKey::generate(&OsEntropy);
    let repository = Repository::init(store, &key, None, &OsEntropy).await.unwrap();
    let mut manifest = Vec::new();
    let (stored, ()) = elapsed(async {
        let options = BackupOptions::default();
        let (entropy, quiet) = (Arc::new(OsEntropy), Arc::new(Quiet));
        backup(&repository, &source, options, &mut manifest, &SystemClock, entropy, quiet).await.unwrap();
    })
    .await;
    let snapshot = repository.snapshots().await.unwrap().remove(0);
    let (restored, ()) = elapsed(async {
        let plan = plan_restore(&repository, &snapshot.id, &scratch.join("restored")).await.unwrap();
        restore(&repository, plan, Arc::new(Quiet)).await.unwrap();
    })
    .await;
    println!("backup   2,004 files, {:.0} MB  {:6.0} MB/s", total / 1e6, total / stored / 1e6);
    println!("restore  2,004 files, {:.0} MB  {:6.0} MB/s", total / 1e6, total / restored / 1e6);
}

/// Large and small, beside the limits of this machine.
async fn beside_limits(deployment: &Deployment, wants: impl Fn(&str) -> bool) {
    let limits = Limits::measure(deployment.scratch());
    limits.print();
    let tenant = Arc::new(deployment.tenant("benchmark").await);
    let bucket = bucket_name("objects");
    tenant.client.create_bucket(&bucket, None).await.unwrap();
    println!("the service on loopback, mutual TLS, 4+2 over six local sites, fsync on:");
    if wants("large") {
        large(&tenant, &bucket, &limits, 64 * MIB, 21).await;
        large(&tenant, &bucket, &limits, MIB, 31).await;
        large(&tenant, &bucket, &limits, 4096, 101).await;
        assert_eq!(tenant.client.stat(&bucket, &object_key("object")).await.unwrap().object.size, 4096);
    }
    if wants("small") {
        for clients in [1, 8, 64] {
            let rate = small(&tenant, &bucket, clients, 512 / clients.min(8)).await;
            let of_disk = rate / limits.fsyncs;
            println!(
                "put   4 KiB x {clients:2} clients  {rate:6.0} a second   {of_disk:5.2} of the disk's fsyncs"
            );
        }
    }
    if wants("backup") {
        backup_and_restore(&tenant, deployment.scratch()).await;
    }
}

fn main() {
    let chosen: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let wants = |what: &str| chosen.is_empty() || chosen.iter().any(|word| word == what);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if ["large", "small", "backup"].into_iter().any(wants) {
            beside_limits(&Deployment::six_sites().await, wants).await;
        }
        if wants("slow") {
            println!("\nsmall puts where the disks of the sites take longer; target: 64 clients 20 times");
            println!("(the disk itself is waited for besides; the catalogue's fsyncs are this machine's):");
            for ms in [0, 1, 2, 5] {
                small_at(Duration::from_millis(ms)).await;
            }
        }
    });
}
