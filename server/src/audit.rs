//! A tenant's audit log: leaves enter it with the transactions of the
//! catalogue; a checkpoint is signed only once its leaves lie on more sites
//! than may be lost, so that the log outlives its catalogue.

use std::sync::Arc;

use coffer_catalog::{Catalog, CatalogError};
use coffer_keys::{
    CanonicalError, Checkpoint, LeafTiles, SigningKey, TILE_WIDTH, TileError, Tiles, sign_checkpoint,
};
use coffer_model::{AuditEvent, Digest, Entropy, RecordId, ResidencyPolicy, SiteId, TenantId};
use coffer_regions::{Record, RecordKind, Standing, place_small};
use tokio::sync::{Mutex, MutexGuard};

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
    /// A proof could not be made: the catalogue lacks hashes of its log.
    #[error("the proof cannot be made: {0}")]
    Proof(TileError),
}

impl From<TileError> for AuditError {
    fn from(error: TileError) -> Self {
        match error {
            TileError::OutOfRange { size, asked } => Self::Beyond { size, asked },
            TileError::Missing { .. } => Self::Proof(error),
        }
    }
}

/// Leaves in one record at the sites.
const RUN_LEAVES: usize = 1024;

/// Hashes that are read from the catalogue at once.
const HASHES_AT_ONCE: u64 = 16 * 1024;

/// The log of one tenant.
pub(crate) struct AuditLog {
    tenant: TenantId,
    origin: String,
    signer: Arc<SigningKey>,
    signer_name: String,
    /// The tree so far, but for the leaf hashes of full tiles, which stay in
    /// the catalogue. Caught up from there.
    state: Mutex<Tiles>,
}

impl AuditLog {
    pub(crate) fn new(
        tenant: TenantId,
        origin: String,
        signer: Arc<SigningKey>,
        signer_name: String,
    ) -> Self {
        Self { tenant, origin, signer, signer_name, state: Mutex::new(Tiles::new()) }
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
        catch_up(&mut state, catalog, size).await?;
        let leaves = load(&state, catalog, &[size]).await?;
        let root = state.tree_at(size, &leaves)?.root();
        let checkpoint = Checkpoint { origin: self.origin.clone(), size, root };
        Ok(Signed { size, note: sign_checkpoint(&self.signer, &self.signer_name, &checkpoint) })
    }

    /// The proof that the tree of `size` leaves extends that of `since`.
    pub(crate) async fn consistency(
        &self,
        catalog: &Catalog,
        since: u64,
        size: u64,
    ) -> Result<Vec<Digest>, AuditError> {
        let state = self.up_to(catalog, size).await?;
        let leaves = load(&state, catalog, &[since, size]).await?;
        Ok(state.consistency(since, size, &leaves)?)
    }

    /// The proof that leaf `index` is in the tree of `size` leaves.
    pub(crate) async fn inclusion(
        &self,
        catalog: &Catalog,
        index: u64,
        size: u64,
    ) -> Result<Vec<Digest>, AuditError> {
        let state = self.up_to(catalog, size).await?;
        let leaves = load(&state, catalog, &[index, size]).await?;
        Ok(state.inclusion(index, size, &leaves)?)
    }

    /// What proves the leaves from `first` to before `end` to be in the tree
    /// of `size`: the subtrees before them, and that the tree extends theirs.
    pub(crate) async fn around(
        &self,
        catalog: &Catalog,
        first: u64,
        end: u64,
        size: u64,
    ) -> Result<Around, AuditError> {
        let state = self.up_to(catalog, size).await?;
        let leaves = load(&state, catalog, &[first, end, size]).await?;
        let before = state.tree_at(first, &leaves)?.subtrees().to_vec();
        Ok(Around { before, after: state.consistency(end, size, &leaves)? })
    }

    /// The tree with at least `size` leaves, if the log has as many.
    async fn up_to(&self, catalog: &Catalog, size: u64) -> Result<MutexGuard<'_, Tiles>, AuditError> {
        let mut state = self.state.lock().await;
        if state.size() < size {
            let has = catalog.log_size().await?;
            if has < size {
                return Err(AuditError::Beyond { size: has, asked: size });
            }
            catch_up(&mut state, catalog, size).await?;
        }
        Ok(state)
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

/// Takes the hashes of the first `size` leaves from the catalogue; leaves that
/// arrived later wait.
async fn catch_up(state: &mut Tiles, catalog: &Catalog, size: u64) -> Result<(), AuditError> {
    while state.size() < size {
        let wanted = usize::try_from((size - state.size()).min(HASHES_AT_ONCE)).unwrap_or(usize::MAX);
        let hashes = catalog.leaf_hashes(state.size(), wanted).await?;
        if hashes.is_empty() {
            return Err(CatalogError::Damaged("log").into());
        }
        hashes.into_iter().for_each(|hash| state.append(hash));
    }
    Ok(())
}

/// The leaf hashes that proofs about these positions need.
async fn load(state: &Tiles, catalog: &Catalog, positions: &[u64]) -> Result<LeafTiles, AuditError> {
    let mut tiles = LeafTiles::new();
    for tile in state.needed(positions) {
        let width = usize::try_from(TILE_WIDTH).unwrap_or(usize::MAX);
        tiles.insert(tile, catalog.leaf_hashes(tile * TILE_WIDTH, width).await?);
    }
    Ok(tiles)
}

/// What proves a range of leaves.
pub(crate) struct Around {
    /// Roots of the perfect subtrees before it, largest first.
    pub(crate) before: Vec<Digest>,
    /// The consistency proof from its end on.
    pub(crate) after: Vec<Digest>,
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
