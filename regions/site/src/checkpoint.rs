//! The index as a file, so that opening reads only the batches behind it.
//! Never believed over the volumes: it counts only where each volume that it
//! names is there, with the same nonce, length and last batch; else, or where
//! one bit of it is wrong, the volumes are scanned. `LAYOUT.md` draws it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use coffer_model::{Digest, RecordId, SiteId};
use coffer_regions::{ClearGeometry, Record, RecordKind};

use crate::batch::{RecordEntry, field};
use crate::disk;
use crate::holdings::Holdings;
use crate::index::{Index, Location, Tally};
use crate::scan::Chain;

const MAGIC: [u8; 8] = *b"CFINDEX1";
const DIGEST_BYTES: usize = 32;
const CHAIN_BYTES: usize = 41;
const NO_BATCH: u64 = u64::MAX;

/// What a checkpoint says about one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CoveredVolume {
    pub(crate) number: u32,
    /// 16 bytes that follow from the volume's header, hence from its nonce.
    pub(crate) nonce: [u8; 16],
    pub(crate) length: u64,
    pub(crate) start: Chain,
    pub(crate) end: Chain,
    pub(crate) last_batch: Option<u64>,
    pub(crate) damage: Vec<(u64, u64)>,
}

/// A checkpoint whose digest is right.
pub(crate) struct Checkpoint {
    pub(crate) volumes: Vec<CoveredVolume>,
    pub(crate) index: Index,
}

/// The bytes of a checkpoint of `holdings`.
pub(crate) fn encode(site: SiteId, holdings: &Holdings) -> Vec<u8> {
    let mut out = Writer(Vec::new());
    out.0.extend_from_slice(&MAGIC);
    out.0.extend_from_slice(site.as_bytes());
    out.count(holdings.volumes.len());
    for held in holdings.volumes.values() {
        out.four(held.volume.number);
        out.0.extend_from_slice(&held.volume.key.fingerprint());
        out.eight(held.length);
        held.start.encode(&mut out.0);
        held.end.encode(&mut out.0);
        out.eight(held.last_batch.unwrap_or(NO_BATCH));
        let tally = holdings.index.tally(held.volume.number);
        out.eight(tally.dead_bytes);
        out.eight(tally.removals);
        out.count(held.damage.len());
        for (offset, records) in &held.damage {
            out.eight(*offset);
            out.eight(*records);
        }
    }
    for kind in RecordKind::ALL {
        let records = holdings.index.of_kind(kind);
        out.count(records.len());
        records.for_each(|at| out.location(&at));
    }
    out.count(holdings.index.dead().len());
    for (id, volume) in holdings.index.dead() {
        out.0.extend_from_slice(id.as_bytes());
        out.four(*volume);
    }
    let digest = digest_of(&out.0);
    out.0.extend_from_slice(&digest);
    out.0
}

/// Reads the checkpoint in `path`; `None` where there is none that is whole
/// and of `site`.
pub(crate) fn read(path: &Path, site: SiteId) -> Option<Checkpoint> {
    let bytes = disk::read_bounded(path, u64::MAX - 1).ok()?;
    let (text, digest) = bytes.split_at(bytes.len().checked_sub(DIGEST_BYTES)?);
    if digest != digest_of(text) {
        return None;
    }
    decode(text, site)
}

fn digest_of(text: &[u8]) -> [u8; DIGEST_BYTES] {
    blake3::derive_key("coffer 2026 site index checkpoint v1", text)
}

/// The checkpoint in these bytes, whose digest is right.
pub(crate) fn decode(text: &[u8], site: SiteId) -> Option<Checkpoint> {
    let mut from = Reader(text);
    if from.take::<8>()? != MAGIC || from.take::<16>()? != *site.as_bytes() {
        return None;
    }
    let (mut volumes, mut buried, mut ends) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
    for _ in 0..from.eight()? {
        let (volume, tally) = from.volume()?;
        buried.insert(volume.number, tally);
        ends.insert(volume.number, volume.length);
        volumes.push(volume);
    }
    let mut records: [Vec<Location>; RecordKind::ALL.len()] = Default::default();
    for (kind, records) in RecordKind::ALL.into_iter().zip(&mut records) {
        let count = from.eight()?;
        // No more than the rest can hold, whatever the count says.
        let room = from.0.len() / Reader::LOCATION_BYTES;
        records.reserve_exact(usize::try_from(count).ok().filter(|count| *count <= room)?);
        for _ in 0..count {
            let at = from.location(kind)?;
            let end = at.offset.checked_add(at.entry.body_bytes.into())?;
            ends.get(&at.volume).filter(|length| end <= **length)?;
            records.push(at);
        }
    }
    let dead = (0..from.eight()?).map(|_| Some((from.id()?, from.four()?)));
    let dead = dead.collect::<Option<BTreeSet<_>>>()?;
    let index = from.0.is_empty().then(|| Index::assemble(records, dead, &buried))?;
    Some(Checkpoint { volumes, index })
}

struct Writer(Vec<u8>);

impl Writer {
    fn four(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn eight(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn count(&mut self, count: usize) {
        self.eight(u64::try_from(count).unwrap_or(u64::MAX));
    }

    fn location(&mut self, at: &Location) {
        self.0.extend_from_slice(at.entry.id.as_bytes());
        self.four(at.volume);
        self.eight(at.offset);
        let ClearGeometry { k, m, index } = at.entry.geometry;
        self.0.extend_from_slice(&[k, m, index]);
        self.four(at.entry.body_bytes);
        self.0.extend_from_slice(&at.entry.digest.0);
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    const LOCATION_BYTES: usize = 67;

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_at_checked(N)?;
        self.0 = rest;
        Some(field(taken, 0))
    }

    fn four(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn eight(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn id(&mut self) -> Option<RecordId> {
        self.take().map(RecordId::from_bytes)
    }

    fn volume(&mut self) -> Option<(CoveredVolume, Tally)> {
        let volume = CoveredVolume {
            number: self.four()?,
            nonce: self.take()?,
            length: self.eight()?,
            start: Chain::decode(&self.take::<CHAIN_BYTES>()?),
            end: Chain::decode(&self.take::<CHAIN_BYTES>()?),
            last_batch: Some(self.eight()?).filter(|at| *at != NO_BATCH),
            damage: Vec::new(),
        };
        let tally = Tally { dead_bytes: self.eight()?, removals: self.eight()?, ..Tally::default() };
        if tally.dead_bytes.max(tally.removals) > volume.length {
            return None;
        }
        let damage = (0..self.eight()?).map(|_| Some((self.eight()?, self.eight()?)));
        Some((CoveredVolume { damage: damage.collect::<Option<_>>()?, ..volume }, tally))
    }

    fn location(&mut self, kind: RecordKind) -> Option<Location> {
        let id = self.id()?;
        let (volume, offset) = (self.four()?, self.eight()?);
        let [k, m, index] = self.take()?;
        let geometry = ClearGeometry { k, m, index };
        let (body_bytes, digest) = (self.four()?, Digest(self.take()?));
        let short = usize::try_from(body_bytes).is_ok_and(|length| length <= Record::BODY_BYTES_MAX);
        let entry = RecordEntry { kind, id, geometry, body_bytes, digest };
        short.then_some(Location { volume, offset, entry, damaged: false })
    }
}
