//! Tombstones, facts and log runs that a site has missed. Nothing is spread
//! that the catalogue does not know: what too few sites took never stood, and
//! must not stand by being copied.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coffer_catalog::CatalogError;
use coffer_keys::Dek;
use coffer_model::{BucketId, Digest, RecordId, SiteId};
use coffer_regions::{ListedRecord, Record, RecordKind, SiteError};

use super::execute::{StepError, put_and_read_back};
use super::marks::{Marks, Small};
use super::{Failures, Owner, RepairError};
use crate::inventory::go_on;
use crate::listing::{self, is_credible, vouched};
use crate::service::Service;
use crate::stored::{Fact, LeafRun, Tombstone, open_fact, tag_of, tenant_tag};
use crate::tenant::Tenant;

/// Kinds, tombstones first: before them a site that was away is not trusted
/// with anything else.
pub(super) const KINDS: [RecordKind; 3] = [RecordKind::Tombstone, RecordKind::Registry, RecordKind::Log];
const LIST_PAGE: usize = 1024;

/// What a look at small things came to.
#[derive(Default)]
pub(crate) struct Healed {
    /// Written and read back.
    pub(crate) written: u64,
    /// Sites that may still lack something: they fell silent, or did not take
    /// what was written to them.
    pub(crate) lacking: BTreeSet<SiteId>,
    /// Sites that were asked of everything. One that did not answer at the
    /// beginning was not, and is not among those that lack something either.
    pub(crate) heard: BTreeSet<SiteId>,
    /// What was not put right, and why.
    pub(crate) failed: Failures,
}

/// Heals them.
pub(super) async fn heal(
    service: &Service,
    tenants: &[Arc<Tenant>],
    marks: &mut Marks,
) -> Result<Healed, RepairError> {
    let mut healing = Healing { healed: Healed::default(), marks };
    healing.healed.heard.extend(service.sites.alive_for_repair());
    for kind in KINDS {
        let keys = Keys::new(kind, tenants);
        let mut merge = Merge::new(service, kind).await?;
        while let Some((id, holders)) = merge.next(service).await {
            go_on(service)?;
            if merge.has_all(&holders) && holders.iter().all(|(site, _)| !service.damage.knows(*site, id)) {
                continue;
            }
            heal_one(service, &keys, id, &holders, &mut healing).await?;
        }
        healing.healed.heard.retain(|site| merge.asks(*site));
        healing.healed.lacking.extend(merge.failed);
    }
    Ok(healing.healed)
}

/// What is under way, and what this run has written before.
struct Healing<'a> {
    healed: Healed,
    marks: &'a mut Marks,
}

impl Healing<'_> {
    /// Writes a record at a site and reads it back.
    async fn write(&mut self, service: &Service, site: SiteId, good: &Record) -> Result<(), StepError> {
        let record = Small::Record(good.id());
        if self.marks.wrote(record, site) {
            return Err(service.undone(site));
        }
        put_and_read_back(service, site, good.clone()).await?;
        self.marks.written(record, site);
        self.healed.written += 1;
        Ok(())
    }

    fn fail(&mut self, record: RecordId, failed: Vec<(SiteId, StepError)>) {
        for (site, error) in failed {
            self.healed.lacking.insert(site);
            self.healed.failed.add(format!("{record}: {error}"));
        }
    }

    /// No copy is left from which it could be written.
    fn no_copy(&mut self, service: &Service, lacking: &Lacking) {
        let sites: Vec<SiteId> = [&lacking.rotten[..], &lacking.absent, &lacking.refused].concat();
        let names = sites.iter().map(|site| service.sites.name(*site)).collect::<Vec<_>>().join(", ");
        self.healed.failed.add(format!("{}: no good copy answers to write at {names}", lacking.id));
        self.healed.lacking.extend(sites);
    }
}

/// The keys of one kind of record, by the tag that says whose a record is.
pub(super) struct Keys {
    kind: RecordKind,
    by_tag: BTreeMap<[u8; 16], (Arc<Tenant>, Dek)>,
}

