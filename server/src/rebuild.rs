//! Rebuilding a catalogue from the sites: facts, tombstones, manifests, log.
//! The sites' bytes are untrusted: what does not open under the tenant's keys
//! is reported against its site and left out.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use coffer_catalog::{BucketRow, CatalogError, FactRow, Leaf, ManifestRow, RebuildBatch};
use coffer_keys::leaf_hash;
use coffer_model::{
    Actor, AuditEvent, BucketId, Digest, Layout, Operation, Outcome, RecordId, SiteId, TenantId, Timestamp,
    VersionId,
};
use coffer_regions::{Record, RecordKind, SiteError};
use futures::stream::{self, StreamExt};

use crate::audit::AuditError;
use crate::service::{RecoveryProgress, RecoveryReport, Service};
use crate::stored::{Fact, LeafRun, ManifestBody, Tombstone, open_fact, tag_of, tenant_tag};
use crate::sweep::tombstone_row;
use crate::tenant::{Tenant, mark_whole};

/// Why a catalogue was not rebuilt. The sites were only read.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// No site answered.
    #[error("no site answered, so that there is nothing to rebuild from")]
    NoSite,
    /// The new catalogue failed.
    #[error("the rebuilt catalogue failed: {0}")]
    Catalog(#[from] CatalogError),
    /// The log did not take the rebuild's own leaf.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A bucket or principal could not be indexed.
    #[error("a recovered fact cannot be serialised")]
    Serialise,
}

/// Manifests read at once: bounds memory, and hides the sites' latency.
const READS_AT_ONCE: usize = 32;
const BATCH: usize = 512;

/// Which sites list which record, each with the digest of its copy.
type Holders = BTreeMap<RecordId, Vec<(SiteId, Digest)>>;

/// Rebuilds the catalogues of these tenants.
pub(crate) async fn rebuild(
    service: &Service,
    lost: &[TenantId],
    progress: RecoveryProgress<'_>,
    report: &mut RecoveryReport,
) -> Result<(), RebuildError> {
    for id in lost {
        if let Some(tenant) = service.tenant(*id) {
            rebuild_tenant(service, &tenant, progress, report).await?;
        }
    }
    Ok(())
}

async fn rebuild_tenant(
    service: &Service,
    tenant: &Arc<Tenant>,
    progress: RecoveryProgress<'_>,
    report: &mut RecoveryReport,
) -> Result<(), RebuildError> {
    progress("facts", 0);
    let buckets = load_facts(service, tenant).await?;
    progress("tombstones", 0);
    let graves = load_tombstones(service, tenant).await?;
    let versions = load_manifests(service, tenant, &buckets, &graves, progress, report).await?;
    progress("log", 0);
    load_log(service, tenant).await?;
    let event = AuditEvent {
        time: service.host.clock.now(),
        tenant: Some(tenant.id),
        actor: Actor::Service,
        operation: Operation::Rebuild,
        subject: format!("{versions} versions"),
        outcome: Outcome::Done,
    };
    tenant.note(&event).await?;
    mark_whole(&tenant.catalog).await?;
    Ok(())
}

/// Which records of a kind lie where, over all sites that answer.
async fn holders(service: &Service, kind: RecordKind) -> Result<Holders, RebuildError> {
    let mut holders = Holders::new();
    let mut answered = false;
    for description in &service.sites.topology().sites {
        let Ok(listed) = service.sites.list_all(description.id, kind).await else { continue };
        answered = true;
        for line in listed {
            holders.entry(line.id).or_default().push((description.id, line.digest));
        }
    }
    if answered { Ok(holders) } else { Err(RebuildError::NoSite) }
}

/// The first copy of a record that `open` accepts; a copy that it does not
/// accept is its site's fault, unless the record is not this tenant's at all.
/// A copy that says so is not read twice, and hides no other copy: a site that
/// lies about whose a record is would otherwise make it disappear.
async fn first_good<T>(
    service: &Service,
    id: RecordId,
    holders: &[(SiteId, Digest)],
    open: impl Fn(&Record) -> Opened<T>,
) -> Option<T> {
    let mut foreign: Vec<(SiteId, Digest)> = Vec::new();
    for (site_id, listed) in holders {
        if foreign.iter().any(|(_, digest)| digest == listed) {
            continue;
        }
        let Some(site) = service.sites.get(*site_id) else { continue };
        match site.get(id).await.map(|record| (record.digest(), open(&record))) {
            Ok((_, Opened::Good(value))) => {
                foreign.iter().for_each(|(liar, _)| service.sites.report(*liar));
                return Some(value);
            }
            Ok((digest, Opened::Foreign)) => foreign.push((*site_id, digest)),
            Err(SiteError::Unreachable) => {}
            Ok((_, Opened::Bad)) | Err(_) => service.sites.report(*site_id),
        }
    }
    None
}

