//! What a site that leaves for good takes with it: tombstones, facts and runs of leaves of which too few copies
//! lie elsewhere. Its versions are counted by their layouts; these records have none.

use coffer_model::{RecordId, SiteId};
use coffer_regions::Record;

use super::marks::Marks;
use super::small::{Holders, KINDS, Keys, Merge, Sought, agree, first_good, has_nothing, heal, wanted_at};
use super::{Owner, RepairError};
use crate::inventory::go_on;
use crate::service::Service;

/// Why a site cannot go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needing {
    /// Records with fewer copies at the sites that stay than must be acknowledged for them to stand.
    pub(crate) short: u64,
    /// Records that it lists and of which no copy is given back, its own being damaged or out of reach: they may
    /// stand, and its copy be the last one. What it says it does not have, after all, it cannot take with it.
    pub(crate) unread: u64,
}

/// Brings what it can to the sites that stay; what of that which `leaving` has would be too little there. Of
/// a site that is silent nobody knows what it has: then that is asked of everything.
pub(crate) async fn short_without(service: &Service, leaving: SiteId) -> Result<Needing, RepairError> {
    let tenants = service.all_tenants();
    heal(service, &tenants, &mut Marks::default()).await?;
    let mut needing = Needing::default();
    for kind in KINDS {
        let keys = Keys::new(kind, &tenants);
        let mut merge = Merge::new(service, kind).await?;
        let answers = merge.asks(leaving);
        while let Some((id, holders)) = merge.next(service).await {
            go_on(service)?;
            let has = !answers || holders.iter().any(|(holder, _)| *holder == leaving);
            if has && !service.repairs.is_nobodys(id) {
                look(service, &keys, (id, &holders), leaving, &mut needing).await?;
            }
        }
        // What was not listed to its end may have the last copy of anything.
        if merge.failed.contains(&leaving) {
            return Err(RepairError::Unlisted);
        }
    }
    Ok(needing)
}

/// Looks at the copies of one record that stay.
async fn look(
    service: &Service,
    keys: &Keys,
    (id, holders): (RecordId, &Holders),
    leaving: SiteId,
    needing: &mut Needing,
) -> Result<(), RepairError> {
    let known = service.repairs.owner(id).filter(|_| agree(holders));
    let (owner, good): (Owner, Option<Box<Record>>) = match known {
        Some(owner) => (owner, None),
        None => match first_good(service, keys, id, holders).await? {
            Sought::Good(good, owner) => (owner, Some(good)),
            Sought::Unknown => return Ok(()),
            Sought::Unread => {
                // A site that lists what it does not have takes nothing with it, whatever it says it has.
                let lists_it = holders.iter().any(|(holder, _)| *holder == leaving);
                let may_lose = lists_it && !has_nothing(service, keys, id, leaving).await?;
                needing.unread += u64::from(may_lose);
                return Ok(());
            }
        },
    };
    let wanted = wanted_at(service, owner).await?;
    let lists_it = holders.iter().any(|(holder, _)| *holder == leaving);
    if !lists_it && !wanted.admitted.contains(&leaving) {
        return Ok(());
    }
    let counts = |(site, digest): &&(SiteId, coffer_model::Digest)| {
        *site != leaving
            && wanted.sites.contains(site)
            && !service.damage.knows(*site, id)
            && good.as_ref().is_none_or(|good| good.digest() == *digest)
    };
    needing.short += u64::from(holders.iter().filter(counts).count() < wanted.copies_needed);
    Ok(())
}
