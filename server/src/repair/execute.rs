//! One step: read what the manifest vouches for, write, read back. Only what
//! was read back from the site and is right counts as done.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use coffer_catalog::{CatalogError, ManifestRow};
use coffer_model::{Digest, Layout, RecordId, SiteId, TenantId, VersionId};
use coffer_regions::{
    Action, ClearGeometry, Codec, CodecError, Record, RecordKind, SiteError, Standing, Stray, shard_record_id,
};
use futures::future::join_all;

use crate::inventory;
use crate::moves;
use crate::service::Service;
use crate::sites::put_verified;
use crate::tenant::Tenant;

/// Why a step did not come to its end. The next round sees what is so then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StepError {
    #[error("the version has changed since the plan was made")]
    Stale,
    #[error("{0} did not give what it lists: {1}")]
    Source(String, SiteError),
    #[error("{0} did not take it: {1}")]
    Target(String, SiteError),
    #[error("{0} acknowledged it and does not give it back: {1}")]
    NotThere(String, SiteError),
    #[error("{0} acknowledged it, and shows it undone: what that site says is not so; coffer site drain")]
    Undone(String),
    #[error("the replacement at {0} is not there any more: {1}")]
    NotReplaced(String, SiteError),
    #[error("what was computed is not what the manifest states")]
    Computed,
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the catalogue failed: {0}")]
    Catalog(#[from] CatalogError),
    #[error("the new manifest does not stand: {0}")]
    Move(#[from] moves::MoveError),
}

/// What a step, or several, did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) shards: u64,
    pub(crate) copies: u64,
    pub(crate) read_back: u64,
    pub(crate) moved: u64,
    pub(crate) removed: u64,
    pub(crate) bytes_read: u64,
    pub(crate) bytes_written: u64,
}

impl Done {
    pub(crate) fn add(&mut self, more: &Self) {
        self.shards += more.shards;
        self.copies += more.copies;
        self.read_back += more.read_back;
        self.moved += more.moved;
        self.removed += more.removed;
        self.bytes_read += more.bytes_read;
        self.bytes_written += more.bytes_written;
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shards, copies, read_back, moved, removed, .. } = self;
        write!(f, "{shards} shards and {copies} copies written, {read_back} read back, ")?;
        write!(f, "{moved} versions moved, {removed} records removed")
    }
}

/// Carries out one step for one version.
pub(crate) async fn act(
    service: &Service,
    tenant: TenantId,
    version: VersionId,
    action: &Action,
) -> Result<Done, StepError> {
    let tenant = service.tenant(tenant).ok_or(StepError::Stale)?;
    let row = tenant.catalog.version(version).await?.ok_or(StepError::Stale)?;
    // What begins under a policy has arrived before another one is answered for;
    // a move sees to that by itself.
    let _placing = match action {
        Action::Stripe { .. } | Action::Copies { .. } => Some(tenant.placing.read().await),
        Action::Manifest { .. } | Action::Remove(_) => None,
    };
    // A plan may be old: the policy, or what is wanted of a site, may have
    // changed since it was made. A move asks by itself.
    let targets: Vec<SiteId> = match action {
        Action::Stripe { writes, .. } => writes.iter().map(|(_, site)| *site).collect(),
        Action::Copies { to, .. } => to.clone(),
        Action::Manifest { .. } | Action::Remove(_) => Vec::new(),
    };
    let policy = tenant.policy_of_version(&service.sites, &row.manifest).await?;
    let taking = service.sites.taking();
    if !targets.iter().all(|id| taking.site(*id).is_some_and(|site| policy.admits(site))) {
        return Err(StepError::Stale);
    }
    match action {
        Action::Stripe { stripe, reads, writes } => rebuild(service, &row, *stripe, reads, writes).await,
        Action::Copies { from, to } => copy(service, &tenant, &row, from, to).await,
        Action::Manifest { from, sites } => moves::relocate(service, &tenant, &row, from, sites).await,
        Action::Remove(stray) => {
            let site = service.sites.topology().site(stray.site);
            let outside = site.is_some_and(|site| !policy.admits(site));
            remove(service, &tenant, &row, stray, outside).await
        }
    }
}

