//! Witnesses: others that see each state of a log, and put their own signature
//! under it if it extends every state that they saw before (C2SP tlog-witness).
//! Here is the port, and how the service asks; [`crate::witness_http`] is the
//! way over the network.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use coffer_catalog::CatalogError;
use coffer_keys::{Submission, VerifierName, WitnessName, cosignature_among};
use coffer_model::{TenantId, Timestamp};
use futures::future::join_all;
use tokio::task::JoinSet;

use crate::audit::{AuditError, Signed};
use crate::service::Service;
use crate::tenant::Tenant;

/// How long one witness may take over one answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Submissions to one witness for one checkpoint: the first may learn which
/// state the witness knows, the second extends it, a third meets a state that
/// another replica submitted in between.
const ATTEMPTS: u32 = 3;

/// The fact under which the newest cosigned checkpoint of a log is kept.
const FACT: &str = "witnessed";

/// What a witness answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WitnessAnswer {
    /// Signature lines.
    Cosigned(String),
    /// It knows a state of this size, not the one that was named.
    Knows(u64),
    /// It does not cosign, with this HTTP status.
    Refused(u16),
}

/// A witness gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// The network between.
    #[error("it cannot be reached: {0}")]
    Unreachable(Box<dyn std::error::Error + Send + Sync>),
    /// Longer than any answer is, or no text.
    #[error("its answer is none of a witness")]
    Answer,
}

/// One witness.
#[async_trait]
pub trait Witness: Send + Sync {
    /// Its key, and the name under which it cosigns.
    fn key(&self) -> &WitnessName;

    /// Hands in the body of an `add-checkpoint`.
    ///
    /// # Errors
    /// [`WitnessError`].
    async fn add_checkpoint(&self, body: String) -> Result<WitnessAnswer, WitnessError>;
}

/// Why a witness did not cosign the last checkpoint that it was asked about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WitnessTrouble {
    /// No answer, and why.
    #[error("{0}")]
    Silent(String),
    /// No answer in time.
    #[error("it did not answer within {} s", PATIENCE.as_secs())]
    Late,
    /// It knows more leaves than the log has: the log went back, or somebody
    /// else signs under its name.
    #[error("it knows {known} leaves of {origin}, which has {size}: the log went back in time")]
    Ahead {
        /// Of which log.
        origin: String,
        /// What it knows.
        known: u64,
        /// What there is.
        size: u64,
    },
    /// It refused.
    #[error("it refused with HTTP status {0}")]
    Refused(u16),
    /// It answered with lines of which none is its signature.
    #[error("its answer holds no valid signature of its key")]
    Signature,
    /// The state that it knows changed with every submission.
    #[error("it knew another state at each of {ATTEMPTS} submissions")]
    Unsteady,
}

/// How one witness is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessState {
    /// Under which name it cosigns.
    pub name: String,
    /// When it last cosigned, since this service started.
    pub cosigned: Option<Timestamp>,
    /// Why it did not, when it was asked last.
    pub trouble: Option<WitnessTrouble>,
}

/// One witness, and what was learnt about it.
struct Known {
    witness: Arc<dyn Witness>,
    /// Size of the newest state that it is believed to know, by log.
    sizes: Mutex<BTreeMap<String, u64>>,
    state: Mutex<WitnessState>,
}

/// Every witness of a deployment, in the order of its policy.
#[derive(Default)]
pub(crate) struct Witnesses {
    all: Vec<Known>,
    every: Option<Duration>,
    /// One checkpoint of a log is submitted at a time, so that sizes only grow.
    turns: Mutex<BTreeMap<TenantId, Arc<tokio::sync::Mutex<()>>>>,
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Witnesses {
    pub(crate) fn new(witnesses: Vec<Arc<dyn Witness>>, every: Option<Duration>) -> Self {
        let known = |witness: Arc<dyn Witness>| {
            let name = witness.key().name.clone();
            let state = WitnessState { name, cosigned: None, trouble: None };
            Known { witness, sizes: Mutex::default(), state: Mutex::new(state) }
        };
        Self { all: witnesses.into_iter().map(known).collect(), every, turns: Mutex::default() }
    }

    fn turn(&self, tenant: TenantId) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(held(&self.turns).entry(tenant).or_default())
    }

    pub(crate) fn states(&self) -> Vec<WitnessState> {
        self.all.iter().map(|known| held(&known.state).clone()).collect()
    }
}

impl Service {
    /// Has every checkpoint that is asked for with cosignatures witnessed by
    /// these, and each log that grew once in `every`. Only the first call counts.
    pub fn witness_by(&self, witnesses: Vec<Arc<dyn Witness>>, every: Option<Duration>) {
        let _ = self.witnesses.set(Witnesses::new(witnesses, every));
    }

    /// The key that signs this deployment's logs.
    pub fn evidence_key(&self) -> VerifierName {
        VerifierName { name: self.evidence_name.clone(), key: self.evidence.verifying_key() }
    }

    /// How the witnesses are doing, in the order of their policy.
    pub fn witness_states(&self) -> Vec<WitnessState> {
        self.witnesses.get().map(Witnesses::states).unwrap_or_default()
    }

