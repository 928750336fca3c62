//! What the service costs, beside what this machine could do at best: seal,
//! code, hash and disk measured alone, then puts and gets over the wire and a
//! backup with its restore, each as a ratio to those limits. One run, one
//! machine, so that the ratios hold where absolute figures lie.
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first failure")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its findings")]
#![expect(clippy::disallowed_methods, reason = "the disk's own limit is measured on plain files")]
#![expect(clippy::cast_precision_loss, reason = "rates are for people")]

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use coffer_client::BucketStore;
use coffer_client::backup::{BackupOptions, Quiet, Repository, backup, plan_restore, restore};
use coffer_custody::{OsEntropy, SystemClock};
use coffer_keys::{Context, Dek, RepositoryKey, Sealer};
use coffer_model::{BucketName, Clock, Geometry};
use coffer_regions::Codec;
use coffer_tests::{Deployment, TenantClient, bucket_name, object_key, pattern};

const MIB: usize = 1 << 20;

/// Seconds that `work` takes.
fn seconds(work: impl FnOnce()) -> f64 {
    let start = SystemClock.monotonic();
    work();
    (SystemClock.monotonic() - start).as_secs_f64()
}

/// The median of an odd number of measurements.
fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

/// What one core, or the disk, does at best; bytes a second.
struct Limits {
    seal: f64,
    code: f64,
    hash: f64,
    disk: f64,
    /// write + fdatasync of 4 KiB, a second.
    fsyncs: f64,
}

impl Limits {
    fn measure(dir: &Path) -> Self {
        let plain = pattern(1, 64 * MIB);
        let size = plain.len() as f64;
        let rate = |work: &dyn Fn()| size / median((0..5).map(|_| seconds(work)).collect());
        let key = Dek::generate(&OsEntropy);
        let context = Context::named("benchmark", &[]);
        let codec = Codec::new(Geometry::DEFAULT).unwrap();
        Self {
            seal: rate(&|| {
                let mut out = Vec::with_capacity(2 * MIB);
                let mut sealer = Sealer::new(&key, &context, &OsEntropy, &mut out);
                for piece in plain.chunks(MIB) {
                    out.clear();
                    sealer.push(piece, &mut out).unwrap();
                }
            }),
            code: rate(&|| plain.chunks(4 * MIB).for_each(|stripe| drop(codec.encode(stripe).unwrap()))),
            hash: rate(&|| {
                plain.chunks(MIB).for_each(|shard| assert_ne!(blake3::hash(shard).as_bytes(), &[0; 32]))
            }),
            disk: rate(&|| write_synced(&dir.join("limit"), &plain)),
            fsyncs: 1.0 / median((0..201).map(|_| seconds(|| append_synced(&dir.join("log")))).collect()),
        }
    }

    /// Seconds for a put of `size` bytes, each step after the other on one
    /// core: seal once, code once, hash the content and 1.5 times the sealed
    /// bytes, write 1.5 times.
    fn put(&self, size: f64) -> f64 {
        size * (1.0 / self.seal + 1.0 / self.code + 2.5 / self.hash + 1.5 / self.disk)
    }

    /// Seconds for a get from the page cache: hash, open.
    fn get(&self, size: f64) -> f64 {
        size * (1.0 / self.seal + 1.0 / self.hash)
    }
}

fn write_synced(path: &Path, bytes: &[u8]) {
    let mut file = File::create(path).unwrap();
    file.write_all(bytes).unwrap();
    file.sync_data().unwrap();
}

fn append_synced(path: &Path) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    file.write_all(&[7; 4096]).unwrap();
    file.sync_data().unwrap();
}

async fn elapsed(work: impl Future<Output = ()>) -> f64 {
    let start = SystemClock.monotonic();
    work.await;
    (SystemClock.monotonic() - start).as_secs_f64()
}

async fn large(tenant: &TenantClient, bucket: &BucketName, limits: &Limits, size: usize, rounds: usize) {
    let body = pattern(2, size);
    let (mut puts, mut gets) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        puts.push(elapsed(tenant.put(bucket, "object", body.clone())).await);
        gets.push(elapsed(async { assert!(tenant.get(bucket, "object").await.unwrap() == body) }).await);
    }
    let (put, get, bytes) = (median(puts), median(gets), size as f64);
    let (put_ratio, get_ratio) = (limits.put(bytes) / put, limits.get(bytes) / get);
    let name = if size >= MIB { format!("{} MiB", size / MIB) } else { format!("{} KiB", size >> 10) };
    println!("put {name:>7}  {:8.0} MB/s   {put_ratio:5.2} of the limit", bytes / put / 1e6);
    println!("get {name:>7}  {:8.0} MB/s   {get_ratio:5.2} of the limit", bytes / get / 1e6);
}

async fn small(tenant: &Arc<TenantClient>, bucket: &BucketName, limits: &Limits, clients: usize) {
    let each = 512 / clients.min(8);
    let took = elapsed(async {
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
    let rate = (clients * each) as f64 / took;
    println!(
        "put   4 KiB x {clients:2} clients  {rate:6.0} a second   {:5.2} of the disk's fsyncs",
        rate / limits.fsyncs
    );
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
    let stored = elapsed(async {
        let options = BackupOptions::default();
        let (entropy, quiet) = (Arc::new(OsEntropy), Arc::new(Quiet));
        backup(&repository, &source, options, &mut manifest, &SystemClock, entropy, quiet).await.unwrap();
    })
    .await;
    let snapshot = repository.snapshots().await.unwrap().remove(0);
    let restored = elapsed(async {
        let plan = plan_restore(&repository, &snapshot.id, &scratch.join("restored")).await.unwrap();
        restore(&repository, plan, Arc::new(Quiet)).await.unwrap();
    })
    .await;
    println!("backup   2,004 files, {:.0} MB  {:6.0} MB/s", total / 1e6, total / stored / 1e6);
    println!("restore  2,004 files, {:.0} MB  {:6.0} MB/s", total / 1e6, total / restored / 1e6);
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let deployment = Deployment::six_sites().await;
        let limits = Limits::measure(deployment.scratch());
        println!("limits of this machine, one core each:");
        println!("seal  {:8.0} MB/s (AES-256-GCM, 16 KiB chunks)", limits.seal / 1e6);
        println!("code  {:8.0} MB/s (Reed-Solomon 4+2)", limits.code / 1e6);
        println!("hash  {:8.0} MB/s (BLAKE3)", limits.hash / 1e6);
        println!("disk  {:8.0} MB/s (write + fdatasync, 64 MiB)", limits.disk / 1e6);
        println!("fsync {:8.0} a second (append 4 KiB + fdatasync)\n", limits.fsyncs);
        let tenant = Arc::new(deployment.tenant("benchmark").await);
        let bucket = bucket_name("objects");
        tenant.client.create_bucket(&bucket, None).await.unwrap();
        println!("the service on loopback, mutual TLS, 4+2 over six local sites, fsync on:");
        large(&tenant, &bucket, &limits, 64 * MIB, 7).await;
        large(&tenant, &bucket, &limits, MIB, 31).await;
        large(&tenant, &bucket, &limits, 4096, 101).await;
        for clients in [1, 8, 64] {
            small(&tenant, &bucket, &limits, clients).await;
        }
        assert_eq!(tenant.client.stat(&bucket, &object_key("object")).await.unwrap().object.size, 4096);
        backup_and_restore(&tenant, deployment.scratch()).await;
    });
}
