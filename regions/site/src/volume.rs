//! A volume file: its header, its name, its bytes. The header stands at the
//! start twice, since losing the nonce would lose every batch.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coffer_model::{Entropy, SiteId};

use crate::batch::{BatchKey, field};
use crate::disk::{self, Disk};

/// Bytes of one copy of the header.
pub(crate) const VOLUME_HEADER_BYTES: usize = 64;
/// Where the first batch starts.
pub(crate) const FIRST_BATCH: u64 = 2 * VOLUME_HEADER_BYTES as u64;

const MAGIC: [u8; 8] = *b"CFVOLUME";
const FORMAT: u8 = 1;
const CHECKSUM_AT: usize = VOLUME_HEADER_BYTES - 16;

/// What a volume's header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VolumeHeader {
    pub(crate) site: SiteId,
    pub(crate) number: u32,
    pub(crate) nonce: [u8; 16],
}

/// Why 64 bytes are not a volume header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// The checksum or the magic is wrong.
    Damaged,
    /// A format that this version does not know.
    Format(u8),
}

impl VolumeHeader {
    /// The bytes of one copy.
    pub(crate) fn encode(&self) -> [u8; VOLUME_HEADER_BYTES] {
        let mut out = [0; VOLUME_HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC);
        out[8] = FORMAT;
        out[12..16].copy_from_slice(&self.number.to_le_bytes());
        out[16..32].copy_from_slice(self.site.as_bytes());
        out[32..48].copy_from_slice(&self.nonce);
        let hash = blake3::hash(&out[..CHECKSUM_AT]);
        out[CHECKSUM_AT..].copy_from_slice(&hash.as_bytes()[..16]);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let checksum = blake3::hash(&bytes[..CHECKSUM_AT]);
        if bytes[..8] != MAGIC || bytes[CHECKSUM_AT..VOLUME_HEADER_BYTES] != checksum.as_bytes()[..16] {
            return Err(HeaderError::Damaged);
        }
        if bytes[8] != FORMAT {
            return Err(HeaderError::Format(bytes[8]));
        }
        Ok(Self {
            site: SiteId::from_bytes(field(bytes, 16)),
            number: u32::from_le_bytes(field(bytes, 12)),
            nonce: field(bytes, 32),
        })
    }

    /// The key that binds batch headers to this volume.
    pub(crate) fn batch_key(&self) -> BatchKey {
        BatchKey::of_volume(&self.encode())
    }
}

/// Reads the header of a volume file from whichever copy is whole; the flag
/// says whether the other copy is damaged.
pub(crate) fn read_header(file: &File) -> io::Result<Result<(VolumeHeader, bool), HeaderError>> {
    let mut bytes = [0; 2 * VOLUME_HEADER_BYTES];
    if file.metadata()?.len() < FIRST_BATCH {
        return Ok(Err(HeaderError::Damaged));
    }
    file.read_exact_at(&mut bytes, 0)?;
    let (first, second) = bytes.split_at(VOLUME_HEADER_BYTES);
    Ok(match (VolumeHeader::decode(first), VolumeHeader::decode(second)) {
        (Ok(header), other) => {
            let damaged = other.as_ref() != Ok(&header);
            Ok((header, damaged))
        }
        (Err(_), Ok(header)) => Ok((header, true)),
        (Err(first), Err(_)) => Err(first),
    })
}

/// An open volume.
#[derive(Clone)]
pub(crate) struct Volume {
    pub(crate) number: u32,
    pub(crate) file: Arc<File>,
    pub(crate) key: BatchKey,
}

impl Volume {
    /// Creates volume `number` of `site`; it exists durably when this returns.
    pub(crate) fn create(
        disk: &dyn Disk,
        dir: &Path,
        site: SiteId,
        number: u32,
        entropy: &dyn Entropy,
    ) -> io::Result<Self> {
        let header = VolumeHeader { site, number, nonce: entropy.sixteen() };
        let bytes = [header.encode(), header.encode()].concat();
        let file = disk::create_file(disk, &dir.join(file_name(number)), &bytes)?;
        Ok(Self { number, file: Arc::new(file), key: header.batch_key() })
    }
}

/// The file name of a volume: eight digits, so that names sort like numbers.
pub(crate) fn file_name(number: u32) -> String {
    format!("{number:08}.vol")
}

/// A place for people: file name and offset.
pub(crate) fn place(number: u32, offset: u64) -> String {
    format!("{}:{offset}", file_name(number))
}

/// The volume files of a directory in order of number. Files that a crash
/// left under a temporary name are not among them.
pub(crate) fn list_files(dir: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".vol")).and_then(|n| n.parse().ok());
        if let Some(number) = number {
            found.push((number, entry.path()));
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_header_with_any_bit_flipped_is_refused() {
        let header = VolumeHeader { site: SiteId::from_bytes([1; 16]), number: 3, nonce: [9; 16] };
        let bytes = header.encode();
        assert_eq!(VolumeHeader::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(VolumeHeader::decode(&flipped), Err(HeaderError::Damaged), "bit {bit}");
        }
    }

    #[test]
    fn a_later_format_is_refused_by_its_number() {
        let header = VolumeHeader { site: SiteId::from_bytes([1; 16]), number: 3, nonce: [9; 16] };
        let mut bytes = header.encode();
        bytes[8] = 2;
        let hash = blake3::hash(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..].copy_from_slice(&hash.as_bytes()[..16]);
        assert_eq!(VolumeHeader::decode(&bytes), Err(HeaderError::Format(2)));
    }
}
