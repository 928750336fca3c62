//! What benchmarks share: how long something takes, the middle of many
//! measurements, and what this machine could do at best in the same run.
#![expect(clippy::disallowed_methods, reason = "the disk's own limit is measured on plain files")]
#![expect(clippy::cast_precision_loss, reason = "rates are for people")]
#![expect(clippy::print_stdout, reason = "benchmarks print their findings")]

use std::cell::RefCell;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
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

/// What one core, or the disk, does at best; bytes a second. Each step is
/// measured alone, with its buffers made before and in use again and again.
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
    /// The same 64 MiB read again in shards of 1 MiB, as a get finds them
    /// after a put: in the page cache, so that this copies and waits for no disk.
    pub read: f64,
    /// Through a socket of the loopback and out of it again.
    pub socket: f64,
    /// 4 KiB appended and fdatasync, a second.
    pub fsyncs: f64,
}

/// Bytes a second where each byte passes through steps of these rates, one
/// after the other on one core.
fn through(rates: &[f64]) -> f64 {
    1.0 / rates.iter().map(|rate| 1.0 / rate).sum::<f64>()
}

impl Limits {
    /// A put: seal once, code once, hash the content and 1.5 times the sealed
    /// bytes, write 1.5 times.
    pub fn put(&self) -> f64 {
        let half_more = |rate: f64| rate / 1.5;
        through(&[self.seal, self.code, self.hash, half_more(self.hash), half_more(self.disk)])
    }

    /// A get of a healthy object: the shards are read (from the page cache)
    /// and held against their digests, opened, and the content is held against
    /// the digest of its description. The data shards are all there, so that
    /// nothing is decoded.
    pub fn get(&self) -> f64 {
        through(&[self.read, self.hash, self.open, self.hash])
    }

    /// The same with the wire: sealed, sent, received and opened by TLS.
    pub fn get_over_wire(&self) -> f64 {
        through(&[self.get(), self.seal, self.socket, self.open])
    }

    /// What stands above them, for people.
    pub fn print(&self) {
        let line = |name: &str, rate: f64, what: &str| println!("{name:<6} {:8.0} MB/s ({what})", rate / 1e6);
        println!("limits of this machine, one core each:");
        line("seal", self.seal, "AES-256-GCM, 16 KiB chunks");
        line("open", self.open, "the same, verified");
        line("code", self.code, "Reed-Solomon 4+2");
        line("hash", self.hash, "BLAKE3");
        line("disk", self.disk, "write + fdatasync, 64 MiB");
        line("read", self.read, "page cache, pieces of 1 MiB");
        line("socket", self.socket, "loopback, in and out");
        println!("fsync  {:8.0} a second (append 4 KiB + fdatasync)", self.fsyncs);
        line("put", self.put(), "seal + code + 2.5 hash + 1.5 disk");
        line("get", self.get(), "read + hash + open + hash");
        line("", self.get_over_wire(), "and with the wire: + seal + socket + open");
        println!();
    }

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
            read: of_read(&dir.join("limit"), &rate),
            socket: of_socket(&plain, &rate),
            fsyncs: 1.0 / of(201, &|| append_synced(&dir.join("log"))),
        }
    }
}

fn write_synced(path: &Path, bytes: &[u8]) {
    let mut file = File::create(path).unwrap();
    file.write_all(bytes).unwrap();
    file.sync_data().unwrap();
}

/// Of a file that was just written.
fn of_read(path: &Path, rate: &dyn Fn(&dyn Fn()) -> f64) -> f64 {
    let file = File::open(path).unwrap();
    let buffer = RefCell::new(vec![0; MIB]);
    rate(&|| {
        let mut buffer = buffer.borrow_mut();
        for offset in (0..SAMPLE as u64).step_by(MIB) {
            file.read_exact_at(&mut buffer, offset).unwrap();
        }
    })
}

/// Both ends on one thread, in pieces that a socket takes without a wait.
fn of_socket(plain: &[u8], rate: &dyn Fn(&dyn Fn()) -> f64) -> f64 {
    const PIECE: usize = 64 << 10;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let receiver = listener.accept().unwrap().0;
    sender.set_nodelay(true).unwrap();
    let buffer = RefCell::new(vec![0; PIECE]);
    rate(&|| {
        let mut buffer = buffer.borrow_mut();
        for piece in plain.chunks(PIECE) {
            (&sender).write_all(piece).unwrap();
            (&receiver).read_exact(&mut buffer[..piece.len()]).unwrap();
        }
    })
}

fn append_synced(path: &Path) {
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    file.write_all(&[7; 4096]).unwrap();
    file.sync_data().unwrap();
}
