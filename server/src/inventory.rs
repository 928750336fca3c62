//! What lies where: the versions of the catalogues, batch by batch, held
//! against what every site lists, in order and with digests, and against what
//! is known to be damaged. Memory is that of one batch, however much there is;
//! in return every batch reads all listings once more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coffer_catalog::ManifestRow;
use coffer_model::{Layout, Manifest, RecordId, SiteId, VersionId};
use coffer_regions::{
    Coding, Holdings, ListedRecord, RecordKind, RepairSite, SiteError, Standing, Stray, VersionInventory,
    shard_record_id,
};
use tokio::sync::OnceCell;

use crate::listing::{self, Accounted};
use crate::repair::{Foreground, RepairError};
use crate::residency::Policies;
use crate::service::Service;
use crate::tenant::Tenant;

mod batch;
mod copies;

use batch::Batch;
pub(crate) use copies::read as read_copy;

/// Lines of a listing at a time. Few, because whatever tenants ask for
/// meanwhile waits for a look that is under way.
const LIST_PAGE: usize = 1024;
/// Versions of a catalogue at a time; as few, for the same reason.
const VERSION_PAGE: usize = 128;

/// The sites as one round of looking sees them. A site that fails while it is
/// looked at counts as silent from then on.
pub(crate) struct Census {
    pub(crate) sites: Vec<RepairSite>,
    damaged: BTreeMap<SiteId, BTreeSet<RecordId>>,
    /// Whose calls are given way to.
    foreground: Option<Arc<Foreground>>,
    shards: BTreeMap<SiteId, Tally>,
    /// How many manifests and how many shards a site can have; looked up when a
    /// listing is long.
    accounted: [OnceCell<Accounted>; 2],
}

/// Shards at one site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

impl Amount {
    fn add(&mut self, line: &ListedRecord) {
        self.records += 1;
        self.bytes = self.bytes.saturating_add(u64::from(line.body_bytes));
    }
}

/// What a site listed of shards, and how much of that versions name.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    listed: Amount,
    named: Amount,
}

impl Census {
    pub(crate) fn new(service: &Service) -> Self {
        let alive = service.sites.alive_for_repair();
        let now = service.host.clock.now();
        alive.iter().for_each(|id| service.sites.saw(*id, now));
        let one = |listed: &crate::sites::ListedSite| RepairSite {
            site: listed.address.site.clone(),
            standing: listed.standing,
            alive: alive.contains(&listed.address.site.id),
        };
        let sites = service.sites.listed().iter().map(one).collect();
        let (damaged, shards) = (service.damage.all(), BTreeMap::new());
        Self { sites, damaged, shards, foreground: None, accounted: Default::default() }
    }

    /// The same, by somebody who can wait: between its looks tenants come first.
    pub(crate) fn giving_way(self, foreground: Option<Arc<Foreground>>) -> Self {
        Self { foreground, ..self }
    }

    /// The same, without sites that are older than they were: nothing that they show counts.
    pub(crate) fn without_quarantined(mut self, service: &Service) -> Self {
        for site in self.sites.iter_mut().filter(|site| service.sites.is_quarantined(site.site.id)) {
            site.standing = Standing::Quarantined;
        }
        self
    }

    async fn look<T>(&self, work: impl Future<Output = T>) -> T {
        match &self.foreground {
            Some(foreground) => foreground.look(work).await,
            None => work.await,
        }
    }

    /// Whether a site may list so many records, as far as anybody can know.
    async fn is_credible(&self, service: &Service, site: SiteId, kind: RecordKind, listed: u64) -> bool {
        if listed <= listing::slack(kind) {
            return true;
        }
        let [manifests, shards] = &self.accounted;
        let accounted = if kind == RecordKind::Shard { shards } else { manifests };
        let sites = self.counting();
        let accounted = accounted.get_or_try_init(|| Accounted::of(service, kind, &sites)).await;
        // A catalogue that fails says so to whoever asks it next.
        accounted.is_ok_and(|accounted| accounted.is_credible(kind, site, listed))
    }

    fn counting(&self) -> Vec<SiteId> {
        self.sites.iter().filter(|site| site.counts()).map(|site| site.site.id).collect()
    }

