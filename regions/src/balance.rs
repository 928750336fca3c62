//! Which shards move so that sites hold their fair share again, after one has joined:
//! two looks at every version. The first adds up what each site holds and what would be its
//! share; the second names the moves, and none more than is missing somewhere.
//!
//! A version's shards would lie with the same chance in each failure domain that its policy
//! admits, and in each site of that domain. So much of it is a site's share.
//! A move takes a shard from a site above its share to one that lacks at least as
//! much and gave nothing, so that all moves together are never more than what is missing.

use std::collections::{BTreeMap, BTreeSet};

use coffer_model::{FailureDomain, RecordId, SiteId, TenantId, VersionId};

use crate::repair::{Action, Coding, RepairSite, SiteTable, Stray, VersionInventory};

/// What is written beside a shard that moves, new manifests at every site of its version, is at most this
/// part of it: 1 in so many. What would cost more stays where it is.
const OVERHEAD: u64 = 20;

/// Shares are added up in parts of a byte, so that many small remainders do not add up to something.
const PARTS: u128 = 1 << 16;

/// What a site holds, and what would be its share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Bytes of shards that lie there by their layouts.
    pub held: u64,
    /// Bytes that would lie there if all sites were filled alike, as far as policies let them.
    pub share: u64,
}

/// The first look: what each site holds.
#[derive(Debug, Default)]
pub struct Loads {
    held: BTreeMap<SiteId, u128>,
    share: BTreeMap<SiteId, u128>,
    /// Bytes of whole versions that are not worth moving.
    dear: u64,
}

/// A shard of one version, in all its stripes, that is to lie at another site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardMove {
    /// Whose version.
    pub tenant: TenantId,
    /// Which version.
    pub version: VersionId,
    /// Which shard of each stripe.
    pub index: u8,
    /// Where it lies.
    pub from: SiteId,
    /// Where it is to lie.
    pub to: SiteId,
    /// Its bytes, all stripes together.
    pub bytes: u64,
    /// Bytes of manifest records that are written for it.
    pub records: u64,
    stripes: u32,
    copies: Vec<SiteId>,
    sites: Vec<SiteId>,
}

impl ShardMove {
    /// The new layout, in shard order.
    pub fn sites(&self) -> &[SiteId] {
        &self.sites
    }

    /// How many stripes it has.
    pub fn stripes(&self) -> u32 {
        self.stripes
    }

    /// What is to be done, in order. `records` are the ids of the shard's records, stripe by stripe.
    pub fn actions(&self, records: &[RecordId]) -> Vec<Action> {
        let copy = |stripe| Action::Stripe {
            stripe,
            reads: vec![(self.index, self.from)],
            writes: vec![(self.index, self.to)],
        };
        let manifest = Action::Manifest { from: self.copies.clone(), sites: self.sites.clone() };
        let remove = |(stripe, record): (u32, &RecordId)| {
            let shard = Some((stripe, self.index));
            Action::Remove(Stray { record: *record, site: self.from, shard })
        };
        let removals = (0..self.stripes).zip(records).map(remove);
        (0..self.stripes).map(copy).chain([manifest]).chain(removals).collect()
    }
}

/// A version that is whole at sites that may all keep it: the sites that could have a shard, in their domains.
fn movable<'a>(
    found: &VersionInventory,
    sites: &'a [RepairSite],
) -> Option<BTreeMap<&'a FailureDomain, Vec<SiteId>>> {
    let Coding::Striped { .. } = found.coding else { return None };
    let as_planned = !found.hidden
        && found.odd.is_empty()
        && found.strays.is_empty()
        && found.sites.iter().all(|id| found.copies.contains(id));
    if !as_planned {
        return None;
    }
    let mut domains: BTreeMap<&FailureDomain, Vec<SiteId>> = BTreeMap::new();
    let mut taking = BTreeSet::new();
    for site in sites.iter().filter(|site| site.takes(&found.policy)) {
        if taking.insert(site.site.id) {
            domains.entry(&site.site.domain).or_default().push(site.site.id);
        }
    }
    let stay = found.sites.iter().all(|id| taking.contains(id));
    // What costs most is asked last.
    let whole = || crate::plan_version(found, &SiteTable::new(sites)).steps.is_empty();
    (stay && whole()).then_some(domains)
}

/// Bytes of one shard index of a version, all stripes together.
fn bytes_of(coding: &Coding) -> u64 {
    (0..coding.stripes()).map(|stripe| coding.shard_bytes(stripe)).sum()
}

