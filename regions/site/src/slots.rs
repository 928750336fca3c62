//! Key slots: small files that are overwritten in place, so that a destroyed
//! key is gone. Each has two halves; a write goes to the half that is not
//! current, and a crash in it leaves the current one.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use coffer_model::SlotId;
use coffer_regions::{ScrubFinding, SlotContent, SlotListing};

use crate::batch::field;
use crate::disk::{self, Disk};

/// Longest body of a slot.
pub(crate) const SLOT_BODY_BYTES_MAX: usize = 64 << 10;

/// Slots of one site that are listed: there is one for each tenant. More come
/// only from somebody who wants a listing not to end.
pub(crate) const SLOTS_MAX: usize = 1 << 16;

/// A half starts with a header and is a whole number of 4 KiB sectors, so
/// that writing one never rewrites a sector of the other.
const HEADER_BYTES: usize = 4096;
const HALF_BYTES: usize = HEADER_BYTES + SLOT_BODY_BYTES_MAX;
const MAGIC: [u8; 8] = *b"CFRSLOT1";
const DIGEST_AT: usize = 24;
const USED_HEADER_BYTES: usize = DIGEST_AT + 32;

/// Why a slot was not read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SlotError {
    #[error("there is no such slot")]
    Missing,
    #[error("neither half of the slot matches its digest")]
    Damaged,
    #[error("the slot has the same or a higher generation with other content")]
    Conflict,
    #[error("a slot body has at most 65536 bytes")]
    OverLimit,
    #[error("the disk failed: {0}")]
    Disk(#[from] io::Error),
}

/// One half, as read.
enum Half {
    Empty,
    Valid(SlotContent),
    Bad,
}

/// The slots of one site.
pub(crate) struct SlotStore {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
}

impl SlotStore {
    pub(crate) fn new(dir: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self { dir, disk }
    }

    fn path(&self, slot: SlotId) -> PathBuf {
        let hex: String = slot.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        self.dir.join(hex)
    }

    /// Overwrites a slot; returns when fsynced.
    pub(crate) fn write(&mut self, slot: SlotId, content: &SlotContent) -> Result<(), SlotError> {
        let bytes = encode_half(slot, content).ok_or(SlotError::OverLimit)?;
        let path = self.path(slot);
        let file = match disk::open_file(&path, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let both = [bytes, vec![0; HALF_BYTES]].concat();
                disk::create_file(self.disk.as_ref(), &path, &both)?;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let halves = read_halves(slot, &file)?;
        let current = current_half(&halves);
        if let Some((position, now)) = current {
            if now == content {
                self.disk.sync_data(&file)?;
                return self.clear_if_bad(&file, &halves, 1 - position);
            }
            if now.generation >= content.generation {
                return Err(SlotError::Conflict);
            }
        }
        let target = current.map_or(0, |(position, _)| 1 - position);
        self.disk.write(&file, &mut [IoSlice::new(&bytes)], half_offset(target))?;
        self.disk.sync_data(&file)?;
        self.clear_if_bad(&file, &halves, 1 - target)
    }

    /// Zeros in the place of a half that nobody can read, once the other one is durable: what is mended must not be
    /// found damaged again.
    fn clear_if_bad(&self, file: &File, halves: &[Half; 2], position: u8) -> Result<(), SlotError> {
        if matches!(halves.get(usize::from(position)), Some(Half::Bad)) {
            self.disk.write(file, &mut [IoSlice::new(&[0; HALF_BYTES])], half_offset(position))?;
            self.disk.sync_data(file)?;
        }
        Ok(())
    }

    /// Reads the highest valid generation.
    pub(crate) fn read(&self, slot: SlotId) -> Result<SlotContent, SlotError> {
        let halves = read_halves(slot, &self.open(slot, true)?)?;
        match current_half(&halves) {
            Some((_, content)) => Ok(content.clone()),
            None => Err(SlotError::Damaged),
        }
    }

    /// Overwrites the half that is not current with zeros; returns when fsynced.
    pub(crate) fn wipe_superseded(&mut self, slot: SlotId) -> Result<(), SlotError> {
        let file = self.open(slot, false)?;
        let halves = read_halves(slot, &file)?;
        let (position, _) = current_half(&halves).ok_or(SlotError::Damaged)?;
        self.disk.write(&file, &mut [IoSlice::new(&[0; HALF_BYTES])], half_offset(1 - position))?;
        self.disk.sync_data(&file)?;
        Ok(())
    }

    fn open(&self, slot: SlotId, read_only: bool) -> Result<File, SlotError> {
        disk::open_file(&self.path(slot), read_only).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => SlotError::Missing,
            _ => error.into(),
        })
    }

    /// All slots, in order of id; the generation of one that is damaged is 0.
    pub(crate) fn list(&self) -> io::Result<Vec<SlotListing>> {
        let mut listed = Vec::new();
        for slot in self.ids()? {
            let generation = match self.read(slot) {
                Ok(content) => content.generation,
                Err(SlotError::Disk(error)) => return Err(error),
                // It went while the others were read.
                Err(SlotError::Missing) => continue,
                Err(_) => 0,
            };
            listed.push(SlotListing { slot, generation });
        }
        Ok(listed)
    }

    /// Halves that hold something and do not match their digest.
    pub(crate) fn scrub(&self) -> Vec<ScrubFinding> {
        let ids = match self.ids() {
            Ok(ids) => ids,
            Err(_) => return vec![ScrubFinding { record: None, place: "slots".to_owned() }],
        };
        let damaged = |slot: &SlotId| {
            let halves = self.open(*slot, true).and_then(|file| Ok(read_halves(*slot, &file)?));
            !halves.is_ok_and(|halves| {
                current_half(&halves).is_some() && !halves.iter().any(|half| matches!(half, Half::Bad))
            })
        };
        let damaged_ids = ids.into_iter().filter(damaged);
        damaged_ids.map(|slot| ScrubFinding { record: None, place: slot.to_string() }).collect()
    }

    fn ids(&self) -> io::Result<Vec<SlotId>> {
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let id: Option<SlotId> = name.to_str().and_then(|name| format!("slot-{name}").parse().ok());
            ids.extend(id);
        }
        ids.sort_unstable();
        Ok(ids)
    }
}