/// The shards of one version.
pub(crate) struct Shards<'a> {
    pub(crate) codec: Codec,
    pub(crate) sites: &'a [SiteId],
    locator: &'a [u8; 32],
    digests: &'a [Vec<Digest>],
}

impl<'a> Shards<'a> {
    pub(crate) fn of(layout: &'a Layout) -> Result<Option<Self>, CodecError> {
        let Layout::Striped { geometry, sites, locator, digests, .. } = layout else { return Ok(None) };
        Ok(Some(Self { codec: Codec::new(*geometry)?, sites, locator, digests }))
    }

    pub(crate) fn id(&self, stripe: u32, index: u8) -> RecordId {
        shard_record_id(self.locator, stripe, index)
    }

    pub(crate) fn digest(&self, stripe: u32, index: u8) -> Option<Digest> {
        self.digests.get(usize::try_from(stripe).ok()?)?.get(usize::from(index)).copied()
    }

    /// One shard from one site, if it is what the manifest states; what is
    /// not is noted.
    pub(crate) async fn read(
        &self,
        service: &Service,
        stripe: u32,
        index: u8,
        site: SiteId,
    ) -> Result<Bytes, SiteError> {
        let id = self.id(stripe, index);
        let read = match service.sites.for_repair(site) {
            Some(adapter) => adapter.get(id).await,
            None => Err(SiteError::Unreachable),
        };
        let right = |record: Record| match self.digest(stripe, index) {
            Some(digest) if digest == record.digest() => Ok(record.into_body()),
            _ => Err(SiteError::Damaged),
        };
        let read = read.and_then(right);
        if read.as_ref().is_err_and(|error| *error != SiteError::Unreachable) {
            service.damage.note(site, id);
        }
        read
    }
}

async fn rebuild(
    service: &Service,
    row: &ManifestRow,
    stripe: u32,
    reads: &[(u8, SiteId)],
    writes: &[(u8, SiteId)],
) -> Result<Done, StepError> {
    let shards = Shards::of(&row.manifest.layout)?.ok_or(StepError::Stale)?;
    let asked = reads.iter().map(|(index, site)| {
        let read = shards.read(service, stripe, *index, *site);
        async move { (*index, *site, read.await) }
    });
    let mut have: Vec<Option<Bytes>> = vec![None; shards.sites.len()];
    let mut done = Done::default();
    for (index, site, read) in join_all(asked).await {
        let body = read.map_err(|error| service.blamed(site, error, StepError::Source))?;
        done.bytes_read += body.len() as u64;
        if let Some(place) = have.get_mut(usize::from(index)) {
            *place = Some(body);
        }
    }
    let wanted: Vec<u8> = writes.iter().map(|(index, _)| *index).collect();
    let missing = wanted.iter().any(|index| have.get(usize::from(*index)).is_none_or(Option::is_none));
    let bodies: Vec<Bytes> = if missing {
        shards.codec.rebuild(have, &wanted)?
    } else {
        wanted.iter().filter_map(|index| have.get(usize::from(*index)).cloned().flatten()).collect()
    };
    let (k, m) = shards.codec.geometry().into();
    let mut puts = Vec::new();
    for ((index, site), body) in writes.iter().zip(bodies) {
        let geometry = ClearGeometry { k, m, index: *index };
        let record = Record::new(RecordKind::Shard, shards.id(stripe, *index), geometry, body);
        let record = record.map_err(|_| StepError::Computed)?;
        if shards.digest(stripe, *index) != Some(record.digest()) {
            return Err(StepError::Computed);
        }
        puts.push(put_and_read_back(service, *site, record));
    }
    for put in join_all(puts).await {
        done.bytes_written += put?;
        done.shards += 1;
        done.read_back += 1;
    }
    Ok(done)
}

