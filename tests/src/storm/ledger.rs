//! The independent book of what lies where: fed at the door of each machine,
//! below everything that the service believes. It knows whose a record is only
//! from its clear parts, as an outsider would: the tag of a fact, the key id
//! of a wrap, the geometry of a shard (each tenant of a storm has its own).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coffer_model::{Digest, RecordId, ResidencyPolicy, SiteDescription, SiteId, SlotId, VersionId};
use coffer_regions::{Record, RecordKind};

use super::lawful::is_lawful;
use super::secrets::Patterns;
use super::trace::Trace;

/// A tenant of the storm, by its number; the service's own realm is 0.
pub(crate) type Owner = usize;

/// Where a wrap's key id lies in a manifest body: after format, version and
/// the wrap's own format byte.
const KEY_ID_AT: usize = 1 + 16 + 1;

/// The book.
pub(crate) struct Ledger {
    inner: Mutex<Inner>,
    patterns: Arc<Patterns>,
    trace: Arc<Trace>,
}

#[derive(Default)]
struct Inner {
    /// Tags and key ids in clear, and whose they are.
    tags: BTreeMap<[u8; 16], Owner>,
    slots: BTreeMap<SlotId, Owner>,
    geometries: BTreeMap<(u8, u8), Owner>,
    policies: BTreeMap<Owner, ResidencyPolicy>,
    admitted: BTreeMap<Owner, BTreeSet<SiteId>>,
    everywhere: BTreeSet<Owner>,
    /// While only one owner does anything, what is new is its.
    learning: Option<Owner>,
    scanned: BTreeSet<Digest>,
    /// Acknowledged by the site itself, and not deleted since.
    held: BTreeMap<SiteId, BTreeMap<RecordId, Digest>>,
    /// Deleted for good, as the site itself acknowledged.
    gone: BTreeMap<SiteId, BTreeSet<RecordId>>,
    deleting: BTreeMap<(SiteId, RecordId), u32>,
    /// Manifest records of a version, and who acknowledged them, truly or not.
    manifests: BTreeMap<VersionId, BTreeSet<SiteId>>,
    records: BTreeMap<VersionId, BTreeSet<RecordId>>,
    /// Manifest records, and the sites that each was sent to, whatever came of it.
    sent: BTreeMap<RecordId, BTreeSet<SiteId>>,
    /// Records that machines took, counted without end.
    stored: Stored,
    /// Tombstone records by owner, and who acknowledged them, in order of appearance.
    tombstones: BTreeMap<Owner, Vec<(RecordId, BTreeSet<SiteId>)>>,
    /// Stripes of an owner: who acknowledged a shard, since the last reset.
    shards: BTreeMap<Owner, BTreeSet<SiteId>>,
}

/// How many records machines truly stored.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stored {
    pub(crate) shards: u64,
    pub(crate) manifests: u64,
    /// Facts, tombstones and runs of leaves.
    pub(crate) small: u64,
}

impl Inner {
    fn may_lie_at(&self, owner: Owner, site: SiteId) -> bool {
        let admitted = self.admitted.get(&owner).is_some_and(|sites| sites.contains(&site));
        admitted || self.everywhere.contains(&owner)
    }
}

impl Ledger {
    pub(crate) fn new(patterns: Arc<Patterns>, trace: Arc<Trace>) -> Self {
        Self { inner: Mutex::default(), patterns, trace }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on everything new belongs to `owner`, who alone is at work, and
    /// may lie at those of these sites that its policy admits.
    pub(crate) fn learn<'a>(
        &self,
        owner: Owner,
        policy: &ResidencyPolicy,
        geometry: (u8, u8),
        sites: impl Iterator<Item = &'a SiteDescription>,
    ) {
        let mut inner = self.inner();
        inner.learning = Some(owner);
        inner.policies.insert(owner, policy.clone());
        let lawful = sites.filter(|site| is_lawful(policy, site)).map(|site| site.id);
        inner.admitted.insert(owner, lawful.collect());
        inner.geometries.insert(geometry, owner);
    }

    /// A site joins: whose policy admits it may lie there.
    pub(crate) fn joins(&self, site: &SiteDescription) {
        let mut inner = self.inner();
        let Inner { policies, admitted, .. } = &mut *inner;
        for (owner, _) in policies.iter().filter(|(_, policy)| is_lawful(policy, site)) {
            admitted.entry(*owner).or_default().insert(site.id);
        }
    }

