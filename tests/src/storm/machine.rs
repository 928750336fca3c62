//! A machine with a disk, on which a site runs: it loses power, comes back,
//! comes back with an older disk, fills up, rots, is cut off, is destroyed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use coffer_model::SiteDescription;
use coffer_regions::Site;
use tokio::time::Instant;

use super::chance::Chance;

/// A disk, and how a site is started on it.
pub(crate) trait Storage: Send + Sync {
    /// Starts the site on what lies on the disk now; `None` where that fails.
    fn start(&self) -> Option<Arc<dyn Site>>;
    /// Some of the upkeep that a site does beside its calls; what it did, by name.
    fn tend(&self) -> Vec<&'static str>;
    /// The power goes: what was not fsynced may be lost, in part or whole.
    /// The site that was started is gone.
    fn power_off(&self, chance: &Chance);
    /// The power will fail in the middle of one of the next writes.
    fn power_fails_soon(&self, chance: &Chance);
    /// Remembers the disk as it is, fsynced or not.
    fn take_image(&self);
    /// Makes the disk what it was at the last image. Whether there was one.
    fn return_to_image(&self) -> bool;
    /// Flips a bit of something that was stored. Whether there was anything.
    fn rot(&self, chance: &Chance) -> bool;
    /// Whether writes find room.
    fn set_full(&self, full: bool);
    /// The next fsyncs fail, until the site is started again.
    fn fail_syncs(&self);
    /// Everything on the disk, file by file, as an intruder would read it.
    fn raw(&self) -> Vec<(String, Vec<u8>)>;
}

/// One site's machine and its condition.
pub(crate) struct Machine {
    pub(crate) description: SiteDescription,
    /// Of the loss budget: may lie, rot, come back old, be destroyed.
    expendable: bool,
    pub(crate) storage: Box<dyn Storage>,
    condition: Mutex<Condition>,
}

#[derive(Default)]
struct Condition {
    running: Option<Arc<dyn Site>>,
    cut_off: bool,
    lying: bool,
    forgetful: bool,
    destroyed: bool,
    /// Left the deployment for good.
    retired: bool,
    stalled_until: Option<Instant>,
    /// Counts the starts, so that a call notices that its site is another one.
    starts: u64,
}

impl Machine {
    pub(crate) fn new(description: SiteDescription, expendable: bool, storage: Box<dyn Storage>) -> Self {
        Self { description, expendable, storage, condition: Mutex::default() }
    }

    fn condition(&self) -> MutexGuard<'_, Condition> {
        self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn name(&self) -> &str {
        &self.description.name
    }

    /// Starts the site, unless it runs or is destroyed; whether it runs now.
    pub(crate) fn start(&self) -> bool {
        let mut condition = self.condition();
        if condition.running.is_none() && !condition.destroyed {
            condition.running = self.storage.start();
            condition.starts += 1;
        }
        condition.running.is_some()
    }

    /// Loses power. What runs is gone.
    pub(crate) fn crash(&self, chance: &Chance) {
        let running = self.condition().running.take();
        // Its files are closed before the disk is changed under it.
        drop(running);
        self.storage.power_off(chance);
    }

    /// Burns down: it never comes back.
    pub(crate) fn destroy(&self, chance: &Chance) {
        self.crash(chance);
        self.condition().destroyed = true;
    }

    /// Left the deployment: its disk is wiped.
    pub(crate) fn retire(&self, chance: &Chance) {
        self.destroy(chance);
        self.condition().retired = true;
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.condition().retired
    }

    pub(crate) fn cut_off(&self, cut_off: bool) {
        self.condition().cut_off = cut_off;
    }

    pub(crate) fn lie(&self, lying: bool) {
        self.condition().lying = lying && self.expendable;
    }

    /// Acknowledges from now on, or no longer, whatever it is given to store,
    /// and stores nothing; of the rest it tells the truth.
    pub(crate) fn forget(&self, forgetful: bool) {
        self.condition().forgetful = forgetful && self.expendable;
    }

    pub(crate) fn stall(&self, until: Option<Instant>) {
        self.condition().stalled_until = until;
    }

    pub(crate) fn is_destroyed(&self) -> bool {
        self.condition().destroyed
    }

    pub(crate) fn is_running(&self) -> bool {
        self.condition().running.is_some()
    }

    pub(crate) fn is_expendable(&self) -> bool {
        self.expendable
    }

    pub(crate) fn is_lying(&self) -> bool {
        self.condition().lying
    }

    pub(crate) fn is_forgetful(&self) -> bool {
        self.condition().forgetful
    }

    /// Whether a request would reach it now.
    pub(crate) fn is_reachable(&self) -> bool {
        let condition = self.condition();
        condition.running.is_some() && !condition.cut_off
    }

    /// The site that runs, with the number of its start; none if it cannot be reached.
    pub(crate) fn reach(&self) -> Option<(Arc<dyn Site>, u64)> {
        let condition = self.condition();
        let site = condition.running.as_ref().filter(|_| !condition.cut_off)?;
        Some((Arc::clone(site), condition.starts))
    }

    /// Whether the site of that start still runs and can be reached.
    pub(crate) fn still(&self, start: u64) -> bool {
        let condition = self.condition();
        condition.running.is_some() && !condition.cut_off && condition.starts == start
    }

    /// Until when it answers nobody.
    pub(crate) fn stalled_until(&self) -> Option<Instant> {
        self.condition().stalled_until
    }
}