enum Opened<T> {
    Good(T),
    /// Another tenant's record.
    Foreign,
    /// Claims to be this tenant's, and does not open.
    Bad,
}

/// All of the listed facts that open under the tenant's key.
async fn open_all<T: serde::de::DeserializeOwned>(
    service: &Service,
    tenant: &Tenant,
    holders: &Holders,
    key: &coffer_keys::Dek,
) -> Vec<(RecordId, T)> {
    let tag = tenant_tag(key);
    let open = |record: &Record| {
        if tag_of(record) != Some(tag) {
            return Opened::Foreign;
        }
        open_fact(record, key, tenant.id).map_or(Opened::Bad, Opened::Good)
    };
    let reads = holders.iter().map(|(id, sites)| async move {
        first_good(service, *id, sites, open).await.map(|fact| (*id, fact))
    });
    stream::iter(reads).buffered(READS_AT_ONCE).filter_map(std::future::ready).collect().await
}

async fn load_facts(service: &Service, tenant: &Tenant) -> Result<HashSet<BucketId>, RebuildError> {
    let holders = holders(service, RecordKind::Registry).await?;
    let facts = open_all::<Fact>(service, tenant, &holders, &tenant.secrets.registry_key()).await;
    let removed: HashSet<BucketId> = facts
        .iter()
        .filter_map(|(_, fact)| if let Fact::BucketRemoved { id, .. } = fact { Some(*id) } else { None })
        .collect();
    let mut batch = RebuildBatch::default();
    let mut policies: BTreeMap<BucketId, (Timestamp, BucketRow)> = BTreeMap::new();
    for (record, fact) in facts {
        match fact {
            Fact::BucketCreated { id, name, policy, created } if !removed.contains(&id) => {
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
            Fact::BucketPolicy { id, name, policy, created, changed } if !removed.contains(&id) => {
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
            Fact::BucketCreated { .. } | Fact::BucketRemoved { .. } | Fact::BucketPolicy { .. } => {}
        }
    }
    // A bucket whose policy was changed is what the last change says.
    batch.buckets.retain(|bucket| !policies.contains_key(&bucket.id));
    batch.buckets.extend(policies.into_values().map(|(_, row)| row));
    // Two creations of one name can only be a removal whose fact is lost: the
    // newer one stands.
    batch.buckets.sort_by(|a, b| (&a.name, b.created).cmp(&(&b.name, a.created)));
    batch.buckets.dedup_by(|later, earlier| later.name == earlier.name);
    let buckets = batch.buckets.iter().map(|bucket| bucket.id).collect();
    tenant.catalog.load(batch).await?;
    Ok(buckets)
}

/// What the tombstones at the sites outlaw.
pub(crate) struct Graves {
    /// Versions that never were.
    failed: HashSet<VersionId>,
}

impl Graves {
    /// Whether this very version was withdrawn by a put that failed.
    pub(crate) fn withdrawn(&self, version: VersionId) -> bool {
        self.failed.contains(&version)
    }
}

/// Reads every tombstone of a tenant.
pub(crate) async fn read_tombstones(
    service: &Service,
    tenant: &Tenant,
) -> Result<(Graves, Vec<(RecordId, Tombstone)>), RebuildError> {
    let key = tenant.secrets.tombstone_key();
    let holders = holders(service, RecordKind::Tombstone).await?;
    let all = open_all::<Tombstone>(service, tenant, &holders, &key).await;
    let failed =
        all.iter().filter(|(_, tombstone)| tombstone.failed_put).map(|(_, tombstone)| tombstone.version);
    let graves = Graves { failed: failed.collect() };
    Ok((graves, all))
}

async fn load_tombstones(service: &Service, tenant: &Tenant) -> Result<Graves, RebuildError> {
    let (graves, all) = read_tombstones(service, tenant).await?;
    let order_floor = all.iter().map(|(_, tombstone)| tombstone.order).max().unwrap_or(0);
    let deletions = all.iter().filter(|(_, tombstone)| !tombstone.failed_put);
    let tombstones = deletions.map(|(id, tombstone)| tombstone_row(*id, tombstone)).collect();
    tenant.catalog.load(RebuildBatch { tombstones, order_floor, ..RebuildBatch::default() }).await?;
    Ok(graves)
}

async fn load_manifests(
    service: &Service,
    tenant: &Tenant,
    buckets: &HashSet<BucketId>,
    graves: &Graves,
    progress: RecoveryProgress<'_>,
    report: &mut RecoveryReport,
) -> Result<u64, RebuildError> {
    let holders = holders(service, RecordKind::Manifest).await?;
    let reads = holders.iter().map(|(id, sites)| async move {
        let row = first_good(service, *id, sites, |record| open_manifest(tenant, record)).await;
        row.map(|row| reduced(row, sites))
    });
    let mut rows = stream::iter(reads).buffered(READS_AT_ONCE).ready_chunks(BATCH);
    let mut versions = 0;
    while let Some(chunk) = rows.next().await {
        let manifests: Vec<ManifestRow> = chunk
            .into_iter()
            .flatten()
            .filter(|row| buckets.contains(&row.manifest.bucket) && !graves.withdrawn(row.manifest.version))
            .collect();
        versions += manifests.len() as u64;
        let order_floor = manifests.iter().map(|row| row.manifest.order).max().unwrap_or(0);
        let newest = manifests.iter().map(|row| row.manifest.created).max();
        report.newest_write = report.newest_write.max(newest);
        tenant.catalog.load(RebuildBatch { manifests, order_floor, ..RebuildBatch::default() }).await?;
        progress("catalogue", versions);
    }
    report.versions += versions;
    Ok(versions)
}

fn open_manifest(tenant: &Tenant, record: &Record) -> Opened<ManifestRow> {
    let Ok(body) = ManifestBody::parse(record) else { return Opened::Bad };
    if !tenant.secrets.owns(&body.wrap) {
        return Opened::Foreign;
    }
    let Ok(dek) = tenant.secrets.unwrap(body.version, &body.wrap) else { return Opened::Bad };
    let Ok(manifest) = body.open(tenant.id, &dek) else { return Opened::Bad };
    if manifest.version != body.version || manifest.tenant != tenant.id {
        return Opened::Bad;
    }
    let inline = matches!(manifest.layout, Layout::Inline { .. });
    let wrap = body.wrap.to_bytes().to_vec();
    Opened::Good(ManifestRow { record: record.id(), manifest, wrap, reduced: 0, inline })
}

/// How many of its sites lack the manifest now.
fn reduced(mut row: ManifestRow, holders: &[(SiteId, Digest)]) -> ManifestRow {
    let holds = |id: &SiteId| holders.iter().any(|(holder, _)| holder == id);
    let missing = row.manifest.layout.sites().iter().filter(|id| !holds(id)).count();
    row.reduced = u8::try_from(missing).unwrap_or(u8::MAX);
    row
}

/// Puts the runs of leaves in order, up to the first gap.
async fn load_log(service: &Service, tenant: &Tenant) -> Result<(), RebuildError> {
    let holders = holders(service, RecordKind::Log).await?;
    let mut runs = open_all::<LeafRun>(service, tenant, &holders, &tenant.secrets.log_key()).await;
    // A run that too few sites took was never under a checkpoint, and its
    // numbers may have been given again: what more sites hold comes last, and wins.
    runs.sort_by_key(|(id, _)| holders.get(id).map_or(0, Vec::len));
    let mut leaves: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    for (_, run) in runs {
        for (seq, leaf) in (run.first..).zip(run.leaves) {
            leaves.insert(seq, leaf);
        }
    }
    let in_order = (0_u64..).zip(leaves).take_while(|(expected, (seq, _))| expected == seq);
    let leaves: Vec<Leaf> = in_order.map(|(_, (_, body))| Leaf { hash: leaf_hash(&body), body }).collect();
    let size = leaves.len() as u64;
    tenant.catalog.load(RebuildBatch { leaves, ..RebuildBatch::default() }).await?;
    tenant.catalog.set_replicated_size(size).await?;
    Ok(())
}
