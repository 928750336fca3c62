//! Key slots that sites have missed: each is copied, as it is, to every site
//! that should have it.

use coffer_regions::Standing;

use super::marks::{Marks, Small};
use super::small::Healed;
use crate::damage::place_of_slot;
use crate::keystore;
use crate::service::Service;

/// Heals them.
pub(crate) async fn heal(service: &Service, marks: &mut Marks) -> Healed {
    let mut healed = Healed::default();
    healed.heard.extend(service.sites.alive_for_repair());
    for (slot, content, sites) in
        keystore::wanted_slots(&service.sites, &service.root, &service.deployment).await
    {
        for id in sites {
            if service.sites.standing(id) != Standing::Active {
                continue;
            }
            let Some(site) = service.sites.for_repair(id).filter(|site| site.answers()) else {
                healed.heard.remove(&id);
                continue;
            };
            if site.read_slot(slot).await.is_ok_and(|own| own.generation >= content.generation) {
                continue;
            }
            let generation = Small::Slot(slot, content.generation);
            let fresh = !marks.wrote(generation, id);
            let written = fresh && site.write_slot(slot, content.clone()).await.is_ok();
            if written && site.read_slot(slot).await.is_ok_and(|own| own == content) {
                marks.written(generation, id);
                service.damage.place_mended(id, &place_of_slot(slot));
                healed.written += 1;
                continue;
            }
            let error = if fresh { "was not taken, or is not given back" } else { "is gone again" };
            healed
                .failed
                .add(format!("key slot {slot}: what was written at {} {error}", service.sites.name(id)));
            healed.lacking.insert(id);
        }
    }
    healed
}
