//! A bound on how fast a drill reads, so that it takes nothing from those who
//! work: each reader waits until its bytes are paid for.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use crate::backup::{BlobStore, BlobStoreError};

/// So many bytes a second, for all readers together.
#[derive(Debug, Default)]
pub struct Pace {
    bytes_per_second: Option<u64>,
    paid_until: Mutex<Option<Instant>>,
}

impl Pace {
    /// At most this much; none: no bound.
    pub fn new(bytes_per_second: Option<u64>) -> Arc<Self> {
        Arc::new(Self { bytes_per_second, paid_until: Mutex::default() })
    }

    /// Waits until what was read before is paid for, and owes these bytes.
    pub async fn pay(&self, bytes: u64) {
        let Some(rate) = self.bytes_per_second.filter(|rate| *rate > 0) else { return };
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate);
        let price = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let due = {
            let mut until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
            let due = until.unwrap_or_else(Instant::now).max(Instant::now());
            *until = Some(due + price);
            due + price
        };
        sleep_until(due).await;
    }
}

/// A store that is read at a pace.
pub(super) struct Paced {
    pub(super) store: Arc<dyn BlobStore>,
    pub(super) pace: Arc<Pace>,
}

#[async_trait]
impl BlobStore for Paced {
    async fn put(&self, name: &str, body: Bytes) -> Result<(), BlobStoreError> {
        self.store.put(name, body).await
    }

    async fn get(&self, name: &str) -> Result<Bytes, BlobStoreError> {
        let bytes = self.store.get(name).await?;
        self.pace.pay(u64::try_from(bytes.len()).unwrap_or(u64::MAX)).await;
        Ok(bytes)
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Bytes, BlobStoreError> {
        self.pace.pay(range.end.saturating_sub(range.start)).await;
        self.store.get_range(name, range).await
    }

    async fn list(&self, prefix: &str) -> Result<Vec<String>, BlobStoreError> {
        self.store.list(prefix).await
    }

    async fn delete(&self, name: &str) -> Result<(), BlobStoreError> {
        self.store.delete(name).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn readers_together_stay_below_the_bound_and_without_one_nobody_waits() {
        let pace = Pace::new(Some(1000));
        let begun = Instant::now();
        futures::future::join_all((0..10).map(|_| pace.pay(100))).await;
        assert_eq!(begun.elapsed().as_millis(), 1000);
        let free = Pace::new(None);
        let begun = Instant::now();
        free.pay(u64::MAX).await;
        assert!(begun.elapsed().is_zero());
    }
}
