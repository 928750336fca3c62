//! Damage that is still in the book when nothing is left to repair: records
//! that are gone meanwhile, or right after all, are forgotten; the others are
//! told. Nobody is told that all is well while damage is known.

use coffer_model::{RecordId, SiteId};
use coffer_regions::SiteError;

use super::Failures;
use crate::service::Service;

/// Records of one site that are looked at.
const LOOKED_AT_MAX: usize = 1024;

/// Looks at them.
pub(super) async fn settle(service: &Service) -> Failures {
    let mut failures = Failures::default();
    for (site, records) in service.damage.all() {
        let mut left = records.len();
        for record in records.into_iter().take(LOOKED_AT_MAX) {
            match is_settled(service, site, record).await {
                Ok(true) => left -= 1,
                Ok(false) => {}
                // It is silent, and that is told elsewhere.
                Err(_) => {
                    left = 0;
                    break;
                }
            }
        }
        if left > 0 {
            failures.add(format!(
                "{}: {left} damaged records stay as they are: nothing that is known asks for them, or no \
                 good copy is left",
                service.sites.name(site)
            ));
        }
    }
    failures
}

/// Whether the record is right after all, or not at its site any more; then
/// what may be left of it, a line in a listing, goes too, and it is forgotten.
/// What a reader healed in this very moment, the next round finds missing.
async fn is_settled(service: &Service, site: SiteId, record: RecordId) -> Result<bool, SiteError> {
    let adapter = service.sites.for_repair(site).ok_or(SiteError::Unreachable)?;
    match adapter.get(record).await {
        Ok(_) => {}
        Err(SiteError::Missing) => drop(adapter.delete(vec![record]).await?),
        Err(SiteError::Damaged) => return Ok(false),
        Err(error) => return Err(error),
    }
    service.damage.mended(site, record);
    Ok(true)
}
