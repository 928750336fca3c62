//! Epochs of owners in a bucket. A bucket decides nothing by itself, so that
//! the one who writes looks before and after: what it acknowledges was there
//! before any later epoch was.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use coffer_model::{ScopeId, SlotId};
use coffer_regions::{Fence, SiteError, SlotContent};
use object_store::UpdateVersion;

use super::Shared;
use super::form::{SLOT_OBJECT_BYTES_MAX, parse_slot, slot_object};

/// How often an epoch is read again when another owner was faster.
const RACES_MAX: usize = 8;

/// An epoch is the generation of an object as of a key slot.
fn as_slot(scope: ScopeId) -> SlotId {
    SlotId::from_bytes(*scope.as_bytes())
}

impl Shared {
    async fn stored_epoch(&self, scope: ScopeId) -> Result<(u64, Option<UpdateVersion>), SiteError> {
        match self.objects.read(&self.names.epoch(scope), SLOT_OBJECT_BYTES_MAX).await {
            Ok(found) => {
                let content = parse_slot(as_slot(scope), &found.bytes).map_err(|_| SiteError::Damaged)?;
                Ok((content.generation, Some(found.version)))
            }
            Err(SiteError::Missing) => Ok((0, None)),
            Err(error) => Err(error),
        }
    }

    /// The epoch of a scope; 0: none was raised.
    pub(super) async fn epoch(&self, scope: ScopeId) -> Result<u64, SiteError> {
        self.stored_epoch(scope).await.map(|(epoch, _)| epoch)
    }

    /// Raises an epoch; the same again is no error.
    pub(super) async fn raise(&self, fence: Fence) -> Result<(), SiteError> {
        if fence.epoch == 0 {
            return Err(SiteError::OverLimit);
        }
        let content = SlotContent { generation: fence.epoch, body: Bytes::new() };
        let object = slot_object(as_slot(fence.scope), &content);
        for _ in 0..RACES_MAX {
            let (known, version) = self.stored_epoch(fence.scope).await?;
            if known > fence.epoch {
                return Err(SiteError::Superseded);
            }
            let path = self.names.epoch(fence.scope);
            if known == fence.epoch || self.objects.update(&path, object.clone(), version).await? {
                self.fenced.store(true, Ordering::Release);
                return Ok(());
            }
        }
        Err(SiteError::Conflict)
    }

    /// Makes a change under an epoch, which must still be the highest when the
    /// change is done.
    pub(super) async fn fenced<T>(
        &self,
        fence: Fence,
        change: impl Future<Output = Result<T, SiteError>> + Send,
    ) -> Result<T, SiteError> {
        self.raise(fence).await?;
        let changed = change.await?;
        if self.epoch(fence.scope).await? > fence.epoch { Err(SiteError::Superseded) } else { Ok(changed) }
    }

    /// Refuses a change that names no epoch where there is one.
    pub(super) fn unfenced(&self) -> Result<(), SiteError> {
        if self.fenced.load(Ordering::Acquire) { Err(SiteError::Superseded) } else { Ok(()) }
    }

    /// Looks whether owners have epochs here.
    pub(super) async fn look_for_epochs(&self) -> Result<(), SiteError> {
        let found = self.objects.list(&self.names.epochs(), None, 1).await?;
        if !found.is_empty() {
            self.fenced.store(true, Ordering::Release);
        }
        Ok(())
    }
}
