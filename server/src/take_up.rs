//! A replica takes a deployment up: the sites learn its epoch before it reads
//! what they hold, so that what an owner before it is told was stored is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use coffer_model::{Geometry, ResidencyPolicy, ScopeId, SiteId};

use crate::owner::TakeUpError;
use crate::service::Service;
use crate::service_error::OpenError;
use crate::sites::Sites;

/// Beside the catalogues: the epoch under which they were written last.
fn note_path(data_dir: &Path) -> PathBuf {
    data_dir.join("service").join("owner-epoch")
}

/// What the note says.
#[derive(Clone, Copy, Default)]
struct Noted {
    /// The epoch under which the catalogues here were written; 0 where there is none.
    written: u64,
    /// The one to which sites were raised while that was the last one they knew.
    raising: Option<u64>,
}

impl Noted {
    fn read(data_dir: &Path) -> Self {
        let bytes = crate::disk::read_bounded(&note_path(data_dir)).unwrap_or_default();
        let text = String::from_utf8(bytes).unwrap_or_default();
        let numbers: Result<Vec<u64>, _> = text.split_whitespace().map(str::parse).collect();
        match numbers.as_deref() {
            Ok([written]) => Self { written: *written, raising: None },
            Ok([written, raising]) => Self { written: *written, raising: Some(*raising) },
            _ => Self::default(),
        }
    }

    fn write(self, data_dir: &Path) -> std::io::Result<()> {
        let raising = self.raising.map(|raising| format!(" {raising}")).unwrap_or_default();
        crate::disk::write_durably(&note_path(data_dir), format!("{}{raising}", self.written).as_bytes())
    }

    /// Whether nobody else was owner after the catalogues here were written,
    /// where these are the epochs that the sites know. Each counts: an attempt
    /// of our own that few sites heard of is later than another owner's epoch.
    fn is_current(self, mut known: impl Iterator<Item = u64>) -> bool {
        known.all(|known| known <= self.written || Some(known) == self.raising)
    }
}

/// The sites know a new epoch. What is here is believed under it once every
/// policy has judged whether enough of them do.
pub(crate) struct TakenUp {
    /// `None`: there are no replicas.
    epoch: Option<u64>,
    /// The sites that did not take it.
    missed: BTreeSet<SiteId>,
}

impl TakenUp {
    /// From here on the catalogues are those of this epoch.
    pub(crate) fn note(self, data_dir: &Path) -> Result<(), TakeUpError> {
        let Some(written) = self.epoch else { return Ok(()) };
        Ok(Noted { written, raising: None }.write(data_dir)?)
    }
}

/// As many sites as may miss an epoch where nothing says better.
fn losable(sites: usize) -> usize {
    Geometry::DEFAULT.m().min(sites.saturating_sub(1))
}

impl Sites {
    /// The epoch that each site knows, of those that say.
    async fn epochs(&self, scope: ScopeId) -> BTreeMap<SiteId, u64> {
        let asked = self.topology().sites.iter().map(|site| async {
            let adapter = self.for_repair(site.id)?;
            Some((site.id, adapter.epoch(scope).await.ok()?))
        });
        futures::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// Takes the deployment of this scope up: raises the epoch at all sites,
    /// and sets catalogues aside that were written before somebody else owned
    /// it.
    pub(crate) async fn take_up(&self, scope: ScopeId, data_dir: &Path) -> Result<TakenUp, TakeUpError> {
        let epochs = self.epochs(scope).await;
        let known = epochs.values().copied().max().unwrap_or(0);
        let Some(fence) = self.owner().claim(scope)? else {
            let alone = TakenUp { epoch: None, missed: BTreeSet::new() };
            return if known == 0 { Ok(alone) } else { Err(TakeUpError::NeedsLease(known)) };
        };
        if known > fence.epoch {
            return Err(TakeUpError::Superseded { known, epoch: fence.epoch });
        }
        let noted = Noted::read(data_dir);
        let current = noted.is_current(epochs.values().copied());
        // An attempt that ends before it is noted is repeated with the same
        // catalogues: the epoch that the sites know then is its own. One that
        // found another owner's epoch raises over it, and no later one may take
        // that for its own.
        let raising = current.then_some(fence.epoch);
        Noted { raising, ..noted }.write(data_dir)?;
        let raised = self.topology().sites.iter().map(|site| async {
            let adapter = self.for_repair(site.id).filter(|_| epochs.contains_key(&site.id));
            let raised = match adapter {
                Some(adapter) => adapter.raise(fence).await.is_ok(),
                None => false,
            };
            (site.id, raised)
        });
        let raised = futures::future::join_all(raised).await;
        let missed: BTreeSet<SiteId> =
            raised.iter().filter(|(_, raised)| !raised).map(|(id, _)| *id).collect();
        let losable = losable(raised.len());
        if missed.len() > losable {
            return Err(TakeUpError::TooFewSites { missed: self.names(&missed), losable });
        }
        if !current {
            set_catalogues_aside(data_dir, known)?;
        }
        self.owner().take(fence);
        Ok(TakenUp { epoch: Some(fence.epoch), missed })
    }

    fn names(&self, ids: &BTreeSet<SiteId>) -> Vec<String> {
        ids.iter().map(|id| self.name(*id).to_owned()).collect()
    }

    /// Refuses where a policy could have had its writes acknowledged by sites
    /// that do not know the new epoch alone.
    fn enough_for(&self, policy: &ResidencyPolicy, missed: &BTreeSet<SiteId>) -> Result<(), TakeUpError> {
        let missed: BTreeSet<SiteId> =
            self.admitted(policy).into_iter().filter(|id| missed.contains(id)).collect();
        let losable = policy.geometry.m();
        if missed.len() <= losable {
            return Ok(());
        }
        Err(TakeUpError::TooFewSites { missed: self.names(&missed), losable })
    }
}

/// Moves catalogues that an owner before another one wrote out of the way;
/// they are made again from the sites.
fn set_catalogues_aside(data_dir: &Path, epoch: u64) -> Result<(), std::io::Error> {
    let catalogues = data_dir.join("service").join("catalogues");
    let free = (0_u32..).map(|n| catalogues.with_extension(format!("before-{epoch}-{n}")));
    let aside = free.into_iter().find(|aside| !aside.exists()).ok_or(std::io::ErrorKind::AlreadyExists)?;
    if catalogues.exists() {
        std::fs::rename(&catalogues, &aside)?;
    }
    std::fs::create_dir_all(&catalogues)
}

impl Service {
    /// Whether every policy can do with the sites that took the epoch; only
    /// then are the catalogues noted as those of this owner. A rebuild that was
    /// made while an owner before could still have writes acknowledged is not
    /// whole, and must not be believed by the next attempt.
    pub(crate) async fn took_up(&self, taken: TakenUp) -> Result<(), OpenError> {
        if !taken.missed.is_empty() {
            for tenant in self.all_tenants() {
                self.sites.enough_for(&tenant.policy, &taken.missed)?;
                for bucket in tenant.catalog.buckets().await? {
                    self.sites.enough_for(&bucket.policy, &taken.missed)?;
                }
            }
        }
        Ok(taken.note(&self.data_dir)?)
    }
}
