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
    /// What is in it now: a copy of the map that shares the bodies.
    pub fn blobs(&self) -> BTreeMap<String, Bytes> {
        self.locked().clone()
    }

    /// Puts a body in place of whatever is there, as damage would.
    pub fn replace(&self, name: &str, body: Bytes) {
        self.locked().insert(name.to_owned(), body);
    }

    /// Takes a blob away.
    pub fn remove(&self, name: &str) {
        self.locked().remove(name);
    }

    /// A panic elsewhere cannot leave the map half changed.
    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Bytes>> {
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl BlobStore for MemoryStore {
    async fn put(&self, name: &str, body: Bytes) -> Result<(), BlobStoreError> {
        self.locked().insert(name.to_owned(), body);
        Ok(())
    }

    async fn get(&self, name: &str) -> Result<Bytes, BlobStoreError> {
        let missing = || BlobStoreError::Missing { name: name.to_owned() };
        self.locked().get(name).cloned().ok_or_else(missing)
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
        Ok(self.locked().keys().filter(|name| name.starts_with(prefix)).cloned().collect())
    }

    async fn delete(&self, name: &str) -> Result<(), BlobStoreError> {
        self.locked().remove(name);
        Ok(())
    }
}
