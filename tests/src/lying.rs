//! Sites of this machine that lie when they are told to: they acknowledge what
//! they are given, and keep nothing of it; or they acknowledge what they are to
//! remove, and keep all of it; or they list what nobody wrote, without end.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use coffer_model::{Digest, RecordId};
use coffer_regions::{ListedRecord, Receipt, Record, RecordKind, Site, SiteError};
use coffer_server::SiteOpener;

use crate::twist::{Twist, twisted};

/// Which site lies now, and how often it did.
#[derive(Default)]
pub struct Lies {
    liar: Mutex<String>,
    on: AtomicBool,
    hoards: AtomicBool,
    babbles: AtomicBool,
    told: AtomicU64,
    opened: Mutex<BTreeMap<String, Arc<dyn Site>>>,
}

impl Lies {
    /// From now on the site of that name acknowledges and keeps nothing.
    pub fn begin(&self, name: &str) {
        name.clone_into(&mut self.liar.lock().unwrap());
        self.on.store(true, Ordering::SeqCst);
    }

    /// From now on the site of that name acknowledges removals and makes none.
    pub fn hoard(&self, name: &str) {
        name.clone_into(&mut self.liar.lock().unwrap());
        self.hoards.store(true, Ordering::SeqCst);
    }

    /// From now on the listings of the site of that name have no end: ids that
    /// rise, of records that nobody wrote.
    pub fn babble(&self, name: &str) {
        name.clone_into(&mut self.liar.lock().unwrap());
        self.babbles.store(true, Ordering::SeqCst);
    }

    /// Nobody lies any more.
    pub fn end(&self) {
        self.on.store(false, Ordering::SeqCst);
        self.hoards.store(false, Ordering::SeqCst);
        self.babbles.store(false, Ordering::SeqCst);
    }

    /// The site of that name as it was opened last, past the service.
    pub fn site(&self, name: &str) -> Option<Arc<dyn Site>> {
        self.opened.lock().unwrap().get(name).cloned()
    }

    /// Lets go of the sites, so that their directories can be opened again.
    pub fn forget(&self) {
        self.opened.lock().unwrap().clear();
    }

    /// Records that were acknowledged and not kept, or listed and never written.
    pub fn told(&self) -> u64 {
        self.told.load(Ordering::SeqCst)
    }
}

impl Lies {
    /// Opens sites as `inner` does, all honest at first.
    pub fn before(inner: Arc<dyn SiteOpener>) -> (Arc<dyn SiteOpener>, Arc<Self>) {
        let lies = Arc::<Self>::default();
        let told = Arc::clone(&lies);
        let sites = twisted(inner, move |inner| {
            let name = inner.description().name.clone();
            told.opened.lock().unwrap().insert(name, Arc::clone(&inner));
            Liar { inner, lies: Arc::clone(&told) }
        });
        (sites, lies)
    }
}

struct Liar {
    inner: Arc<dyn Site>,
    lies: Arc<Lies>,
}

impl Liar {
    fn lies(&self, so: &AtomicBool) -> bool {
        let name = &self.inner.description().name;
        so.load(Ordering::SeqCst) && *self.lies.liar.lock().unwrap() == *name
    }
}

#[async_trait]
impl Twist for Liar {
    fn inner(&self) -> &dyn Site {
        self.inner.as_ref()
    }

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        if !self.lies(&self.lies.on) {
            return self.inner.put(records).await;
        }
        self.lies.told.fetch_add(records.len() as u64, Ordering::SeqCst);
        let site = self.inner.description().id;
        let receipt = |record: &Record| Receipt::of(site, record);
        Ok(records.iter().map(receipt).collect())
    }

    async fn delete(&self, ids: Vec<RecordId>) -> Result<u64, SiteError> {
        if !self.lies(&self.lies.hoards) {
            return self.inner.delete(ids).await;
        }
        self.lies.told.fetch_add(ids.len() as u64, Ordering::SeqCst);
        Ok(ids.len() as u64)
    }

    async fn list(
        &self,
        kind: RecordKind,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<ListedRecord>, SiteError> {
        if !self.lies(&self.lies.babbles) {
            return self.inner.list(kind, after, limit).await;
        }
        // Whoever waits for the end must be able to stop waiting.
        tokio::task::yield_now().await;
        let first = after.map_or(0, |after| u128::from_be_bytes(*after.as_bytes())) + 1;
        let line = |n: u128| ListedRecord {
            id: RecordId::from_bytes(n.to_be_bytes()),
            kind,
            body_bytes: 100,
            digest: Digest([7; 32]),
        };
        self.lies.told.fetch_add(limit as u64, Ordering::SeqCst);
        Ok((first..).take(limit).map(line).collect())
    }
}
