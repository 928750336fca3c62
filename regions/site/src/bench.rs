//! `coffer-site bench`: what the store does on this disk, beside what the
//! disk does by itself.
#![expect(clippy::disallowed_methods, reason = "the comparison writes a plain file")]

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use coffer_model::{Entropy, FailureDomain, RecordId, SiteDescription, SiteId, Tier};
use coffer_regions::{ClearGeometry, Record, RecordKind, Site};

use crate::DirectorySite;
use crate::host::{HostEntropy, Stopwatch};

/// Flags of `bench`.
#[derive(Args)]
pub(crate) struct BenchFlags {
    /// A directory that does not exist yet, or is empty.
    dir: PathBuf,
    /// How many records to put, at least 1.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    records: u64,
    /// Body length of each, in bytes, at most 16777216.
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(0..=16 << 20))]
    bytes: u32,
    /// How many puts run at the same time, 1 to 65536.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=1 << 16))]
    putters: u64,
    /// Print the id and digest of each record once it is acknowledged.
    #[arg(long)]
    acknowledge: bool,
    /// Also write the same bytes to a plain file, with one fdatasync each.
    #[arg(long)]
    plain: bool,
}

/// Creates the site, fills it, prints figures.
pub(crate) fn run(flags: &BenchFlags) -> Result<(), String> {
    let description = SiteDescription {
        id: SiteId::generate(&HostEntropy),
        name: "bench".to_owned(),
        country: "DE".parse().map_err(|error| format!("{error}"))?,
        domain: FailureDomain("bench".to_owned()),
        tier: Tier::I,
    };
    let site = DirectorySite::create(&flags.dir, description, Arc::new(HostEntropy));
    let site = Arc::new(site.map_err(|error| error.to_string())?);
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let mut body = vec![0; usize::try_from(flags.bytes).unwrap_or(0)];
    HostEntropy.fill(&mut body);
    let body = Bytes::from(body);
    let watch = Stopwatch::start();
    runtime.block_on(fill(flags, site.clone(), &body))?;
    report("coffer", flags, watch.elapsed(), site.fsyncs());
    if flags.plain {
        let watch = Stopwatch::start();
        write_plain(flags, &body).map_err(|error| error.to_string())?;
        report("plain write + fdatasync", flags, watch.elapsed(), flags.records);
    }
    Ok(())
}

async fn fill(flags: &BenchFlags, site: Arc<DirectorySite>, body: &Bytes) -> Result<(), String> {
    let next = Arc::new(AtomicU64::new(0));
    let putters = (0..flags.putters).map(|_| {
        let (site, next, body) = (site.clone(), next.clone(), body.clone());
        let (records, acknowledge) = (flags.records, flags.acknowledge);
        tokio::spawn(async move {
            while next.fetch_add(1, Ordering::Relaxed) < records {
                let id = RecordId::generate(&HostEntropy);
                let record = Record::new(RecordKind::Shard, id, ClearGeometry::default(), body.clone())
                    .map_err(|error| error.to_string())?;
                let receipts = site.put(vec![record]).await.map_err(|error| error.to_string())?;
                for receipt in receipts.iter().filter(|_| acknowledge) {
                    writeln!(std::io::stdout(), "{} {}", receipt.record, receipt.digest)
                        .map_err(|error| error.to_string())?;
                }
            }
            Ok(())
        })
    });
    for putter in putters.collect::<Vec<_>>() {
        putter.await.map_err(|error| error.to_string()).flatten()?;
    }
    Ok(())
}

fn write_plain(flags: &BenchFlags, body: &[u8]) -> std::io::Result<()> {
    let mut file = File::create(flags.dir.join("plain"))?;
    for _ in 0..flags.records {
        file.write_all(body)?;
        file.sync_data()?;
    }
    Ok(())
}

fn report(what: &str, flags: &BenchFlags, took: Duration, fsyncs: u64) {
    let micros = took.as_micros().max(1);
    let rate = u128::from(flags.records) * 1_000_000 / micros;
    let volume = u128::from(flags.records) * u128::from(flags.bytes) / micros;
    eprintln!(
        "{what}: {} records of {} bytes in {} ms, {rate} a second, {volume} MB/s, {fsyncs} fsyncs",
        flags.records,
        flags.bytes,
        took.as_millis(),
    );
}
