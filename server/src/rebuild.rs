//! Rebuilding catalogues from the sites: facts, tombstones, manifests, log.
//! The sites' bytes are untrusted: what does not open under a tenant's keys is
//! reported against its site and left out. All tenants are rebuilt in one walk
//! over each kind of record, however many they are.

mod gather;
mod held;
mod log;
mod merge;
mod thin;
mod unheard;
mod versions;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coffer_catalog::{BucketRow, CatalogError, FactRow, RebuildBatch};
use coffer_keys::Dek;
use coffer_model::{
    BucketId, BucketName, HoldId, Manifest, Operation, Outcome, PrincipalId, ResidencyPolicy, SiteId,
    TenantId, Timestamp, VersionId,
};
use coffer_regions::{Record, RecordKind};
use serde::de::DeserializeOwned;

use crate::audit::AuditError;
use crate::hold::Hold;
use crate::orders;
use crate::rebuild::gather::{Found, Open, Opened, Walk, each};
use crate::rebuild::held::Held;
use crate::rebuild::thin::Thin;
use crate::registry::{self, copies_needed, time_row};
use crate::service::{RecoveryProgress, RecoveryReport, Service};
use crate::service_error::OpenError;
use crate::stored::{Fact, Tombstone, open_fact, tag_of, tenant_tag};
use crate::sweep::tombstone_row;
use crate::tenant::{Tenant, TenantSecrets, filling_path, mark_whole};

pub(crate) use unheard::hear;

/// Why a catalogue was not rebuilt. The sites were only read.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// No site answered.
    #[error("no site answered, so that there is nothing to rebuild from")]
    NoSite,
    /// Sites fell silent while they were read: what they alone hold, a
    /// tombstone among it, would be left out without a word.
    #[error(
        "{} of the sites of tenant {tenant} fell silent during the rebuild ({}); it is begun again at the next start",
        missing.len(),
        missing.join(", ")
    )]
    FellSilent {
        /// Whose catalogue.
        tenant: TenantId,
        /// Names of the sites that did not answer to the end.
        missing: Vec<String>,
    },
    /// Of the sites of a bucket more are silent than it may lose, however many
    /// its tenant may: what was acknowledged may lie at these alone.
    #[error(
        "the catalogue of tenant {tenant} is not rebuilt: {} of the sites of its bucket {bucket} do not answer with what they knew ({}), and what is in there may lie at {losable} sites beside one that does. Bring back {} of them and start again; or, if they are gone for good, start once with --without-site for each: what they alone knew is left out then",
        missing.len(),
        missing.join(", "),
        missing.len().saturating_sub(*losable)
    )]
    BucketSilent {
        /// Whose catalogue.
        tenant: TenantId,
        /// Which bucket.
        bucket: BucketName,
        /// Names of its sites that do not answer.
        missing: Vec<String>,
        /// How many of them may be lost.
        losable: usize,
    },
    /// The new catalogue failed.
    #[error("the rebuilt catalogue failed: {0}")]
    Catalog(#[from] CatalogError),
    /// The mark of a catalogue that is being filled could not be made or removed.
    #[error("the disk of the catalogues failed: {0}")]
    Disk(#[from] std::io::Error),
    /// Runs of a log that a checkpoint covers were there, and then were not.
    #[error(
        "leaves {from} to {to} of the log of tenant {tenant} were listed by enough sites and could not be read; the rebuild is begun again at the next start"
    )]
    LogUnread {
        /// Whose log.
        tenant: TenantId,
        /// The first leaf that is missing.
        from: u64,
        /// One past the last leaf of its run.
        to: u64,
    },
    /// The load into the new catalogue was cut off.
    #[error("the rebuild was cut off by the service stopping")]
    Stopped,
    /// The log did not take the rebuild's own leaf.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A bucket or principal could not be indexed.
    #[error("a recovered fact cannot be serialised")]
    Serialise,
}

/// Pages that all catalogues together keep in memory while they are filled,
/// and the least that each does.
const CACHE_MIB: u16 = 128;
const CACHE_MIB_MIN: u16 = 2;

/// A tenant whose catalogue is being filled.
struct Lost {
    tenant: Arc<Tenant>,
    buckets: BTreeSet<BucketId>,
    /// What these buckets promise, and what they promised before: versions of
    /// then may still lie as they did.
    promised: Vec<(BucketName, ResidencyPolicy)>,
    /// Versions that never were, for a failed put's tombstone outlaws them.
    withdrawn: BTreeSet<VersionId>,
    /// Sites of which a deletion in a bucket must be known.
    needed: BTreeMap<BucketId, usize>,
    thin: Vec<Thin>,
    /// What a deletion does not hide any more.
    held: Held,
    versions: u64,
}

