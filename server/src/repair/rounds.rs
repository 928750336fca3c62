//! Rounds one after the other until nothing is left to do, at a pace that
//! tenants hardly notice; what is told meanwhile; and the job that looks from
//! time to time on its own.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use coffer_model::Timestamp;

use super::marks::Marks;
use super::pace::Pace;
use super::{RepairBudget, RepairError, RepairReport, Told};
use crate::jobs::Job;
use crate::measured::Timed;
use crate::service::Service;

/// How a repair is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RepairRun {
    /// How much one round does.
    pub budget: RepairBudget,
    /// Bytes read and written a second, at most; `None`: as fast as it goes.
    pub bytes_per_second: Option<u64>,
    /// Whether it gives way to the calls of tenants.
    pub yields: bool,
}

impl Default for RepairRun {
    fn default() -> Self {
        Self { budget: RepairBudget::default(), bytes_per_second: Some(256 << 20), yields: true }
    }
}

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairProgress {
    /// Rounds begun.
    pub rounds: u32,
    /// Steps taken to their end, over all rounds.
    pub done: u64,
    /// Steps that failed.
    pub failed: u64,
    /// Shards written and read back.
    pub shards: u64,
    /// Records read back and found right.
    pub read_back: u64,
    /// Bytes read and written.
    pub bytes: u64,
    /// Bytes of this round's plan and of what it leaves for later.
    pub bytes_left: u64,
}

/// What is known of the runs of this process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    pub(crate) running: bool,
    pub(crate) progress: RepairProgress,
    pub(crate) began: Option<Timestamp>,
    /// The same by the monotonic clock.
    began_at: Duration,
    /// How long the last run took that moved anything.
    timed: Option<Timed>,
    pub(crate) ended: Option<Timestamp>,
    /// The last round that ended.
    pub(crate) last: Option<RepairReport>,
    /// Why the latest run broke off, if it did.
    pub(crate) trouble: Option<String>,
}

impl Service {
    fn repair_status_mut(&self) -> MutexGuard<'_, Status> {
        self.repairs.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn repair_status(&self) -> Status {
        self.repair_status_mut().clone()
    }

    /// Rounds until one finds nothing to do, or gets nothing done; the last
    /// round, and the sums of all of them.
    ///
    /// # Errors
    /// [`RepairError`].
    pub async fn repair(
        &self,
        run: RepairRun,
        told: &(dyn Fn(&RepairProgress) + Sync),
    ) -> Result<(RepairReport, RepairProgress), RepairError> {
        {
            let mut status = self.repair_status_mut();
            let began = Some(self.host.clock.now());
            let (last, timed) = (status.last.take(), status.timed);
            let began_at = self.host.clock.monotonic();
            *status = Status { running: true, began, began_at, last, timed, ..Status::default() };
        }
        let outcome = self.rounds(run, told).await;
        let trouble = outcome.as_ref().err().map(ToString::to_string);
        if !matches!(outcome, Err(RepairError::Stopped)) {
            self.watch.settle(Job::Repair, trouble.clone().map_or(Ok(()), Err));
        }
        let mut status = self.repair_status_mut();
        status.running = false;
        status.ended = Some(self.host.clock.now());
        status.trouble = trouble;
        status.timed = self.timed(status.progress.bytes, status.began_at).or(status.timed);
        let progress = status.progress.clone();
        outcome.map(|report| (report, progress))
    }

    /// How fast the repair is that runs now, or the last one that moved anything was.
    pub(crate) fn repair_timed(&self) -> Option<Timed> {
        let status = self.repair_status();
        let now = if status.running { self.timed(status.progress.bytes, status.began_at) } else { None };
        now.or(status.timed)
    }

    /// How far the repair is that runs now, or ran last.
    pub fn repair_progress(&self) -> RepairProgress {
        self.repair_status_mut().progress.clone()
    }

    /// Whether a repair runs now.
    pub fn is_repairing(&self) -> bool {
        self.repair_status_mut().running
    }

    async fn rounds(
        &self,
        run: RepairRun,
        told: &(dyn Fn(&RepairProgress) + Sync),
    ) -> Result<RepairReport, RepairError> {
        let pace = match run.yields || run.bytes_per_second.is_some() {
            true => Pace::new(Some(&self.foreground), run.bytes_per_second, run.yields),
            false => Pace::unbounded(),
        };
        // A round that does once more what an earlier one did is no progress.
        let mut marks = Marks::default();
        loop {
            self.repair_status_mut().progress.rounds += 1;
            // Whoever waits for the end must not keep the service from leaving; a
            // round bears to be cut off anywhere, as by a crash.
            let told = |what: Told<'_>| self.tell(&what, told);
            let report = tokio::select! {
                biased;
                () = self.watch.until_leaving() => return Err(RepairError::Stopped),
                report = self.round(run.budget, &pace, &mut marks, &told) => report?,
            };
            let mut status = self.repair_status_mut();
            status.last = Some(report.clone());
            if report.is_over() || !report.progressed() {
                return Ok(report);
            }
        }
    }

    fn tell(&self, what: &Told<'_>, told: &(dyn Fn(&RepairProgress) + Sync)) {
        let progress = {
            let mut status = self.repair_status_mut();
            let progress = &mut status.progress;
            match what {
                Told::Planned(plan) => progress.bytes_left = plan.bytes.saturating_add(plan.later_bytes),
                Told::Done(done, planned) => {
                    progress.done += 1;
                    progress.shards += done.shards;
                    progress.read_back += done.read_back;
                    progress.bytes += done.bytes_read + done.bytes_written;
                    progress.bytes_left = progress.bytes_left.saturating_sub(*planned);
                }
                Told::Failed => progress.failed += 1,
            }
            progress.clone()
        };
        told(&progress);
    }
}

/// Repairs from time to time, until the service is dropped. A round that
/// failed is tried again at the next time; why it did, the service says as it
/// does of its other jobs.
pub async fn repair_in_background(service: Arc<Service>, run: RepairRun, every: Duration) {
    let service = Arc::downgrade(&service);
    loop {
        tokio::time::sleep(every).await;
        let Some(service) = service.upgrade() else { return };
        if !service.repair_status().running {
            // How it ended is in its status, and with the trouble of the jobs.
            let _ = service.repair(run, &|_| ()).await;
        }
    }
}
