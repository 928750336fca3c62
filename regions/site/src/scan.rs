//! Reading a volume from its first batch to its end: what it holds, what is
//! damaged, and how it ends. Changes nothing; `recover` decides what to do.
//!
//! Bodies are skipped. Where a header or a table is damaged, a record is
//! believed only if its entry and its body match its digest.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use coffer_model::Digest;
use coffer_regions::{Reach, Record};
use rustix::buffer::spare_capacity;

use crate::batch::{
    BATCH_ENTRIES_MAX, BATCH_MAGIC, BODY_BYTES_AT, BatchHeader, ENTRY_BYTES, Entry, HEADER_BYTES,
    RecordEntry, chain_digest, field, table_digest,
};
use crate::index::Location;
use crate::volume::{FIRST_BATCH, Volume};

/// Bytes read ahead: several small batches in one call.
const WINDOW_BYTES: u64 = 16 << 10;
/// Bytes searched at a time for the next header after damage.
const SEARCH_BYTES: usize = 1 << 20;

/// What a scan meets, in the order of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A record; its body has not been read unless it had to prove itself.
    Record(Location),
    /// A removal.
    Removal(coffer_model::RecordId),
    /// Damage at `offset` of `volume`, which cost `records` records or an
    /// unknown number, then stated as one.
    Damage { volume: u32, offset: u64, records: u64 },
}

/// Where the chain of batches stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Sequence number of the next batch.
    pub(crate) next: u64,
    /// What the next batch has to carry; `None` after damage, when unknown.
    pub(crate) previous: Option<[u8; 32]>,
}

impl Chain {
    /// Before the first batch of a site.
    pub(crate) const START: Self = Self { next: 0, previous: Some([0; 32]) };

    /// The last batch so far; `None` before the first, and after damage that
    /// hides it.
    pub(crate) fn reach(&self) -> Option<Reach> {
        let digest = Digest(self.previous?);
        self.next.checked_sub(1).map(|sequence| Reach { sequence, digest })
    }
}

/// How a volume ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// With a whole batch, or none at all.
    Clean,
    /// The file is shorter than what starts at this offset: that write was
    /// never fsynced, hence never acknowledged.
    Short(u64),
    /// Bytes from this offset on that hold no valid header. They may be a
    /// torn write or a damaged batch. `salvaged` records proved themselves.
    Unknown { at: u64, salvaged: u64 },
}

/// What a scan of one volume came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VolumeEnd {
    pub(crate) tail: Tail,
    /// Offset of the last batch with a valid header.
    pub(crate) last_batch: Option<u64>,
    /// Bytes of headers and tables.
    pub(crate) framing: u64,
    /// Where the scan would go on, if it stopped before the end.
    pub(crate) next: Option<u64>,
}

/// Scans `volume` from the batch at `from` up to `end`, hands everything to
/// `found`, moves `chain` on.
pub(crate) fn scan_volume(
    volume: &Volume,
    from: u64,
    end: u64,
    chain: &mut Chain,
    found: &mut dyn FnMut(Found),
) -> io::Result<VolumeEnd> {
    scan_some(volume, from..end, u64::MAX, chain, found)
}

