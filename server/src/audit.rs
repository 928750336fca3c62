//! A tenant's audit log: leaves enter it with the transactions of the
//! catalogue; a checkpoint is signed only once its leaves lie on more sites
//! than may be lost, so that the log outlives its catalogue.

use std::sync::Arc;

use coffer_catalog::{Catalog, CatalogError};
use coffer_keys::{
    CanonicalError, Checkpoint, SigningKey, Tree, consistency_proof, inclusion_proof, sign_checkpoint,
};
use coffer_model::{AuditEvent, Digest, Entropy, RecordId, ResidencyPolicy, SiteId, TenantId};
use coffer_regions::{Record, RecordKind, Standing, place_small};
use tokio::sync::Mutex;

use crate::leaf::leaf;
use crate::registry::copies_needed;
use crate::sites::Sites;
use crate::stored::{EncodeError, LeafRun, seal_packed};

/// Why the log did not take or prove something. What needs the log is then
/// refused: no effect without its leaf.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The catalogue that holds the leaves failed.
    #[error("the audit log cannot be written: {0}")]
    Catalog(#[from] CatalogError),
    /// The event is not canonical JSON.
    #[error("the audit event cannot be encoded: {0}")]
    Canonical(#[from] CanonicalError),
    /// The leaves could not be sealed for the sites.
    #[error("the leaves cannot be sealed")]
    Seal,
    /// Too few sites took the leaves, so that no checkpoint may be signed.
    #[error("only {stored} sites hold the newest leaves, {needed} are needed before a checkpoint is signed")]
    TooFewSites {
        /// Sites with an fsynced copy.
        stored: usize,
        /// Sites needed.
        needed: usize,
    },
    /// The caller asked about a size that the log does not have.
    #[error("the log has {size} leaves, not {asked}")]
    Beyond {
        /// Leaves now.
        size: u64,
        /// Leaves asked for.
        asked: u64,
    },
    /// A proof could not be made.
    #[error("the proof cannot be made")]
    Proof,
}

/// Leaves in one record at the sites.
const RUN_LEAVES: usize = 1024;

/// The log of one tenant.
pub(crate) struct AuditLog {
    tenant: TenantId,
    origin: String,
    signer: Arc<SigningKey>,
    signer_name: String,
    /// The hashes so far; `tree` is theirs. Caught up from the catalogue.
    state: Mutex<State>,
}

struct State {
    hashes: Vec<Digest>,
    tree: Tree,
}

impl AuditLog {
    pub(crate) fn new(
        tenant: TenantId,
        origin: String,
        signer: Arc<SigningKey>,
        signer_name: String,
    ) -> Self {
        let state = Mutex::new(State { hashes: Vec::new(), tree: Tree::new() });
        Self { tenant, origin, signer, signer_name, state }
    }

    /// The C2SP origin line.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// Appends one event that is not part of a larger transaction.
    pub(crate) async fn append(&self, catalog: &Catalog, event: &AuditEvent) -> Result<u64, AuditError> {
        Ok(catalog.append_leaf(leaf(event)?).await?)
    }

    /// Makes every leaf durable at the sites, then signs the tree's head.
    pub(crate) async fn checkpoint(
        &self,
        catalog: &Catalog,
        reach: &LogReach<'_>,
    ) -> Result<Signed, AuditError> {
        let mut state = self.state.lock().await;
        let size = catalog.log_size().await?;
        self.replicate(catalog, reach, size).await?;
        state.catch_up(catalog, size).await?;
        let checkpoint = Checkpoint { origin: self.origin.clone(), size, root: state.tree.root() };
        Ok(Signed { size, note: sign_checkpoint(&self.signer, &self.signer_name, &checkpoint) })
    }

    /// The proof that the tree of `size` leaves extends that of `since`.
    pub(crate) async fn consistency(&self, since: u64, size: u64) -> Result<Vec<Digest>, AuditError> {
        let state = self.state.lock().await;
        let hashes = state.first(size)?;
        if since > size {
            return Err(AuditError::Beyond { size, asked: since });
        }
        consistency_proof(hashes, since).map_err(|_| AuditError::Proof)
    }

    /// The proof that leaf `index` is in the tree of `size` leaves.
    pub(crate) async fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Digest>, AuditError> {
        let state = self.state.lock().await;
        inclusion_proof(state.first(size)?, index).map_err(|_| AuditError::Proof)
    }

    async fn replicate(&self, catalog: &Catalog, reach: &LogReach<'_>, size: u64) -> Result<(), AuditError> {
        let mut first = catalog.replicated_size().await?;
        while first < size {
            let leaves = catalog.leaves(first, RUN_LEAVES).await?;
            let next = first + leaves.len() as u64;
            let run = LeafRun { first, leaves };
            let record = seal_packed(RecordKind::Log, reach.key, self.tenant, &run, reach.entropy)
                .map_err(|_: EncodeError| AuditError::Seal)?;
            reach.store(&record).await?;
            catalog.set_replicated_size(next).await?;
            first = next;
        }
        Ok(())
    }
}

impl State {
    async fn catch_up(&mut self, catalog: &Catalog, size: u64) -> Result<(), AuditError> {
        if (self.hashes.len() as u64) < size {
            // Leaves that arrived after `size` was read wait for the next checkpoint.
            let wanted = usize::try_from(size - self.hashes.len() as u64).unwrap_or(usize::MAX);
            for hash in catalog.leaf_hashes(self.hashes.len() as u64, wanted).await? {
                self.tree.append(hash);
                self.hashes.push(hash);
            }
        }
        Ok(())
    }

    fn first(&self, size: u64) -> Result<&[Digest], AuditError> {
        let beyond = AuditError::Beyond { size: self.hashes.len() as u64, asked: size };
        usize::try_from(size).ok().and_then(|size| self.hashes.get(..size)).ok_or(beyond)
    }
}

/// A checkpoint whose leaves are durable.
pub(crate) struct Signed {
    pub(crate) size: u64,
    /// The signed note.
    pub(crate) note: String,
}

/// Copies of a run of leaves: one more than a checkpoint needs, so that the
/// log keeps its promise while a lost site is repaired.
pub(crate) fn run_copies(policy: &ResidencyPolicy) -> usize {
    copies_needed(policy) + 1
}

/// Where a log's leaves go.
pub(crate) struct LogReach<'a> {
    pub(crate) sites: &'a Sites,
    pub(crate) policy: &'a ResidencyPolicy,
    pub(crate) key: &'a coffer_keys::Dek,
    pub(crate) entropy: &'a dyn Entropy,
}

