//! The parsers of a site's disk, through which comes whatever somebody with
//! the disk wrote. Digests that anybody can compute are computed here, so that
//! the fields behind them are reached.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::Arc;

use coffer_model::{SiteId, SlotId};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::batch::{BatchHeader, ENTRY_BYTES, HEADER_BYTES, field, table_digest};
use crate::scan::{self, Chain, Found, Tail};
use crate::volume::{self, FIRST_BATCH, Volume, VolumeHeader};
use crate::{checkpoint, retired, slots};

/// A file of these bytes that lies nowhere.
fn in_memory(parts: &[&[u8]]) -> io::Result<File> {
    let mut file = File::from(memfd_create("entrance", MemfdFlags::empty())?);
    parts.iter().try_for_each(|part| file.write_all(part))?;
    Ok(file)
}

/// Whether a volume reads whole: every record, and nothing after the last batch.
fn reads_whole(file: File) -> io::Result<bool> {
    let length = file.metadata()?.len();
    let Ok((header, _)) = volume::read_header(&file)? else { return Ok(false) };
    let volume = Volume { number: header.number, file: Arc::new(file), key: header.batch_key() };
    let (mut whole, mut records) = (true, Vec::new());
    let mut chain = Chain { next: 0, previous: None };
    let end = scan::scan_volume(&volume, FIRST_BATCH, length, &mut chain, &mut |found| match found {
        Found::Record(at) => records.push(at),
        Found::Removal(_) => {}
        Found::Damage { .. } => whole = false,
    })?;
    for at in records {
        whole &= scan::read_body(&volume.file, at.offset, &at.entry)?.is_some();
    }
    Ok(whole && end.tail == Tail::Clean)
}

/// A volume file.
pub(super) fn volume(bytes: &[u8]) -> bool {
    in_memory(&[bytes]).and_then(reads_whole).unwrap_or(false)
}

/// The batches of a volume, of which the first has right digests.
pub(super) fn batch(bytes: &[u8]) -> bool {
    let Some((header, rest)) = bytes.split_at_checked(HEADER_BYTES) else { return false };
    let volume = VolumeHeader { site: SiteId::from_bytes([1; 16]), number: 0, nonce: [2; 16] };
    let (head, key) = (volume.encode(), volume.batch_key());
    let mut header = BatchHeader::decode_unchecked(header);
    let table = usize::try_from(header.entries).unwrap_or(usize::MAX).saturating_mul(ENTRY_BYTES);
    header.table_digest = table_digest(&key, header.sequence, rest.get(..table).unwrap_or_default());
    let header = header.encode(&key, FIRST_BATCH);
    in_memory(&[&head, &head, &header, rest]).and_then(reads_whole).unwrap_or(false)
}

/// The site that a file says that it is of.
fn site_of(bytes: &[u8]) -> SiteId {
    SiteId::from_bytes(field(bytes, 8))
}

/// A checkpoint of the index, without its digest.
pub(super) fn checkpoint(bytes: &[u8]) -> bool {
    checkpoint::decode(bytes, site_of(bytes)).is_some()
}

/// A copy of the ledger of retired volumes, without its digest.
pub(super) fn retired(bytes: &[u8]) -> bool {
    retired::Retired::decode_digested(bytes, site_of(bytes))
}

/// Half of a key slot: what its header uses, then its body.
pub(super) fn slot(bytes: &[u8]) -> bool {
    slots::is_half(SlotId::from_bytes([0; 16]), bytes)
}
