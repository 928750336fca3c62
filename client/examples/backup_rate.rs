//! How fast a tree is backed up to memory and restored from it:
//! `cargo run --release -p coffer-client --example backup_rate -- SOURCE TARGET`.
//!
//! Prints seconds and rates; memory is read from outside, by `/usr/bin/time -v`.
//! With `-` as the target packs are counted and dropped, and nothing is restored.
#![expect(clippy::print_stdout, clippy::disallowed_methods, reason = "a measurement by hand")]

use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use coffer_client::backup::{
    BackupOptions, BlobStore, BlobStoreError, MemoryStore, Quiet, Repository, backup, plan_restore, restore,
};
use coffer_keys::RepositoryKey;
use coffer_model::{Clock, Entropy, Timestamp};
use zeroize::Zeroizing;

/// Chance for a measurement: not secret, so nothing real may be sealed with it.
struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, out: &mut [u8]) {
        let count = self.0.fetch_add(1, Ordering::Relaxed);
        blake3::Hasher::new().update(&count.to_le_bytes()).finalize_xof().fill(out);
    }
}

struct Stopwatch(Instant);

impl Clock for Stopwatch {
    fn now(&self) -> Timestamp {
        Timestamp(0)
    }
    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Keeps everything but packs.
struct Dropping(MemoryStore);

#[async_trait]
impl BlobStore for Dropping {
    async fn put(&self, name: &str, body: Bytes) -> Result<(), BlobStoreError> {
        let body = if name.starts_with("packs/") { Bytes::new() } else { body };
        self.0.put(name, body).await
    }
    async fn get(&self, name: &str) -> Result<Bytes, BlobStoreError> {
        self.0.get(name).await
    }
    async fn get_range(&self, name: &str, range: std::ops::Range<u64>) -> Result<Bytes, BlobStoreError> {
        self.0.get_range(name, range).await
    }
    async fn list(&self, prefix: &str) -> Result<Vec<String>, BlobStoreError> {
        self.0.list(prefix).await
    }
    async fn delete(&self, name: &str) -> Result<(), BlobStoreError> {
        self.0.delete(name).await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [source, target] = arguments.as_slice() else {
        return Err("name a source directory and a target directory, or - for none".into());
    };
    let keep = target != "-";
    let store: Arc<dyn BlobStore> =
        if keep { Arc::new(MemoryStore::default()) } else { Arc::new(Dropping(MemoryStore::default())) };
    let entropy = Arc::new(Counting(0.into()));
    let key = RepositoryKey::danger_from_bytes(Zeroizing::new([1; 32]));
    let repository = Repository::init(store, &key, None, &*entropy).await?;
    let clock = Stopwatch(Instant::now());
    let mut manifest = BufWriter::new(std::io::sink());
    let options = BackupOptions::default();
    let (source, quiet) = (Path::new(source), Arc::new(Quiet));
    let report = backup(&repository, source, options, &mut manifest, &clock, entropy, quiet.clone()).await?;
    rate("backup", clock.0.elapsed(), report.stats.bytes, report.stats.entries);
    println!("stored {} bytes in {} packs", report.stored_bytes, report.packs);
    if keep {
        let begin = Instant::now();
        let plan = plan_restore(&repository, &report.snapshot, Path::new(target)).await?;
        rate("plan", begin.elapsed(), plan.bytes, plan.entries);
        let restored = restore(&repository, plan, quiet).await?;
        rate("plan and restore", begin.elapsed(), restored.bytes, restored.entries);
    }
    Ok(())
}

fn rate(what: &str, time: Duration, bytes: u64, entries: u64) {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
    let (mib, items) =
        (bytes.saturating_mul(954) / nanos, entries.saturating_mul(1_000_000) / (nanos / 1000).max(1));
    println!("{what}: {time:?}, {mib} MiB/s, {items} entries/s");
}