    fn is_damaged(&self, site: SiteId, record: RecordId) -> bool {
        self.damaged.get(&site).is_some_and(|records| records.contains(&record))
    }

    /// Enters one join: each meets a whole listing, and some of the versions.
    fn tally(&mut self, site: SiteId, met: Tally) {
        let tally = self.shards.entry(site).or_insert_with(|| Tally { named: Amount::default(), ..met });
        tally.named.records += met.named.records;
        tally.named.bytes = tally.named.bytes.saturating_add(met.named.bytes);
    }

    /// Shards that no version names, by site, after a walk over all tenants:
    /// of puts under way, and what a put left that was withdrawn while the
    /// site was silent. A site that fell silent is left out.
    pub(crate) async fn unnamed_shards(&mut self, service: &Service) -> BTreeMap<SiteId, Amount> {
        for site in self.counting() {
            if !self.shards.contains_key(&site) {
                let mut listed = Amount::default();
                match each_line(service, self, site, RecordKind::Shard, |line| listed.add(&line)).await {
                    Ok(()) => self.tally(site, Tally { listed, named: Amount::default() }),
                    Err(_) => self.silence(site),
                }
            }
        }
        let counting = self.counting();
        let shards = self.shards.iter().filter(|(site, _)| counting.contains(site));
        let left = |(site, tally): (&SiteId, &Tally)| {
            let records = tally.listed.records.saturating_sub(tally.named.records);
            let bytes = tally.listed.bytes.saturating_sub(tally.named.bytes);
            (*site, Amount { records, bytes })
        };
        shards.map(left).collect()
    }

    fn silence(&mut self, id: SiteId) {
        self.sites.iter_mut().filter(|site| site.site.id == id).for_each(|site| site.alive = false);
    }
}

/// One version as it was found.
pub(crate) struct Found {
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) row: ManifestRow,
    /// `None`: it lies as it should, as far as its sites answer; whether they
    /// should be its sites is for the planner to say.
    pub(crate) inventory: VersionInventory,
}

/// Manifest records that no row names, with their versions: what a new
/// manifest left where a site was silent, or a crash came between.
pub(crate) type Superseded = BTreeMap<VersionId, Vec<Stray>>;

/// Looks at every version of these tenants and hands each to `look`.
pub(crate) async fn walk(
    service: &Service,
    tenants: &[Arc<Tenant>],
    census: &mut Census,
    superseded: &Superseded,
    mut look: impl FnMut(&Census, Found),
) -> Result<(), RepairError> {
    let mut batch = Batch::default();
    for tenant in tenants {
        let policies = Policies::of(tenant).await?;
        let mut after = None;
        loop {
            go_on(service)?;
            let page = census.look(tenant.catalog.versions(after, VERSION_PAGE)).await?;
            let Some(last) = page.last() else { break };
            after = Some(last.manifest.manifest.version);
            for version in page {
                let policy = policies.of_version(&service.sites, &version.manifest.manifest);
                batch.add(tenant, version, policy);
                if batch.is_full() {
                    std::mem::take(&mut batch).settle(service, census, superseded, &mut look).await?;
                }
            }
        }
    }
    batch.settle(service, census, superseded, &mut look).await
}

/// Ends a look at everything at its next page when the service leaves: nothing that it found is kept.
pub(crate) fn go_on(service: &Service) -> Result<(), RepairError> {
    if service.watch.is_leaving() { Err(RepairError::Stopped) } else { Ok(()) }
}

/// Every line of a listing, page by page. When the service leaves it breaks off; whoever goes on then asks
/// [`go_on`].
async fn each_line(
    service: &Service,
    census: &Census,
    site: SiteId,
    kind: RecordKind,
    mut line: impl FnMut(ListedRecord),
) -> Result<(), SiteError> {
    let adapter = service.sites.for_repair(site).ok_or(SiteError::Unreachable)?;
    let (mut after, mut listed) = (None, 0);
    loop {
        if service.watch.is_leaving() {
            return Err(SiteError::Unreachable);
        }
        let page = census.look(adapter.list(kind, after, LIST_PAGE)).await?;
        let end = page.len() < LIST_PAGE;
        let last = page.last().map(|last| last.id);
        // A listing that does not go on would never end.
        if last.is_some() && last <= after {
            return Err(SiteError::Damaged);
        }
        listed += page.len() as u64;
        // Nor would one of what nobody wrote.
        if !census.is_credible(service, site, kind, listed).await {
            service.sites.report(site);
            return Err(SiteError::Damaged);
        }
        after = last;
        page.into_iter().for_each(&mut line);
        if end {
            return Ok(());
        }
    }
}