impl Service {
    /// Charges a site with showing undone what it had acknowledged in this run.
    pub(super) fn undone(&self, site: SiteId) -> StepError {
        self.sites.report(site);
        StepError::Undone(self.sites.name(site).to_owned())
    }

    fn blamed(
        &self,
        site: SiteId,
        error: SiteError,
        as_what: fn(String, SiteError) -> StepError,
    ) -> StepError {
        as_what(self.sites.name(site).to_owned(), error)
    }
}

/// Writes a record, in the place of a wrong one if there is one, and reads it
/// back; the length of its body. A site that acknowledges and does not give
/// back is noted.
pub(crate) async fn put_and_read_back(
    service: &Service,
    site: SiteId,
    record: Record,
) -> Result<u64, StepError> {
    let (id, length) = (record.id(), record.body().len() as u64);
    let first = put_verified(service.sites.for_repair(site), site, record.clone()).await;
    let there = match first {
        Ok(()) => read_back(service, site, &record).await,
        Err(error) => Err(error),
    };
    if let Err(error) = there {
        if matches!(
            error,
            SiteError::Unreachable | SiteError::Full | SiteError::ReadOnly | SiteError::NoLease
        ) {
            return Err(service.blamed(site, error, StepError::Target));
        }
        // Something wrong lies in its place; what is there with the right
        // digest but damaged is acknowledged without being written anew.
        let adapter = service.sites.for_repair(site).ok_or(SiteError::Unreachable);
        let target = |error| service.blamed(site, error, StepError::Target);
        adapter.map_err(target)?.delete(vec![id]).await.map_err(target)?;
        put_verified(service.sites.for_repair(site), site, record.clone()).await.map_err(target)?;
        if let Err(error) = read_back(service, site, &record).await {
            service.sites.report(site);
            service.damage.note(site, id);
            return Err(service.blamed(site, error, StepError::NotThere));
        }
    }
    service.damage.mended(site, id);
    service.repairs.note_verified(site, id);
    Ok(length)
}

async fn read_back(service: &Service, site: SiteId, wanted: &Record) -> Result<(), SiteError> {
    let adapter = service.sites.for_repair(site).ok_or(SiteError::Unreachable)?;
    let read = adapter.get(wanted.id()).await?;
    if read == *wanted { Ok(()) } else { Err(SiteError::Damaged) }
}

/// Copies the manifest record from the first holder whose copy opens.
async fn copy(
    service: &Service,
    tenant: &Arc<Tenant>,
    row: &ManifestRow,
    from: &[SiteId],
    to: &[SiteId],
) -> Result<Done, StepError> {
    let record = first_copy(service, tenant, row, from).await?;
    let mut done = Done { bytes_read: record.body().len() as u64, ..Done::default() };
    let puts = to.iter().map(|site| put_and_read_back(service, *site, record.clone()));
    for put in join_all(puts).await {
        done.bytes_written += put?;
        done.copies += 1;
        done.read_back += 1;
    }
    Ok(done)
}

/// The manifest record from the first of these sites whose copy opens.
pub(crate) async fn first_copy(
    service: &Service,
    tenant: &Tenant,
    row: &ManifestRow,
    from: &[SiteId],
) -> Result<Record, StepError> {
    let mut failed = StepError::Stale;
    for site in from {
        match inventory::read_copy(service, tenant, row, *site).await {
            Ok(record) => return Ok(record),
            Err(error) => {
                if error != SiteError::Unreachable {
                    service.damage.note(*site, row.record);
                }
                failed = service.blamed(*site, error, StepError::Source);
            }
        }
    }
    Err(failed)
}

