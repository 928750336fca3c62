//! A site whose disk is a new one: it answers, and has nothing. Until repair has brought it what the old one held it
//! counts as silent wherever a rebuild asks how many sites may know of something that no other does. That is part of
//! the list of the sites, which outlives the service's own disk.

use coffer_model::SiteId;

use super::SiteChangeError;
use crate::service::{Service, write_topology};
use crate::sites::ListedSite;

impl Service {
    /// A site whose disk is lost gets a new, empty one; repair fills it.
    ///
    /// # Errors
    /// [`SiteChangeError::Store`] where a new store cannot be made: a directory
    /// or a bucket that still holds the old one is not written over.
    pub async fn replace_site(&self, name: &str) -> Result<SiteId, SiteChangeError> {
        let _turn = self.changing_sites.write().await;
        let (mut list, at) = self.find(name)?;
        let before = list.clone();
        let site = list.get_mut(at).ok_or(SiteChangeError::Encode)?;
        let id = site.address.site.id;
        site.address.refilling = true;
        // First: after a crash between the two nobody would know that the disk is new. Where too few sites take the
        // list, as when more disks are lost than may be, the topology file says it until one is taken.
        let told = self.write_sites(list.clone(), None).await.is_ok();
        if !told {
            self.note_locally(list.clone()).await?;
        }
        if let Err(error) = self.sites.replace_store(&self.host, &self.data_dir, id).await {
            match told {
                true => self.write_sites(before, None).await?,
                false => self.note_locally(before).await?,
            }
            return Err(error.into());
        }
        self.damage.replaced();
        self.forget_disk(id).await;
        crate::repair::heal_slots(self).await;
        if !told {
            // The new disk may be the one that was missing; else the next list takes it along.
            drop(self.write_sites(list, None).await);
        }
        // Now, not in two seconds: a crash before that would hold the new
        // disk against what the old one reached.
        // A log that cannot be written refuses every call by itself.
        let _ = self.note_reach().await;
        Ok(id)
    }

    /// Repair has found nothing that these sites lack of what their old disks held.
    /// With each, how often its disk had been replaced when that round began.
    pub(crate) async fn note_refilled(&self, sites: &[(SiteId, u64)]) {
        if sites.is_empty() {
            return;
        }
        let _turn = self.changing_sites.write().await;
        let mut list = self.sites.listed().to_vec();
        let mut filled = false;
        for site in &mut list {
            let id = site.address.site.id;
            // A disk that was replaced while repair looked is not the one that it has filled.
            if site.address.refilling && sites.contains(&(id, self.repairs.replacements_of(id))) {
                site.address.refilling = false;
                filled = true;
            }
        }
        if filled {
            // What cannot be written is so after the next round.
            drop(self.write_sites(list, None).await);
        }
    }

    /// Takes a list in memory and in the topology file.
    async fn note_locally(&self, list: Vec<ListedSite>) -> Result<(), SiteChangeError> {
        self.sites.change(&self.host, &self.data_dir, list, None).await?;
        Ok(write_topology(&self.data_dir, &self.sites.addresses())?)
    }
}
