//! Sites that stand before other sites and do one thing otherwise: what does
//! not differ is written once, here.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use coffer_model::{RecordId, SiteDescription, SlotId};
use coffer_regions::{
    Answer, Challenge, ListedRecord, Reach, Receipt, Record, RecordKind, ScrubCursor, ScrubFinding,
    ScrubStep, Site, SiteError, SiteState, SlotContent, SlotListing, UnverifiedBytes,
};
use coffer_server::{OpenedSite, SiteAddress, SiteOpener};
use coffer_site::OpenSiteError;

/// What a site does otherwise than the one behind it. Calls that are not
/// here go through as they are.
#[async_trait]
pub trait Twist: Send + Sync + 'static {
    /// The site behind it.
    fn inner(&self) -> &dyn Site;

    /// In the place of [`Site::put`].
    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        self.inner().put(records).await
    }

    /// In the place of [`Site::get`].
    async fn get(&self, id: RecordId) -> Result<Record, SiteError> {
        self.inner().get(id).await
    }

    /// In the place of [`Site::get_range`].
    async fn get_range(&self, id: RecordId, range: Range<u32>) -> Result<UnverifiedBytes, SiteError> {
        self.inner().get_range(id, range).await
    }

    /// In the place of [`Site::answer`].
    async fn answer(&self, challenge: Challenge) -> Result<Answer, SiteError> {
        self.inner().answer(challenge).await
    }

    /// In the place of [`Site::list`].
    async fn list(
        &self,
        kind: RecordKind,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<ListedRecord>, SiteError> {
        self.inner().list(kind, after, limit).await
    }

    /// In the place of [`Site::delete`].
    async fn delete(&self, ids: Vec<RecordId>) -> Result<u64, SiteError> {
        self.inner().delete(ids).await
    }

    /// In the place of [`Site::scrub_step`].
    async fn scrub_step(&self, from: Option<ScrubCursor>, bytes_max: u64) -> Result<ScrubStep, SiteError> {
        self.inner().scrub_step(from, bytes_max).await
    }
}

/// A site with a twist.
pub struct Twisted<T>(pub T);

#[async_trait]
impl<T: Twist> Site for Twisted<T> {
    fn description(&self) -> &SiteDescription {
        self.0.inner().description()
    }

    fn answers(&self) -> bool {
        self.0.inner().answers()
    }

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        self.0.put(records).await
    }

    async fn get(&self, id: RecordId) -> Result<Record, SiteError> {
        self.0.get(id).await
    }

    async fn get_range(&self, id: RecordId, range: Range<u32>) -> Result<UnverifiedBytes, SiteError> {
        self.0.get_range(id, range).await
    }

    async fn answer(&self, challenge: Challenge) -> Result<Answer, SiteError> {
        self.0.answer(challenge).await
    }

    async fn list(
        &self,
        kind: RecordKind,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<ListedRecord>, SiteError> {
        self.0.list(kind, after, limit).await
    }

    async fn delete(&self, ids: Vec<RecordId>) -> Result<u64, SiteError> {
        self.0.delete(ids).await
    }

    async fn scrub(&self) -> Result<Vec<ScrubFinding>, SiteError> {
        self.0.inner().scrub().await
    }

    async fn scrub_step(&self, from: Option<ScrubCursor>, bytes_max: u64) -> Result<ScrubStep, SiteError> {
        self.0.scrub_step(from, bytes_max).await
    }

    async fn reaches(&self, reach: Reach) -> Result<bool, SiteError> {
        self.0.inner().reaches(reach).await
    }

    async fn write_slot(&self, slot: SlotId, content: SlotContent) -> Result<(), SiteError> {
        self.0.inner().write_slot(slot, content).await
    }

    async fn read_slot(&self, slot: SlotId) -> Result<SlotContent, SiteError> {
        self.0.inner().read_slot(slot).await
    }

    async fn wipe_superseded(&self, slot: SlotId) -> Result<(), SiteError> {
        self.0.inner().wipe_superseded(slot).await
    }

    async fn list_slots(&self) -> Result<Vec<SlotListing>, SiteError> {
        self.0.inner().list_slots().await
    }

    async fn state(&self) -> SiteState {
        self.0.inner().state().await
    }
}

/// Opens sites as `inner` does, each with a twist that is made from the site
/// behind it.
pub fn twisted<T: Twist>(
    inner: Arc<dyn SiteOpener>,
    twist: impl Fn(Arc<dyn Site>) -> T + Send + Sync + 'static,
) -> Arc<dyn SiteOpener> {
    Arc::new(OpenedThrough::new(inner, move |opened: OpenedSite| OpenedSite {
        site: Arc::new(Twisted(twist(opened.site))),
        link: opened.link,
    }))
}

/// Opens sites as another opener does, and puts something before each.
pub struct OpenedThrough<F> {
    inner: Arc<dyn SiteOpener>,
    before: F,
}

impl<F: Fn(OpenedSite) -> OpenedSite + Send + Sync> OpenedThrough<F> {
    /// `before` gets each site as it was opened.
    pub fn new(inner: Arc<dyn SiteOpener>, before: F) -> Self {
        Self { inner, before }
    }
}

#[async_trait]
impl<F: Fn(OpenedSite) -> OpenedSite + Send + Sync> SiteOpener for OpenedThrough<F> {
    async fn create(&self, data_dir: &Path, address: &SiteAddress) -> Result<OpenedSite, OpenSiteError> {
        self.inner.create(data_dir, address).await.map(&self.before)
    }

    async fn open(
        &self,
        data_dir: &Path,
        address: &SiteAddress,
    ) -> Result<Option<OpenedSite>, OpenSiteError> {
        Ok(self.inner.open(data_dir, address).await?.map(&self.before))
    }
}