/// Removes what lies elsewhere, once what it stands for was read back from
/// where it should be. What lies `outside` the policy does not wait for sites
/// that do not answer, as long as no more of them are silent than may be lost.
async fn remove(
    service: &Service,
    tenant: &Arc<Tenant>,
    row: &ManifestRow,
    stray: &Stray,
    outside: bool,
) -> Result<Done, StepError> {
    let mut done = Done { removed: 1, ..Done::default() };
    let sites = row.manifest.layout.sites();
    let losses = inventory::coding_of(&row.manifest).losses(sites.len());
    let mut silent = Silent::up_to(if outside { losses } else { 0 }, service);
    match stray.shard {
        Some((stripe, index)) => {
            let shards = Shards::of(&row.manifest.layout)?.ok_or(StepError::Stale)?;
            let home = *sites.get(usize::from(index)).ok_or(StepError::Stale)?;
            if home == stray.site || shards.id(stripe, index) != stray.record {
                return Err(StepError::Stale);
            }
            // Where its home is not waited for, the others have to be enough.
            let alone = silent.is_waited_for(home);
            for (index, site) in (0_u8..).zip(sites).filter(|(_, site)| !alone || **site == home) {
                if silent.passes_over(*site)? {
                    continue;
                }
                let there = shards.read(service, stripe, index, *site).await;
                there.map_err(|error| service.blamed(*site, error, StepError::NotReplaced))?;
                done.read_back += 1;
            }
        }
        None => {
            if stray.record == row.record && sites.contains(&stray.site) {
                return Err(StepError::Stale);
            }
            for site in sites {
                if silent.passes_over(*site)? {
                    continue;
                }
                let there = inventory::read_copy(service, tenant, row, *site).await;
                there.map_err(|error| service.blamed(*site, error, StepError::NotReplaced))?;
                done.read_back += 1;
            }
        }
    }
    let adapter = service.sites.for_repair(stray.site).ok_or(SiteError::Unreachable);
    let target = |error| service.blamed(stray.site, error, StepError::Target);
    let removed = adapter.map_err(target)?.delete(vec![stray.record]).await;
    if silent.are_some() {
        // It may have been counted in the place of one that is silent.
        service.damage.uncounted();
    }
    removed.map_err(target)?;
    service.damage.mended(stray.site, stray.record);
    Ok(done)
}

/// The homes of a version that are not waited for: those that do not answer,
/// or not as they should, and may come back.
struct Silent<'a> {
    service: &'a Service,
    alive: Vec<SiteId>,
    allowed: usize,
    met: usize,
}

impl<'a> Silent<'a> {
    fn up_to(allowed: usize, service: &'a Service) -> Self {
        Self { service, alive: service.sites.alive_for_repair(), allowed, met: 0 }
    }

    fn is_waited_for(&self, site: SiteId) -> bool {
        let retired = || self.service.sites.standing(site) == Standing::Retired;
        self.allowed == 0 || self.alive.contains(&site) || retired()
    }

    /// Whether this one is left out; an error if it is one too many.
    fn passes_over(&mut self, site: SiteId) -> Result<bool, StepError> {
        if self.is_waited_for(site) {
            return Ok(false);
        }
        self.met += 1;
        if self.met > self.allowed {
            return Err(self.service.blamed(site, SiteError::Unreachable, StepError::NotReplaced));
        }
        Ok(true)
    }

    fn are_some(&self) -> bool {
        self.met > 0
    }
}

/// Reads shards back that a step of this process did not.
pub(crate) async fn confirm_shard(
    service: &Service,
    shards: &Shards<'_>,
    stripe: u32,
    index: u8,
    site: SiteId,
) -> Result<bool, StepError> {
    if service.repairs.was_verified(site, shards.id(stripe, index)) {
        return Ok(false);
    }
    let read = shards.read(service, stripe, index, site).await;
    read.map_err(|error| service.blamed(site, error, StepError::NotThere))?;
    service.repairs.note_verified(site, shards.id(stripe, index));
    Ok(true)
}
