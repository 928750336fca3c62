//! A gate before the sites: calls are held back there, and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use coffer_model::RecordId;
use coffer_regions::{ListedRecord, Record, RecordKind, Site, SiteError};
use coffer_server::SiteOpener;
use tokio::sync::watch;

use crate::twist::{Twist, twisted};

/// The calls that pass through a gate; others go past it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gated {
    /// [`Site::get`].
    Gets,
    /// [`Site::list`].
    Lists,
}

/// Where calls of sites are held back. It is open at first.
pub struct Gate {
    calls: Gated,
    /// Whether those that come now are held back.
    shut: AtomicBool,
    /// Whether those that were held back may go on.
    open: watch::Sender<bool>,
    held: watch::Sender<u64>,
    passed: AtomicU64,
}

impl Gate {
    /// Opens sites as `inner` does, and puts one gate before all of them.
    pub fn before(inner: Arc<dyn SiteOpener>, calls: Gated) -> (Arc<dyn SiteOpener>, Arc<Self>) {
        let gate = Arc::new(Self {
            calls,
            shut: AtomicBool::new(false),
            open: watch::Sender::new(true),
            held: watch::Sender::new(0),
            passed: AtomicU64::new(0),
        });
        let before = Arc::clone(&gate);
        (twisted(inner, move |inner| GatedSite { inner, gate: Arc::clone(&before) }), gate)
    }

    /// Calls that come from now on are held back.
    pub fn shut(&self) {
        self.open.send_replace(false);
        self.shut.store(true, Ordering::SeqCst);
    }

    /// Returns once a call has been held back.
    pub async fn holds_one(&self) {
        self.held.subscribe().wait_for(|held| *held > 0).await.unwrap();
    }

    /// Calls that come from now on pass; those that are held back stay so.
    pub fn let_others_pass(&self) {
        self.shut.store(false, Ordering::SeqCst);
    }

    /// Everybody goes on.
    pub fn open(&self) {
        self.passed.store(0, Ordering::SeqCst);
        self.shut.store(false, Ordering::SeqCst);
        self.open.send_replace(true);
    }

    /// How many came since it was opened, and passed.
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    async fn pass(&self, call: Gated) {
        if call != self.calls {
            return;
        }
        if !self.shut.load(Ordering::SeqCst) {
            self.passed.fetch_add(1, Ordering::SeqCst);
            return;
        }
        let mut open = self.open.subscribe();
        self.held.send_modify(|held| *held += 1);
        open.wait_for(|open| *open).await.unwrap();
    }
}

struct GatedSite {
    inner: Arc<dyn Site>,
    gate: Arc<Gate>,
}

#[async_trait]
impl Twist for GatedSite {
    fn inner(&self) -> &dyn Site {
        self.inner.as_ref()
    }

    async fn get(&self, id: RecordId) -> Result<Record, SiteError> {
        self.gate.pass(Gated::Gets).await;
        self.inner.get(id).await
    }

    async fn list(
        &self,
        kind: RecordKind,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<ListedRecord>, SiteError> {
        self.gate.pass(Gated::Lists).await;
        self.inner.list(kind, after, limit).await
    }
}