impl LogReach<'_> {
    /// Writes a run to one site more than must have it before a checkpoint is
    /// signed, so that the log keeps its promise while a lost site is repaired.
    /// Sites that fail are replaced by others as long as there are any.
    async fn store(&self, run: &Record) -> Result<(), AuditError> {
        let (needed, wanted) = (copies_needed(self.policy), run_copies(self.policy));
        let mut rest = self.ranked(run.id());
        let mut stored = Vec::new();
        while stored.len() < wanted && !rest.is_empty() {
            let more = (wanted - stored.len()).min(rest.len());
            let next: Vec<SiteId> = rest.drain(..more).collect();
            stored.extend(self.sites.put_everywhere(&next, run).await.by);
        }
        if stored.len() >= needed {
            return Ok(());
        }
        // Taken back where that works: these numbers may be given again, and
        // a rebuild should not have to choose.
        for site in stored.iter().filter_map(|id| self.sites.get(*id)) {
            let _ = site.delete(vec![run.id()]).await;
        }
        Err(AuditError::TooFewSites { stored: stored.len(), needed })
    }

    /// Every admitted site: first those that a small object with this id would
    /// have, each in a failure domain of its own; then what else answers.
    fn ranked(&self, run: RecordId) -> Vec<SiteId> {
        let alive = self.sites.alive();
        let is_alive = |id: SiteId| alive.contains(&id);
        let placed = place_small(run.as_bytes(), self.sites.taking(), self.policy, is_alive);
        let mut ranked = placed.map(|placed| placed.sites().to_vec()).unwrap_or_default();
        let mut others = self.sites.admitted(self.policy);
        others.retain(|id| !ranked.contains(id));
        others.sort_by_key(|id| (!is_alive(*id), self.sites.standing(*id) != Standing::Active));
        ranked.extend(others);
        ranked
    }
}