    /// The keys of the witnesses, in the order of their policy.
    pub(crate) fn witness_keys(&self) -> Vec<WitnessName> {
        let all = self.witnesses.get().map(|witnesses| witnesses.all.as_slice()).unwrap_or_default();
        all.iter().map(|known| known.witness.key().clone()).collect()
    }

    /// A checkpoint of now with the cosignatures of all witnesses that gave
    /// one. Who needs a quorum counts them: a witness that is silent stops nobody.
    pub(crate) async fn cosigned(&self, tenant: &Tenant) -> Result<Signed, AuditError> {
        let Some(witnesses) = self.witnesses.get().filter(|witnesses| !witnesses.all.is_empty()) else {
            return self.checkpoint(tenant).await;
        };
        let turn = witnesses.turn(tenant.id);
        let _turn = turn.lock().await;
        let signed = self.checkpoint(tenant).await?;
        let lines =
            join_all(witnesses.all.iter().map(|known| self.ask_witness(known, tenant, &signed))).await;
        let note = lines.into_iter().flatten().fold(signed.note, |note, line| note + &line);
        tenant.catalog.put_fact(FACT, *tenant.id.as_bytes(), note.clone().into_bytes()).await?;
        Ok(Signed { size: signed.size, note })
    }

    /// The newest checkpoint of a log that was shown to witnesses, with what
    /// they put under it.
    pub(crate) async fn last_cosigned(&self, tenant: &Tenant) -> Result<Option<String>, CatalogError> {
        let facts = tenant.catalog.facts(FACT).await?;
        Ok(facts.into_iter().next().and_then(|(_, body)| String::from_utf8(body).ok()))
    }

    /// The signature line of one witness, if it gives one.
    async fn ask_witness(&self, known: &Known, tenant: &Tenant, signed: &Signed) -> Option<String> {
        let asked = self.submit_to(known, tenant, signed).await;
        let mut state = held(&known.state);
        match asked {
            Ok(line) => {
                state.cosigned = Some(self.host.clock.now());
                state.trouble = None;
                Some(line)
            }
            Err(trouble) => {
                state.trouble = Some(trouble);
                None
            }
        }
    }

    async fn submit_to(
        &self,
        known: &Known,
        tenant: &Tenant,
        signed: &Signed,
    ) -> Result<String, WitnessTrouble> {
        let origin = tenant.log.origin();
        let mut old = held(&known.sizes).get(origin).copied().unwrap_or(0).min(signed.size);
        for _ in 0..ATTEMPTS {
            let proof = match old {
                0 => Vec::new(),
                old => tenant
                    .log
                    .consistency(&tenant.catalog, old, signed.size)
                    .await
                    .map_err(|error| WitnessTrouble::Silent(error.to_string()))?,
            };
            let body = Submission { old, proof, note: signed.note.clone() }.to_text();
            let answer = tokio::time::timeout(PATIENCE, known.witness.add_checkpoint(body)).await;
            let answer = answer.map_err(|_| WitnessTrouble::Late)?;
            match answer.map_err(|error| WitnessTrouble::Silent(error.to_string()))? {
                WitnessAnswer::Cosigned(lines) => {
                    let line = cosignature_among(&signed.note, &lines, known.witness.key());
                    let line = line.ok_or(WitnessTrouble::Signature)?;
                    held(&known.sizes).insert(origin.to_owned(), signed.size);
                    return Ok(line);
                }
                WitnessAnswer::Knows(size) if size > signed.size => {
                    let (origin, size, known) = (origin.to_owned(), signed.size, size);
                    return Err(WitnessTrouble::Ahead { origin, known, size });
                }
                // The same size again: the witness knows another root of it.
                WitnessAnswer::Knows(size) if size == old => return Err(WitnessTrouble::Refused(409)),
                WitnessAnswer::Knows(size) => old = size,
                WitnessAnswer::Refused(status) => return Err(WitnessTrouble::Refused(status)),
            }
        }
        Err(WitnessTrouble::Unsteady)
    }

    /// Shows the witnesses every log that grew since they saw it.
    pub(crate) async fn show_witnesses(&self) {
        for tenant in self.all_tenants() {
            // A log that cannot be read or signed now refuses its calls by
            // itself; the next round tries again.
            let shown = self.last_cosigned(&tenant).await.ok().flatten();
            let seen = shown.and_then(|note| note.split('\n').nth(1)?.parse::<u64>().ok()).unwrap_or(0);
            if tenant.catalog.log_size().await.is_ok_and(|size| size > seen) {
                let _ = self.cosigned(&tenant).await;
            }
        }
    }
}

/// Starts the rounds in which witnesses are shown what grew.
pub(crate) fn spawn(tasks: &mut JoinSet<()>, service: &Arc<Service>) {
    let Some(every) = service.witnesses.get().and_then(|witnesses| witnesses.every) else { return };
    let service = Arc::clone(service);
    tasks.spawn(async move {
        loop {
            service.show_witnesses().await;
            tokio::time::sleep(every).await;
        }
    });
}
