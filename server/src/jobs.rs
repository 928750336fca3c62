//! The background jobs of a running service: one set of tasks, started by
//! `serve` and stopped before the catalogues close. Each job is a loop with a
//! timer around a one-shot function, and only that function does anything.

mod challenge;
mod challenge_delay;
mod challenge_sample;
mod coverage;
mod scrub;

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use coffer_catalog::CatalogError;
use coffer_model::{Operation, Outcome, RecordId, SiteId};
use tokio::task::JoinSet;

use crate::audit::AuditError;
use crate::repair::{RepairRun, repair_in_background};
use crate::service::Service;

pub use challenge::SiteChallenges;
pub use challenge_delay::DelayState;
pub(crate) use challenge_sample::Sampler;
pub use coverage::{CompletedPass, Coverage, RunningPass};
pub use scrub::{SiteScrub, SiteScrubbed};

/// What runs in the background, and how much of it.
#[derive(Clone, Copy, Debug)]
pub struct JobSettings {
    /// Bytes a second that a scrub reads at one site; `None`: no scrub runs.
    pub scrub_rate: Option<NonZeroU64>,
    /// Within which time every byte is to be read and verified.
    pub scrub_within: Duration,
    /// Between two rounds of challenges; `None`: none run.
    pub challenge_every: Option<Duration>,
    /// Between two looks of repair; `None`: it is run by hand.
    pub repair_every: Option<Duration>,
}

impl JobSettings {
    /// Thirty days, and nothing in the background: for services whose owner
    /// calls the one-shot functions.
    pub const BY_HAND: Self = Self {
        scrub_rate: None,
        scrub_within: Duration::from_secs(30 * 24 * 3600),
        challenge_every: None,
        repair_every: None,
    };
}

impl Default for JobSettings {
    /// 8 MiB a second at each site, every byte within thirty days, challenges
    /// every hour, repair every ten minutes.
    fn default() -> Self {
        Self {
            scrub_rate: NonZeroU64::new(8 << 20),
            challenge_every: Some(Duration::from_secs(3600)),
            repair_every: Some(Duration::from_secs(600)),
            ..Self::BY_HAND
        }
    }
}

/// Why a job did not do its work; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// The catalogue with the ledgers failed.
    #[error("the ledgers cannot be kept: {0}")]
    Catalog(#[from] CatalogError),
    /// The log did not take the leaf of a finding.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A ledger cannot be written down.
    #[error("a ledger cannot be serialised")]
    Serialise,
    /// The service has no realm of its own.
    #[error("the service has no realm for its own ledgers")]
    NoRealm,
    /// No site has that name.
    #[error("there is no site {0:?}")]
    NoSite(String),
    /// The site does not answer.
    #[error("site {0} does not answer; its pass goes on when it is back")]
    Silent(String),
}

/// A job whose trouble is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Job {
    /// Reading one site.
    Scrub(SiteId),
    /// Watching whether what was promised of scrubs is kept.
    Coverage,
    /// Asking sites about shards.
    Challenge,
    /// Repair.
    Repair,
    /// Remembering how far the logs go.
    LogSizes,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scrub(site) => write!(f, "scrub of {site}"),
            Self::Coverage => f.write_str("coverage of scrubs"),
            Self::Challenge => f.write_str("challenges"),
            Self::Repair => f.write_str("repair"),
            Self::LogSizes => f.write_str("sizes of the logs"),
        }
    }
}

/// What the jobs keep between their steps.
pub(crate) struct Watch {
    settings: Mutex<JobSettings>,
    scrub: tokio::sync::Mutex<Option<scrub::Books>>,
    delays: tokio::sync::Mutex<Option<challenge_delay::Delays>>,
    /// Why the last step of each background job failed whose last step did.
    trouble: Mutex<BTreeMap<Job, String>>,
    /// The service is leaving: what may take long ends early.
    leaving: tokio::sync::watch::Sender<bool>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            settings: Mutex::new(JobSettings::BY_HAND),
            scrub: tokio::sync::Mutex::default(),
            delays: tokio::sync::Mutex::default(),
            trouble: Mutex::default(),
            leaving: tokio::sync::watch::Sender::new(false),
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    pub(crate) fn settings(&self) -> JobSettings {
        *held(&self.settings)
    }

