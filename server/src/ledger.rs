//! The honest ledger: where each shard of one version lies, as its sites list
//! it or, on demand, as they give it back; and which versions of a tenant have
//! less than was promised. Nothing in it is what ought to be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coffer_catalog::{CatalogError, ManifestRow};
use coffer_model::{Layout, ObjectKey, Outcome, RecordId, SiteId};
use coffer_regions::{CodecError, RecordKind, Site, SiteError};
use futures::StreamExt as _;

use crate::audit::AuditError;
use crate::authorize::Granted;
use crate::get::{GetError, locate};
use crate::inventory;
use crate::repair::{RepairBudget, RepairError, Shards, Short};
use crate::service::Service;
use crate::tenant::Tenant;

/// What is known of one record at one site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Held {
    /// It was read just now, and is what the manifest states.
    Verified,
    /// The site lists it with the right digest, or as its fellows do.
    Listed,
    /// The site answers and does not have it.
    Missing,
    /// What the site has is not it.
    Damaged,
    /// The site does not answer.
    Silent,
    /// The site answers, but came back older than it was: what it shows or
    /// lacks does not count until a repair has compared it.
    Quarantined,
}

impl Held {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Listed => "listed",
            Self::Missing => "missing",
            Self::Damaged => "damaged",
            Self::Silent => "silent",
            Self::Quarantined => "quarantined",
        }
    }

    /// The site has something in that place.
    fn shows(self) -> bool {
        matches!(self, Self::Verified | Self::Listed | Self::Damaged)
    }

    fn counts(self) -> bool {
        matches!(self, Self::Verified | Self::Listed)
    }
}

/// One record at one site.
pub(crate) struct Line {
    /// Stripe and index; `None`: a copy of the manifest record.
    pub(crate) shard: Option<(u32, u8)>,
    pub(crate) site: SiteId,
    pub(crate) held: Held,
    pub(crate) out_of_place: bool,
}

/// What is asked.
pub(crate) struct StatShards {
    pub(crate) bucket: coffer_model::BucketName,
    pub(crate) key: ObjectKey,
    pub(crate) verify: bool,
    pub(crate) first_stripe: u32,
}

