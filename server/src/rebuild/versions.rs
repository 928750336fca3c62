//! Manifests, from the sites into the catalogues: opened by whoever's key
//! epoch their wrap names, gathered into loads of some thousand rows, and
//! loaded while the next ones are read.

use std::collections::BTreeMap;
use std::sync::Arc;

use coffer_catalog::{CatalogError, ManifestRow, RebuildBatch};
use coffer_model::{KeyId, Layout, SiteId};
use coffer_regions::{Record, RecordKind};
use tokio::task::JoinHandle;

use super::gather::{Found, Open, Opened, Walk, each};
use super::{Lost, RebuildError};
use crate::service::{RecoveryProgress, RecoveryReport, Service};
use crate::stored::ManifestBody;
use crate::tenant::Tenant;

/// Rows, and bytes of the bodies that they came from, which are loaded in one
/// transaction, over all tenants together. The more, the fewer pages of the
/// catalogue are written twice.
const LOAD_ROWS: usize = 16_384;
const LOAD_BYTES: usize = 32 << 20;

/// Rows on their way into the catalogues.
#[derive(Default)]
struct Loader {
    waiting: BTreeMap<usize, Vec<ManifestRow>>,
    rows: usize,
    bytes: usize,
    /// Loads that the catalogues are busy with.
    under_way: Vec<JoinHandle<Result<(), CatalogError>>>,
}

impl Loader {
    async fn push(
        &mut self,
        lost: &[Lost],
        at: usize,
        row: ManifestRow,
        bytes: usize,
    ) -> Result<(), RebuildError> {
        self.waiting.entry(at).or_default().push(row);
        (self.rows, self.bytes) = (self.rows + 1, self.bytes + bytes);
        if self.rows >= LOAD_ROWS || self.bytes >= LOAD_BYTES { self.load(lost).await } else { Ok(()) }
    }

    /// Hands what waits to the catalogues, once they are done with what they had.
    async fn load(&mut self, lost: &[Lost]) -> Result<(), RebuildError> {
        self.settle().await?;
        (self.rows, self.bytes) = (0, 0);
        for (at, manifests) in std::mem::take(&mut self.waiting) {
            let Some(lost) = lost.get(at) else { continue };
            let order_floor = manifests.iter().map(|row| row.manifest.order).max().unwrap_or(0);
            let batch = RebuildBatch { manifests, order_floor, ..RebuildBatch::default() };
            let catalog = lost.tenant.catalog.clone();
            self.under_way.push(tokio::spawn(async move { catalog.load(batch).await }));
        }
        Ok(())
    }

    async fn settle(&mut self) -> Result<(), RebuildError> {
        for load in self.under_way.drain(..) {
            load.await.map_err(|_| RebuildError::Stopped)??;
        }
        Ok(())
    }
}

pub(super) async fn load(
    service: &Service,
    lost: &mut [Lost],
    progress: RecoveryProgress<'_>,
    report: &mut RecoveryReport,
) -> Result<Walk, RebuildError> {
    let open = manifests_of(lost.iter().map(|lost| Arc::clone(&lost.tenant)).collect());
    let mut loader = Loader::default();
    let mut versions = 0;
    let walk = each(service, RecordKind::Manifest, open, async |batch| {
        for Found { value: (at, row), holders, body_bytes, .. } in batch {
            let Some(of) = lost.get_mut(at) else { continue };
            let manifest = &row.manifest;
            if !of.shows(manifest) {
                continue;
            }
            (of.versions, versions) = (of.versions + 1, versions + 1);
            report.newest_write = report.newest_write.max(Some(manifest.created));
            loader.push(lost, at, reduced(row, &holders), body_bytes).await?;
        }
        progress("catalogue", versions);
        Ok::<(), RebuildError>(())
    });
    let walk = walk.await?;
    loader.load(lost).await?;
    loader.settle().await?;
    report.versions += versions;
    Ok(walk)
}

/// Opens manifests of any of these tenants; each says which of them it is of.
/// A record of anybody else is told by the key epoch that its wrap names, and
/// not opened.
pub(super) fn manifests_of(tenants: Vec<Arc<Tenant>>) -> Open<(usize, ManifestRow)> {
    let epochs = tenants.iter().enumerate();
    let owners: BTreeMap<KeyId, usize> =
        epochs.flat_map(|(at, tenant)| tenant.secrets.epochs().map(move |epoch| (epoch, at))).collect();
    Arc::new(move |record: &Record| {
        let Ok(body) = ManifestBody::parse(record) else { return Opened::Bad };
        let Some(at) = owners.get(&body.wrap.key_id()).copied() else { return Opened::Foreign };
        let row = tenants.get(at).and_then(|tenant| open_manifest(tenant, record, &body));
        row.map_or(Opened::Bad, |row| Opened::Good((at, row)))
    })
}

fn open_manifest(tenant: &Tenant, record: &Record, body: &ManifestBody) -> Option<ManifestRow> {
    let dek = tenant.secrets.unwrap(body.version, &body.wrap).ok()?;
    let manifest = body.open(tenant.id, &dek).ok()?;
    if manifest.version != body.version || manifest.tenant != tenant.id {
        return None;
    }
    let inline = matches!(manifest.layout, Layout::Inline { .. });
    let wrap = body.wrap.to_bytes().to_vec();
    Some(ManifestRow { record: record.id(), manifest, wrap, reduced: 0, inline })
}

/// How many of its sites lack the manifest now.
pub(super) fn reduced(mut row: ManifestRow, holders: &[SiteId]) -> ManifestRow {
    let missing = row.manifest.layout.sites().iter().filter(|id| !holders.contains(id)).count();
    row.reduced = u8::try_from(missing).unwrap_or(u8::MAX);
    row
}