impl Keys {
    pub(super) fn new(kind: RecordKind, tenants: &[Arc<Tenant>]) -> Self {
        let key = |tenant: &Arc<Tenant>| match kind {
            RecordKind::Tombstone => tenant.secrets.tombstone_key(),
            RecordKind::Log => tenant.secrets.log_key(),
            _ => tenant.secrets.registry_key(),
        };
        let tagged = tenants.iter().map(|tenant| {
            let key = key(tenant);
            (tenant_tag(&key), (Arc::clone(tenant), key))
        });
        Self { kind, by_tag: tagged.collect() }
    }

    fn of(&self, record: &Record) -> Option<&(Arc<Tenant>, Dek)> {
        self.by_tag.get(&tag_of(record)?)
    }
}

/// Who lists a record.
pub(super) type Holders = Vec<(SiteId, Digest)>;

/// The listings of one kind at all sites, merged in the order of their ids.
pub(super) struct Merge {
    kind: RecordKind,
    /// How many records of the kind catalogues account for.
    known: u64,
    cursors: Vec<Cursor>,
    /// Sites whose listings broke off.
    pub(super) failed: Vec<SiteId>,
}

struct Cursor {
    site: SiteId,
    page: std::collections::VecDeque<ListedRecord>,
    after: Option<RecordId>,
    /// Lines so far.
    listed: u64,
    ended: bool,
}

impl Merge {
    pub(super) async fn new(service: &Service, kind: RecordKind) -> Result<Self, CatalogError> {
        let known = listing::known(service, kind).await?;
        let cursor = |site| Cursor { site, page: Default::default(), after: None, listed: 0, ended: false };
        let cursors = service.sites.alive_for_repair().into_iter().map(cursor).collect();
        let mut merge = Self { kind, known, cursors, failed: Vec::new() };
        merge.fill(service).await;
        Ok(merge)
    }

    /// A site that fails is left out from then on: it is silent, not empty. So
    /// is one that lists more than it can have.
    async fn fill(&mut self, service: &Service) {
        if !self.cursors.iter().any(|cursor| cursor.page.is_empty() && !cursor.ended) {
            return;
        }
        let listed: Vec<_> = self.cursors.iter().map(|cursor| (cursor.site, cursor.listed)).collect();
        let mut failed = Vec::new();
        for cursor in self.cursors.iter_mut().filter(|cursor| cursor.page.is_empty() && !cursor.ended) {
            let elsewhere = listed.iter().filter(|(site, _)| *site != cursor.site).map(|(_, listed)| *listed);
            if !is_credible(self.kind, cursor.listed, self.known, vouched(elsewhere)) {
                service.sites.report(cursor.site);
                failed.push(cursor.site);
                continue;
            }
            let page = match service.sites.for_repair(cursor.site) {
                Some(site) => site.list(self.kind, cursor.after, LIST_PAGE).await,
                None => Err(SiteError::Unreachable),
            };
            match page {
                Ok(page) if page.last().is_none_or(|last| Some(last.id) > cursor.after) => {
                    cursor.ended = page.len() < LIST_PAGE;
                    cursor.after = page.last().map(|last| last.id).or(cursor.after);
                    cursor.listed += page.len() as u64;
                    cursor.page = page.into();
                }
                _ => failed.push(cursor.site),
            }
        }
        self.cursors.retain(|cursor| !failed.contains(&cursor.site));
        self.failed.extend(failed);
    }

    pub(super) async fn next(&mut self, service: &Service) -> Option<(RecordId, Holders)> {
        self.fill(service).await;
        let id = self.cursors.iter().filter_map(|cursor| cursor.page.front()).map(|line| line.id).min()?;
        let mut holders = Vec::new();
        for cursor in &mut self.cursors {
            if let Some(line) = cursor.page.pop_front_if(|line| line.id == id) {
                holders.push((cursor.site, line.digest));
            }
        }
        Some((id, holders))
    }

    /// Whether every site that answers lists it, and all the same.
    fn has_all(&self, holders: &Holders) -> bool {
        holders.len() == self.cursors.len() && agree(holders)
    }

    /// Whether this site is one of those that answer.
    pub(super) fn asks(&self, site: SiteId) -> bool {
        self.cursors.iter().any(|cursor| cursor.site == site)
    }
}

/// Whether all list the same content.
pub(super) fn agree(holders: &Holders) -> bool {
    let mut digests = holders.iter().map(|(_, digest)| digest);
    let first = digests.next();
    digests.all(|digest| Some(digest) == first)
}

