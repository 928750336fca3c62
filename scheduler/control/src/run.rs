//! The control plane of a fleet: definitions installed, one leader, and under it
//! the scheduler and the controllers. Whatever does not fit ends all of it, and
//! it begins anew from what the API says.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use coffer_model::Clock;
use coffer_scheduler::Costs;
use kube::Client;
use tokio::sync::{mpsc, watch};

use crate::attestation::TrustedKeys;
use crate::bind::{Bind, BindError, Reserving};
use crate::book::{Book, BookError};
use crate::events::Teller;
use crate::install::{InstallError, install};
use crate::leader::{LeaderError, Leadership, lead};
use crate::ledger;
use crate::schedule::{Measured, Scheduler};
use crate::sets::{Failures, Sets, SiteCertificates, Unborne};
use crate::shards::ShardLedger;
use crate::watching;

/// Changes that wait to be taken in.
const CHANGES_MAX: usize = 8192;

/// Why the control plane stopped.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The API does not answer, or not as it should.
    #[error("the API of the fleet does not answer as it should: {0}")]
    Api(#[from] kube::Error),
    /// The fleet's resources are not there.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// It is not known what was bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The leader's lease cannot be had.
    #[error(transparent)]
    Leader(#[from] LeaderError),
    /// What was seen does not fit.
    #[error(transparent)]
    Book(#[from] BookError),
    /// What goes on for ever has ended.
    #[error("{0} ended, which they do not by themselves")]
    Over(&'static str),
    /// Somebody else leads now.
    #[error("another control plane leads this fleet now")]
    Replaced,
}

/// How quickly the controllers look again.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// While something is under way.
    pub busy: Duration,
    /// Otherwise.
    pub calm: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { busy: Duration::from_millis(200), calm: Duration::from_secs(2) }
    }
}

/// Takes a sentence about what went wrong.
pub type Trouble = Arc<dyn Fn(&str) + Send + Sync>;

/// A control plane.
#[derive(Clone)]
pub struct Control {
    /// The API.
    pub client: Client,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The fleet's namespace.
    pub namespace: String,
    /// Our name among the control planes of this fleet.
    pub holder: String,
    /// How long leadership holds without renewal.
    pub lease: Duration,
    /// The keys of the fleet's operators.
    pub trusted: TrustedKeys,
    /// Where shards lie.
    pub shards: Arc<dyn ShardLedger>,
    /// Certificates of sites.
    pub certificates: Arc<dyn SiteCertificates>,
    /// How decisions become bindings; `None`: by reservations, as a real cluster needs it.
    pub bind: Option<Arc<dyn Bind>>,
    /// How quickly the controllers look again.
    pub pace: Pace,
    /// Whether pods of site sets are made and kept; `false`: only placed, whoever makes them.
    pub keeps_sets: bool,
    /// Whether pods of a lower priority give way to sets that fit nowhere; only where sets are kept.
    pub preempts: bool,
    /// Who is told of what went wrong, and is tried again.
    pub trouble: Trouble,
    /// Where the times of decisions go.
    pub measured: Option<Arc<Measured>>,
}

impl Control {
    /// Leads, and then runs, until somebody else leads or something does not fit. Call it again
    /// after any error: nothing is remembered but what the API holds.
    ///
    /// # Errors
    /// [`ControlError`], always.
    pub async fn run(self) -> Result<(), ControlError> {
        install(&self.client, &self.namespace).await?;
        let leadership = Leadership {
            namespace: self.namespace.clone(),
            name: "coffer-control".to_owned(),
            holder: self.holder.clone(),
            lasts: self.lease,
        };
        let mut leads = lead(self.client.clone(), leadership, Arc::clone(&self.clock)).await?;
        tokio::select! {
            biased;
            // Whatever is under way is dropped.
            _ = leads.wait_for(|leads| !leads) => Err(ControlError::Replaced),
            ended = self.work() => ended,
        }
    }

    /// One segment of the ledger after the other.
    async fn work(&self) -> Result<(), ControlError> {
        loop {
            self.segment().await?;
        }
    }

    async fn segment(&self) -> Result<(), ControlError> {
        let (seen, saw) = watch::channel(false);
        let (scheduler, sets) = self.assemble(seen, saw).await?;
        let (to, from) = mpsc::channel(CHANGES_MAX);
        let keep_sets = async {
            if self.keeps_sets {
                sets.run().await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        // Beside the work: nobody waits for what is only tidied up. The newest segment, and so the end of the
        // ledger that this one names, is none of the old.
        let prune = async {
            if let Err(error) = ledger::prune(&self.client, &self.namespace).await {
                (self.trouble)(&format!("old records of the placement ledger are not removed: {error}"));
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = scheduler.run(from) => ended,
            () = prune => Err(ControlError::Over("the removal of old records")),
            () = watching::all(self.client.clone(), self.namespace.clone(), self.trusted.clone(), to) => Err(ControlError::Over("the watches")),
            () = keep_sets => Err(ControlError::Over("the controller of site sets")),
        }
    }

    pub(crate) async fn assemble(
        &self,
        seen: watch::Sender<bool>,
        saw: watch::Receiver<bool>,
    ) -> Result<(Scheduler, Sets), ControlError> {
        let bind = match &self.bind {
            Some(bind) => Arc::clone(bind),
            None => Arc::new(Reserving::new(self.client.clone())),
        };
        let mut book = Book::new(Arc::clone(&self.clock), Costs::default());
        if self.keeps_sets && self.preempts {
            book.let_give_way();
        }
        let book = Arc::new(Mutex::new(book));
        let teller = Teller::new(self.client.clone(), &self.holder);
        let scheduler = Scheduler {
            book: Arc::clone(&book),
            bind,
            clock: Arc::clone(&self.clock),
            teller: teller.clone(),
            namespace: self.namespace.clone(),
            segment: format!("s{:016x}", self.clock.now().0),
            follows: ledger::last_end(&self.client, &self.namespace).await?,
            measured: self.measured.clone(),
            seen,
            written: 0,
        };
        let (failures, unborne) = (Failures::default(), Unborne::default());
        let turn = tokio::sync::Mutex::default();
        let sets = Sets { control: self.clone(), book, teller, seen: saw, failures, unborne, turn };
        Ok((scheduler, sets))
    }
}
