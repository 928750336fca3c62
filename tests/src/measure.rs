//! What benchmarks share: how long something takes, the middle of many
//! measurements, and what this machine could do at best in the same run.
#![expect(clippy::disallowed_methods, reason = "the disk's own limit is measured on plain files")]
#![expect(clippy::cast_precision_loss, reason = "rates are for people")]

use std::fs::File;
use std::io::Write;
use std::path::Path;

use coffer_custody::{OsEntropy, SystemClock};
use coffer_keys::{Context, Dek, HEADER_BYTES, RangeOpener, SEALED_CHUNK_BYTES, Sealer};
use coffer_model::{Clock, Geometry};
use coffer_regions::Codec;

use crate::pattern;

const MIB: usize = 1 << 20;
const SAMPLE: usize = 64 * MIB;

fn now() -> f64 {
    SystemClock.monotonic().as_secs_f64()
}

/// Seconds that `work` takes.
pub fn seconds(work: impl FnOnce()) -> f64 {
    let start = now();
    work();
    now() - start
}

/// Seconds until `work` is done, and what it came to.
pub async fn elapsed<T>(work: impl Future<Output = T>) -> (f64, T) {
    let start = now();
    let done = work.await;
    (now() - start, done)
}

/// The sample below which `share` of all lie; there must be one.
pub fn quantile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len() - 1;
    let place = (0..=last).find(|place| *place as f64 >= share * last as f64);
    sorted[place.unwrap_or(last)]
}

/// The sample in the middle.
pub fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

/// What one core, or the disk, does at best; bytes a second.
pub struct Limits {
    /// AES-256-GCM in chunks of 16 KiB.
    pub seal: f64,
    /// The same, opened and verified.
    pub open: f64,
    /// Reed-Solomon 4+2.
    pub code: f64,
    /// BLAKE3.
    pub hash: f64,
    /// 64 MiB written, one fdatasync.
    pub disk: f64,
    /// 4 KiB appended and fdatasync, a second.
    pub fsyncs: f64,
}

impl Limits {
    /// Measures all of them; files go to `dir`.
    pub fn measure(dir: &Path) -> Self {
        let plain = pattern(1, SAMPLE);
        let of =
            |times: usize, work: &dyn Fn()| median(&(0..times).map(|_| seconds(work)).collect::<Vec<_>>());
        let rate = |work: &dyn Fn()| SAMPLE as f64 / of(7, work);
        let (key, context) = (Dek::generate(&OsEntropy), Context::named("benchmark", &[]));
        let codec = Codec::new(Geometry::DEFAULT).unwrap();
        let mut sealed = Vec::new();
        let mut sealer = Sealer::new(&key, &context, &OsEntropy, &mut sealed);
        sealer.push(&plain, &mut sealed).unwrap();
        sealer.finish(&mut sealed).unwrap();
        let header = sealed.first_chunk::<HEADER_BYTES>().unwrap();
        let opener = RangeOpener::new(&key, &context, header).unwrap();
        Self {
            seal: rate(&|| {
                let mut out = Vec::with_capacity(2 * MIB);
                let mut sealer = Sealer::new(&key, &context, &OsEntropy, &mut out);
                for piece in plain.chunks(MIB) {
                    out.clear();
                    sealer.push(piece, &mut out).unwrap();
                }
            }),
            open: rate(&|| {
                let mut out = Vec::with_capacity(MIB);
                let chunks = sealed[HEADER_BYTES..].as_chunks::<SEALED_CHUNK_BYTES>().0;
                for (index, chunk) in (0..).zip(chunks) {
                    if out.len() + MIB / 64 > MIB {
                        out.clear();
                    }
                    opener.open_chunk(index, false, chunk, &mut out).unwrap();
                }
            }),
            code: rate(&|| plain.chunks(4 * MIB).for_each(|stripe| drop(codec.encode(stripe).unwrap()))),
            hash: rate(&|| {
                plain.chunks(MIB).for_each(|shard| assert_ne!(blake3::hash(shard).as_bytes(), &[0; 32]));
            }),
            disk: rate(&|| write_synced(&dir.join("limit"), &plain)),
            fsyncs: 1.0 / of(201, &|| append_synced(&dir.join("log"))),
        }
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
