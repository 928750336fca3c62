//! What one run of repair has done already. Each thing is done once in a run:
//! a site where it is to be done again acknowledged it, gave it back, and
//! shows it undone. Such a site would keep a run going for ever.

use std::collections::{BTreeMap, BTreeSet};

use coffer_model::{RecordId, SiteId, SlotId, VersionId};
use coffer_regions::{Action, Stray};

use super::release::Floors;

/// Something that was done at a site for a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mark {
    /// A shard was written.
    Shard { stripe: u32, index: u8, site: SiteId },
    /// A copy of the manifest record was written.
    Copy(SiteId),
    /// A record was removed from where it should not lie.
    Removed(Stray),
}

/// Something small that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Small {
    /// A tombstone, a fact or a run of leaves.
    Record(RecordId),
    /// A generation of a key slot.
    Slot(SlotId, u64),
}

/// Things that are remembered, and as many small ones. A longer run may do
/// something twice before it is found out.
const REMEMBERED_MAX: usize = 1 << 20;

/// All that was done in a run.
#[derive(Debug)]
pub(crate) struct Marks {
    versions: BTreeMap<VersionId, BTreeSet<Mark>>,
    small: BTreeSet<(Small, SiteId)>,
    /// How many more are remembered of versions: one of them may have as many
    /// shards as all others together.
    room: usize,
    /// What counts as old at sites that are not believed.
    pub(super) floors: Floors,
    /// How often disks had been replaced when the latest round began.
    replaced: BTreeMap<SiteId, u64>,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            versions: BTreeMap::new(),
            small: BTreeSet::new(),
            room: REMEMBERED_MAX,
            floors: Floors::default(),
            replaced: BTreeMap::new(),
        }
    }
}

impl Marks {
    /// Whether something small was written and given back there before.
    pub(crate) fn wrote(&self, small: Small, site: SiteId) -> bool {
        self.small.contains(&(small, site))
    }

    /// Notes that it was. What was not taken is no mark against a site.
    pub(crate) fn written(&mut self, small: Small, site: SiteId) {
        if self.small.len() < REMEMBERED_MAX {
            self.small.insert((small, site));
        }
    }

    /// The site at which something that this action does was done before.
    pub(crate) fn undone(&self, version: VersionId, action: &Action) -> Option<SiteId> {
        let done = self.versions.get(&version)?;
        of(action).iter().find(|mark| done.contains(mark)).map(Mark::site)
    }

    /// Notes that an action came to its end. Under a new manifest other records
    /// are to lie at other places; and what repair has undone by itself, as
    /// where a site was drained, and not any more, and is again, may be done anew.
    pub(crate) fn done(&mut self, version: VersionId, action: &Action) {
        if let Action::Manifest { .. } = action {
            self.room += self.versions.remove(&version).map_or(0, |done| done.len());
            return;
        }
        let marks = of(action);
        if let Some(done) = self.versions.get_mut(&version) {
            let before = done.len();
            marks.iter().for_each(|new| new.undo(done));
            self.room += before - done.len();
        }
        self.note(version, marks);
    }

    fn note(&mut self, version: VersionId, marks: Vec<Mark>) {
        for mark in marks {
            if self.room > 0 && self.versions.entry(version).or_default().insert(mark) {
                self.room -= 1;
            }
        }
    }

    /// Forgets what was done at sites whose disks are new ones since it was last told.
    pub(crate) fn forget_replaced(&mut self, replacements: BTreeMap<SiteId, u64>) {
        for (site, count) in &replacements {
            if self.replaced.get(site) != Some(count) {
                self.forget(*site);
            }
        }
        self.replaced = replacements;
    }

    /// Forgets what was done at a site whose disk is a new one.
    fn forget(&mut self, site: SiteId) {
        self.floors.forget(site);
        self.small.retain(|(_, at)| *at != site);
        for done in self.versions.values_mut() {
            let before = done.len();
            done.retain(|mark| mark.site() != site);
            self.room += before - done.len();
        }
        self.versions.retain(|_, done| !done.is_empty());
    }
}

impl Mark {
    fn site(&self) -> SiteId {
        match self {
            Self::Shard { site, .. } | Self::Copy(site) => *site,
            Self::Removed(stray) => stray.site,
        }
    }