/// As [`scan_volume`], until so many bytes of headers and tables are read, at
/// least one batch.
pub(crate) fn scan_some(
    volume: &Volume,
    range: Range<u64>,
    framing_max: u64,
    chain: &mut Chain,
    found: &mut dyn FnMut(Found),
) -> io::Result<VolumeEnd> {
    let Range { start: from, end } = range;
    let (mut framing, mut next) = (0_u64, None);
    let mut scan = Scan { volume, end, window: Window::new(&volume.file, end), found };
    let (mut at, mut last_batch) = (from, None);
    let tail = loop {
        let left = end.saturating_sub(at);
        if left == 0 {
            break Tail::Clean;
        }
        if left < HEADER_BYTES as u64 {
            break Tail::Short(at);
        }
        if framing >= framing_max && last_batch.is_some() {
            next = Some(at);
            break Tail::Clean;
        }
        let raw: [u8; HEADER_BYTES] = scan.window.array(at)?;
        let header = BatchHeader::decode(&raw, &volume.key, at).filter(|h| h.sequence >= chain.next);
        match header {
            Some(header) if header.extent() > left => break Tail::Short(at),
            Some(header) => {
                scan.check_chain(at, &header, chain);
                scan.batch(at, &header)?;
                *chain = Chain { next: header.sequence + 1, previous: Some(chain_digest(&raw)) };
                last_batch = Some(at);
                framing += HEADER_BYTES as u64 + header.table_bytes();
                at += header.extent();
            }
            None => {
                let claimed = BatchHeader::decode_unchecked(&raw).entries;
                let next = scan.next_header(at + 1, chain.next)?;
                let salvaged = scan.salvage(at, claimed, next.unwrap_or(end))?;
                let Some(next) = next else { break Tail::Unknown { at, salvaged } };
                let lost = u64::from(claimed.min(BATCH_ENTRIES_MAX)).saturating_sub(salvaged).max(1);
                let records = if salvaged == 0 { 1 } else { lost };
                (scan.found)(Found::Damage { volume: volume.number, offset: at, records });
                chain.previous = None;
                at = next;
            }
        }
    };
    Ok(VolumeEnd { tail, last_batch, framing, next })
}

/// The header at `at` of a volume that is `end` bytes long, and its digest;
/// `None` where there is no whole one.
pub(crate) fn read_header(volume: &Volume, at: u64, end: u64) -> io::Result<Option<(BatchHeader, [u8; 32])>> {
    let mut raw = [0; HEADER_BYTES];
    if at.checked_add(HEADER_BYTES as u64).is_none_or(|after| after > end) {
        return Ok(None);
    }
    volume.file.read_exact_at(&mut raw, at)?;
    let header = BatchHeader::decode(&raw, &volume.key, at).filter(|header| header.extent() <= end - at);
    Ok(header.map(|header| (header, chain_digest(&raw))))
}

/// The digest of the header with this sequence number, from the header itself
/// or from the one behind it; `None` where neither can be read.
pub(crate) fn digest_of_batch(volume: &Volume, end: u64, sequence: u64) -> io::Result<Option<[u8; 32]>> {
    let mut scan = Scan { volume, end, window: Window::new(&volume.file, end), found: &mut |_| {} };
    let mut at = FIRST_BATCH;
    while end.saturating_sub(at) >= HEADER_BYTES as u64 {
        let raw: [u8; HEADER_BYTES] = scan.window.array(at)?;
        let Some(header) = BatchHeader::decode(&raw, &volume.key, at) else {
            match scan.next_header(at + 1, 0)? {
                Some(next) => at = next,
                None => break,
            }
            continue;
        };
        match header.sequence.checked_sub(sequence) {
            None => at += header.extent(),
            Some(0) => return Ok(Some(chain_digest(&raw))),
            Some(1) => return Ok(Some(header.previous)),
            Some(_) => break,
        }
    }
    Ok(None)
}

struct Scan<'a> {
    volume: &'a Volume,
    end: u64,
    window: Window<'a>,
    found: &'a mut dyn FnMut(Found),
}

