//! Sites of a service in a process of its own, for stories that kill it in the
//! midst: what is held back there is never answered, and what was answered can
//! be seen from outside.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use coffer_regions::{Receipt, Record, RecordKind, Site, SiteError};
use coffer_server::SiteOpener;

use crate::twist::{Twist, twisted};

/// What is held back, and where it is noted what happened.
#[derive(Clone)]
pub struct Held {
    what: What,
    notes: PathBuf,
}

#[derive(Clone)]
enum What {
    /// Manifests and tombstones at the site of that name.
    Deciding(String),
    /// Shards and manifests at all sites, after so many.
    After(u64),
}

impl Held {
    /// The site `name` takes no manifest and no tombstone; every other one that
    /// acknowledged one is noted in the directory `notes`.
    pub fn new(name: &str, notes: &Path) -> Self {
        Self { what: What::Deciding(name.to_owned()), notes: notes.to_owned() }
    }

    /// The sites together take so many shards and manifests and no more.
    pub fn after(puts: u64, notes: &Path) -> Self {
        Self { what: What::After(puts), notes: notes.to_owned() }
    }

    /// What [`Held::what`] says.
    pub fn parse(what: &str, notes: &Path) -> Self {
        what.parse().map_or_else(|_| Self::new(what, notes), |puts| Self::after(puts, notes))
    }

    /// Opens sites as `inner` does, and holds back what is to be held.
    pub fn before(self, inner: Arc<dyn SiteOpener>) -> Arc<dyn SiteOpener> {
        let begun = Arc::<AtomicU64>::default();
        twisted(inner, move |inner| HeldSite { inner, held: self.clone(), begun: Arc::clone(&begun) })
    }

    /// Whether the site `name` acknowledged a manifest or a tombstone.
    pub fn acknowledged(&self, name: &str) -> bool {
        self.notes.join(name).exists()
    }

    /// Whether something is held back because there was enough.
    pub fn had_enough(&self) -> bool {
        self.notes.join(ENOUGH).exists()
    }

    pub(crate) fn what(&self) -> String {
        match &self.what {
            What::Deciding(name) => name.clone(),
            What::After(puts) => puts.to_string(),
        }
    }

    pub(crate) fn notes(&self) -> &Path {
        &self.notes
    }

    fn note(&self, name: &str) {
        OpenOptions::new().create(true).append(true).open(self.notes.join(name)).unwrap();
    }
}

/// The note that says that something is held back; no site is called so.
const ENOUGH: &str = "ENOUGH";

struct HeldSite {
    inner: Arc<dyn Site>,
    held: Held,
    /// Shards and manifests so far, at all sites.
    begun: Arc<AtomicU64>,
}

#[async_trait]
impl Twist for HeldSite {
    fn inner(&self) -> &dyn Site {
        self.inner.as_ref()
    }

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        let is = |kinds: [RecordKind; 2]| records.iter().any(|record| kinds.contains(&record.kind()));
        let name = match &self.held.what {
            What::Deciding(name) if is([RecordKind::Manifest, RecordKind::Tombstone]) => name,
            What::After(puts) if is([RecordKind::Shard, RecordKind::Manifest]) => {
                if self.begun.fetch_add(1, Ordering::SeqCst) >= *puts {
                    self.held.note(ENOUGH);
                    std::future::pending::<()>().await;
                }
                return self.inner.put(records).await;
            }
            _ => return self.inner.put(records).await,
        };
        let here = &self.inner.description().name;
        if here == name {
            std::future::pending::<()>().await;
        }
        let receipts = self.inner.put(records).await?;
        self.held.note(here);
        Ok(receipts)
    }
}