    /// Remembers how a step of a job ended. Only the same job's next step
    /// takes it back: what one does well says nothing of another.
    pub(crate) fn settle(&self, job: Job, result: Result<(), impl fmt::Display>) {
        let mut trouble = held(&self.trouble);
        match result {
            Ok(()) => drop(trouble.remove(&job)),
            Err(error) => drop(trouble.insert(job, error.to_string())),
        }
    }

    /// Tells what may take long that the service is leaving.
    pub(crate) fn leave(&self) {
        self.leaving.send_replace(true);
    }

    /// Ends when the service leaves.
    pub(crate) async fn until_leaving(&self) {
        // The sender is behind this very reference.
        let _ = self.leaving.subscribe().wait_for(|leaving| *leaving).await;
    }

    pub(crate) fn is_leaving(&self) -> bool {
        *self.leaving.borrow()
    }

    /// Why the last steps of background jobs failed, if any did: job by job.
    pub(crate) fn trouble(&self) -> Option<String> {
        let trouble = held(&self.trouble);
        let lines = trouble.iter().map(|(job, error)| format!("{job}: {error}"));
        (!trouble.is_empty()).then(|| lines.collect::<Vec<_>>().join("; "))
    }
}

/// The running jobs.
pub(crate) struct Jobs {
    service: Arc<Service>,
    tasks: JoinSet<()>,
}

impl Jobs {
    /// Starts what the settings ask for.
    pub(crate) fn start(service: &Arc<Service>, settings: JobSettings) -> Self {
        *held(&service.watch.settings) = settings;
        let mut tasks = JoinSet::new();
        scrub::spawn(&mut tasks, service, settings);
        challenge::spawn(&mut tasks, service, settings);
        crate::witness::spawn(&mut tasks, service);
        if let Some(every) = settings.repair_every {
            tasks.spawn(repair_in_background(Arc::clone(service), RepairRun::default(), every));
        }
        Self { service: Arc::clone(service), tasks }
    }

    /// Stops every job where it waits, and keeps how far the scrub came. A job
    /// bears to be cut off anywhere, as by a crash.
    pub(crate) async fn stop(mut self) -> Result<(), JobError> {
        self.tasks.shutdown().await;
        self.service.save_ledgers().await
    }
}

impl Service {
    /// A leaf of a job in the service's own log.
    async fn note_job(
        &self,
        operation: Operation,
        subject: String,
        outcome: Outcome,
    ) -> Result<(), JobError> {
        let realm = self.service_realm().ok_or(JobError::NoRealm)?;
        realm.note(&self.own_event(Some(realm.id), operation, subject, outcome)).await?;
        Ok(())
    }

    /// The bodies of the leaves of the service's own log from position `from`,
    /// at most `limit`: what the jobs found is there.
    ///
    /// # Errors
    /// [`JobError`].
    pub async fn own_leaves(&self, from: u64, limit: usize) -> Result<Vec<Vec<u8>>, JobError> {
        let realm = self.service_realm().ok_or(JobError::NoRealm)?;
        Ok(realm.catalog.leaves(from, limit).await?)
    }

    /// Enters damage that a job found into the book and, where it is news,
    /// into the log.
    async fn note_damage(
        &self,
        operation: Operation,
        site: SiteId,
        record: RecordId,
    ) -> Result<(), JobError> {
        self.sites.report(site);
        if self.damage.note(site, record) {
            self.note_job(operation, format!("{site}/{record}"), Outcome::Failed).await?;
        }
        Ok(())
    }

    /// The id of the site with that name.
    pub(crate) fn site_named(&self, name: &str) -> Result<SiteId, JobError> {
        let found = self.sites.topology().sites.iter().find(|site| site.name == name);
        found.map(|site| site.id).ok_or_else(|| JobError::NoSite(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_job_does_well_does_not_take_back_the_trouble_of_another() {
        let watch = Watch::default();
        assert_eq!(watch.trouble(), None);
        watch.settle(Job::Challenge, Err(JobError::NoRealm));
        watch.settle(Job::Coverage, Ok::<(), JobError>(()));
        assert!(watch.trouble().is_some_and(|trouble| trouble.starts_with("challenges: ")));
        watch.settle(Job::Repair, Err(JobError::Serialise));
        watch.settle(Job::Challenge, Ok::<(), JobError>(()));
        assert!(watch.trouble().is_some_and(|trouble| trouble.starts_with("repair: ")));
        watch.settle(Job::Repair, Ok::<(), JobError>(()));
        assert_eq!(watch.trouble(), None);
    }
}
