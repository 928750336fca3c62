//! What is known to be wrong at the sites: which record at which site is
//! damaged, missing or a lie. Reads and scrubs note it, repair takes it from
//! here. In memory only: what is lost with it, the next scrub finds again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use coffer_model::{RecordId, SiteId};

/// Most records remembered for one site; a site with more is read whole.
const REMEMBERED_MAX: usize = 1 << 20;

/// Records that a site acknowledged and does not give back as they were.
#[derive(Default)]
pub(crate) struct DamageBook {
    known: Mutex<BTreeMap<SiteId, BTreeSet<RecordId>>>,
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
        records.len() < REMEMBERED_MAX && records.insert(record)
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
    }

    /// How many records are known to be wrong at a site.
    pub(crate) fn count(&self, site: SiteId) -> usize {
        self.known().get(&site).map_or(0, BTreeSet::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
