//! What the service has counted and timed of itself, for whoever predicts how
//! long a restoration takes. Nothing is decided by it, and it is forgotten with
//! the process.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use coffer_catalog::CatalogError;
use coffer_model::Timestamp;

use crate::service::Service;
use crate::tenant::Tenant;

/// Work that took a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timed {
    /// Versions, or bytes.
    pub(crate) amount: u64,
    /// By the monotonic clock.
    pub(crate) took: Duration,
    /// When it ended, or until when it was looked at.
    pub(crate) until: Timestamp,
}

/// All of it.
pub(crate) struct Measured {
    pub(crate) versions: u64,
    pub(crate) bytes: u64,
    pub(crate) rebuild: Option<Timed>,
    pub(crate) repair: Option<Timed>,
}

impl Service {
    /// What began at this moment of the monotonic clock and came to so much;
    /// nothing says nothing.
    pub(crate) fn timed(&self, amount: u64, began: Duration) -> Option<Timed> {
        let took = self.host.clock.monotonic().saturating_sub(began);
        (amount > 0).then(|| Timed { amount, took, until: self.host.clock.now() })
    }

    pub(crate) fn note_rebuilt(&self, rebuilt: Option<Timed>) {
        if rebuilt.is_some() {
            *self.rebuilt.lock().unwrap_or_else(PoisonError::into_inner) = rebuilt;
        }
    }

    /// Looks at every row of the catalogues of these tenants, and tells how the
    /// last rebuild and repair went if these are all: a tenant is shown only its
    /// own, for what all have would tell it how long each thing is that another
    /// one stores.
    pub(crate) async fn measured(&self, of: &[Arc<Tenant>], all: bool) -> Result<Measured, CatalogError> {
        let (mut versions, mut bytes) = (0_u64, 0_u64);
        for tenant in of {
            let held = tenant.catalog.content().await?;
            versions = versions.saturating_add(held.versions);
            bytes = bytes.saturating_add(held.bytes);
        }
        if !all {
            return Ok(Measured { versions, bytes, rebuild: None, repair: None });
        }
        let rebuild = *self.rebuilt.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Measured { versions, bytes, rebuild, repair: self.repair_timed() })
    }
}
