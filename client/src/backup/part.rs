//! A part of a tree: stretches of its entries, spread over all of it, with the
//! directories above them. What a part costs says what the whole will cost.

use std::collections::VecDeque;
use std::ops::Range;

use super::entry::{Kind, StoredEntry, split_path};
use super::fetch::{EntrySource, FetchError};

/// In so many stretches a part is spread.
const STRETCHES: u64 = 4;

/// Which entries of a tree, by their place in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    stretches: Vec<Range<u64>>,
    file_bytes_max: u64,
}

impl Part {
    /// About `wanted` of the `entries` of a tree, in stretches of one length at
    /// even distances; those of another `turn` lie elsewhere, while there is
    /// room. Files of more than `file_bytes_max` bytes are left out.
    pub fn spread(entries: u64, wanted: u64, turn: u64, file_bytes_max: u64) -> Self {
        let each = entries / STRETCHES;
        let length = wanted.min(entries).div_ceil(STRETCHES).clamp(1, each.max(1));
        let begins = turn.saturating_mul(length).min(each.saturating_sub(length));
        let stretch = |number: u64| {
            let from = number * each + begins;
            from..from + length
        };
        Self { stretches: (0..STRETCHES).map(stretch).collect(), file_bytes_max }
    }

    fn has(&self, place: u64, stored: &StoredEntry) -> bool {
        let bytes = stored.chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum::<u64>();
        // The first name of a hard link may lie outside.
        let alone = stored.entry.hard_link_to.is_none() && bytes <= self.file_bytes_max;
        alone && self.stretches.iter().any(|stretch| stretch.contains(&place))
    }

    fn is_behind(&self, place: u64) -> bool {
        self.stretches.iter().all(|stretch| stretch.end <= place)
    }
}

/// The entries of a tree, all or a part, each after the directories above it.
/// Blocks: for a worker thread.
pub(crate) struct Chosen {
    source: EntrySource,
    part: Option<Part>,
    place: u64,
    /// Directories above the next entry that were not wanted yet.
    above: Vec<StoredEntry>,
    ready: VecDeque<StoredEntry>,
}

impl Chosen {
    /// Of a tree whose entries come from `source`.
    pub(crate) fn of(source: EntrySource, part: Option<Part>) -> Self {
        Self { source, part, place: 0, above: Vec::new(), ready: VecDeque::new() }
    }

    /// The next entry, none after the last.
    pub(crate) fn next(&mut self) -> Result<Option<StoredEntry>, FetchError> {
        let Self { source, part, place, above, ready } = self;
        let Some(part) = part else { return source.next() };
        loop {
            if let Some(ready) = ready.pop_front() {
                return Ok(Some(ready));
            }
            if part.is_behind(*place) {
                return Ok(None);
            }
            let Some(stored) = source.next()? else { return Ok(None) };
            above.retain(|directory| leads_to(&directory.entry.path, &stored.entry.path));
            if part.has(*place, &stored) {
                ready.extend(above.drain(..));
                ready.push_back(stored);
            } else if stored.entry.kind == Kind::Directory {
                above.push(stored);
            }
            *place += 1;
        }
    }
}

/// Whether a directory is one of those above a path.
fn leads_to(directory: &[u8], path: &[u8]) -> bool {
    let parent = split_path(path).0;
    directory.is_empty()
        || parent.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_as_many_entries_as_are_wanted_and_never_more_than_there_are() {
        for entries in [1, 3, 4, 5, 17, 400, 100_001] {
            for wanted in [0, 1, 4, 100, u64::MAX] {
                for turn in [0, 1, 7, u64::MAX] {
                    let part = Part::spread(entries, wanted, turn, 1);
                    let length = |stretch: &Range<u64>| stretch.end - stretch.start;
                    let all: u64 = part.stretches.iter().map(length).sum();
                    assert!(all <= wanted.min(entries).div_ceil(STRETCHES).max(1) * STRETCHES, "{part:?}");
                    let apart = part.stretches.windows(2).all(|two| two[0].end <= two[1].start);
                    assert!(apart || entries < STRETCHES, "{entries} {wanted} {turn}: {part:?}");
                }
            }
        }
    }

    #[test]
    fn a_directory_leads_to_what_is_below_it_and_to_nothing_that_is_only_called_alike() {
        assert!(leads_to(b"", b"a") && leads_to(b"a", b"a/b") && leads_to(b"a", b"a/b/c"));
        assert!(!leads_to(b"a", b"ab/c") && !leads_to(b"a/b", b"a/c") && !leads_to(b"a/b", b"a/b"));
    }

    #[test]
    fn another_turn_lies_elsewhere_while_there_is_room() {
        let of = |turn| Part::spread(4000, 400, turn, 1);
        assert_eq!((of(0).stretches[1].clone(), of(1).stretches[1].clone()), (1000..1100, 1100..1200));
        assert_eq!(of(20), of(9));
    }
}
