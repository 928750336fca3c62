//! On which terms something is read: as it was at a moment, and without sites
//! that are lost, or supposed to be; with a count of the sites that answered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use coffer_model::Timestamp;

/// On which terms objects are read. The default is now, from whatever site.
#[derive(Clone, Debug, Default)]
pub struct ReadTerms {
    /// The moment whose versions are meant, by the service's clock; none: now.
    pub as_of: Option<Timestamp>,
    /// Names of sites that no byte may be asked of.
    pub without: Vec<String>,
    /// Where to count which sites answered; none: they are not asked for.
    pub seen: Option<Arc<SitesSeen>>,
}

impl ReadTerms {
    /// The moment as the wire has it.
    pub(crate) fn as_of_ns(&self) -> u64 {
        self.as_of.map_or(0, |moment| moment.0)
    }
}

/// In how many reads each site answered, by name.
#[derive(Debug, Default)]
pub struct SitesSeen(Mutex<BTreeMap<String, u64>>);

impl SitesSeen {
    /// One read more in which these answered.
    pub(crate) fn count(&self, answered: Vec<String>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        answered.into_iter().for_each(|name| *seen.entry(name).or_default() += 1);
    }

    /// The counts so far.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
