//! Sites of this machine that lie when they are told to: they acknowledge what
//! they are given, and keep nothing of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use coffer_model::{RecordId, SiteDescription, SlotId};
use coffer_regions::{
    Answer, Challenge, ListedRecord, Reach, Receipt, Record, RecordKind, ScrubCursor, ScrubFinding,
    ScrubStep, Site, SiteError, SiteState, SlotContent, SlotListing, UnverifiedBytes,
};
use coffer_server::{HostSites, OpenedSite, SiteAddress, SiteOpener};
use coffer_site::OpenSiteError;

/// Opens the sites of this machine, of which one may lie.
pub struct LyingSites {
    inner: HostSites,
    lies: Arc<Lies>,
}

/// Which site lies now, and how often it did.
#[derive(Default)]
pub struct Lies {
    liar: Mutex<String>,
    on: AtomicBool,
    told: AtomicU64,
    opened: Mutex<BTreeMap<String, Arc<dyn Site>>>,
}

impl Lies {
    /// From now on the site of that name acknowledges and keeps nothing.
    pub fn begin(&self, name: &str) {
        name.clone_into(&mut self.liar.lock().unwrap());
        self.on.store(true, Ordering::SeqCst);
    }

    /// Nobody lies any more.
    pub fn end(&self) {
        self.on.store(false, Ordering::SeqCst);
    }

    /// The site of that name as it was opened last, past the service.
    pub fn site(&self, name: &str) -> Option<Arc<dyn Site>> {
        self.opened.lock().unwrap().get(name).cloned()
    }

    /// Lets go of the sites, so that their directories can be opened again.
    pub fn forget(&self) {
        self.opened.lock().unwrap().clear();
    }

    /// Records that were acknowledged and not kept.
    pub fn told(&self) -> u64 {
        self.told.load(Ordering::SeqCst)
    }
}

impl LyingSites {
    /// All honest at first.
    pub fn new(inner: HostSites) -> (Self, Arc<Lies>) {
        let lies = Arc::<Lies>::default();
        (Self { inner, lies: Arc::clone(&lies) }, lies)
    }

    fn wrap(&self, opened: OpenedSite) -> OpenedSite {
        let name = opened.site.description().name.clone();
        self.lies.opened.lock().unwrap().insert(name, Arc::clone(&opened.site));
        let site = Liar { inner: Arc::clone(&opened.site), lies: Arc::clone(&self.lies) };
        OpenedSite { site: Arc::new(site), link: opened.link }
    }
}

#[async_trait]
impl SiteOpener for LyingSites {
    async fn create(&self, data_dir: &Path, address: &SiteAddress) -> Result<OpenedSite, OpenSiteError> {
        Ok(self.wrap(self.inner.create(data_dir, address).await?))
    }

    async fn open(
        &self,
        data_dir: &Path,
        address: &SiteAddress,
    ) -> Result<Option<OpenedSite>, OpenSiteError> {
        Ok(self.inner.open(data_dir, address).await?.map(|opened| self.wrap(opened)))
    }
}

struct Liar {
    inner: Arc<dyn Site>,
    lies: Arc<Lies>,
}

impl Liar {
    fn lies(&self) -> bool {
        self.lies.on.load(Ordering::SeqCst) && *self.lies.liar.lock().unwrap() == self.description().name
    }
}

#[async_trait]
impl Site for Liar {
    fn description(&self) -> &SiteDescription {
        self.inner.description()
    }

    fn answers(&self) -> bool {
        self.inner.answers()
    }

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        if !self.lies() {
            return self.inner.put(records).await;
        }
        self.lies.told.fetch_add(records.len() as u64, Ordering::SeqCst);
        let site = self.description().id;
        let receipt = |record: &Record| Receipt { site, record: record.id(), digest: record.digest() };
        Ok(records.iter().map(receipt).collect())
    }

    async fn get(&self, id: RecordId) -> Result<Record, SiteError> {
        self.inner.get(id).await
    }

    async fn get_range(&self, id: RecordId, range: Range<u32>) -> Result<UnverifiedBytes, SiteError> {
        self.inner.get_range(id, range).await
    }

    async fn answer(&self, challenge: Challenge) -> Result<Answer, SiteError> {
        self.inner.answer(challenge).await
    }

    async fn list(
        &self,
        kind: RecordKind,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<ListedRecord>, SiteError> {
        self.inner.list(kind, after, limit).await
    }

    async fn delete(&self, ids: Vec<RecordId>) -> Result<u64, SiteError> {
        self.inner.delete(ids).await
    }

    async fn scrub(&self) -> Result<Vec<ScrubFinding>, SiteError> {
        self.inner.scrub().await
    }

    async fn scrub_step(&self, from: Option<ScrubCursor>, bytes_max: u64) -> Result<ScrubStep, SiteError> {
        self.inner.scrub_step(from, bytes_max).await
    }

    async fn reaches(&self, reach: Reach) -> Result<bool, SiteError> {
        self.inner.reaches(reach).await
    }

    async fn write_slot(&self, slot: SlotId, content: SlotContent) -> Result<(), SiteError> {
        self.inner.write_slot(slot, content).await
    }

    async fn read_slot(&self, slot: SlotId) -> Result<SlotContent, SiteError> {
        self.inner.read_slot(slot).await
    }

    async fn wipe_superseded(&self, slot: SlotId) -> Result<(), SiteError> {
        self.inner.wipe_superseded(slot).await
    }

    async fn list_slots(&self) -> Result<Vec<SlotListing>, SiteError> {
        self.inner.list_slots().await
    }

    async fn state(&self) -> SiteState {
        self.inner.state().await
    }
}
