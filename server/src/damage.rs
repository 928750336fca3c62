//! What is known to be wrong at the sites: which record at which site is
//! damaged, missing or a lie. Reads and scrubs note it, repair takes it from
//! here. In memory only: what is lost with it, the next scrub finds again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use coffer_model::{Manifest, RecordId, SiteId, SlotId, TenantId, VersionId};
use coffer_regions::{Record, SiteError};

use crate::service::Service;

/// Most records remembered for one site; a site with more is read whole.
const REMEMBERED_MAX: usize = 1 << 20;
/// Most places remembered for one site; of one with more nothing new is told.
const PLACES_MAX: usize = 1 << 12;

/// Records that a site acknowledged and does not give back as they were.
#[derive(Default)]
pub(crate) struct DamageBook {
    known: Mutex<BTreeMap<SiteId, BTreeSet<RecordId>>>,
    /// Damage that belongs to no record, so that nothing is written anew for it.
    places: Mutex<BTreeMap<SiteId, BTreeSet<String>>>,
    news: AtomicU64,
}

impl DamageBook {
    fn known(&self) -> MutexGuard<'_, BTreeMap<SiteId, BTreeSet<RecordId>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a record that is not at its site as it should be; whether that is
    /// news.
    pub(crate) fn note(&self, site: SiteId, record: RecordId) -> bool {
        let mut known = self.known();
        let records = known.entry(site).or_default();
        let news = records.len() < REMEMBERED_MAX && records.insert(record);
        self.news.fetch_add(u64::from(news), Ordering::SeqCst);
        news
    }

    /// Notes damage at a place that belongs to no record: a header of a volume,
    /// a key slot. Whether that is news.
    pub(crate) fn note_place(&self, site: SiteId, place: &str) -> bool {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let places = places.entry(site).or_default();
        places.len() < PLACES_MAX && places.insert(place.to_owned())
    }

    /// Forgets damage at a place that was written anew and read back.
    pub(crate) fn place_mended(&self, site: SiteId, place: &str) {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = places.get_mut(&site) {
            known.remove(place);
        }
    }

    /// A site has another disk: what was found there is not there.
    pub(crate) fn replaced(&self) {
        self.uncounted();
    }

    /// Something that whoever counted may have counted is not there any more.
    pub(crate) fn uncounted(&self) {
        self.news.fetch_add(1, Ordering::SeqCst);
    }

    /// How often there was news: whoever counted before the last one counts again.
    pub(crate) fn news(&self) -> u64 {
        self.news.load(Ordering::SeqCst)
    }

    /// Forgets a record that was written anew and read back.
    pub(crate) fn mended(&self, site: SiteId, record: RecordId) {
        let mut known = self.known();
        if let Some(records) = known.get_mut(&site) {
            records.remove(&record);
            if records.is_empty() {
                known.remove(&site);
            }
        }
    }

    /// All that is known to be wrong, site by site.
    pub(crate) fn all(&self) -> BTreeMap<SiteId, BTreeSet<RecordId>> {
        self.known().clone()
    }

    /// Whether a record is known to be wrong at a site.
    pub(crate) fn knows(&self, site: SiteId, record: RecordId) -> bool {
        self.known().get(&site).is_some_and(|records| records.contains(&record))
    }

    /// Forgets everything about a site whose disk is a new one.
    pub(crate) fn forget(&self, site: SiteId) {
        self.known().remove(&site);
        self.places.lock().unwrap_or_else(PoisonError::into_inner).remove(&site);
    }

    /// How many records are known to be wrong at a site.
    pub(crate) fn count(&self, site: SiteId) -> usize {
        self.known().get(&site).map_or(0, BTreeSet::len)
    }
}

/// What a key slot is called as a place of damage.
pub(crate) fn place_of_slot(slot: SlotId) -> String {
    format!("slot {slot}")
}

/// A version whose records are read, in so far as a finding concerns it.
#[derive(Clone, Copy)]
pub(crate) struct Version {
    tenant: TenantId,
    id: VersionId,
}

impl Version {
    /// The version that a manifest describes.
    pub(crate) fn of(manifest: &Manifest) -> Self {
        Self { tenant: manifest.tenant, id: manifest.version }
    }
}