/// Copies one record to the sites that should have it and do not, or of which
/// it is known that what they have is damaged.
async fn heal_one(
    service: &Service,
    keys: &Keys,
    id: RecordId,
    holders: &Holders,
    healing: &mut Healing<'_>,
) -> Result<(), RepairError> {
    if service.repairs.is_nobodys(id) {
        return Ok(());
    }
    let known = service.repairs.owner(id).filter(|_| agree(holders));
    let read = if known.is_none() { first_good(service, keys, id, holders).await?.good() } else { None };
    let owner = match (known, &read) {
        (Some(owner), _) => owner,
        (None, Some((_, owner))) => *owner,
        (None, None) => return contradict(service, keys, id, holders).await,
    };
    service.repairs.note_owner(id, owner);
    let listed = |site: &SiteId| holders.iter().find(|(holder, _)| holder == site);
    // What is known to be damaged is no copy, whatever its site lists.
    let counts = |site: &SiteId, digest: &Digest| {
        !service.damage.knows(*site, id) && read.as_ref().is_none_or(|(good, _)| good.digest() == *digest)
    };
    let wanted = wanted_at(service, owner).await?;
    let (mut rotten, mut absent, mut having) = (Vec::new(), Vec::new(), 0);
    for site in &wanted.sites {
        match listed(site) {
            Some((_, digest)) if counts(site, digest) => having += 1,
            Some(_) => rotten.push(*site),
            None => absent.push(*site),
        }
    }
    let refused = holders.iter().map(|(site, _)| *site);
    let refused = refused.filter(|site| service.damage.knows(*site, id) && !wanted.sites.contains(site));
    let lacking = Lacking { id, rotten, absent, refused: refused.collect() };
    let copies = if keys.kind == RecordKind::Log { wanted.log_copies } else { usize::MAX };
    if lacking.is_served(having, copies) {
        // It is not missed where nobody asks for it any more.
        lacking.absent.iter().for_each(|site| service.damage.mended(*site, id));
        return Ok(());
    }
    let good = match read {
        Some(read) => Some(read),
        None => first_good(service, keys, id, holders).await?.good(),
    };
    match good {
        Some((good, _)) => lacking.write(service, &good, having, copies, healing).await,
        None => healing.no_copy(service, &lacking),
    }
    Ok(())
}

/// Where one record is not as it should be.
struct Lacking {
    id: RecordId,
    /// It is listed there, and is another one or damaged.
    rotten: Vec<SiteId>,
    /// It should be there, and is not listed.
    absent: Vec<SiteId>,
    /// It is damaged there, and should not be there.
    refused: Vec<SiteId>,
}

impl Lacking {
    /// Whether there is nothing to write, with so many copies of as many.
    fn is_served(&self, having: usize, copies: usize) -> bool {
        self.rotten.is_empty() && self.refused.is_empty() && (self.absent.is_empty() || having >= copies)
    }

    /// Writes the record in the place of what is wrong, and then to as many
    /// others as it takes: a run of leaves is not at every site, some copies
    /// are enough, and where one site fails another takes its turn.
    async fn write(
        mut self,
        service: &Service,
        good: &Record,
        mut having: usize,
        copies: usize,
        healing: &mut Healing<'_>,
    ) {
        let mut failed = Vec::new();
        for site in &self.rotten {
            match healing.write(service, *site, good).await {
                Ok(()) => having += 1,
                Err(error) => failed.push((*site, error)),
            }
        }
        healing.fail(self.id, failed);
        for site in &self.refused {
            forget_there(service, *site, good).await;
        }
        let turn = self.id.as_bytes().first().map_or(0, |byte| usize::from(*byte));
        let turn = turn.checked_rem(self.absent.len()).unwrap_or(0);
        self.absent.rotate_left(turn);
        let mut failed = Vec::new();
        for site in &self.absent {
            if having >= copies {
                return;
            }
            match healing.write(service, *site, good).await {
                Ok(()) => having += 1,
                Err(error) => failed.push((*site, error)),
            }
        }
        if having < copies {
            healing.fail(self.id, failed);
        }
    }
}

