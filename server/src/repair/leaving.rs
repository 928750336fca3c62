//! What a site that leaves for good takes with it: tombstones, facts and runs of leaves of which too few copies
//! lie elsewhere. Its versions are counted by their layouts; these records have none.

use coffer_model::SiteId;

use super::marks::Marks;
use super::small::{KINDS, Keys, Merge, first_good, heal, wanted_at};
use super::{Owner, RepairError};
use crate::service::Service;

/// Brings what it can to the sites that stay; how many records at `leaving` still have fewer copies there than
/// must be acknowledged for them to stand.
pub(crate) async fn short_without(service: &Service, leaving: SiteId) -> Result<u64, RepairError> {
    let tenants = service.all_tenants();
    heal(service, &tenants, &mut Marks::default()).await?;
    let mut short = 0;
    for kind in KINDS {
        let keys = Keys::new(kind, &tenants);
        let mut merge = Merge::new(service, kind).await?;
        while let Some((id, holders)) = merge.next(service).await {
            let holds = |site: SiteId| holders.iter().any(|(holder, _)| *holder == site);
            if !holds(leaving) || service.repairs.is_nobodys(id) {
                continue;
            }
            let owner: Option<Owner> = match service.repairs.owner(id) {
                Some(owner) => Some(owner),
                None => first_good(service, &keys, id, &holders).await?.map(|(_, owner)| owner),
            };
            // What the catalogue does not know never stood.
            let Some(owner) = owner else { continue };
            let wanted = wanted_at(service, owner).await?;
            let good = |site: &&SiteId| holds(**site) && !service.damage.knows(**site, id);
            short += u64::from(wanted.sites.iter().filter(good).count() < wanted.copies_needed);
        }
        // What was not listed to its end may have the last copy of anything.
        if merge.failed.contains(&leaving) {
            return Err(RepairError::Unlisted);
        }
    }
    Ok(short)
}
