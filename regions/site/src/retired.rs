//! The ledger of volumes that compaction emptied and removed: what tells a
//! volume that was compacted away from one that was lost. `LAYOUT.md` draws it.

use std::path::Path;

use coffer_model::SiteId;

use crate::batch::field;
use crate::disk;
use crate::scan::Chain;

/// First bytes of each of the two copies.
const MAGIC: [u8; 8] = *b"CFRETIR1";
const HEADER_BYTES: usize = 8 + 16 + 4;
const CHAIN_BYTES: usize = 8 + 1 + 32;
const RUN_BYTES: usize = 8 + 2 * CHAIN_BYTES;
const DIGEST_BYTES: usize = 32;
/// More runs than volumes that fit any disk; a longer file is damaged.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Consecutive volumes that were retired, and what they held of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: u32,
    pub(crate) last: u32,
    pub(crate) before: Chain,
    pub(crate) after: Chain,
}

/// All retired volumes, in order, neighbours joined.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retired {
    runs: Vec<Run>,
}

/// How the ledger was found.
pub(crate) enum Found {
    Whole(Retired),
    /// One of its two copies is damaged.
    HalfDamaged(Retired),
    Damaged,
}

impl Retired {
    /// Whether a volume was retired.
    pub(crate) fn names(&self, number: u32) -> bool {
        self.runs.iter().any(|run| (run.first..=run.last).contains(&number))
    }

    /// Whether no volume was ever retired.
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The highest number that was retired.
    pub(crate) fn last(&self) -> Option<u32> {
        self.runs.last().map(|run| run.last)
    }

    /// The chain behind each run.
    pub(crate) fn ends(&self) -> impl Iterator<Item = &Chain> {
        self.runs.iter().map(|run| &run.after)
    }

    /// Runs that lie in a range of numbers, in order.
    pub(crate) fn within(&self, from: u32, to: u32) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(move |run| run.first >= from && run.last < to)
    }

    /// The ledger with one more volume.
    pub(crate) fn with(&self, number: u32, before: Chain, after: Chain) -> Self {
        let mut runs = self.runs.clone();
        runs.push(Run { first: number, last: number, before, after });
        runs.sort_by_key(|run| run.first);
        let mut joined: Vec<Run> = Vec::with_capacity(runs.len());
        for run in runs {
            match joined.last_mut() {
                Some(last) if last.last.checked_add(1) == Some(run.first) => {
                    (last.last, last.after) = (run.last, run.after);
                }
                _ => joined.push(run),
            }
        }
        Self { runs: joined }
    }

    /// The bytes of the file: the same copy twice.
    pub(crate) fn encode(&self, site: SiteId) -> Option<Vec<u8>> {
        let mut copy = MAGIC.to_vec();
        copy.extend_from_slice(site.as_bytes());
        copy.extend_from_slice(&u32::try_from(self.runs.len()).ok()?.to_le_bytes());
        for run in &self.runs {
            copy.extend_from_slice(&run.first.to_le_bytes());
            copy.extend_from_slice(&run.last.to_le_bytes());
            run.before.encode(&mut copy);
            run.after.encode(&mut copy);
        }
        copy.extend_from_slice(&digest_of(&copy));
        Some([copy.clone(), copy].concat())
    }

    /// For [`entrances`](crate::entrances): whether this is a copy of the
    /// ledger of `site`, once it has its digest.
    pub(crate) fn decode_digested(text: &[u8], site: SiteId) -> bool {
        Self::decode(&[text, &digest_of(text)].concat(), site).is_some()
    }

    fn decode(copy: &[u8], site: SiteId) -> Option<Self> {
        let runs_end = copy.len().checked_sub(DIGEST_BYTES).filter(|end| *end >= HEADER_BYTES)?;
        let (text, digest) = copy.split_at(runs_end);
        let runs = &text[HEADER_BYTES..];
        let count = usize::try_from(u32::from_le_bytes(field(text, 24))).ok()?;
        let whole = text[..8] == MAGIC && digest == digest_of(text) && text[8..24] == *site.as_bytes();
        if !whole || count.checked_mul(RUN_BYTES) != Some(runs.len()) {
            return None;
        }
        let run = |bytes: &[u8; RUN_BYTES]| Run {
            first: u32::from_le_bytes(field(bytes, 0)),
            last: u32::from_le_bytes(field(bytes, 4)),
            before: Chain::decode(&field::<CHAIN_BYTES>(bytes, 8)),
            after: Chain::decode(&field::<CHAIN_BYTES>(bytes, 8 + CHAIN_BYTES)),
        };
        Some(Self { runs: runs.as_chunks::<RUN_BYTES>().0.iter().map(run).collect() })
    }

    /// Reads the ledger of `site`; none is an empty one.
    pub(crate) fn read(path: &Path, site: SiteId) -> std::io::Result<Found> {
        let bytes = match disk::read_bounded(path, FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Found::Whole(Self::default()));
            }
            Err(error) if error.kind() == std::io::ErrorKind::FileTooLarge => return Ok(Found::Damaged),
            Err(error) => return Err(error),
        };
        let (first, second) = bytes.split_at(bytes.len() / 2);
        Ok(match (Self::decode(first, site), Self::decode(second, site)) {
            (Some(first), Some(second)) if first == second => Found::Whole(first),
            (Some(one), _) | (_, Some(one)) => Found::HalfDamaged(one),
            (None, None) => Found::Damaged,
        })
    }
}