    /// Takes out what this takes back. A copy of the manifest is not among it: where one lies is where the layout
    /// wants it, and under another layout all is done anew.
    fn undo(&self, done: &mut BTreeSet<Self>) {
        match *self {
            Self::Removed(Stray { site, shard: Some((stripe, index)), .. }) => {
                done.remove(&Self::Shard { stripe, index, site });
            }
            Self::Shard { stripe, index, site } => {
                let is_it = |stray: &Stray| stray.site == site && stray.shard == Some((stripe, index));
                let undone = |mark: &Self| matches!(mark, Self::Removed(stray) if is_it(stray));
                // The last in their order, and few.
                let removed: Vec<Self> =
                    done.range(Self::REMOVED_LEAST..).filter(|mark| undone(mark)).copied().collect();
                for mark in &removed {
                    done.remove(mark);
                }
            }
            _ => {}
        }
    }

    /// The least of what was removed.
    const REMOVED_LEAST: Self = Self::Removed(Stray {
        record: RecordId::from_bytes([0; 16]),
        site: SiteId::from_bytes([0; 16]),
        shard: None,
    });
}

/// What an action does, and where. A new manifest is not among it: it is in the
/// catalogue, whatever its sites say.
fn of(action: &Action) -> Vec<Mark> {
    match action {
        Action::Stripe { stripe, writes, .. } => {
            let mark =
                |(index, site): &(u8, SiteId)| Mark::Shard { stripe: *stripe, index: *index, site: *site };
            writes.iter().map(mark).collect()
        }
        Action::Copies { to, .. } => to.iter().copied().map(Mark::Copy).collect(),
        Action::Manifest { .. } => Vec::new(),
        Action::Remove(stray) => vec![Mark::Removed(*stray)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: SiteId = SiteId::from_bytes([1; 16]);
    const THERE: SiteId = SiteId::from_bytes([2; 16]);

    fn shards(stripes: std::ops::Range<u32>, site: SiteId) -> Vec<Mark> {
        stripes.map(|stripe| Mark::Shard { stripe, index: 0, site }).collect()
    }

    fn count(marks: &Marks) -> usize {
        marks.versions.values().map(BTreeSet::len).sum()
    }

    #[test]
    fn what_repair_itself_has_taken_back_may_be_done_again_and_nothing_else_may() {
        let (version, record) = (VersionId::from_bytes([3; 16]), RecordId::from_bytes([5; 16]));
        let write = Action::Stripe { stripe: 0, reads: Vec::new(), writes: vec![(1, THERE)] };
        let remove = |shard, site| Action::Remove(Stray { record, site, shard });
        let removed = remove(Some((0, 1)), THERE);
        let mut marks = Marks { room: 10, ..Marks::default() };
        marks.done(version, &write);
        assert_eq!(marks.undone(version, &write), Some(THERE));
        // Another shard, another site, a copy of the manifest.
        for other in [remove(Some((0, 2)), THERE), remove(Some((0, 1)), HERE), remove(None, THERE)] {
            marks.done(version, &other);
            assert_eq!(marks.undone(version, &write), Some(THERE));
        }
        marks.done(version, &removed);
        assert_eq!(marks.undone(version, &write), None);
        assert_eq!(marks.undone(version, &removed), Some(THERE), "a site that shows it again is found out");
        marks.done(version, &write);
        assert_eq!(marks.undone(version, &removed), None);
        assert_eq!(marks.undone(version, &write), Some(THERE));
        let copy = Action::Copies { from: vec![HERE], to: vec![THERE] };
        marks.done(version, &copy);
        marks.done(version, &remove(None, THERE));
        assert_eq!(marks.undone(version, &copy), Some(THERE), "it would go on for ever");
        assert_eq!(marks.room, 10 - count(&marks));
    }

    #[test]
    fn one_version_of_many_shards_takes_no_more_memory_than_many_of_few_and_what_is_forgotten_makes_room() {
        let (large, small) = (VersionId::from_bytes([3; 16]), VersionId::from_bytes([4; 16]));
        let mut marks = Marks { room: 10, ..Marks::default() };
        marks.note(large, shards(0..8, HERE));
        marks.note(large, shards(0..8, HERE));
        assert_eq!((count(&marks), marks.room), (8, 2), "what is known is not noted twice");
        marks.note(small, shards(0..1000, THERE));
        assert_eq!((count(&marks), marks.room), (10, 0));
        marks.note(VersionId::from_bytes([5; 16]), shards(0..1, THERE));
        assert_eq!(marks.versions.len(), 2, "nothing is kept for a version without a mark");
        marks.forget(HERE);
        assert_eq!((count(&marks), marks.room, marks.versions.len()), (2, 8, 1));
        marks.note(large, shards(0..1000, HERE));
        assert_eq!((count(&marks), marks.room), (10, 0));
    }
}