/// Lets go of a damaged copy at a site that should have none. What is read
/// there now and is right was not damaged.
async fn forget_there(service: &Service, site: SiteId, good: &Record) {
    let Some(adapter) = service.sites.for_repair(site) else { return };
    let there = adapter.get(good.id()).await;
    if there.as_ref() == Ok(good) || adapter.delete(vec![good.id()]).await.is_ok() {
        service.damage.mended(site, good.id());
    }
}

/// Removes the tombstone of a failed put whose version stands. A withdrawal was
/// cut off at fewer sites than may be lost, and a rebuild that met none of them
/// let the version stand; the next one might meet them, and it would be gone.
async fn contradict(
    service: &Service,
    keys: &Keys,
    id: RecordId,
    holders: &Holders,
) -> Result<(), RepairError> {
    if keys.kind != RecordKind::Tombstone {
        return Ok(());
    }
    for (site, _) in holders {
        let Some(adapter) = service.sites.for_repair(*site) else { continue };
        let Ok(record) = adapter.get(id).await else { continue };
        let Some((tenant, key)) = keys.of(&record) else { continue };
        let Ok(tombstone) = open_fact::<Tombstone>(&record, key, tenant.id) else { continue };
        if tombstone.failed_put && tenant.catalog.version(tombstone.version).await?.is_some() {
            // A site that fails here is asked again in the next round.
            let _ = adapter.delete(vec![id]).await;
        }
    }
    Ok(())
}

/// Where records of one owner belong.
#[derive(Default)]
pub(super) struct Wanted {
    /// The sites that should have them, as far as they answer.
    pub(super) sites: Vec<SiteId>,
    /// How many of these take each run of leaves.
    log_copies: usize,
    /// Copies without which a record does not stand.
    pub(super) copies_needed: usize,
    /// Every site that may have them, as far as it is not retired.
    pub(super) admitted: Vec<SiteId>,
}

pub(super) async fn wanted_at(service: &Service, (tenant, bucket): Owner) -> Result<Wanted, RepairError> {
    let Some(tenant) = service.tenant(tenant) else { return Ok(Wanted::default()) };
    let policy = match bucket {
        Some(bucket) => tenant.policy_of(bucket).await?,
        None => tenant.policy.clone(),
    };
    let alive = service.sites.alive_for_repair();
    let taking = service.sites.taking().sites.iter();
    let wanted = taking.filter(|site| policy.admits(site) && alive.contains(&site.id));
    let sites = wanted.map(|site| site.id).collect();
    let copies_needed = crate::registry::copies_needed(&policy);
    let admitted = service.sites.admitted(&policy);
    Ok(Wanted { sites, log_copies: crate::audit::run_copies(&policy), copies_needed, admitted })
}

/// What reading the copies of a record came to.
pub(super) enum Sought {
    /// The first copy that opens and that its tenant's catalogue knows.
    Good(Box<Record>, Owner),
    /// A copy was read, and it is nothing that the catalogues know: it never stood.
    Unknown,
    /// None was read, so that nobody can say what it was.
    Unread,
}

impl Sought {
    fn good(self) -> Option<(Record, Owner)> {
        match self {
            Self::Good(record, owner) => Some((*record, owner)),
            Self::Unknown | Self::Unread => None,
        }
    }
}

/// Reads the copies, those that are known to be damaged last, until one is good.
pub(super) async fn first_good(
    service: &Service,
    keys: &Keys,
    id: RecordId,
    holders: &Holders,
) -> Result<Sought, RepairError> {
    let mut sought = Sought::Unread;
    let (damaged, whole): (Vec<_>, Vec<_>) =
        holders.iter().partition(|(site, _)| service.damage.knows(*site, id));
    for (site, listed) in whole.into_iter().chain(damaged) {
        let Some(adapter) = service.sites.for_repair(site) else { continue };
        let record = match adapter.get(id).await {
            Ok(record) if record.digest() == listed => record,
            // What it lists is not what it has.
            Ok(_) | Err(SiteError::Damaged | SiteError::Missing) => {
                service.damage.note(site, id);
                continue;
            }
            Err(_) => continue,
        };
        let Some((tenant, key)) = keys.of(&record) else {
            sought = Sought::Unknown;
            continue;
        };
        match stands(keys.kind, tenant, key, &record).await? {
            Verdict::Stands(bucket) => return Ok(Sought::Good(Box::new(record), (tenant.id, bucket))),
            Verdict::Unknown => sought = Sought::Unknown,
            Verdict::Unopened => {}
        }
    }
    Ok(sought)
}

