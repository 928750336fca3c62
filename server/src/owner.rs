//! Whether this replica owns the deployment: under which epoch it may change
//! the sites, and that it stops for good once a site knows a later one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use coffer_model::{Degraded, ResidencyPolicy, ScopeId};
use coffer_regions::{Fence, SiteError};
use coffer_site::LeaseFile;

/// Who owns a deployment now: a port that whoever runs replicas fills. Asked
/// before every change of a site, so that it answers from memory.
pub trait OwnerLease: Send + Sync {
    /// The epoch of this replica's lease while it is held. It rises whenever
    /// the lease changes hands, and is never given twice.
    fn held(&self) -> Option<u64>;

    /// Where whoever holds the lease answers, `https://HOST:PORT`, while this
    /// replica does not and that is known. Clients are told; they believe only
    /// who shows a certificate of the deployment there.
    fn elsewhere(&self) -> Option<String> {
        None
    }
}

impl OwnerLease for LeaseFile {
    fn held(&self) -> Option<u64> {
        Self::held(self)
    }

    fn elsewhere(&self) -> Option<String> {
        self.endpoint()
    }
}

/// This replica may not answer: another one owns the deployment, or nobody
/// has told this one that it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotOwner {
    #[error("this replica's lease has run out; ask again, or ask the replica that owns the deployment now")]
    NoLease,
    #[error("this replica is not the owner any more; ask the replica that owns the deployment now")]
    Superseded,
}

/// Why a replica did not take a deployment up. Nothing was changed but that
/// sites may have learnt of its epoch.
#[derive(Debug, thiserror::Error)]
pub enum TakeUpError {
    /// It has no lease.
    #[error("this replica holds no lease of the deployment; it starts when it does")]
    NoLease,
    /// The sites are owned under leases, and this replica was started without.
    #[error("the sites know an owner of epoch {0}; start this replica with the lease of the deployment")]
    NeedsLease(u64),
    /// Somebody else owned it later.
    #[error("the sites know an owner of epoch {known}, and this replica's lease has {epoch}")]
    Superseded {
        /// The highest epoch at the sites.
        known: u64,
        /// That of this replica's lease.
        epoch: u64,
    },
    /// Too few sites know that the owner before is none any more.
    #[error(
        "the epoch was raised everywhere but at {} ({} is as many as may miss it): an owner before this one could still have its writes acknowledged", missed.join(", "), losable
    )]
    TooFewSites {
        /// Names of the sites that did not take the epoch.
        missed: Vec<String>,
        /// How many may miss it.
        losable: usize,
    },
    /// What the replica before left could not be put aside.
    #[error("the catalogues of an owner before could not be put aside: {0}")]
    Aside(#[from] std::io::Error),
}

/// The ownership of one running service.
#[derive(Default)]
pub(crate) struct Owner {
    /// `None`: there are no replicas, and no site is asked for an epoch.
    lease: Option<Arc<dyn OwnerLease>>,
    /// Under which it took the deployment up. A lease that was lost and came
    /// back with another epoch is another owner's, even if it is this process.
    taken: OnceLock<Fence>,
    deposed: AtomicBool,
}

impl Owner {
    pub(crate) fn of(lease: Option<Arc<dyn OwnerLease>>) -> Arc<Self> {
        Arc::new(Self { lease, ..Self::default() })
    }

    /// Whether there may be other replicas.
    pub(crate) fn has_lease(&self) -> bool {
        self.lease.is_some()
    }

    /// The fence of the lease that is held now; `None` without replicas.
    pub(crate) fn claim(&self, scope: ScopeId) -> Result<Option<Fence>, TakeUpError> {
        let Some(lease) = &self.lease else { return Ok(None) };
        let epoch = lease.held().ok_or(TakeUpError::NoLease)?;
        Ok(Some(Fence { scope, epoch }))
    }

    /// From here on this replica changes the sites under this fence.
    pub(crate) fn take(&self, fence: Fence) {
        // Once in its life; the first stands.
        let _ = self.taken.set(fence);
    }

    /// A site knows a later owner.
    pub(crate) fn depose(&self) {
        self.deposed.store(true, Ordering::Release);
    }