impl Service {
    /// Charges a site with what a read found there in the place of a record of
    /// a version; whether it should be written anew. A site that was silent,
    /// or gave up what was taken from it, has done nothing wrong; one that has
    /// none of what was accepted without it has only missed it.
    pub(crate) async fn charge(
        &self,
        version: &Version,
        (place, site): (usize, SiteId),
        record: RecordId,
        error: &SiteError,
    ) -> bool {
        if *error == SiteError::Unreachable || !self.belongs(version, place, site).await {
            return false;
        }
        if *error != SiteError::Missing || !self.is_reduced(version).await {
            self.sites.report(site);
        }
        self.damage.note(site, record);
        true
    }

    /// Whether a version was accepted below its promise and is not whole yet:
    /// a site that has none of it may never have said that it had.
    pub(crate) async fn is_reduced(&self, version: &Version) -> bool {
        let Some(tenant) = self.tenant(version.tenant) else { return false };
        matches!(tenant.catalog.version(version.id).await, Ok(Some(now)) if now.reduced > 0)
    }

    /// Writes the right record where a read found another one, if it belongs
    /// there still; whether it is there now. A change of policy waits for it.
    pub(crate) async fn write_anew(
        &self,
        version: &Version,
        (place, site): (usize, SiteId),
        right: Record,
    ) -> bool {
        let Some(tenant) = self.tenant(version.tenant) else { return false };
        let _placing = tenant.placing.read().await;
        self.belongs(version, place, site).await && self.sites.replace(site, right).await
    }

    /// Whether place `place` of a version is at `site` by what the catalogue
    /// says now, and the policy still admits the site. A read that began
    /// before the version moved asks where it was: a site that gave up what
    /// was taken from it has done nothing wrong, and nothing may be written
    /// back to it.
    pub(crate) async fn belongs(&self, version: &Version, place: usize, site: SiteId) -> bool {
        let Some(tenant) = self.tenant(version.tenant) else { return false };
        let Ok(Some(now)) = tenant.catalog.version(version.id).await else { return false };
        let Ok(policy) = tenant.policy_of_version(&self.sites, &now.manifest).await else { return false };
        let admitted = self.sites.topology().site(site).is_some_and(|site| policy.admits(site));
        admitted && now.manifest.layout.sites().get(place) == Some(&site)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_was_mended_is_news_when_it_is_damaged_again() {
        let (book, site) = (DamageBook::default(), SiteId::from_bytes([1; 16]));
        assert!(book.note_place(site, "slot 1") && !book.note_place(site, "slot 1"));
        book.place_mended(site, "slot 2");
        book.place_mended(SiteId::from_bytes([2; 16]), "slot 1");
        assert!(!book.note_place(site, "slot 1"));
        book.place_mended(site, "slot 1");
        assert!(book.note_place(site, "slot 1"));
    }

    #[test]
    fn a_site_that_invents_places_without_end_is_news_only_so_often() {
        let (book, site) = (DamageBook::default(), SiteId::from_bytes([1; 16]));
        let told = (0..PLACES_MAX + 100).filter(|n| book.note_place(site, &format!("volume {n}"))).count();
        assert_eq!(told, PLACES_MAX);
        // The places of another one are its own, and one that is mended makes room.
        assert!(book.note_place(SiteId::from_bytes([2; 16]), "slot 1"));
        book.place_mended(site, "volume 0");
        assert!(book.note_place(site, "volume 0") && !book.note_place(site, "slot 1"));
    }

    #[test]
    fn what_was_noted_stays_until_it_is_mended() {
        let book = DamageBook::default();
        let (site, other) = (SiteId::from_bytes([1; 16]), SiteId::from_bytes([2; 16]));
        let record = RecordId::from_bytes([3; 16]);
        book.note(site, record);
        book.note(site, record);
        assert_eq!((book.count(site), book.count(other)), (1, 0));
        book.mended(other, record);
        assert_eq!(book.count(site), 1);
        book.mended(site, record);
        assert_eq!(book.count(site), 0);
    }
}