/// The answer: lines of some stripes.
pub(crate) struct Page {
    pub(crate) row: ManifestRow,
    pub(crate) lines: Vec<Line>,
    pub(crate) next_stripe: u32,
    pub(crate) redundancy: usize,
    pub(crate) promised: usize,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    #[error(transparent)]
    Locate(#[from] GetError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("refused, because the audit log cannot be written: {0}")]
    Audit(#[from] AuditError),
    #[error("the catalogue failed: {0}")]
    Catalog(#[from] CatalogError),
    #[error(transparent)]
    Repair(#[from] RepairError),
}

/// Stripes of one page.
const STRIPES_MAX: u32 = 256;
/// Questions to sites at once.
const ASKED_AT_ONCE: usize = 16;

/// Where the newest version of a key lies.
pub(crate) async fn stat_shards(service: &Service, stat: Granted<StatShards>) -> Result<Page, LedgerError> {
    let (stat, grant) = stat.into_parts();
    let found = locate(&grant, &stat.bucket, &stat.key).await.map_err(LedgerError::from);
    let (bucket, row) = grant.settled(service, found).await?;
    let subject = Some(row.manifest.version.to_string());
    let tenant = grant.tenant();
    tenant.note(&grant.event(service, subject, Outcome::Done)).await?;
    let mut page = look(service, tenant, row, stat.verify, stat.first_stripe).await?;
    name_disbelieved(service, &mut page.lines).await;
    let topology = service.sites.topology();
    let policy = tenant.confined(&bucket.policy);
    for line in &mut page.lines {
        let legal = topology.site(line.site).is_some_and(|site| policy.admits(site));
        line.out_of_place |= !legal && line.held.shows();
    }
    Ok(page)
}

/// Asks, or reads, everything of some stripes of one version.
async fn look(
    service: &Service,
    tenant: &Tenant,
    row: ManifestRow,
    verify: bool,
    first_stripe: u32,
) -> Result<Page, LedgerError> {
    let all: Vec<SiteId> = service.sites.topology().sites.iter().map(|site| site.id).collect();
    let mut lines = copies(service, tenant, &row, verify, &all).await;
    let homes = row.manifest.layout.sites();
    let stripes = inventory::coding_of(&row.manifest).stripes();
    let last = first_stripe.saturating_add(STRIPES_MAX).min(stripes);
    if let Some(shards) = Shards::of(&row.manifest.layout)? {
        let width = u8::try_from(homes.len()).unwrap_or(u8::MAX);
        let pieces = (first_stripe..last).flat_map(|stripe| (0..width).map(move |index| (stripe, index)));
        let asks: Vec<_> =
            pieces.flat_map(|piece| all.iter().map(|site| (piece, *site)).collect::<Vec<_>>()).collect();
        let asks = asks.into_iter().map(|((stripe, index), site)| {
            let shards = &shards;
            async move { ((stripe, index), site, shard(service, shards, stripe, index, site, verify).await) }
        });
        let held: Vec<_> = futures::stream::iter(asks).buffered(ASKED_AT_ONCE).collect().await;
        for ((stripe, index), site, held) in held {
            let home = homes.get(usize::from(index)) == Some(&site);
            if home || held.shows() {
                let shard = Some((stripe, index));
                lines.push(Line { shard, site, held, out_of_place: !home });
            }
        }
        // A home that left the topology holds nothing.
        for (index, home) in (0_u8..).zip(homes).filter(|(_, home)| !all.contains(home)) {
            let gone = |stripe| Line {
                shard: Some((stripe, index)),
                site: *home,
                held: Held::Silent,
                out_of_place: false,
            };
            lines.extend((first_stripe..last).map(gone));
        }
    }
    let (redundancy, promised) = survives(&row, &lines, first_stripe..last);
    let next_stripe = if last < stripes { last } else { 0 };
    Ok(Page { row, lines, next_stripe, redundancy, promised })
}

/// A guard lets a quarantined site look silent to whoever asks for records.
/// One that answers is named for what it is.
async fn name_disbelieved(service: &Service, lines: &mut [Line]) {
    let silent: BTreeSet<SiteId> =
        lines.iter().filter(|line| line.held == Held::Silent).map(|line| line.site).collect();
    for site in silent {
        if service.sites.is_quarantined(site) && service.sites.state(site).await.alive {
            let its = lines.iter_mut().filter(|line| line.site == site && line.held == Held::Silent);
            its.for_each(|line| line.held = Held::Quarantined);
        }
    }
}

async fn shard(
    service: &Service,
    shards: &Shards<'_>,
    stripe: u32,
    index: u8,
    site: SiteId,
    verify: bool,
) -> Held {
    let Some(adapter) = service.sites.get(site) else { return Held::Silent };
    let (id, digest) = (shards.id(stripe, index), shards.digest(stripe, index));
    let listed = match probe(adapter.as_ref(), RecordKind::Shard, id).await {
        Err(_) => return Held::Silent,
        Ok(None) => return Held::Missing,
        Ok(Some(listed)) => listed,
    };
    if Some(listed) != digest || service.damage.knows(site, id) {
        return Held::Damaged;
    }
    if !verify {
        return Held::Listed;
    }
    match shards.read(service, stripe, index, site).await {
        Ok(_) => Held::Verified,
        Err(SiteError::Unreachable) => Held::Silent,
        Err(SiteError::Missing) => Held::Missing,
        Err(_) => Held::Damaged,
    }
}

/// The copies of the manifest record.
async fn copies(
    service: &Service,
    tenant: &Tenant,
    row: &ManifestRow,
    verify: bool,
    all: &[SiteId],
) -> Vec<Line> {
    let homes = row.manifest.layout.sites();
    let mut digests = BTreeMap::new();
    let mut lines = Vec::new();
    for site in all.iter().chain(homes.iter().filter(|home| !all.contains(home))) {
        let listed = match service.sites.get(*site) {
            Some(adapter) => probe(adapter.as_ref(), RecordKind::Manifest, row.record).await,
            None => Err(SiteError::Unreachable),
        };
        let held = match listed {
            Err(_) => Held::Silent,
            Ok(None) => Held::Missing,
            Ok(Some(_)) if service.damage.knows(*site, row.record) => Held::Damaged,
            Ok(Some(digest)) => {
                digests.insert(*site, digest);
                Held::Listed
            }
        };
        let home = homes.contains(site);
        if home || held.shows() {
            lines.push(Line { shard: None, site: *site, held, out_of_place: !home });
        }
    }
    // Nobody but its fellows vouches for a copy that is not read.
    let agree = digests.len() > 1 && digests.values().collect::<BTreeSet<_>>().len() == 1;
    for line in lines.iter_mut().filter(|line| line.held == Held::Listed && (verify || !agree)) {
        line.held = match inventory::read_copy(service, tenant, row, line.site).await {
            Ok(_) => Held::Verified,
            Err(SiteError::Unreachable) => Held::Silent,
            Err(SiteError::Missing) => Held::Missing,
            Err(_) => Held::Damaged,
        };
    }
    lines
}

/// The digest under which a site lists a record, if it does.
async fn probe(
    site: &dyn Site,
    kind: RecordKind,
    id: RecordId,
) -> Result<Option<coffer_model::Digest>, SiteError> {
    let before = u128::from_be_bytes(*id.as_bytes()).checked_sub(1);
    let before = before.map(|number| RecordId::from_bytes(number.to_be_bytes()));
    let page = site.list(kind, before, 1).await?;
    Ok(page.first().filter(|line| line.id == id).map(|line| line.digest))
}

/// Losses that these stripes, or the copies, survive as they were found.
fn survives(row: &ManifestRow, lines: &[Line], stripes: std::ops::Range<u32>) -> (usize, usize) {
    let copies: BTreeSet<SiteId> = lines
        .iter()
        .filter(|line| line.shard.is_none() && line.held.counts())
        .map(|line| line.site)
        .collect();
    match &row.manifest.layout {
        Layout::Inline { sites } => (copies.len().saturating_sub(1), sites.len().saturating_sub(1)),
        Layout::Striped { geometry, .. } => {
            let mut have: BTreeMap<u32, BTreeSet<u8>> = BTreeMap::new();
            for (stripe, index) in
                lines.iter().filter(|line| line.held.counts()).filter_map(|line| line.shard)
            {
                have.entry(stripe).or_default().insert(index);
            }
            let left =
                stripes.map(|stripe| have.get(&stripe).map_or(0, BTreeSet::len).saturating_sub(geometry.k()));
            (left.min().unwrap_or_else(|| geometry.m()), geometry.m())
        }
    }
}

/// A version of a tenant that has less than was promised.
pub(crate) struct ShortLine {
    pub(crate) row: ManifestRow,
    pub(crate) short: Short,
}

/// The caller's versions that have less than was promised, found by a look at
/// all of them, and how many there are.
pub(crate) async fn list_short(
    service: &Service,
    list: Granted<()>,
) -> Result<(Vec<ShortLine>, u64), LedgerError> {
    let ((), grant) = list.into_parts();
    let tenant = grant.tenant();
    tenant.note(&grant.event(service, None, Outcome::Done)).await?;
    let survey = service.survey(&[Arc::clone(tenant)], RepairBudget::default(), false, None).await?;
    let mut lines = Vec::new();
    for short in survey.short {
        if let Some(row) = tenant.catalog.version(short.version).await? {
            lines.push(ShortLine { row, short });
        }
    }
    Ok((lines, survey.plan.versions_short))
}
