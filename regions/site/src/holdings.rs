//! Everything that an open site knows about its volumes, under one lock, so
//! that whoever looks sees the state after one batch and before the next.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use coffer_model::Digest;
use coffer_regions::Reach;

use crate::index::Index;
use crate::retired::Retired;
use crate::scan::Chain;
use crate::volume::Volume;

/// One volume, as far as it has been fsynced.
#[derive(Clone)]
pub(crate) struct HeldVolume {
    pub(crate) volume: Volume,
    /// Bytes that hold whole batches, or damage that is left where it is.
    pub(crate) length: u64,
    /// The chain of batches before its first and after its last one.
    pub(crate) start: Chain,
    pub(crate) end: Chain,
    /// Offset of its last batch with a valid header.
    pub(crate) last_batch: Option<u64>,
    /// Damage of its framing: where, and how many records it cost.
    pub(crate) damage: Vec<(u64, u64)>,
}

/// What a site holds.
pub(crate) struct Holdings {
    pub(crate) index: Index,
    pub(crate) volumes: BTreeMap<u32, HeldVolume>,
    /// Volume files that cannot be read at all.
    pub(crate) unreadable: BTreeSet<u32>,
    /// Where the next batch continues.
    pub(crate) chain: Chain,
    /// The last batches, so that a question about one of them reads no volume.
    recent: Recent,
    /// Volumes that compaction emptied and removed.
    pub(crate) retired: Retired,
    /// The volume that takes the next batch, if there is one.
    pub(crate) current: Option<u32>,
}

/// Batches that are remembered: at a few hundred a second those of some ten
/// seconds, more than lies between two looks at a site. 40 bytes each.
const RECENT: usize = 4096;

/// The last batches of a site since it was opened, in order.
#[derive(Default)]
struct Recent(VecDeque<Reach>);

impl Recent {
    fn push(&mut self, reach: Reach) {
        // Numbers follow each other; after damage they may not, and then what
        // came before is found in its volume.
        if self.0.back().is_some_and(|last| last.sequence + 1 != reach.sequence) {
            self.0.clear();
        }
        if self.0.len() == RECENT {
            self.0.pop_front();
        }
        self.0.push_back(reach);
    }

    fn digest(&self, sequence: u64) -> Option<Digest> {
        let first = self.0.front()?.sequence;
        let index = usize::try_from(sequence.checked_sub(first)?).ok()?;
        self.0.get(index).map(|reach| reach.digest)
    }
}

/// Where a batch of the past is to be looked for.
pub(crate) enum History {
    /// Known without a look.
    Known(bool),
    /// In this volume, if anywhere.
    In(Box<HeldVolume>),
}

impl Holdings {
    /// A site without volumes.
    pub(crate) fn empty(retired: Retired) -> Self {
        Self {
            index: Index::default(),
            volumes: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            chain: Chain::START,
            recent: Recent::default(),
            retired,
            current: None,
        }
    }

    /// One batch further.
    pub(crate) fn advance(&mut self, chain: &Chain) {
        if let Some(reach) = chain.reach() {
            self.recent.push(reach);
        }
        self.chain = chain.clone();
    }

    /// Bytes in volume files.
    pub(crate) fn volume_bytes(&self) -> u64 {
        self.volumes.values().map(|volume| volume.length).sum()
    }

    /// The number that the next volume gets; numbers are never used again.
    pub(crate) fn next_number(&self) -> u32 {
        let held = self.volumes.keys().next_back().copied();
        let numbers = [held, self.unreadable.last().copied(), self.retired.last()];
        numbers.into_iter().flatten().max().map_or(0, |number| number.saturating_add(1))
    }

    /// Where the batch that `reach` names is to be looked for.
    pub(crate) fn history(&self, reach: Reach) -> History {
        let Some(last) = self.chain.next.checked_sub(1) else { return History::Known(false) };
        if reach.sequence > last {
            return History::Known(false);
        }
        if let Some(last) = self.chain.reach().filter(|last| last.sequence == reach.sequence) {
            return History::Known(last == reach);
        }
        if let Some(digest) = self.recent.digest(reach.sequence) {
            return History::Known(digest == reach.digest);
        }
        let holds = |volume: &&HeldVolume| (volume.start.next..volume.end.next).contains(&reach.sequence);
        if let Some(volume) = self.volumes.values().find(holds) {
            return History::In(Box::new(volume.clone()));
        }
        // Its header is gone. The header after it, or the note of the volume
        // that held it, may still say its digest; else its number is all.
        let successors = self.volumes.values().map(|volume| &volume.start);
        let known = successors.chain(self.retired.ends()).find(|chain| chain.next == reach.sequence + 1);
        let digest = known.and_then(|chain| chain.previous).map(Digest);
        History::Known(digest.is_none_or(|digest| digest == reach.digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(sequence: u64) -> Reach {
        Reach { sequence, digest: Digest([u8::try_from(sequence % 251).unwrap(); 32]) }
    }

    #[test]
    fn the_last_batches_are_known_and_no_other_is() {
        let mut recent = Recent::default();
        assert_eq!(recent.digest(0), None);
        let end = RECENT as u64 + 10;
        (5..end).for_each(|sequence| recent.push(reach(sequence)));
        let first = end - RECENT as u64;
        for sequence in [0, 4, first - 1, end, u64::MAX] {
            assert_eq!(recent.digest(sequence), None, "{sequence}");
        }
        for sequence in [first, first + 1, end - 1] {
            assert_eq!(recent.digest(sequence), Some(reach(sequence).digest), "{sequence}");
        }
    }

    #[test]
    fn a_gap_in_the_numbers_forgets_what_came_before() {
        let mut recent = Recent::default();
        (0..3).for_each(|sequence| recent.push(reach(sequence)));
        recent.push(reach(7));
        assert_eq!((recent.digest(2), recent.digest(7)), (None, Some(reach(7).digest)));
    }
}