fn half_offset(position: u8) -> u64 {
    u64::from(position) * HALF_BYTES as u64
}

fn slot_digest(slot: SlotId, header: &[u8], body: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("coffer 2026 site key slot v1");
    hasher.update(slot.as_bytes()).update(header).update(body);
    *hasher.finalize().as_bytes()
}

/// A whole half, zeros behind the body; `None` for a body over the limit.
fn encode_half(slot: SlotId, content: &SlotContent) -> Option<Vec<u8>> {
    if content.body.len() > SLOT_BODY_BYTES_MAX {
        return None;
    }
    let length = u32::try_from(content.body.len()).ok()?;
    let mut out = vec![0; HALF_BYTES];
    out[..8].copy_from_slice(&MAGIC);
    out[8..16].copy_from_slice(&content.generation.to_le_bytes());
    out[16..20].copy_from_slice(&length.to_le_bytes());
    let digest = slot_digest(slot, &out[..DIGEST_AT], &content.body);
    out[DIGEST_AT..USED_HEADER_BYTES].copy_from_slice(&digest);
    out[HEADER_BYTES..HEADER_BYTES + content.body.len()].copy_from_slice(&content.body);
    Some(out)
}

fn decode_half(slot: SlotId, bytes: &[u8]) -> Half {
    if bytes.iter().all(|byte| *byte == 0) {
        return Half::Empty;
    }
    let length = usize::try_from(u32::from_le_bytes(field(bytes, 16))).unwrap_or(usize::MAX);
    let body = HEADER_BYTES.checked_add(length).and_then(|end| bytes.get(HEADER_BYTES..end));
    let (Some(body), Some(header)) = (body, bytes.get(..DIGEST_AT)) else { return Half::Bad };
    let padding = |range: Option<&[u8]>| range.is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0));
    let clean = padding(bytes.get(USED_HEADER_BYTES..HEADER_BYTES))
        && padding(bytes.get(HEADER_BYTES + body.len()..));
    if !clean || header[..8] != MAGIC || slot_digest(slot, header, body) != field::<32>(bytes, DIGEST_AT) {
        return Half::Bad;
    }
    let generation = u64::from_le_bytes(field(bytes, 8));
    Half::Valid(SlotContent { generation, body: Bytes::copy_from_slice(body) })
}

/// For [`entrances`](crate::entrances): whether these are the used bytes of a
/// half with something in it.
pub(crate) fn is_half(slot: SlotId, used: &[u8]) -> bool {
    let (header, body) = used.split_at(used.len().min(USED_HEADER_BYTES));
    let mut half = vec![0; HALF_BYTES.max(HEADER_BYTES + body.len())];
    half[..header.len()].copy_from_slice(header);
    half[HEADER_BYTES..HEADER_BYTES + body.len()].copy_from_slice(body);
    matches!(decode_half(slot, &half), Half::Valid(_))
}

/// Both halves; one that the file is too short for is bad.
fn read_halves(slot: SlotId, file: &File) -> io::Result<[Half; 2]> {
    let read = |position| {
        let mut bytes = vec![0; HALF_BYTES];
        match file.read_exact_at(&mut bytes, half_offset(position)) {
            Ok(()) => Ok(decode_half(slot, &bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(Half::Bad),
            Err(error) => Err(error),
        }
    };
    Ok([read(0)?, read(1)?])
}

/// The half with the highest generation among the valid ones.
fn current_half(halves: &[Half; 2]) -> Option<(u8, &SlotContent)> {
    let valid = (0..).zip(halves).filter_map(|(position, half)| match half {
        Half::Valid(content) => Some((position, content)),
        Half::Empty | Half::Bad => None,
    });
    valid.max_by_key(|(_, content)| content.generation)
}