/// Finds manifest records that no tenant's catalogue names, and the versions
/// that they are of. Sixteen bytes of memory for each version.
pub(crate) async fn superseded(service: &Service, census: &mut Census) -> Result<Superseded, RepairError> {
    let unnamed = unnamed(service, census).await?;
    let mut found = Superseded::new();
    for (record, sites) in unnamed {
        go_on(service)?;
        if let Some(version) = copies::version_of(service, record, &sites).await? {
            let stray = |site: &SiteId| Stray { record, site: *site, shard: None };
            found.entry(version).or_default().extend(sites.iter().map(stray));
        }
    }
    Ok(found)
}

/// Listed manifest records that no catalogue names, and where they lie. First
/// the listings, then what is reserved, then what is committed: a put that is
/// under way is met by one of the two. Of every tenant that there is by then,
/// whoever asks: what another one's catalogue names is not without an owner.
async fn unnamed(
    service: &Service,
    census: &mut Census,
) -> Result<BTreeMap<RecordId, Vec<SiteId>>, RepairError> {
    let mut listed: BTreeMap<SiteId, Vec<RecordId>> = BTreeMap::new();
    for site in census.counting() {
        let mut lines = Vec::new();
        match each_line(service, census, site, RecordKind::Manifest, |line| lines.push(line.id)).await {
            Ok(()) => drop(listed.insert(site, lines)),
            Err(_) => census.silence(site),
        }
    }
    let mut known = Vec::new();
    for tenant in service.all_tenants() {
        known.extend(tenant.catalog.reservations().await?.into_iter().map(|row| row.record));
        let mut after = None;
        loop {
            go_on(service)?;
            let page = census.look(tenant.catalog.manifest_records(after, VERSION_PAGE)).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            known.extend(page.into_iter().map(|(_, record)| record));
        }
    }
    known.sort_unstable();
    let mut unnamed: BTreeMap<RecordId, Vec<SiteId>> = BTreeMap::new();
    for (site, records) in listed {
        for record in records.into_iter().filter(|record| known.binary_search(record).is_err()) {
            if !service.repairs.is_nobodys(record) {
                unnamed.entry(record).or_default().push(site);
            }
        }
    }
    Ok(unnamed)
}

/// How the bytes of a manifest's version lie.
pub(crate) fn coding_of(manifest: &Manifest) -> Coding {
    match &manifest.layout {
        Layout::Inline { .. } => Coding::Whole,
        Layout::Striped { geometry, stripe_bytes, .. } => {
            let sealed_size = manifest.sealed_size;
            Coding::Striped { geometry: *geometry, stripe_bytes: *stripe_bytes, sealed_size }
        }
    }
}

/// Each shard at its own site, where that one counts.
fn usual(sites: &[SiteId], counting: &BTreeSet<SiteId>) -> Holdings {
    let at_home = |id: &SiteId| if counting.contains(id) { vec![*id] } else { Vec::new() };
    sites.iter().map(at_home).collect()
}

/// The record ids of a version's shards, stripe by stripe.
fn shards(layout: &Layout) -> impl Iterator<Item = (u32, u8, RecordId)> {
    let (locator, stripes, width) = match layout {
        Layout::Inline { .. } => (&[0; 32], 0, 0),
        Layout::Striped { locator, digests, sites, .. } => {
            (locator, u32::try_from(digests.len()).unwrap_or(u32::MAX), sites.len())
        }
    };
    let width = u8::try_from(width).unwrap_or(u8::MAX);
    (0..stripes).flat_map(move |stripe| {
        (0..width).map(move |index| (stripe, index, shard_record_id(locator, stripe, index)))
    })
}