impl Lost {
    /// Whether a version is one that ever was, in a bucket that stands.
    fn shows(&self, manifest: &Manifest) -> bool {
        self.buckets.contains(&manifest.bucket) && !self.withdrawn.contains(&manifest.version)
    }
}

impl Service {
    /// Rebuilds the catalogues of these tenants, if enough sites answer.
    pub(crate) async fn rebuild_lost(
        &self,
        lost: &[Arc<Tenant>],
        progress: RecoveryProgress<'_>,
        report: &mut RecoveryReport,
    ) -> Result<(), OpenError> {
        let alive = self.sites.alive();
        lost.iter().try_for_each(|tenant| self.refuse_if_too_many_lost(tenant, &alive))?;
        let (began, before) = (self.host.clock.monotonic(), report.versions);
        rebuild(self, lost, progress, report).await?;
        self.note_rebuilt(self.timed(report.versions.saturating_sub(before), began));
        Ok(())
    }

    /// Names of the sites that do not answer, or not as who they were.
    pub(crate) fn missing_sites(&self) -> Vec<String> {
        let alive = self.sites.alive();
        let missing = self.sites.topology().sites.iter().filter(|site| !alive.contains(&site.id));
        missing.map(|site| site.name.clone()).collect()
    }

    fn is_given_up(&self, name: &str) -> bool {
        self.host.given_up.contains(name)
    }

    /// Nobody gives a site up by a slip of the pen.
    pub(crate) fn refuse_unknown_given_up(&self) -> Result<(), OpenError> {
        let sites = &self.sites.topology().sites;
        let unknown = self.host.given_up.iter().find(|name| sites.iter().all(|site| site.name != **name));
        match unknown {
            None => Ok(()),
            Some(name) => {
                let known = sites.iter().map(|site| site.name.clone()).collect();
                Err(OpenError::NoSuchSite { name: name.clone(), known })
            }
        }
    }

    /// The sites without which a rebuild is made, for the log.
    fn without(&self) -> String {
        let mut names = self.missing_sites();
        names.retain(|name| self.is_given_up(name));
        if names.is_empty() { String::new() } else { format!(", given up: {}", names.join(", ")) }
    }

    /// A rebuild must meet every version and tombstone that was acknowledged.
    fn refuse_if_too_many_lost(&self, tenant: &Tenant, alive: &[SiteId]) -> Result<(), OpenError> {
        let missing = missing_under(self, &tenant.policy, |id| !alive.contains(&id));
        let more = missing.len().saturating_sub(tenant.policy.geometry.m());
        if more == 0 { Ok(()) } else { Err(OpenError::TooManyLost { tenant: tenant.id, missing, more }) }
    }
}

/// Rebuilds the catalogues of these tenants.
async fn rebuild(
    service: &Service,
    lost: &[Arc<Tenant>],
    progress: RecoveryProgress<'_>,
    report: &mut RecoveryReport,
) -> Result<(), RebuildError> {
    let lost = lost.iter().cloned();
    let mut lost: Vec<Lost> = lost
        .map(|tenant| Lost {
            tenant,
            buckets: BTreeSet::new(),
            promised: Vec::new(),
            withdrawn: BTreeSet::new(),
            needed: BTreeMap::new(),
            thin: Vec::new(),
            held: Held::default(),
            versions: 0,
        })
        .collect();
    if lost.is_empty() {
        return Ok(());
    }
    let cache_mib = (CACHE_MIB / u16::try_from(lost.len()).unwrap_or(CACHE_MIB)).max(CACHE_MIB_MIN);
    for Lost { tenant, .. } in &lost {
        crate::disk::write_durably(&filling_path(&service.data_dir, tenant.id), b"")?;
        tenant.catalog.begin_loading(cache_mib).await?;
    }
    let mut whole = Walk::default();
    progress("facts", 0);
    add(&mut whole, load_facts(service, &mut lost).await?);
    // Before anything long is begun in vain.
    lost.iter().try_for_each(|lost| refuse_if_silent(service, lost, &whole.silent))?;
    progress("tombstones", 0);
    add(&mut whole, load_tombstones(service, &mut lost).await?);
    add(&mut whole, versions::load(service, &mut lost, progress, report).await?);
    progress("log", 0);
    add(&mut whole, log::load(service, &lost).await?);
    report.unreadable += whole.unreadable;
    lost.iter().try_for_each(|lost| refuse_if_silent(service, lost, &whole.silent))?;
    for Lost { tenant, versions, thin, .. } in lost {
        let tenant = &tenant;
        let unheard = unheard::note(service, tenant, &whole.silent).await?;
        let subject = format!("{versions} versions{}{unheard}", service.without());
        let event = service.own_event(Some(tenant.id), Operation::Rebuild, subject, Outcome::Done);
        tenant.catalog.skip_orders(orders::GAP).await?;
        tenant.note(&event).await?;
        tenant.catalog.finish_loading().await?;
        thin::spread(service, tenant, thin).await?;
        mark_whole(&tenant.catalog).await?;
        std::fs::remove_file(filling_path(&service.data_dir, tenant.id))?;
    }
    Ok(())
}

