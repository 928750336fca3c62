//! What it costs to open a site, with a checkpoint and without one, against
//! the records stored; and what the index takes of memory.
//!
//! `cargo run --release -p coffer-site --example open_time -- DIR [RECORDS…]`;
//! DIR must not exist and is removed at the end.
#![expect(clippy::disallowed_methods, reason = "a measuring program takes the time")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use coffer_model::{Entropy, Execution, FailureDomain, RecordId, SiteDescription, SiteId, Tier};
use coffer_regions::{ClearGeometry, Record, RecordKind, Site};
use coffer_site::faults::RecordingDisk;
use coffer_site::{DirectorySite, SiteOptions};

/// Asks this program to measure one opening.
const MEASURE: &str = "--measure";
const BODY_BYTES: usize = 1024;
/// Records of one put: as a busy site groups them.
const GROUP: u64 = 16;

#[derive(Default)]
struct Counting(AtomicU64);

impl Entropy for Counting {
    fn fill(&self, out: &mut [u8]) {
        let n = self.0.fetch_add(1, Ordering::Relaxed);
        blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(out);
    }
}

/// `filling`: without waiting for the medium, which is not what is measured.
fn open(dir: &Path, filling: bool) -> Result<DirectorySite, Box<dyn Error>> {
    let description = SiteDescription {
        id: SiteId::from_bytes([1; 16]),
        name: "open-time".to_owned(),
        country: "DE".parse()?,
        domain: FailureDomain("here".to_owned()),
        tier: Tier::I,
    };
    let mut options = SiteOptions { execution: Execution::Inline, ..SiteOptions::default() };
    if filling {
        options.disk = Arc::new(RecordingDisk::default());
    }
    let entropy = Arc::new(Counting::default());
    Ok(if dir.join("SITE").exists() {
        DirectorySite::open_with(dir, description, entropy, options)?
    } else {
        DirectorySite::create_with(dir, description, entropy, options)?
    })
}

fn record(n: u64) -> Result<Record, Box<dyn Error>> {
    let mut id = [0; 16];
    blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut id);
    let mut body = vec![0; BODY_BYTES];
    body[..8].copy_from_slice(&n.to_le_bytes());
    let id = RecordId::from_bytes(id);
    Ok(Record::new(RecordKind::Shard, id, ClearGeometry::default(), Bytes::from(body))?)
}

/// Resident bytes of this process.
fn resident() -> Result<u64, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: u64 = text.split(' ').nth(1).unwrap_or("0").parse()?;
    Ok(pages * 4096)
}

/// Opens the site in a process of its own, so that its memory is nobody else's.
fn timed(dir: &Path) -> Result<(Duration, u64, u64), Box<dyn Error>> {
    let done = Command::new(std::env::current_exe()?).arg(MEASURE).arg(dir).output()?;
    let text = String::from_utf8(done.stdout)?;
    let figures: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    match figures[..] {
        [micros, scanned, grown] => Ok((Duration::from_micros(micros), scanned, grown)),
        _ => Err(String::from_utf8_lossy(&done.stderr).into()),
    }
}

fn measure(dir: &Path) -> Result<(), Box<dyn Error>> {
    let before = resident()?;
    let start = Instant::now();
    let site = open(dir, false)?;
    let took = start.elapsed();
    let grown = resident()?.saturating_sub(before);
    println!("{} {} {grown}", took.as_micros(), site.scanned_bytes());
    // Closing would write the checkpoint that the next measurement removes.
    std::process::exit(0)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|first| first == MEASURE).is_some() {
        return measure(&PathBuf::from(arguments.next().ok_or("no directory")?));
    }
    let dir = PathBuf::from(arguments.next().ok_or("usage: open_time DIR [RECORDS…]")?);
    let mut sizes: Vec<u64> = arguments.map(|size| size.parse()).collect::<Result<_, _>>()?;
    if sizes.is_empty() {
        sizes = vec![10_000, 100_000, 1_000_000];
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut stored = 0;
    println!(
        "{:>9} {:>9} {:>11} {:>9} {:>11} {:>6} {:>9} {:>10} {:>10}",
        "records", "MB", "scan ms", "ns/rec", "checkpt ms", "ratio", "ns/rec", "RSS B/rec", "scanning"
    );
    for records in sizes {
        let site = open(&dir, true)?;
        while stored < records {
            let put = (stored..records.min(stored + GROUP)).map(record).collect::<Result<Vec<_>, _>>()?;
            stored += u64::try_from(put.len())?;
            runtime.block_on(site.put(put))?;
        }
        let bytes = runtime.block_on(site.state()).volume_bytes;
        drop(site);
        let checkpoint = dir.join("CHECKPOINT");
        let (with, scanned, grown) = timed(&dir)?;
        if scanned != 0 {
            return Err("the checkpoint was not used".into());
        }
        std::fs::remove_file(&checkpoint)?;
        let (without, scanned, grown_scanning) = timed(&dir)?;
        if scanned == 0 {
            return Err("nothing was scanned".into());
        }
        let each = |took: Duration| took.as_nanos() / u128::from(records.max(1));
        println!(
            "{records:>9} {:>9} {:>11} {:>9} {:>11} {:>6} {:>9} {:>10} {:>10}",
            bytes / 1_000_000,
            without.as_millis(),
            each(without),
            with.as_millis(),
            without.as_millis() / with.as_millis().max(1),
            each(with),
            grown / records.max(1),
            grown_scanning / records.max(1)
        );
    }
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