impl Scan<'_> {
    /// Batches that are missing before `header`, unless damage was just
    /// reported in their place.
    fn check_chain(&mut self, at: u64, header: &BatchHeader, chain: &Chain) {
        if let Some(previous) = chain.previous
            && (header.sequence != chain.next || header.previous != previous)
        {
            let records = (header.sequence - chain.next).max(1);
            (self.found)(Found::Damage { volume: self.volume.number, offset: at, records });
        }
    }

    /// Hands on the entries of a batch whose header is valid.
    fn batch(&mut self, at: u64, header: &BatchHeader) -> io::Result<()> {
        let table = self.table(at, header.entries)?;
        let (chunks, _) = table.as_chunks::<ENTRY_BYTES>();
        let entries: Option<Vec<Entry>> = chunks.iter().map(|chunk| Entry::decode(chunk)).collect();
        let whole = table_digest(&self.volume.key, header.sequence, &table) == header.table_digest;
        let sum = |entries: &[Entry]| entries.iter().map(|e| u64::from(e.body_bytes())).sum::<u64>();
        let Some(entries) = entries.filter(|entries| whole && sum(entries) == header.body_bytes) else {
            let salvaged = self.salvage(at, header.entries, at + header.extent())?;
            let records = u64::from(header.entries).saturating_sub(salvaged).max(1);
            (self.found)(Found::Damage { volume: self.volume.number, offset: at, records });
            return Ok(());
        };
        let mut offset = at + HEADER_BYTES as u64 + header.table_bytes();
        for entry in entries {
            self.hand_on(entry, offset);
            offset += u64::from(entry.body_bytes());
        }
        Ok(())
    }

    fn hand_on(&mut self, entry: Entry, offset: u64) {
        (self.found)(match entry {
            Entry::Removal(id) => Found::Removal(id),
            Entry::Record(entry) => {
                Found::Record(Location { volume: self.volume.number, offset, entry, damaged: false })
            }
        });
    }

    fn table(&mut self, at: u64, entries: u32) -> io::Result<Vec<u8>> {
        let length = usize::try_from(entries).unwrap_or(usize::MAX).saturating_mul(ENTRY_BYTES);
        let mut table = vec![0; length];
        self.window.read(at + HEADER_BYTES as u64, &mut table)?;
        Ok(table)
    }

    /// Hands on what proves itself between `at`, where a batch of `entries`
    /// is believed to start, and `end`; returns how many did.
    fn salvage(&mut self, at: u64, entries: u32, end: u64) -> io::Result<u64> {
        let bodies = at + HEADER_BYTES as u64 + u64::from(entries) * ENTRY_BYTES as u64;
        if entries > BATCH_ENTRIES_MAX || bodies > end {
            return Ok(0);
        }
        let table = self.table(at, entries)?;
        let (mut offset, mut salvaged) = (bodies, 0);
        for chunk in table.as_chunks::<ENTRY_BYTES>().0 {
            // The length is believed even where the entry is not, since the
            // bodies behind it can still prove themselves.
            let length = u32::from_le_bytes(field(chunk, BODY_BYTES_AT));
            let after = offset + u64::from(length);
            if after > end {
                break;
            }
            let entry = Entry::decode(chunk);
            let proven = match &entry {
                None => false,
                Some(Entry::Removal(_)) => true,
                Some(Entry::Record(record)) => read_body(&self.volume.file, offset, record)?.is_some(),
            };
            if let Some(entry) = entry.filter(|_| proven) {
                salvaged += 1;
                self.hand_on(entry, offset);
            }
            offset = after;
        }
        Ok(salvaged)
    }

    /// Offset of the first valid header at or after `from`.
    fn next_header(&self, mut from: u64, sequence_min: u64) -> io::Result<Option<u64>> {
        let mut chunk = vec![0; SEARCH_BYTES];
        while from + HEADER_BYTES as u64 <= self.end {
            let length = usize::try_from(self.end - from).unwrap_or(usize::MAX).min(SEARCH_BYTES);
            let chunk = &mut chunk[..length];
            self.volume.file.read_exact_at(chunk, from)?;
            let starts = length - HEADER_BYTES + 1;
            for (start, offset) in (0..starts).zip(from..) {
                let here = &chunk[start..start + HEADER_BYTES];
                let valid = here.starts_with(&BATCH_MAGIC)
                    && BatchHeader::decode(here, &self.volume.key, offset).is_some_and(|header| {
                        header.sequence >= sequence_min && header.extent() <= self.end - offset
                    });
                if valid {
                    return Ok(Some(offset));
                }
            }
            from += u64::try_from(starts).unwrap_or(u64::MAX);
        }
        Ok(None)
    }
}