fn add(whole: &mut Walk, part: Walk) {
    whole.silent.extend(part.silent);
    whole.unreadable += part.unreadable;
}

/// A rebuild must have met every version and tombstone that was acknowledged,
/// to the end of every listing: those of the tenant, and those of each bucket,
/// which may lose fewer sites and lies at fewer.
fn refuse_if_silent(service: &Service, lost: &Lost, silent: &BTreeSet<SiteId>) -> Result<(), RebuildError> {
    let tenant = &lost.tenant;
    let admitted = service.sites.admitted(&tenant.policy);
    if !admitted.is_empty() && admitted.iter().all(|id| silent.contains(id)) {
        return Err(RebuildError::NoSite);
    }
    if let Err(missing) = enough_answered(service, &tenant.policy, silent) {
        return Err(RebuildError::FellSilent { tenant: tenant.id, missing });
    }
    for (bucket, policy) in &lost.promised {
        if let Err(missing) = enough_answered(service, policy, silent) {
            let (tenant, bucket, losable) = (tenant.id, bucket.clone(), policy.geometry.m());
            return Err(RebuildError::BucketSilent { tenant, bucket, missing, losable });
        }
    }
    Ok(())
}

/// Names of the sites under a policy that are silent, if these are too many.
fn enough_answered(
    service: &Service,
    policy: &ResidencyPolicy,
    silent: &BTreeSet<SiteId>,
) -> Result<(), Vec<String>> {
    let missing = missing_under(service, policy, |id| silent.contains(&id));
    if missing.len() <= policy.geometry.m() { Ok(()) } else { Err(missing) }
}

/// Names of the sites under a policy that are silent, or have a new disk that
/// repair has not filled yet: what the old one knew they do not. Those that
/// were given up are not waited for.
fn missing_under(
    service: &Service,
    policy: &ResidencyPolicy,
    is_silent: impl Fn(SiteId) -> bool,
) -> Vec<String> {
    let sites = &service.sites;
    let admitted = sites.admitted(policy).into_iter();
    let missing = admitted.filter(|id| !service.is_given_up(sites.name(*id))).filter_map(|id| {
        match (is_silent(id), sites.is_refilling(id)) {
            (true, _) => Some(sites.name(id).to_owned()),
            (false, true) => Some(format!("{} with a new disk that is not filled yet", sites.name(id))),
            (false, false) => None,
        }
    });
    missing.collect()
}

/// Opens facts of any of these tenants; each says which of them it is of.
fn facts_of<'a, T: DeserializeOwned>(
    tenants: impl Iterator<Item = &'a Arc<Tenant>>,
    key: fn(&TenantSecrets) -> Dek,
) -> Open<(usize, T)> {
    let keys = tenants.enumerate().map(|(at, tenant)| {
        let key = key(&tenant.secrets);
        (tenant_tag(&key), (at, tenant.id, key))
    });
    let keys: BTreeMap<_, _> = keys.collect();
    Arc::new(move |record: &Record| match tag_of(record).and_then(|tag| keys.get(&tag)) {
        Some((at, tenant, key)) => {
            open_fact(record, key, *tenant).map_or(Opened::Bad, |fact| Opened::Good((*at, fact)))
        }
        None => Opened::Foreign,
    })
}