impl Loads {
    /// Adds a version as it was found.
    pub fn add(&mut self, found: &VersionInventory, sites: &[RepairSite]) {
        let Some(domains) = movable(found, sites) else { return };
        let bytes = bytes_of(&found.coding);
        if is_dear(found, bytes) {
            self.dear = self.dear.saturating_add(bytes.saturating_mul(found.sites.len() as u64));
            return;
        }
        for id in &found.sites {
            *self.held.entry(*id).or_default() += u128::from(bytes);
        }
        let all = u128::from(bytes) * found.sites.len() as u128 * PARTS;
        let each = all / (domains.len() as u128).max(1);
        for here in domains.values() {
            for id in here {
                *self.share.entry(*id).or_default() += each / (here.len() as u128).max(1);
            }
        }
    }

    /// What each site holds, and its share.
    pub fn of(&self, site: SiteId) -> Load {
        let whole = |bytes: u128| u64::try_from(bytes).unwrap_or(u64::MAX);
        let held = self.held.get(&site).copied().unwrap_or_default();
        // To the nearest byte: rounded down, a shard that just fits would be a byte too large.
        let share = (self.share.get(&site).copied().unwrap_or_default() + PARTS / 2) / PARTS;
        Load { held: whole(held), share: whole(share) }
    }

    /// Bytes of versions so small that moving one costs more than it levels; they count nowhere else.
    pub fn dear(&self) -> u64 {
        self.dear
    }

    /// Bytes that have to move at the least for every site to hold its share: what is missing altogether.
    pub fn missing(&self) -> u64 {
        let missing = self.share.keys().map(|id| self.of(*id));
        missing.map(|load| load.share.saturating_sub(load.held)).sum()
    }

    /// The second look.
    pub fn level(&self) -> Level {
        let above = |id: &SiteId| {
            let Load { held, share } = self.of(*id);
            (*id, i128::from(held) - i128::from(share))
        };
        let all: BTreeSet<SiteId> = self.held.keys().chain(self.share.keys()).copied().collect();
        Level { above: all.iter().map(above).collect(), gave: BTreeSet::new() }
    }
}

/// Whether what is written beside a shard that moves is too much.
fn is_dear(found: &VersionInventory, bytes: u64) -> bool {
    found.record_bytes.saturating_mul(found.sites.len() as u64).saturating_mul(OVERHEAD) > bytes
}

/// The second look: which shards move.
#[derive(Debug)]
pub struct Level {
    /// By how many bytes each site is above its share.
    above: BTreeMap<SiteId, i128>,
    /// Sites that gave something: they get nothing, or shards would go in circles.
    gave: BTreeSet<SiteId>,
}

impl Level {
    /// The move that levels most, if one of this version does; it counts as done from then on.
    pub fn choose(&mut self, found: &VersionInventory, sites: &[RepairSite]) -> Option<ShardMove> {
        let bytes = bytes_of(&found.coding);
        if bytes == 0 || is_dear(found, bytes) {
            return None;
        }
        let domains = movable(found, sites)?;
        let above = |id: &SiteId| self.above.get(id).copied().unwrap_or_default();
        let size = i128::from(bytes);
        let taken: BTreeSet<&FailureDomain> = domains
            .iter()
            .filter(|(_, here)| here.iter().any(|id| found.sites.contains(id)))
            .map(|(domain, _)| *domain)
            .collect();
        let mut best: Option<(i128, usize, SiteId, SiteId)> = None;
        // Nearest to its share is what counts for who gives; who gets must lack all of it.
        let gives = |(_, from): &(usize, &SiteId)| above(from).saturating_mul(2) >= size;
        for (index, from) in found.sites.iter().enumerate().filter(gives) {
            // A free domain, or the other sites of the one that is left.
            let free =
                domains.iter().filter(|(domain, here)| !taken.contains(*domain) || here.contains(from));
            let to = free.flat_map(|(_, here)| here).filter(|to| !found.sites.contains(to));
            for to in to.filter(|to| -above(to) >= size && !self.gave.contains(to)) {
                let gain = above(from) - above(to);
                if best.is_none_or(|(most, ..)| gain > most) {
                    best = Some((gain, index, *from, *to));
                }
            }
        }
        let (_, index, from, to) = best?;
        self.gave.insert(from);
        *self.above.entry(from).or_default() -= size;
        *self.above.entry(to).or_default() += size;
        let mut moved = found.sites.clone();
        *moved.get_mut(index)? = to;
        Some(ShardMove {
            tenant: found.tenant,
            version: found.version,
            index: u8::try_from(index).ok()?,
            from,
            to,
            bytes,
            records: found.record_bytes.saturating_mul(found.sites.len() as u64),
            stripes: found.coding.stripes(),
            copies: found.copies.clone(),
            sites: moved,
        })
    }
}
