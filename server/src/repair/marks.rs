//! What one run of repair has done already. Each thing is done once in a run:
//! a site where it is to be done again acknowledged it, gave it back, and
//! shows it undone. Such a site would keep a run going for ever.

use std::collections::{BTreeMap, BTreeSet};

use coffer_model::{RecordId, SiteId, SlotId, VersionId};
use coffer_regions::{Action, Step, Stray};

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

/// Versions, and small things, of which it is remembered. A longer run may do
/// something twice before it is found out.
const REMEMBERED_MAX: usize = 1 << 20;

/// All that was done in a run.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    versions: BTreeMap<VersionId, BTreeSet<Mark>>,
    small: BTreeSet<(Small, SiteId)>,
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

    /// The site at which something that this step does was done before.
    pub(crate) fn undone(&self, step: &Step) -> Option<SiteId> {
        let done = self.versions.get(&step.version)?;
        of(step).iter().find(|mark| done.contains(mark)).map(Mark::site)
    }

    /// Notes that a step came to its end. Under a new manifest other records
    /// are to lie at other places.
    pub(crate) fn done(&mut self, step: &Step) {
        if let Action::Manifest { .. } = step.action {
            self.versions.remove(&step.version);
        } else if self.versions.len() < REMEMBERED_MAX {
            let done = self.versions.entry(step.version).or_default();
            done.extend(of(step));
        }
    }

    /// Forgets what was done at a site whose disk is a new one.
    pub(crate) fn forget(&mut self, site: SiteId) {
        self.small.retain(|(_, at)| *at != site);
        for done in self.versions.values_mut() {
            done.retain(|mark| mark.site() != site);
        }
    }
}

impl Mark {
    fn site(&self) -> SiteId {
        match self {
            Self::Shard { site, .. } | Self::Copy(site) => *site,
            Self::Removed(stray) => stray.site,
        }
    }
}

/// What a step does, and where. A new manifest is not among it: it is in the
/// catalogue, whatever its sites say.
fn of(step: &Step) -> Vec<Mark> {
    match &step.action {
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
