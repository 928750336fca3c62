//! Whether reserving blocks behind the end of a file makes its fdatasyncs
//! cheaper: the same appends to three files in turns, one plain, one reserved
//! with its length kept, and one overwritten in place, as the limit.
//!
//! `cargo run --release -p coffer-site --example preallocation -- DIR [ROUNDS]`
#![expect(clippy::disallowed_methods, reason = "a measuring program takes the time and writes plain files")]

use std::error::Error;
use std::io::IoSlice;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use coffer_site::{Disk, HostDisk};

const BATCH_BYTES: u64 = 8 << 10;
const STEP_BYTES: u64 = 16 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("usage: preallocation DIR [ROUNDS]")?);
    let rounds: u64 = arguments.next().unwrap_or_else(|| "2000".to_owned()).parse()?;
    std::fs::create_dir_all(&dir)?;
    let batch = vec![0x5a; usize::try_from(BATCH_BYTES)?];
    let names = ["plain", "reserved", "in place"];
    let paths = names.map(|name| dir.join(name.replace(' ', "-")));
    let files = paths.iter().map(|path| HostDisk.create(path)).collect::<Result<Vec<_>, _>>()?;
    for at in 0..rounds {
        HostDisk.write(&files[2], &mut [IoSlice::new(&batch)], at * BATCH_BYTES)?;
    }
    files.iter().try_for_each(|file| HostDisk.sync_all(file))?;
    let mut took = [Duration::ZERO; 3];
    let mut reserved_to = 0;
    for at in 0..rounds {
        let offset = at * BATCH_BYTES;
        if offset + BATCH_BYTES > reserved_to {
            HostDisk.reserve(&files[1], offset, STEP_BYTES)?;
            reserved_to = offset + STEP_BYTES;
        }
        for (file, took) in files.iter().zip(&mut took) {
            let start = Instant::now();
            HostDisk.write(file, &mut [IoSlice::new(&batch)], offset)?;
            HostDisk.sync_data(file)?;
            *took += start.elapsed();
        }
    }
    let plain = took[0].as_nanos().max(1);
    for (name, took) in names.iter().zip(took) {
        println!(
            "{name:>9}: {:>7} us for each append of {BATCH_BYTES} bytes with its fdatasync, {} % of plain",
            took.as_micros() / u128::from(rounds),
            took.as_nanos() * 100 / plain,
        );
    }
    paths.iter().try_for_each(std::fs::remove_file)?;
    Ok(())
}
