//! Sites of a service in a process of its own, for stories that kill it
//! between what reached the sites and its commit: one site never answers what
//! decides, and of each other one it can be seen from outside that it did.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use coffer_regions::{Receipt, Record, RecordKind, Site, SiteError};
use coffer_server::SiteOpener;

use crate::twist::{Twist, twisted};

/// Which site holds back, and where it is noted that the others did not.
#[derive(Clone)]
pub struct Held {
    name: String,
    notes: PathBuf,
}

impl Held {
    /// The site `name` takes no manifest and no tombstone; every other one that
    /// acknowledged one is noted in the directory `notes`.
    pub fn new(name: &str, notes: &Path) -> Self {
        Self { name: name.to_owned(), notes: notes.to_owned() }
    }

    /// Opens sites as `inner` does, and holds one of them back.
    pub fn before(self, inner: Arc<dyn SiteOpener>) -> Arc<dyn SiteOpener> {
        twisted(inner, move |inner| HeldSite { inner, held: self.clone() })
    }

    /// Whether the site `name` acknowledged a manifest or a tombstone.
    pub fn acknowledged(&self, name: &str) -> bool {
        self.notes.join(name).exists()
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn notes(&self) -> &Path {
        &self.notes
    }
}

struct HeldSite {
    inner: Arc<dyn Site>,
    held: Held,
}

#[async_trait]
impl Twist for HeldSite {
    fn inner(&self) -> &dyn Site {
        self.inner.as_ref()
    }

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        let decides = |record: &Record| matches!(record.kind(), RecordKind::Manifest | RecordKind::Tombstone);
        if !records.iter().any(decides) {
            return self.inner.put(records).await;
        }
        let name = &self.inner.description().name;
        if *name == self.held.name {
            std::future::pending::<()>().await;
        }
        let receipts = self.inner.put(records).await?;
        OpenOptions::new().create(true).append(true).open(self.held.notes.join(name)).unwrap();
        Ok(receipts)
    }
}