fn digest_of(text: &[u8]) -> [u8; DIGEST_BYTES] {
    blake3::derive_key("coffer 2026 site retired volumes v1", text)
}

impl Chain {
    /// Appends the chain's 41 bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.next.to_le_bytes());
        out.push(u8::from(self.previous.is_some()));
        out.extend_from_slice(&self.previous.unwrap_or([0; 32]));
    }

    /// The chain in these bytes.
    pub(crate) fn decode(bytes: &[u8; CHAIN_BYTES]) -> Self {
        let previous = (bytes[8] == 1).then(|| field(bytes, 9));
        Self { next: u64::from_le_bytes(field(bytes, 0)), previous }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(next: u64) -> Chain {
        Chain { next, previous: Some([u8::try_from(next).unwrap(); 32]) }
    }

    #[test]
    fn neighbours_are_joined_in_whatever_order_they_were_retired() {
        let ledger = [4, 1, 3, 2, 7].into_iter().fold(Retired::default(), |ledger, number| {
            ledger.with(number, chain(u64::from(number)), chain(u64::from(number) + 1))
        });
        assert_eq!(ledger.runs.len(), 2);
        assert_eq!(ledger.runs[0], Run { first: 1, last: 4, before: chain(1), after: chain(5) });
        assert!(ledger.names(3) && !ledger.names(5) && ledger.names(7) && !ledger.names(0));
    }

    #[test]
    fn a_flipped_bit_in_one_copy_leaves_the_other_and_in_both_nothing() {
        let (site, dir) = (SiteId::from_bytes([1; 16]), tempfile::TempDir::new().unwrap());
        let path = dir.path().join("RETIRED");
        let ledger = Retired::default().with(3, chain(1), chain(9));
        let bytes = ledger.encode(site).unwrap();
        let half = bytes.len() / 2;
        let read = |bytes: &[u8], site| {
            disk::create_file(&crate::HostDisk, &path, bytes).unwrap();
            Retired::read(&path, site).unwrap()
        };
        assert!(matches!(read(&bytes, site), Found::Whole(found) if found == ledger));
        assert!(matches!(read(&bytes, SiteId::from_bytes([2; 16])), Found::Damaged));
        for position in 0..half {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1;
            assert!(matches!(read(&flipped, site), Found::HalfDamaged(found) if found == ledger));
            flipped[half + position] ^= 1;
            assert!(matches!(read(&flipped, site), Found::Damaged), "flip at {position}");
        }
        assert!(matches!(read(&bytes[..half], site), Found::Damaged));
    }
}
