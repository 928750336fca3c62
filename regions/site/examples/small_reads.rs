//! What a small read costs that lies in the cache: through a thread that may
//! block, as a plain pread in the task, and as `DirectorySite::get` does it.
//!
//! `cargo run --release -p coffer-site --example small_reads -- DIR [READS]`;
//! DIR must not exist and is removed at the end.
#![expect(clippy::disallowed_methods, reason = "a measuring program takes the time and reads plain files")]

use std::error::Error;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use coffer_model::{Entropy, FailureDomain, RecordId, SiteDescription, SiteId, Tier};
use coffer_regions::{ClearGeometry, Record, RecordKind, Site};
use coffer_site::DirectorySite;

const BODY_BYTES: usize = 4096;
const RECORDS: u64 = 1000;

struct Fixed;

impl Entropy for Fixed {
    fn fill(&self, out: &mut [u8]) {
        out.fill(7);
    }
}

fn id(n: u64) -> RecordId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    RecordId::from_bytes(id)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("usage: small_reads DIR [READS]")?);
    let reads: u64 = arguments.next().unwrap_or_else(|| "50000".to_owned()).parse()?;
    let description = SiteDescription {
        id: SiteId::from_bytes([1; 16]),
        name: "reads".to_owned(),
        country: "DE".parse()?,
        domain: FailureDomain("here".to_owned()),
        tier: Tier::I,
    };
    let site = DirectorySite::create(&dir, description, Arc::new(Fixed))?;
    let body = Bytes::from(vec![1; BODY_BYTES]);
    let records =
        (0..RECORDS).map(|n| Record::new(RecordKind::Shard, id(n), ClearGeometry::default(), body.clone()));
    site.put(records.collect::<Result<_, _>>()?).await?;
    let file = Arc::new(File::open(dir.join("volumes/00000000.vol"))?);
    let read = move |file: &File, n: u64| -> std::io::Result<[u8; 32]> {
        let mut body = vec![0; BODY_BYTES];
        file.read_exact_at(&mut body, n % RECORDS * 4096)?;
        Ok(*blake3::hash(&body).as_bytes())
    };

    let start = Instant::now();
    for n in 0..reads {
        let file = file.clone();
        tokio::task::spawn_blocking(move || read(&file, n)).await??;
    }
    let blocking = start.elapsed();
    let start = Instant::now();
    for n in 0..reads {
        read(&file, n)?;
    }
    let direct = start.elapsed();
    let start = Instant::now();
    for n in 0..reads {
        site.get(id(n % RECORDS)).await?;
    }
    let get = start.elapsed();
    let limit = direct.as_nanos().max(1);
    for (name, took) in [("pread and hash", direct), ("the same by spawn_blocking", blocking), ("get", get)] {
        let each = took.as_nanos() / u128::from(reads);
        println!("{name:>26}: {each:>7} ns, {} % of pread and hash", took.as_nanos() * 100 / limit);
    }
    drop(site);
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