async fn load_facts(service: &Service, lost: &mut [Lost]) -> Result<Walk, RebuildError> {
    let open = facts_of::<Fact>(lost.iter().map(|lost| &lost.tenant), TenantSecrets::registry_key);
    let mut facts: Vec<Vec<_>> = lost.iter().map(|_| Vec::new()).collect();
    let walk = each(service, RecordKind::Registry, open, async |batch| {
        for Found { id, value: (at, fact), .. } in batch {
            if let Some(facts) = facts.get_mut(at) {
                facts.push((id, fact));
            }
        }
        Ok::<(), RebuildError>(())
    });
    let walk = walk.await?;
    for (lost, facts) in lost.iter_mut().zip(facts) {
        let policies = policies_of(&facts);
        let batch = batch_of(facts)?;
        lost.buckets = batch.buckets.iter().map(|bucket| bucket.id).collect();
        let stands = policies.into_iter().filter(|(bucket, _, _)| lost.buckets.contains(bucket));
        lost.promised = stands.map(|(_, name, policy)| (name, policy)).collect();
        let needed = |bucket: &BucketRow| (bucket.id, copies_needed(&bucket.policy));
        lost.needed = batch.buckets.iter().map(needed).collect();
        lost.tenant.catalog.load(batch).await?;
    }
    Ok(walk)
}

/// Every policy that a bucket has or had.
fn policies_of(facts: &[(coffer_model::RecordId, Fact)]) -> Vec<(BucketId, BucketName, ResidencyPolicy)> {
    let policy = |(_, fact): &(_, Fact)| match fact {
        Fact::BucketCreated { id, name, policy, .. } | Fact::BucketPolicy { id, name, policy, .. } => {
            Some((*id, name.clone(), policy.clone()))
        }
        _ => None,
    };
    facts.iter().filter_map(policy).collect()
}

/// The buckets and principals that a tenant's facts add up to.
fn batch_of(facts: Vec<(coffer_model::RecordId, Fact)>) -> Result<RebuildBatch, RebuildError> {
    let (removed, newest) = (last_removals(&facts), newest_by_name(&facts));
    // A removal that was refused is followed by a later fact of its bucket.
    let is_removed = |id: &BucketId, at: Timestamp| removed.get(id).is_some_and(|removed| *removed >= at);
    // A name has one bucket at a time: whatever became of the newest, the ones
    // before it were gone when it was made, or never were.
    let is_past = |id: &BucketId, name: &BucketName| newest.get(name).is_some_and(|(_, last)| last != id);
    let lifted = |(_, fact): &(_, Fact)| match fact {
        Fact::HoldReleased { id, released, by } => Some((*id, (*released, *by))),
        _ => None,
    };
    let lifted: BTreeMap<HoldId, (Timestamp, PrincipalId)> = facts.iter().filter_map(lifted).collect();
    let mut batch = RebuildBatch::default();
    if let Some(last) = facts.iter().filter_map(|(_, fact)| time_of(fact)).max() {
        let (id, body) = time_row(last);
        batch.facts.push(FactRow { kind: registry::TIME.to_owned(), id, body });
    }
    let mut policies: BTreeMap<BucketId, (Timestamp, BucketRow)> = BTreeMap::new();
    for (record, fact) in facts {
        match fact {
            Fact::BucketCreated { id, name, policy, created }
                if !is_removed(&id, created) && !is_past(&id, &name) =>
            {
                batch.buckets.push(BucketRow { id, name, policy, created, record });
            }
            Fact::PrincipalCreated(principal) => {
                let body = postcard::to_allocvec(&principal).map_err(|_| RebuildError::Serialise)?;
                batch.facts.push(FactRow {
                    kind: "principal".to_owned(),
                    id: *principal.id.as_bytes(),
                    body,
                });
            }
            Fact::BucketPolicy { id, name, policy, created, changed }
                if !is_removed(&id, changed) && !is_past(&id, &name) =>
            {
                let row = BucketRow { id, name, policy, created, record };
                let newest = policies.entry(id).or_insert_with(|| (changed, row.clone()));
                if changed > newest.0 {
                    *newest = (changed, row);
                }
            }
            Fact::Sites { generation, sites } => {
                let indexed = crate::standing::index(generation, &sites);
                let (id, body) = indexed.map_err(|_| RebuildError::Serialise)?;
                batch.facts.push(FactRow { kind: crate::standing::SITES.to_owned(), id, body });
            }
            Fact::HoldPlaced(hold) => {
                let released = lifted.get(&hold.id).copied();
                let (id, hold) = (*hold.id.as_bytes(), Hold { released, ..hold });
                let body = crate::hold::index(&hold).map_err(|_| RebuildError::Serialise)?;
                batch.facts.push(FactRow { kind: crate::hold::HOLD.to_owned(), id, body });
            }
            Fact::TenantMade { id } => batch.facts.push(crate::roll::index(id)),
            Fact::Orders { floor } => batch.order_floor = batch.order_floor.max(floor),
            Fact::BucketCreated { .. }
            | Fact::BucketRemoved { .. }
            | Fact::BucketPolicy { .. }
            | Fact::HoldReleased { .. } => {}
        }
    }
    // A bucket whose policy was changed is what the last change says.
    batch.buckets.retain(|bucket| !policies.contains_key(&bucket.id));
    batch.buckets.extend(policies.into_values().map(|(_, row)| row));
    // Copies of one creation under several records.
    batch.buckets.sort_by(|a, b| (&a.name, a.record).cmp(&(&b.name, b.record)));
    batch.buckets.dedup_by(|later, earlier| later.name == earlier.name);
    Ok(batch)
}