/// Reads a body and takes it as the record that its entry names; `None` if
/// the digest does not match or the medium gives no such bytes.
pub(crate) fn read_body(file: &File, offset: u64, entry: &RecordEntry) -> io::Result<Option<Record>> {
    let body = match read_new(file, offset, entry.body_bytes) {
        Err(error) => return if of_the_medium(&error) { Ok(None) } else { Err(error) },
        Ok(body) => body,
    };
    Ok(Record::verify(entry.kind, entry.id, entry.geometry, entry.digest, Bytes::from(body)).ok())
}

/// Longest body that is worth a try without waiting for the medium.
const CACHED_BODY_BYTES_MAX: u32 = 64 << 10;

/// Reads a small record if its body lies in the cache; `None` where it does
/// not, where the file system cannot tell, and where the digest is wrong.
pub(crate) fn read_body_cached(file: &File, offset: u64, entry: &RecordEntry) -> Option<Record> {
    let length = usize::try_from(Some(entry.body_bytes).filter(|length| *length <= CACHED_BODY_BYTES_MAX)?);
    let mut body = vec![0; length.ok()?];
    let mut parts = [io::IoSliceMut::new(&mut body)];
    let read = rustix::io::preadv2(file, &mut parts, offset, rustix::io::ReadWriteFlags::NOWAIT).ok()?;
    let whole = read == body.len();
    whole.then(|| Record::verify(entry.kind, entry.id, entry.geometry, entry.digest, body.into()).ok())?
}

/// Reads a part of the body at `offset`, unverified; `None` where the medium
/// does not give it.
pub(crate) fn read_part(file: &File, offset: u64, range: &Range<u32>) -> io::Result<Option<Bytes>> {
    let length = range.end.saturating_sub(range.start);
    match read_new(file, offset + u64::from(range.start), length) {
        Ok(part) => Ok(Some(Bytes::from(part))),
        Err(error) if of_the_medium(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads so many bytes to where nothing was before, so that nothing is zeroed
/// that is written over.
fn read_new(file: &File, offset: u64, length: u32) -> io::Result<Vec<u8>> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let at = offset + bytes.len() as u64;
        match rustix::io::pread(file, spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocator may have given more room than was asked for.
    bytes.truncate(length);
    Ok(bytes)
}

/// EIO is damage of the record; only what says nothing about the medium (a
/// lack of memory or handles) is an error of the reading.
pub(crate) fn of_the_medium(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
        || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// A file read through one buffer, so that small batches share a call.
struct Window<'a> {
    file: &'a File,
    end: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(file: &'a File, end: u64) -> Self {
        Self { file, end, start: 0, bytes: Vec::new() }
    }

    fn array<const N: usize>(&mut self, at: u64) -> io::Result<[u8; N]> {
        let mut out = [0; N];
        self.read(at, &mut out)?;
        Ok(out)
    }

    fn read(&mut self, at: u64, out: &mut [u8]) -> io::Result<()> {
        if let Some(bytes) = self.held(at, out.len()) {
            out.copy_from_slice(bytes);
            return Ok(());
        }
        let length = usize::try_from(WINDOW_BYTES.min(self.end.saturating_sub(at))).unwrap_or(0);
        if out.len() > length {
            return self.file.read_exact_at(out, at);
        }
        self.bytes.resize(length, 0);
        self.file.read_exact_at(&mut self.bytes, at)?;
        self.start = at;
        out.copy_from_slice(&self.bytes[..out.len()]);
        Ok(())
    }

    fn held(&self, at: u64, length: usize) -> Option<&[u8]> {
        let skip = usize::try_from(at.checked_sub(self.start)?).ok()?;
        self.bytes.get(skip..skip.checked_add(length)?)
    }
}
