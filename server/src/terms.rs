//! The terms of one read: the sites that it does without, as if they were
//! lost, and a count of those that its bytes came from. What is left out is
//! never asked: no plan of a race names it, so that nothing is learnt of it,
//! and no reputation suffers from a loss that is only supposed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use coffer_model::SiteId;

use crate::sites::Sites;

/// A name in the terms of a read that is no site's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no site \"{0}\" that a read could do without")]
pub(crate) struct UnknownSite(pub(crate) String);

/// The terms of one read; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Terms(Option<Arc<Stated>>);

#[derive(Debug, Default)]
struct Stated {
    without: BTreeSet<SiteId>,
    answered: Mutex<BTreeSet<SiteId>>,
}

impl Terms {
    /// Terms that do without the sites of these names.
    pub(crate) fn without(sites: &Sites, names: &[String]) -> Result<Self, UnknownSite> {
        let find = |name: &String| {
            let found = sites.topology().sites.iter().find(|site| site.name == *name);
            found.map(|site| site.id).ok_or_else(|| UnknownSite(name.clone()))
        };
        let without = names.iter().map(find).collect::<Result<_, _>>()?;
        Ok(Self(Some(Arc::new(Stated { without, answered: Mutex::default() }))))
    }

    /// Whether the read does without a site.
    pub(crate) fn bar(&self, site: SiteId) -> bool {
        self.0.as_ref().is_some_and(|stated| stated.without.contains(&site))
    }

    /// Notes that bytes of the answer came from a site.
    pub(crate) fn answered(&self, site: SiteId) {
        if let Some(stated) = &self.0 {
            stated.answered.lock().unwrap_or_else(PoisonError::into_inner).insert(site);
        }
    }

    /// The sites that bytes came from so far.
    pub(crate) fn who_answered(&self) -> BTreeSet<SiteId> {
        let answered =
            |stated: &Arc<Stated>| stated.answered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.0.as_ref().map(answered).unwrap_or_default()
    }
}