/// The bucket that was made last under each name, and when.
fn newest_by_name(facts: &[(coffer_model::RecordId, Fact)]) -> BTreeMap<BucketName, (Timestamp, BucketId)> {
    let mut newest = BTreeMap::new();
    for (_, fact) in facts {
        if let Fact::BucketCreated { id, name, created, .. } | Fact::BucketPolicy { id, name, created, .. } =
            fact
        {
            let last = newest.entry(name.clone()).or_insert((*created, *id));
            *last = (*last).max((*created, *id));
        }
    }
    newest
}

/// When each bucket was removed last.
fn last_removals(facts: &[(coffer_model::RecordId, Fact)]) -> BTreeMap<BucketId, Timestamp> {
    let mut removals = BTreeMap::new();
    for (_, fact) in facts {
        if let Fact::BucketRemoved { id, removed } = fact {
            let last = removals.entry(*id).or_insert(*removed);
            *last = (*last).max(*removed);
        }
    }
    removals
}

/// The registry's time of a fact about a bucket.
fn time_of(fact: &Fact) -> Option<Timestamp> {
    match fact {
        Fact::BucketCreated { created, .. } => Some(*created),
        Fact::BucketPolicy { changed, .. } => Some(*changed),
        Fact::BucketRemoved { removed, .. } => Some(*removed),
        Fact::PrincipalCreated(_)
        | Fact::Sites { .. }
        | Fact::HoldPlaced(_)
        | Fact::HoldReleased { .. }
        | Fact::TenantMade { .. }
        | Fact::Orders { .. } => None,
    }
}

async fn load_tombstones(service: &Service, lost: &mut [Lost]) -> Result<Walk, RebuildError> {
    let open = facts_of::<Tombstone>(lost.iter().map(|lost| &lost.tenant), TenantSecrets::tombstone_key);
    let walk = each(service, RecordKind::Tombstone, open, async |batch| {
        let mut loads: BTreeMap<usize, RebuildBatch> = BTreeMap::new();
        for Found { id, value: (at, tombstone), holders, .. } in batch {
            let load = loads.entry(at).or_default();
            load.order_floor = load.order_floor.max(tombstone.order);
            let Some(lost) = lost.get_mut(at) else { continue };
            if tombstone.failed_put {
                lost.withdrawn.insert(tombstone.version);
                continue;
            }
            let bucket = tombstone.bucket;
            if lost.held.overrules(&lost.tenant, id, &tombstone, &holders).await? {
                continue;
            }
            let needed = lost.needed.get(&bucket).copied();
            if holders.len() < needed.unwrap_or_else(|| copies_needed(&lost.tenant.policy)) {
                lost.thin.push(Thin { record: id, bucket, holders });
            }
            load.tombstones.push(tombstone_row(id, &tombstone));
        }
        for (at, load) in loads {
            if let Some(lost) = lost.get(at) {
                lost.tenant.catalog.load(load).await?;
            }
        }
        Ok::<(), RebuildError>(())
    });
    walk.await
}

/// Which of these versions a tombstone of a failed put outlaws.
pub(crate) async fn withdrawn(
    service: &Service,
    tenant: &Arc<Tenant>,
    of: &BTreeSet<VersionId>,
) -> Result<BTreeSet<VersionId>, RebuildError> {
    let open = facts_of::<Tombstone>(std::iter::once(tenant), TenantSecrets::tombstone_key);
    let mut withdrawn = BTreeSet::new();
    let walk = each(service, RecordKind::Tombstone, open, async |batch| {
        let failed = batch.into_iter().map(|found| found.value.1).filter(|tombstone| tombstone.failed_put);
        withdrawn.extend(failed.map(|tombstone| tombstone.version).filter(|version| of.contains(version)));
        Ok::<(), RebuildError>(())
    });
    let walk = walk.await?;
    let all_silent = service.sites.topology().sites.iter().all(|site| walk.silent.contains(&site.id));
    if all_silent { Err(RebuildError::NoSite) } else { Ok(withdrawn) }
}