    /// Whether this replica may answer now.
    pub(crate) fn check(&self) -> Result<Option<Fence>, NotOwner> {
        if self.deposed.load(Ordering::Acquire) {
            return Err(NotOwner::Superseded);
        }
        let Some(lease) = &self.lease else { return Ok(None) };
        let taken = self.taken.get().ok_or(NotOwner::NoLease)?;
        match lease.held() {
            Some(epoch) if epoch == taken.epoch => Ok(Some(*taken)),
            Some(_) => Err(NotOwner::Superseded),
            None => Err(NotOwner::NoLease),
        }
    }

    /// Where the owner is, while this replica is not the owner.
    pub(crate) fn elsewhere(&self) -> Option<String> {
        self.lease.as_ref()?.elsewhere()
    }

    /// The fence of a change; the sites need not be asked whether to refuse
    /// one that this replica may not make.
    pub(crate) fn fence(&self) -> Result<Option<Fence>, SiteError> {
        self.check().map_err(|_| SiteError::Superseded)
    }

    /// A policy as a replica among several may keep it: what is acknowledged
    /// must be on more sites than may have missed that the owner changed.
    pub(crate) fn strict(&self, policy: &ResidencyPolicy, small: bool) -> ResidencyPolicy {
        let enough = !small && policy.geometry.k() >= policy.geometry.m();
        let degraded = if self.has_lease() && !enough { Degraded::Refuse } else { policy.degraded };
        ResidencyPolicy { degraded, ..policy.clone() }
    }
}

/// What the sites call a deployment's owners: says nothing of it.
pub(crate) fn scope_of(deployment: &[u8; 16]) -> ScopeId {
    let mut bytes = [0; 16];
    blake3::Hasher::new_derive_key("coffer 2026 owners of a deployment v1")
        .update(deployment)
        .finalize_xof()
        .fill(&mut bytes);
    ScopeId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use coffer_model::{Geometry, Tier};

    use super::*;

    struct Told(Mutex<Option<u64>>);

    impl OwnerLease for Told {
        fn held(&self) -> Option<u64> {
            *self.0.lock().unwrap()
        }
    }

    #[test]
    fn a_replica_owns_nothing_before_it_took_up_nor_under_another_epoch_nor_after_it_was_deposed() {
        let told = Arc::new(Told(Mutex::new(Some(5))));
        let owner = Owner::of(Some(Arc::clone(&told) as Arc<dyn OwnerLease>));
        assert_eq!(owner.check(), Err(NotOwner::NoLease));
        let fence = owner.claim(scope_of(&[1; 16])).unwrap().unwrap();
        owner.take(fence);
        assert_eq!(owner.check(), Ok(Some(fence)));
        *told.0.lock().unwrap() = None;
        assert_eq!(owner.check(), Err(NotOwner::NoLease));
        *told.0.lock().unwrap() = Some(5);
        assert_eq!(owner.check(), Ok(Some(fence)), "nobody else had it");
        *told.0.lock().unwrap() = Some(6);
        assert_eq!(owner.check(), Err(NotOwner::Superseded), "somebody may have had it in between");
        *told.0.lock().unwrap() = Some(5);
        owner.depose();
        assert_eq!(owner.fence(), Err(SiteError::Superseded));
    }

    #[test]
    fn without_replicas_nothing_is_asked_and_with_them_two_copies_are_no_acknowledgement() {
        let policy = |k, m| ResidencyPolicy {
            allow: vec![],
            deny: vec![],
            tier_min: Tier::I,
            geometry: Geometry::new(k, m).unwrap(),
            degraded: Degraded::Accept,
        };
        let (alone, one) = (Owner::of(None), Owner::of(Some(Arc::new(Told(Mutex::new(Some(1)))))));
        assert_eq!((alone.check(), alone.claim(scope_of(&[0; 16])).unwrap()), (Ok(None), None));
        assert_eq!(alone.strict(&policy(4, 2), true).degraded, Degraded::Accept);
        assert_eq!(one.strict(&policy(4, 2), true).degraded, Degraded::Refuse);
        assert_eq!(one.strict(&policy(4, 2), false).degraded, Degraded::Accept);
        assert_eq!(one.strict(&policy(1, 2), false).degraded, Degraded::Refuse);
    }
}
