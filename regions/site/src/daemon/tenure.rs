//! Whether a pod may take writes: while its lease is held, and until a caller
//! knows a later incarnation of the site. Reads go on either way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use coffer_regions::SiteError;
use tonic::{Request, Status};

use crate::lease::LeaseFile;
use crate::wire;

/// The lease of this pod, if it has one, and what its callers know.
pub(super) struct Tenure {
    lease: Option<Arc<LeaseFile>>,
    /// The highest incarnation that a caller knows.
    heard: AtomicU64,
}

impl Tenure {
    pub(super) fn new(lease: Option<Arc<LeaseFile>>) -> Self {
        Self { lease, heard: AtomicU64::new(0) }
    }

    /// Which incarnation of the site this is; `None`: nobody counts them.
    pub(super) fn incarnation(&self) -> Option<u64> {
        self.lease.as_ref().map(|lease| lease.epoch()).filter(|epoch| *epoch > 0)
    }

    /// Whether something may be written now. Asked before a write, and again
    /// before it is acknowledged.
    pub(super) fn may_write(&self) -> Result<(), SiteError> {
        let Some(lease) = &self.lease else { return Ok(()) };
        let held = lease.held().is_some_and(|epoch| epoch >= self.heard.load(Ordering::Acquire));
        if held { Ok(()) } else { Err(SiteError::NoLease) }
    }

    /// Takes note of which incarnation a caller knows. An earlier one than
    /// that writes nothing any more, whoever asks.
    pub(super) fn hear(&self, request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(known) = request.metadata().get(wire::INCARNATION_KEY) {
            let known = known.to_str().ok().and_then(|known| known.parse().ok());
            let known = known.ok_or_else(|| Status::invalid_argument("an incarnation is a number"))?;
            self.heard.fetch_max(known, Ordering::AcqRel);
        }
        Ok(request)
    }
}
