//! A store in memory, for rehearsals and tests: nothing survives the process.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use super::blob_store::{BlobStore, BlobStoreError};

/// A map from name to body.
#[derive(Default)]
pub struct MemoryStore {
    blobs: Mutex<BTreeMap<String, Bytes>>,
}

impl MemoryStore {
    /// Everything in it. A panic elsewhere cannot leave the map half changed.
    pub fn blobs(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl BlobStore for MemoryStore {
    async fn put(&self, name: &str, body: Bytes) -> Result<(), BlobStoreError> {
        self.blobs().insert(name.to_owned(), body);
        Ok(())
    }

    async fn get(&self, name: &str) -> Result<Bytes, BlobStoreError> {
        let missing = || BlobStoreError::Missing { name: name.to_owned() };
        self.blobs().get(name).cloned().ok_or_else(missing)
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, BlobStoreError> {
        let body = self.get(name).await?;
        let truncated = || BlobStoreError::Truncated { name: name.to_owned() };
        let start = usize::try_from(range.start).map_err(|_| truncated())?;
        let end = usize::try_from(range.end).map_err(|_| truncated())?;
        if start > end || end > body.len() {
            return Err(truncated());
        }
        Ok(body.slice(start..end))
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, BlobStoreError> {
        Ok(self.blobs().keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    async fn delete(&self, name: &str) -> Result<(), BlobStoreError> {
        self.blobs().remove(name);
        Ok(())
    }
}
