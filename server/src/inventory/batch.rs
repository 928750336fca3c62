//! Some versions and the records that they should have, joined in order with
//! what each site lists.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coffer_catalog::VersionRow;
use coffer_model::{Digest, Layout, RecordId, ResidencyPolicy, SiteId};
use coffer_regions::{Holdings, ListedRecord, RecordKind, SiteError, Stray, VersionInventory};

use super::{Census, Found, Superseded, Tally, coding_of, copies, each_line, go_on, shards, usual};
use crate::repair::RepairError;
use crate::service::Service;
use crate::tenant::Tenant;

/// Records of one batch: about 20 MB.
const RECORDS_MAX: usize = 1 << 18;

struct Version {
    tenant: Arc<Tenant>,
    row: VersionRow,
    policy: ResidencyPolicy,
}

/// A record that one of the versions should have.
struct Expected {
    id: RecordId,
    version: u32,
    stripe: u32,
    index: u8,
}

/// The versions of one batch.
#[derive(Default)]
pub(super) struct Batch {
    versions: Vec<Version>,
    shards: Vec<Expected>,
    manifests: Vec<Expected>,
}

/// A line of a listing that belongs to a version: which expected record, and
/// whether its digest is the one that the manifest states.
struct Hit {
    expected: u32,
    site: SiteId,
    digest: Digest,
    good: bool,
}

impl Batch {
    pub(super) fn add(&mut self, tenant: &Arc<Tenant>, row: VersionRow, policy: ResidencyPolicy) {
        let version = u32::try_from(self.versions.len()).unwrap_or(u32::MAX);
        let layout = &row.manifest.manifest.layout;
        let expected = |(stripe, index, id)| Expected { id, version, stripe, index };
        self.shards.extend(shards(layout).map(expected));
        self.manifests.push(expected((0, 0, row.manifest.record)));
        self.versions.push(Version { tenant: Arc::clone(tenant), row, policy });
    }

    pub(super) fn is_full(&self) -> bool {
        self.shards.len() + self.manifests.len() >= RECORDS_MAX
    }

    /// Asks every site and hands on what was found of each version.
    pub(super) async fn settle(
        mut self,
        service: &Service,
        census: &mut Census,
        superseded: &Superseded,
        look: &mut impl FnMut(&Census, Found),
    ) -> Result<(), RepairError> {
        if self.versions.is_empty() {
            return Ok(());
        }
        self.shards.sort_unstable_by_key(|expected| expected.id);
        self.manifests.sort_unstable_by_key(|expected| expected.id);
        let (mut shards, mut copies) = (Vec::new(), Vec::new());
        for site in census.counting() {
            let (own_shards, own_copies) = (shards.len(), copies.len());
            match self.ask(service, census, site, &mut shards, &mut copies).await {
                Ok(Some(met)) => census.tally(site, met),
                Ok(None) => {}
                Err(_) => {
                    shards.truncate(own_shards);
                    copies.truncate(own_copies);
                    census.silence(site);
                }
            }
        }
        // Before anybody takes a listing that was broken off for a silence.
        go_on(service)?;
        let mut by_version = Finds::new(self.versions.len());
        by_version.sort_in(&self, shards, copies);
        let counting: BTreeSet<SiteId> = census.counting().into_iter().collect();
        let mut finds = self.versions.into_iter().zip(by_version.of);
        loop {
            let part: Vec<_> = finds.by_ref().take(AT_ONCE).collect();
            if part.is_empty() {
                return Ok(());
            }
            go_on(service)?;
            let concluded = async {
                let mut found = Vec::with_capacity(part.len());
                for (version, find) in part {
                    found.push(conclude(service, version, find, &counting, superseded).await);
                }
                found
            };
            let found = census.look(concluded).await;
            found.into_iter().for_each(|found| look(census, found));
        }
    }

    /// Joins the listings of one site; how much of its shards is named here,
    /// if they were asked for.
    async fn ask(
        &self,
        service: &Service,
        census: &Census,
        site: SiteId,
        shards: &mut Vec<Hit>,
        copies: &mut Vec<Hit>,
    ) -> Result<Option<Tally>, SiteError> {
        let hit = |expected: usize, line: &ListedRecord, good| Hit {
            expected: u32::try_from(expected).unwrap_or(u32::MAX),
            site,
            digest: line.digest,
            good: good && !census.is_damaged(site, line.id),
        };
        let mut met = None;
        if !self.shards.is_empty() {
            let (mut at, mut tally) = (0, Tally::default());
            each_line(service, census, site, RecordKind::Shard, |line| {
                tally.listed.add(&line);
                if let Some(expected) = seek(&self.shards, &mut at, line.id) {
                    let good = self.digest_of(at) == Some(line.digest);
                    shards.push(hit(at, &line, good && expected.id == line.id));
                    tally.named.add(&line);
                }
            })
            .await?;
            met = Some(tally);
        }
        let mut at = 0;
        each_line(service, census, site, RecordKind::Manifest, |line| {
            if seek(&self.manifests, &mut at, line.id).is_some() {
                copies.push(hit(at, &line, true));
            }
        })
        .await?;
        Ok(met)
    }

