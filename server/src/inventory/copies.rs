//! Copies of manifest records. A catalogue does not know their digests, so
//! copies vouch for each other: where they do not all agree, or only one is
//! left, they are read and opened.

use coffer_catalog::{CatalogError, ManifestRow};
use coffer_model::{Digest, Layout, RecordId, SiteId, VersionId};
use coffer_regions::{Record, SiteError};

use crate::service::Service;
use crate::stored::ManifestBody;
use crate::tenant::Tenant;

/// Sites with a good copy, of those that list one, in order.
pub(super) async fn good(
    service: &Service,
    tenant: &Tenant,
    row: &ManifestRow,
    listed: Vec<(SiteId, Digest, bool)>,
) -> Vec<SiteId> {
    let mut digests = listed.iter().filter(|(_, _, good)| *good).map(|(_, digest, _)| *digest);
    let first = digests.next();
    let agree = listed.iter().filter(|(_, _, good)| *good).count() > 1 && digests.all(|d| Some(d) == first);
    let mut good: Vec<SiteId> = Vec::new();
    for (site, _, unsuspected) in listed {
        if unsuspected && (agree || is_good(service, tenant, row, site).await) {
            good.push(site);
        }
    }
    good.sort_unstable();
    good
}

/// Reads a copy and opens it; one that does not open is noted.
async fn is_good(service: &Service, tenant: &Tenant, row: &ManifestRow, site: SiteId) -> bool {
    match read(service, tenant, row, site).await {
        Ok(_) => true,
        Err(SiteError::Unreachable) => false,
        Err(_) => {
            service.sites.report(site);
            service.damage.note(site, row.record);
            false
        }
    }
}

/// The manifest record as one site has it, if it is the version's: it opens,
/// and so does the content of a small object in it.
pub(crate) async fn read(
    service: &Service,
    tenant: &Tenant,
    row: &ManifestRow,
    site: SiteId,
) -> Result<Record, SiteError> {
    let record = service.sites.for_repair(site).ok_or(SiteError::Unreachable)?.get(row.record).await?;
    if is_versions(tenant, row, &record) { Ok(record) } else { Err(SiteError::Damaged) }
}

/// Whether a record is the manifest record that a row describes.
fn is_versions(tenant: &Tenant, row: &ManifestRow, record: &Record) -> bool {
    let Ok(body) = ManifestBody::parse(record) else { return false };
    let manifest = &row.manifest;
    let Ok(dek) = tenant.secrets.unwrap(manifest.version, &body.wrap) else { return false };
    body.version == manifest.version
        && body.open_whole(tenant.id, &dek).is_ok_and(|opened| opened.manifest == *manifest)
}

/// The version that a record which no catalogue named is an older manifest of.
/// What is nobody's (another deployment's, or left by a put that failed) is
/// remembered, so that it is read once: only where every site that lists it
/// was heard, and what any of them says is of no version of the tenants there
/// are now.
pub(super) async fn version_of(
    service: &Service,
    record: RecordId,
    sites: &[SiteId],
) -> Result<Option<VersionId>, CatalogError> {
    let mut heard = true;
    for site in sites {
        let Some(adapter) = service.sites.for_repair(*site) else {
            heard = false;
            continue;
        };
        let read = adapter.get(record).await;
        // What is not there any more, or rotten, says no more tomorrow.
        heard &= matches!(read, Ok(_) | Err(SiteError::Missing | SiteError::Damaged));
        let Some(body) = read.ok().and_then(|read| ManifestBody::parse(&read).ok()) else { continue };
        for tenant in service.all_tenants() {
            let Ok(dek) = tenant.secrets.unwrap(body.version, &body.wrap) else { continue };
            if body.open(tenant.id, &dek).is_err() {
                continue;
            }
            if let Some(row) = tenant.catalog.version(body.version).await? {
                // Since the listings were read it may have become the newest.
                return Ok((row.record != record).then_some(body.version));
            }
        }
    }
    if heard {
        service.repairs.note_nobodys(record);
    }
    Ok(None)
}

/// About how long the manifest record of a row is.
pub(super) fn record_bytes(row: &ManifestRow) -> u64 {
    match &row.manifest.layout {
        Layout::Inline { .. } => 400 + row.manifest.sealed_size,
        Layout::Striped { digests, .. } => {
            400 + digests.iter().map(|stripe| stripe.len() as u64 * 32).sum::<u64>()
        }
    }
}
