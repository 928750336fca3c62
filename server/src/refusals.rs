//! What sites did that no site may do, on its way into the service's own
//! log: counted by site and kind, so that a site that lies all day costs a
//! leaf a round and not one for each lie.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use coffer_model::{Operation, Outcome, SiteId};
use coffer_site::{PodRefusal, Witness};

use crate::service::Service;

/// Kinds at sites that wait for their leaf; there are fewer in any deployment.
const WAITING_MAX: usize = 4096;

/// Who did what.
type Kind = (SiteId, &'static str);

/// Refusals that have no leaf yet.
#[derive(Default)]
pub struct Refusals {
    waiting: Mutex<BTreeMap<Kind, u64>>,
}

impl Refusals {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<Kind, u64>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes one refusal.
    pub(crate) fn note(&self, site: SiteId, name: &'static str) {
        self.add(site, name, 1);
    }

    fn add(&self, site: SiteId, name: &'static str, count: u64) {
        let mut waiting = self.waiting();
        if waiting.len() < WAITING_MAX || waiting.contains_key(&(site, name)) {
            let known = waiting.entry((site, name)).or_default();
            *known = known.saturating_add(count);
        }
    }
}

impl Witness for Refusals {
    fn refused(&self, site: SiteId, refusal: &PodRefusal) {
        self.note(site, refusal.name());
    }

    fn refused_there(&self, site: SiteId, kind: &'static str, count: u64) {
        self.add(site, kind, count);
    }
}

impl Service {
    /// Writes a leaf for every kind of refusal at every site that waits. What
    /// the log does not take waits on, with its count.
    pub(crate) async fn note_refusals(&self) {
        let Some(refusals) = self.host.sites.refusals() else { return };
        let Some(realm) = self.service_realm() else { return };
        let waiting = std::mem::take(&mut *refusals.waiting());
        for ((site, name), count) in waiting {
            let event =
                self.own_event(None, Operation::Sites, format!("{site} {name} {count}"), Outcome::Denied);
            // Nobody waits for this answer; the catalogue reports its own failures.
            if realm.note(&event).await.is_err() {
                refusals.add(site, name, count);
            }
        }
    }
}