    /// As [`Self::learn`], of an owner that may lie anywhere.
    pub(crate) fn learn_everywhere(&self, owner: Owner) {
        let mut inner = self.inner();
        inner.learning = Some(owner);
        inner.everywhere.insert(owner);
    }

    /// From now on, what belongs to nobody is a finding.
    pub(crate) fn stop_learning(&self) {
        self.inner().learning = None;
    }

    /// Whose record it is, by what everybody can see of it.
    fn owner(inner: &mut Inner, record: &Record) -> Option<Owner> {
        let tag = match record.kind() {
            RecordKind::Shard => {
                let geometry = record.geometry();
                return inner.geometries.get(&(geometry.k, geometry.m)).copied();
            }
            RecordKind::Manifest => record.body().get(KEY_ID_AT..KEY_ID_AT + 16)?,
            _ => record.body().get(1..17)?,
        };
        let tag: [u8; 16] = tag.try_into().ok()?;
        if let Some(owner) = inner.learning {
            inner.tags.entry(tag).or_insert(owner);
        }
        inner.tags.get(&tag).copied()
    }

    /// The service sends records to a site: they may be lost on the way.
    pub(crate) fn sent(&self, site: SiteId, records: &[Record]) {
        let mut inner = self.inner();
        for record in records.iter().filter(|record| record.kind() == RecordKind::Manifest) {
            inner.sent.entry(record.id()).or_default().insert(site);
        }
    }

    /// A record's bytes reach a machine, whatever comes of it.
    pub(crate) fn arrives(&self, site: SiteId, name: &str, record: &Record) {
        let mut inner = self.inner();
        if let Some(gone) = inner.gone.get_mut(&site) {
            gone.remove(&record.id());
        }
        match Self::owner(&mut inner, record) {
            None => self.trace.violated(
                "residency",
                format!("a {:?} record {} of no known owner reached {name}", record.kind(), record.id()),
            ),
            Some(owner) if !inner.may_lie_at(owner, site) => {
                self.trace.violated(
                    "residency",
                    format!("{:?} record {} of tenant {owner} reached {name}", record.kind(), record.id()),
                );
            }
            Some(_) => {}
        }
        if inner.scanned.insert(record.digest()) {
            drop(inner);
            if let Some(found) = self.patterns.find(record.body()) {
                self.trace
                    .violated("secrets", format!("{found} in {:?} record {}", record.kind(), record.id()));
            }
        }
    }

    /// A slot's bytes reach a machine.
    pub(crate) fn slot_arrives(&self, site: SiteId, name: &str, slot: SlotId, body: &[u8]) {
        let mut inner = self.inner();
        if let Some(owner) = inner.learning {
            inner.slots.entry(slot).or_insert(owner);
        }
        let owner = inner.slots.get(&slot).copied();
        let legal = owner.is_some_and(|owner| inner.may_lie_at(owner, site));
        if !legal {
            self.trace.violated("residency", format!("key slot {slot} of {owner:?} reached {name}"));
        }
        drop(inner);
        if let Some(found) = self.patterns.find(body) {
            self.trace.violated("secrets", format!("{found} in key slot {slot}"));
        }
    }

    /// The site itself, and no lie, acknowledged these records.
    pub(crate) fn acknowledged(&self, site: SiteId, records: &[Record]) {
        let mut inner = self.inner();
        for record in records {
            let id = record.id();
            if !inner.deleting.contains_key(&(site, id)) {
                inner.held.entry(site).or_default().insert(id, record.digest());
            }
        }
        drop(inner);
        records.iter().for_each(|record| self.has(record));
        self.claimed(site, records);
    }

    /// A machine that was asked to store a record has it.
    pub(crate) fn has(&self, record: &Record) {
        let mut inner = self.inner();
        match record.kind() {
            RecordKind::Shard => inner.stored.shards += 1,
            RecordKind::Manifest => inner.stored.manifests += 1,
            _ => inner.stored.small += 1,
        }
    }

