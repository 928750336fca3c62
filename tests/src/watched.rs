//! Sites that are watched and led astray: every site of a deployment behind an
//! adapter that counts what it returns, and can be made to answer late or to
//! lie about parts of records.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use coffer_model::RecordId;
use coffer_regions::{Record, Site, SiteError, UnverifiedBytes};
use coffer_server::SiteOpener;

use crate::twist::{Twist, twisted};

/// What one site returned, and how it is led astray.
#[derive(Default)]
pub struct Watch {
    gets: AtomicU64,
    parts: AtomicU64,
    bytes: AtomicU64,
    under_way: AtomicU64,
    delay_ms: AtomicU64,
    lies: AtomicBool,
}

/// A read that has begun. One that is dropped, because nobody waits for it any
/// more, is over as well.
struct UnderWay<'a>(&'a Watch);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What sites returned to readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Returned {
    /// Whole records.
    pub gets: u64,
    /// Parts of records.
    pub parts: u64,
    /// Bytes of bodies in both.
    pub bytes: u64,
}

impl Watch {
    /// Every read waits so long from now on.
    pub fn delay(&self, milliseconds: u64) {
        self.delay_ms.store(milliseconds, Ordering::Relaxed);
    }

    /// Whether parts of records come with a flipped bit from now on.
    pub fn lie(&self, lies: bool) {
        self.lies.store(lies, Ordering::Relaxed);
    }

    /// What it returned so far.
    pub fn returned(&self) -> Returned {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Returned { gets: get(&self.gets), parts: get(&self.parts), bytes: get(&self.bytes) }
    }

    fn begin(&self) -> UnderWay<'_> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        UnderWay(self)
    }

    async fn wait(&self) {
        let delay = self.delay_ms.load(Ordering::Relaxed);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await;
        }
    }

    fn count(&self, count: &AtomicU64, bytes: usize) {
        count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(u64::try_from(bytes).unwrap(), Ordering::Relaxed);
    }
}

/// The watches of a deployment's sites, by name.
#[derive(Clone, Default)]
pub struct Watches(Arc<Mutex<BTreeMap<String, Arc<Watch>>>>);

impl Watches {
    /// That of one site.
    pub fn of(&self, name: &str) -> Arc<Watch> {
        Arc::clone(self.0.lock().unwrap().entry(name.to_owned()).or_default())
    }

    /// What all sites returned together.
    pub fn returned(&self) -> Returned {
        let all = self.0.lock().unwrap();
        all.values().fold(Returned::default(), |sum, watch| {
            let one = watch.returned();
            Returned { gets: sum.gets + one.gets, parts: sum.parts + one.parts, bytes: sum.bytes + one.bytes }
        })
    }

    /// Returns when no read is under way. One that was late goes on after
    /// others gave its reader what it wanted, and would be counted among those
    /// that come next.
    pub async fn quiet(&self) {
        let busy = || self.0.lock().unwrap().values().any(|watch| watch.under_way.load(Ordering::SeqCst) > 0);
        let mut look = tokio::time::interval(Duration::from_millis(1));
        while busy() {
            look.tick().await;
        }
    }

    /// What `work` made the sites return.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> (T, Returned) {
        self.quiet().await;
        let before = self.returned();
        let result = work.await;
        let after = self.returned();
        let returned = Returned {
            gets: after.gets - before.gets,
            parts: after.parts - before.parts,
            bytes: after.bytes - before.bytes,
        };
        (result, returned)
    }

    /// Opens sites as `inner` does, and puts a watch before each.
    pub fn before(&self, inner: Arc<dyn SiteOpener>) -> Arc<dyn SiteOpener> {
        let watches = self.clone();
        twisted(inner, move |inner| {
            let watch = watches.of(&inner.description().name);
            WatchedSite { inner, watch }
        })
    }
}

struct WatchedSite {
    inner: Arc<dyn Site>,
    watch: Arc<Watch>,
}

#[async_trait]
impl Twist for WatchedSite {
    fn inner(&self) -> &dyn Site {
        self.inner.as_ref()
    }

    async fn get(&self, id: RecordId) -> Result<Record, SiteError> {
        let _under_way = self.watch.begin();
        self.watch.wait().await;
        let record = self.inner.get(id).await?;
        self.watch.count(&self.watch.gets, record.body().len());
        Ok(record)
    }

    async fn get_range(&self, id: RecordId, range: Range<u32>) -> Result<UnverifiedBytes, SiteError> {
        let _under_way = self.watch.begin();
        self.watch.wait().await;
        let part = self.inner.get_range(id, range).await?;
        self.watch.count(&self.watch.parts, part.0.len());
        if !self.watch.lies.load(Ordering::Relaxed) {
            return Ok(part);
        }
        let mut bytes = part.0.to_vec();
        if let Some(byte) = bytes.last_mut() {
            *byte ^= 1;
        }
        Ok(UnverifiedBytes(bytes.into()))
    }
}
