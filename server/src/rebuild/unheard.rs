//! Sites that were silent while a catalogue was rebuilt. The rebuild goes on
//! without as many as may be lost, for what was acknowledged is at others too;
//! where one of those lost its copy meanwhile, a site that was merely away has
//! the last one. So such sites are remembered, and at the first start at which
//! they answer the catalogue becomes what it would be had they been heard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coffer_catalog::{CatalogError, RebuildBatch};
use coffer_model::{Operation, Outcome, SiteId};
use coffer_regions::RecordKind;

use super::gather::{Found, Walk, each};
use super::held::Held;
use super::{Lost, RebuildError, load_tombstones, refuse_if_silent, thin, versions};
use crate::registry::copies_needed;
use crate::service::Service;
use crate::tenant::Tenant;

/// The kind of fact in a catalogue that was rebuilt without a site, by the id
/// of that site.
const UNHEARD: &str = "unheard";

/// The bodies of such a fact: the site is waited for, or no longer.
const WAITED_FOR: [u8; 1] = [1];
const HEARD: [u8; 1] = [0];

/// Remembers the sites without which a catalogue was filled, and tells their
/// names. Those that were given up are not waited for.
pub(super) async fn note(
    service: &Service,
    tenant: &Tenant,
    silent: &BTreeSet<SiteId>,
) -> Result<String, CatalogError> {
    let mut names = Vec::new();
    for id in service.sites.admitted(&tenant.policy) {
        let name = service.sites.name(id);
        if silent.contains(&id) && !service.is_given_up(name) {
            tenant.catalog.put_fact(UNHEARD, *id.as_bytes(), WAITED_FOR.to_vec()).await?;
            names.push(name);
        }
    }
    Ok(if names.is_empty() { String::new() } else { format!(", not heard: {}", names.join(", ")) })
}

/// Sites for which a catalogue waits.
async fn waited_for(service: &Service, tenant: &Tenant) -> Result<BTreeSet<SiteId>, CatalogError> {
    let mut waited = BTreeSet::new();
    for (id, body) in tenant.catalog.facts(UNHEARD).await? {
        let site = SiteId::from_bytes(id);
        let is_known = service.sites.topology().site(site).is_some();
        if body == WAITED_FOR && is_known && !service.is_given_up(service.sites.name(site)) {
            waited.insert(site);
        }
    }
    Ok(waited)
}

/// A tenant whose catalogue waits for sites of which one answers now.
struct Late {
    of: Lost,
    waited: BTreeSet<SiteId>,
}

/// Hears the sites that were silent during a rebuild and answer now. A start
/// calls it once every put of before is settled, and before anybody is served.
/// Where too many sites are silent now, or one falls silent again, a later
/// start hears them.
pub(crate) async fn hear(service: &Service) -> Result<(), RebuildError> {
    let alive = service.sites.alive();
    let mut late = Vec::new();
    for tenant in service.all_tenants() {
        let waited = waited_for(service, &tenant).await?;
        // The realm has no versions.
        if !tenant.service && waited.iter().any(|site| alive.contains(site)) {
            late.push(Late { of: as_it_is(tenant).await?, waited });
        }
    }
    if late.is_empty() {
        return Ok(());
    }
    let (mut of, mut waited): (Vec<Lost>, Vec<_>) = late.into_iter().map(|it| (it.of, it.waited)).unzip();
    let mut whole = load_tombstones(service, &mut of).await?;
    // What a tombstone outlaws must not show because who has that is away.
    for (lost, waited) in of.iter().zip(&mut waited) {
        if refuse_if_silent(service, lost, &whole.silent).is_err() {
            waited.clear();
        }
    }
    super::add(&mut whole, load_unknown(service, &mut of, &waited).await?);
    for (lost, waited) in of.into_iter().zip(waited) {
        let heard: Vec<SiteId> = waited.into_iter().filter(|site| !whole.silent.contains(site)).collect();
        settle(service, lost, &heard).await?;
    }
    Ok(())
}

/// What a walk must know of a catalogue that is there.
async fn as_it_is(tenant: Arc<Tenant>) -> Result<Lost, CatalogError> {
    let buckets = tenant.catalog.buckets().await?;
    let reservations = tenant.catalog.reservations().await?;
    Ok(Lost {
        buckets: buckets.iter().map(|bucket| bucket.id).collect(),
        needed: buckets.iter().map(|bucket| (bucket.id, copies_needed(&bucket.policy))).collect(),
        promised: buckets.into_iter().map(|bucket| (bucket.name, bucket.policy)).collect(),
        // Of a put that could not be settled yet nothing may show.
        withdrawn: reservations.iter().map(|row| row.version).collect(),
        thin: Vec::new(),
        held: Held::of(&tenant).await?,
        versions: 0,
        tenant,
    })
}

/// Enters the versions that these sites list and the catalogues do not know.
async fn load_unknown(
    service: &Service,
    late: &mut [Lost],
    waited: &[BTreeSet<SiteId>],
) -> Result<Walk, RebuildError> {
    let open = versions::manifests_of(late.iter().map(|lost| Arc::clone(&lost.tenant)).collect());
    let walk = each(service, RecordKind::Manifest, open, async |batch| {
        let mut loads: BTreeMap<usize, RebuildBatch> = BTreeMap::new();
        for Found { value: (at, row), holders, .. } in batch {
            let (Some(of), Some(waited)) = (late.get_mut(at), waited.get(at)) else { continue };
            let version = row.manifest.version;
            if !holders.iter().any(|site| waited.contains(site))
                || !of.shows(&row.manifest)
                || of.tenant.catalog.version(version).await?.is_some()
            {
                continue;
            }
            of.versions += 1;
            loads.entry(at).or_default().manifests.push(versions::reduced(row, &holders));
        }
        for (at, load) in loads {
            if let Some(of) = late.get(at) {
                of.tenant.catalog.load(load).await?;
            }
        }
        Ok::<(), RebuildError>(())
    });
    walk.await
}

/// The leaf that says what was entered, and whom nobody waits for any more.
async fn settle(service: &Service, late: Lost, heard: &[SiteId]) -> Result<(), RebuildError> {
    let Lost { tenant, thin, held, versions, .. } = late;
    thin::spread(service, &tenant, thin).await?;
    let refused = held.settle(service, &tenant).await?;
    let heard: Vec<SiteId> = heard.iter().filter(|site| !refused.contains(site)).copied().collect();
    if versions > 0 || !heard.is_empty() {
        let names: Vec<&str> = heard.iter().map(|site| service.sites.name(*site)).collect();
        let subject = format!("{versions} versions more, heard now: {}", names.join(", "));
        let event = service.own_event(Some(tenant.id), Operation::Rebuild, subject, Outcome::Done);
        tenant.note(&event).await?;
    }
    // Last: a start that is cut off before hears them again.
    for site in heard {
        tenant.catalog.put_fact(UNHEARD, *site.as_bytes(), HEARD.to_vec()).await?;
    }
    Ok(())
}