    /// A site says that it has these records, be it true or not.
    pub(crate) fn claimed(&self, site: SiteId, records: &[Record]) {
        let mut inner = self.inner();
        for record in records {
            let id = record.id();
            let owner = Self::owner(&mut inner, record);
            match (record.kind(), owner) {
                (RecordKind::Manifest, _) => {
                    if let Some(version) = version_of(record) {
                        inner.manifests.entry(version).or_default().insert(site);
                        inner.records.entry(version).or_default().insert(id);
                    }
                }
                (RecordKind::Tombstone, Some(owner)) => {
                    let list = inner.tombstones.entry(owner).or_default();
                    match list.iter_mut().find(|(known, _)| *known == id) {
                        Some((_, sites)) => drop(sites.insert(site)),
                        None => list.push((id, BTreeSet::from([site]))),
                    }
                }
                (RecordKind::Shard, Some(owner)) => drop(inner.shards.entry(owner).or_default().insert(site)),
                _ => {}
            }
        }
    }

    /// A deletion begins: from here on the record may be there or not.
    pub(crate) fn deletion_begins(&self, site: SiteId, ids: &[RecordId]) {
        let mut inner = self.inner();
        for id in ids {
            *inner.deleting.entry((site, *id)).or_default() += 1;
            inner.held.entry(site).or_default().remove(id);
        }
    }

    pub(crate) fn deletion_ends(&self, site: SiteId, ids: &[RecordId], acknowledged: bool) {
        let mut inner = self.inner();
        for id in ids {
            if acknowledged {
                inner.gone.entry(site).or_default().insert(*id);
            }
            inner.held.entry(site).or_default().remove(id);
            if let Some(count) = inner.deleting.get_mut(&(site, *id)) {
                *count -= 1;
                if *count == 0 {
                    inner.deleting.remove(&(site, *id));
                }
            }
        }
    }

    /// What a site acknowledged and has to have.
    pub(crate) fn held(&self, site: SiteId) -> BTreeMap<RecordId, Digest> {
        self.inner().held.get(&site).cloned().unwrap_or_default()
    }

    /// What a site acknowledged to have deleted, and may not have.
    pub(crate) fn gone(&self, site: SiteId) -> BTreeSet<RecordId> {
        self.inner().gone.get(&site).cloned().unwrap_or_default()
    }

    /// A site of the loss budget lost what it had, or some of it.
    pub(crate) fn forget(&self, site: SiteId) {
        self.inner().held.remove(&site);
    }

    /// Sites that acknowledged a manifest of this version.
    pub(crate) fn manifest_holders(&self, version: VersionId) -> BTreeSet<SiteId> {
        self.inner().manifests.get(&version).cloned().unwrap_or_default()
    }

    /// The sites that the manifest of a version was sent to, all of them its own;
    /// nothing where there was more than one record of it: then it has moved.
    pub(crate) fn manifest_sent_to(&self, version: VersionId) -> Option<BTreeSet<SiteId>> {
        let inner = self.inner();
        let records = inner.records.get(&version).filter(|records| records.len() == 1)?;
        inner.sent.get(records.first()?).cloned()
    }

    /// Sites that have a manifest of this version now.
    pub(crate) fn manifests_lie_at(&self, version: VersionId) -> BTreeSet<SiteId> {
        let inner = self.inner();
        let Some(records) = inner.records.get(&version) else { return BTreeSet::new() };
        let has = |held: &BTreeMap<RecordId, Digest>| records.iter().any(|record| held.contains_key(record));
        inner.held.iter().filter(|(_, held)| has(held)).map(|(site, _)| *site).collect()
    }

    /// What machines took since the beginning.
    pub(crate) fn stored(&self) -> Stored {
        self.inner().stored
    }

    /// How many tombstones of an owner were seen.
    pub(crate) fn tombstones_seen(&self, owner: Owner) -> usize {
        self.inner().tombstones.get(&owner).map_or(0, Vec::len)
    }

    /// Who acknowledged each of an owner's tombstones after the first `from`.
    pub(crate) fn tombstone_holders(&self, owner: Owner, from: usize) -> Vec<BTreeSet<SiteId>> {
        let inner = self.inner();
        let list = inner.tombstones.get(&owner).and_then(|list| list.get(from..)).unwrap_or_default();
        list.iter().map(|(_, sites)| sites.clone()).collect()
    }

    /// Begins to count the sites that acknowledge shards of an owner.
    pub(crate) fn watch_shards(&self, owner: Owner) {
        self.inner().shards.remove(&owner);
    }

    pub(crate) fn shard_holders(&self, owner: Owner) -> usize {
        self.inner().shards.get(&owner).map_or(0, BTreeSet::len)
    }
}

/// The version that a manifest body names in clear.
pub(crate) fn version_of(record: &Record) -> Option<VersionId> {
    VersionId::try_from(record.body().get(1..17)?).ok()
}