    /// The digest that the manifest states for an expected shard.
    fn digest_of(&self, expected: usize) -> Option<Digest> {
        let expected = self.shards.get(expected)?;
        let version = self.versions.get(usize::try_from(expected.version).ok()?)?;
        let Layout::Striped { digests, .. } = &version.row.manifest.manifest.layout else { return None };
        let stripe = digests.get(usize::try_from(expected.stripe).ok()?)?;
        stripe.get(usize::from(expected.index)).copied()
    }
}

/// Moves `at` on to the first expected record that is not before `id`; gives
/// it if it is that one. Listings and expectations are both in order.
fn seek<'a>(expected: &'a [Expected], at: &mut usize, id: RecordId) -> Option<&'a Expected> {
    while expected.get(*at).is_some_and(|expected| expected.id < id) {
        *at += 1;
    }
    expected.get(*at).filter(|expected| expected.id == id)
}

/// Versions that are concluded between two looks at who waits.
const AT_ONCE: usize = 256;

/// What was listed of one version.
#[derive(Default)]
struct Find {
    /// Sites of each shard that is listed anywhere, and whether it is good.
    shards: BTreeMap<(u32, u8), Vec<(SiteId, bool)>>,
    copies: Vec<(SiteId, Digest, bool)>,
}

struct Finds {
    of: Vec<Find>,
}

impl Finds {
    fn new(versions: usize) -> Self {
        Self { of: (0..versions).map(|_| Find::default()).collect() }
    }

    fn sort_in(&mut self, batch: &Batch, shards: Vec<Hit>, copies: Vec<Hit>) {
        for hit in shards {
            let Some(expected) = usize::try_from(hit.expected).ok().and_then(|at| batch.shards.get(at))
            else {
                continue;
            };
            if let Some(find) = usize::try_from(expected.version).ok().and_then(|at| self.of.get_mut(at)) {
                let at = (expected.stripe, expected.index);
                find.shards.entry(at).or_default().push((hit.site, hit.good));
            }
        }
        for hit in copies {
            let expected = usize::try_from(hit.expected).ok().and_then(|at| batch.manifests.get(at));
            let version = expected.and_then(|expected| usize::try_from(expected.version).ok());
            if let Some(find) = version.and_then(|at| self.of.get_mut(at)) {
                find.copies.push((hit.site, hit.digest, hit.good));
            }
        }
    }
}

/// The inventory of one version out of what was listed of it.
async fn conclude(
    service: &Service,
    version: Version,
    find: Find,
    counting: &BTreeSet<SiteId>,
    superseded: &Superseded,
) -> Found {
    let Version { tenant, row: VersionRow { manifest: row, hidden }, policy } = version;
    let manifest = row.manifest.clone();
    let sites = manifest.layout.sites().to_vec();
    let mut strays = superseded.get(&manifest.version).cloned().unwrap_or_default();
    let (mut odd, usual) = (BTreeMap::new(), usual(&sites, counting));
    let coding = coding_of(&manifest);
    let mut holdings: BTreeMap<u32, Holdings> = BTreeMap::new();
    if coding.stripes() > 0 {
        let nothing = vec![Vec::new(); sites.len()];
        holdings.extend((0..coding.stripes()).map(|stripe| (stripe, nothing.clone())));
    }
    let mut records = shards(&manifest.layout);
    for ((stripe, index), at) in &find.shards {
        let record = records.find(|(s, i, _)| (s, i) == (stripe, index)).map(|(_, _, id)| id);
        let home = sites.get(usize::from(*index));
        for (site, good) in at {
            if *good && let Some(held) = holdings.get_mut(stripe).and_then(|h| h.get_mut(usize::from(*index)))
            {
                held.push(*site);
            }
            if Some(site) != home
                && let Some(record) = record
            {
                strays.push(Stray { record, site: *site, shard: Some((*stripe, *index)) });
            }
        }
    }
    odd.extend(holdings.into_iter().filter(|(_, held)| *held != usual));
    let copies = copies::good(service, &tenant, &row, find.copies.clone()).await;
    let elsewhere = find.copies.iter().map(|(site, _, _)| *site).filter(|site| !sites.contains(site));
    strays.extend(elsewhere.map(|site| Stray { record: row.record, site, shard: None }));
    let (record_bytes, version) = (copies::record_bytes(&row), manifest.version);
    let inventory = VersionInventory {
        tenant: tenant.id,
        version,
        hidden,
        policy,
        sites,
        coding,
        odd,
        copies,
        record_bytes,
        strays,
    };
    Found { tenant, row, inventory }
}