/// Whether a site has nothing that anybody could ever read of what it lists
/// under an id: no record, or one that no catalogue knows. One that is damaged
/// may have been a record, and one that cannot be reached may still be it.
pub(super) async fn has_nothing(
    service: &Service,
    keys: &Keys,
    id: RecordId,
    site: SiteId,
) -> Result<bool, RepairError> {
    let Some(adapter) = service.sites.for_repair(site) else { return Ok(false) };
    let record = match adapter.get(id).await {
        Ok(record) => record,
        Err(SiteError::Missing) => return Ok(true),
        Err(_) => return Ok(false),
    };
    let Some((tenant, key)) = keys.of(&record) else { return Ok(true) };
    // Listed under another digest or not: what opens and is known is something.
    Ok(!matches!(stands(keys.kind, tenant, key, &record).await?, Verdict::Stands(_)))
}

/// What a catalogue says of a record that claims to be its tenant's.
enum Verdict {
    /// It says the same; for a tombstone with its bucket.
    Stands(Option<BucketId>),
    /// It does not.
    Unknown,
    /// It does not open under the tenant's key: it is not what it claims.
    Unopened,
}

impl Verdict {
    fn of(stands: bool) -> Self {
        if stands { Self::Stands(None) } else { Self::Unknown }
    }
}

/// Whether the record says what the catalogue says too.
async fn stands(
    kind: RecordKind,
    tenant: &Tenant,
    key: &Dek,
    record: &Record,
) -> Result<Verdict, RepairError> {
    let catalog = &tenant.catalog;
    match kind {
        RecordKind::Tombstone => {
            let Ok(tombstone) = open_fact::<Tombstone>(record, key, tenant.id) else {
                return Ok(Verdict::Unopened);
            };
            let stands = if tombstone.failed_put {
                // Its version never was, and must not come to be.
                catalog.version(tombstone.version).await?.is_none()
            } else {
                catalog.has_tombstone(record.id()).await?
            };
            Ok(if stands { Verdict::Stands(Some(tombstone.bucket)) } else { Verdict::Unknown })
        }
        RecordKind::Log => {
            let Ok(run) = open_fact::<LeafRun>(record, key, tenant.id) else { return Ok(Verdict::Unopened) };
            let own = catalog.leaves(run.first, run.leaves.len()).await?;
            let replicated = catalog.replicated_size().await?;
            let end = run.first.saturating_add(run.leaves.len() as u64);
            Ok(Verdict::of(own == run.leaves && end <= replicated))
        }
        _ => {
            let Ok(fact) = open_fact::<Fact>(record, key, tenant.id) else { return Ok(Verdict::Unopened) };
            Ok(Verdict::of(fact_stands(tenant, record.id(), fact).await?))
        }
    }
}

async fn fact_stands(tenant: &Tenant, record: RecordId, fact: Fact) -> Result<bool, RepairError> {
    let catalog = &tenant.catalog;
    Ok(match fact {
        // The fact of a policy that was changed since stays where it is.
        Fact::BucketCreated { id, .. } | Fact::BucketPolicy { id, .. } => {
            catalog.bucket_by_id(id).await?.is_some_and(|bucket| bucket.record == record)
        }
        Fact::BucketRemoved { id, .. } => catalog.bucket_by_id(id).await?.is_none(),
        Fact::PrincipalCreated(principal) => {
            let known = catalog.facts("principal").await?;
            known.iter().any(|(id, _)| id == principal.id.as_bytes())
        }
        Fact::HoldPlaced(crate::hold::Hold { id, .. }) => {
            catalog.facts(crate::hold::HOLD).await?.iter().any(|(known, _)| known == id.as_bytes())
        }
        Fact::HoldReleased { id, .. } => {
            let known = crate::hold::all(tenant).await?;
            known.iter().any(|hold| hold.id == id && hold.released.is_some())
        }
        // A floor that is too high does no harm; tenants are not unmade.
        Fact::Orders { .. } | Fact::TenantMade { .. } => true,
        Fact::Sites { generation, .. } => {
            let known = catalog.facts(crate::standing::SITES).await?;
            known.iter().any(|(id, _)| *id == crate::standing::generation_id(generation))
        }
    })
}
