//! A site behind one question: does it still reach as far as it was seen to
//! reach? Asked when it is opened and whenever it comes back; a site that does
//! not is quarantined. What it answers is then no longer believed where it
//! says that something is *not* there, and nothing is written to it; records
//! that prove themselves may still be read.

use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use coffer_model::{RecordId, ScopeId, SiteDescription, SlotId};
use coffer_regions::{
    Answer, Challenge, Change, Changed, Fence, ListedRecord, Reach, Receipt, Record, RecordKind, ScrubCursor,
    ScrubFinding, ScrubStep, Site, SiteError, SiteState, SlotContent, SlotListing, UnverifiedBytes,
};

/// It proved that it reaches what is known, and answered ever since.
const TRUSTED: u8 = 0;
/// It did not answer: it proves itself before it is believed again.
const AWAY: u8 = 1;
/// It is older than it was.
const QUARANTINED: u8 = 2;

/// Another site, as far as it is believed.
pub(crate) struct Guard {
    inner: Arc<dyn Site>,
    standing: AtomicU8,
    /// The furthest that it was seen to reach.
    known: Mutex<Option<Reach>>,
}

impl Guard {
    /// A site that nothing is known of.
    pub(crate) fn new(inner: Arc<dyn Site>) -> Self {
        Self { inner, standing: AtomicU8::new(TRUSTED), known: Mutex::new(None) }
    }

    /// The site itself, for who compares and refills it.
    pub(crate) fn inner(&self) -> Arc<dyn Site> {
        Arc::clone(&self.inner)
    }

    pub(crate) fn is_quarantined(&self) -> bool {
        self.standing.load(Ordering::Acquire) == QUARANTINED
    }

    /// The furthest that it was seen to reach.
    pub(crate) fn known(&self) -> Option<Reach> {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_known(&self, reach: Option<Reach>) {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = reach;
    }

    pub(crate) fn quarantine(&self) {
        self.standing.store(QUARANTINED, Ordering::Release);
    }

    /// Holds the site against what was remembered of it. One that does not
    /// answer now is asked when it does.
    pub(crate) async fn hold_against(&self, remembered: Reach) {
        if self.known().is_none_or(|known| known.sequence < remembered.sequence) {
            self.set_known(Some(remembered));
        }
        self.away();
        // What it came to is in its standing.
        let _ = self.prove().await;
    }

    /// Looks how far it reaches now, and remembers it. A site may have gone and
    /// come back without anybody having asked, so it proves itself whenever it
    /// has moved; calls go on meanwhile, unless it says itself that it is older.
    pub(crate) async fn observe(&self) {
        let state = self.inner.state().await;
        if !state.alive {
            self.away();
            return;
        }
        let known = self.known();
        if state.reach != known {
            let sequence = |reach: Option<Reach>| reach.map(|reach| reach.sequence);
            if sequence(state.reach) <= sequence(known) {
                self.away();
            } else if let Some(known) = known {
                match self.inner.reaches(known).await {
                    Ok(true) => {}
                    // A quarantine ends only by its release.
                    Ok(false) => self.quarantine(),
                    Err(_) => self.away(),
                }
            }
        }
        if self.prove().await.is_ok()
            && let Some(reach) = state.reach
        {
            self.set_known(Some(reach));
        }
    }

    /// Takes it as it is from now on: whoever calls has compared it with the
    /// others and brought it what it lacked.
    pub(crate) async fn release(&self) -> Result<(), SiteError> {
        let state = self.inner.state().await;
        if !state.alive {
            return Err(SiteError::Unreachable);
        }
        self.set_known(state.reach);
        self.standing.store(TRUSTED, Ordering::Release);
        Ok(())
    }

    fn away(&self) {
        // A quarantine ends only by its release.
        let _ = self.standing.compare_exchange(TRUSTED, AWAY, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether it is to be believed: it is trusted, or proves itself now.
    async fn prove(&self) -> Result<(), SiteError> {
        match self.standing.load(Ordering::Acquire) {
            TRUSTED => return Ok(()),
            QUARANTINED => return Err(SiteError::Unreachable),
            _ => {}
        }
        let reaches = match self.known() {
            // Without a history there is nothing to hold it against.
            None => true,
            Some(known) => self.inner.reaches(known).await?,
        };
        let now = if reaches { TRUSTED } else { QUARANTINED };
        let _ = self.standing.compare_exchange(AWAY, now, Ordering::AcqRel, Ordering::Acquire);
        if self.is_quarantined() { Err(SiteError::Unreachable) } else { Ok(()) }
    }

    /// For what must not reach a site that is older than it was.
    async fn trusted<T>(
        &self,
        work: impl Future<Output = Result<T, SiteError>> + Send,
    ) -> Result<T, SiteError> {
        self.prove().await?;
        self.heard(work.await)
    }

    /// For records that prove themselves: read from any site, but only one that
    /// is believed can say that it has none.
    async fn verified<T>(
        &self,
        work: impl Future<Output = Result<T, SiteError>> + Send,
    ) -> Result<T, SiteError> {
        match self.prove().await {
            Err(error) if !self.is_quarantined() => Err(error),
            _ => self.believed(self.heard(work.await)),
        }
    }

    fn heard<T>(&self, answer: Result<T, SiteError>) -> Result<T, SiteError> {
        if matches!(answer, Err(SiteError::Unreachable)) {
            self.away();
        }
        answer
    }

    fn believed<T>(&self, answer: Result<T, SiteError>) -> Result<T, SiteError> {
        match answer {
            Err(SiteError::Missing) if self.is_quarantined() => Err(SiteError::Unreachable),
            answer => answer,
        }
    }
}

#[async_trait]
impl Site for Guard {
    fn description(&self) -> &SiteDescription {
        self.inner.description()
    }

    fn answers(&self) -> bool {
        !self.is_quarantined() && self.inner.answers()
    }

    async fn put(&self, records: Vec<Record>) -> Result<Vec<Receipt>, SiteError> {
        self.trusted(self.inner.put(records)).await
    }

    async fn get(&self, id: RecordId) -> Result<Record, SiteError> {
        self.verified(self.inner.get(id)).await
    }

    async fn get_many(&self, ids: Vec<RecordId>) -> Vec<Result<Record, SiteError>> {
        let count = ids.len();
        let answers = self.verified(async { Ok(self.inner.get_many(ids).await) }).await;
        match answers {
            Ok(answers) => answers.into_iter().map(|answer| self.believed(self.heard(answer))).collect(),
            Err(error) => vec![Err(error); count],
        }
    }

    async fn get_range(&self, id: RecordId, range: Range<u32>) -> Result<UnverifiedBytes, SiteError> {
        self.verified(self.inner.get_range(id, range)).await
    }

    async fn answer(&self, challenge: Challenge) -> Result<Answer, SiteError> {
        self.verified(self.inner.answer(challenge)).await
    }

    async fn list(
        &self,
        kind: RecordKind,
        after: Option<RecordId>,
        limit: usize,
    ) -> Result<Vec<ListedRecord>, SiteError> {
        self.trusted(self.inner.list(kind, after, limit)).await
    }

    async fn delete(&self, ids: Vec<RecordId>) -> Result<u64, SiteError> {
        self.trusted(self.inner.delete(ids)).await
    }

    async fn scrub(&self) -> Result<Vec<ScrubFinding>, SiteError> {
        self.heard(self.inner.scrub().await)
    }

    async fn scrub_step(&self, from: Option<ScrubCursor>, bytes_max: u64) -> Result<ScrubStep, SiteError> {
        self.heard(self.inner.scrub_step(from, bytes_max).await)
    }

    async fn reaches(&self, reach: Reach) -> Result<bool, SiteError> {
        self.heard(self.inner.reaches(reach).await)
    }

    async fn write_slot(&self, slot: SlotId, content: SlotContent) -> Result<(), SiteError> {
        self.trusted(self.inner.write_slot(slot, content)).await
    }

    /// Slots are authenticated and say how new they are: an older one is
    /// outvoted by any other site.
    async fn read_slot(&self, slot: SlotId) -> Result<SlotContent, SiteError> {
        self.verified(self.inner.read_slot(slot)).await
    }

    async fn wipe_superseded(&self, slot: SlotId) -> Result<(), SiteError> {
        self.trusted(self.inner.wipe_superseded(slot)).await
    }

    /// An older site may know an older epoch; it learns the newer one all the same.
    async fn raise(&self, fence: Fence) -> Result<(), SiteError> {
        self.heard(self.inner.raise(fence).await)
    }

    async fn epoch(&self, scope: ScopeId) -> Result<u64, SiteError> {
        self.heard(self.inner.epoch(scope).await)
    }

    async fn change_under(&self, fence: Fence, change: Change) -> Result<Changed, SiteError> {
        self.trusted(self.inner.change_under(fence, change)).await
    }

    async fn list_slots(&self) -> Result<Vec<SlotListing>, SiteError> {
        self.verified(self.inner.list_slots()).await
    }

    async fn state(&self) -> SiteState {
        self.inner.state().await
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use coffer_model::{Digest, Entropy, FailureDomain, SiteId, Tier};
    use coffer_regions::ClearGeometry;
    use coffer_site::{DirectorySite, SimulatedSite};

    use super::*;

    struct Zeros;

    impl Entropy for Zeros {
        fn fill(&self, out: &mut [u8]) {
            out.fill(0);
        }
    }

    fn record(n: u8) -> Record {
        let id = RecordId::from_bytes([n; 16]);
        Record::new(RecordKind::Log, id, ClearGeometry::default(), Bytes::from(vec![n; 40])).unwrap()
    }

    fn id(n: u8) -> RecordId {
        RecordId::from_bytes([n; 16])
    }

    /// A site with one record behind a link that can be cut.
    async fn guarded() -> (tempfile::TempDir, Arc<SimulatedSite>, Guard) {
        let dir = tempfile::tempdir().unwrap();
        let description = SiteDescription {
            id: SiteId::from_bytes([1; 16]),
            name: "one".to_owned(),
            country: "DE".parse().unwrap(),
            domain: FailureDomain("d".to_owned()),
            tier: Tier::III,
        };
        let site = DirectorySite::create(&dir.path().join("one"), description, Arc::new(Zeros)).unwrap();
        let link = Arc::new(SimulatedSite::new(Arc::new(site), std::time::Duration::ZERO, None));
        let guard = Guard::new(Arc::clone(&link) as Arc<dyn Site>);
        guard.put(vec![record(1)]).await.unwrap();
        guard.observe().await;
        (dir, link, guard)
    }

    /// A reach that the site does not have.
    fn further(reach: Reach) -> Reach {
        Reach { sequence: reach.sequence + 1, digest: Digest([7; 32]) }
    }

    #[tokio::test]
    async fn a_site_that_does_not_reach_what_is_known_is_read_and_nothing_else() {
        let (_dir, _, guard) = guarded().await;
        let reach = guard.known().unwrap();
        guard.hold_against(reach).await;
        assert!(!guard.is_quarantined() && guard.answers());
        guard.hold_against(further(reach)).await;
        assert!(guard.is_quarantined() && !guard.answers());
        assert_eq!(guard.get(id(1)).await, Ok(record(1)));
        assert_eq!(guard.get(id(2)).await, Err(SiteError::Unreachable), "it cannot say that it never had it");
        assert_eq!(guard.get_many(vec![id(1), id(2)]).await, [Ok(record(1)), Err(SiteError::Unreachable)]);
        assert_eq!(guard.list(RecordKind::Log, None, 9).await, Err(SiteError::Unreachable));
        assert_eq!(guard.put(vec![record(3)]).await, Err(SiteError::Unreachable));
        assert_eq!(guard.delete(vec![id(1)]).await, Err(SiteError::Unreachable));
        guard.observe().await;
        assert!(guard.is_quarantined(), "that it answers does not end it");
        assert_eq!(guard.known(), Some(further(reach)));
        guard.release().await.unwrap();
        assert_eq!(guard.get(id(2)).await, Err(SiteError::Missing));
        assert_eq!((guard.is_quarantined(), guard.known()), (false, Some(reach)));
    }

    #[tokio::test]
    async fn a_site_that_was_away_proves_itself_before_it_is_believed_again() {
        let (_dir, link, guard) = guarded().await;
        link.kill();
        assert_eq!(guard.get(id(1)).await, Err(SiteError::Unreachable));
        link.revive();
        assert_eq!(guard.list(RecordKind::Log, None, 9).await.unwrap().len(), 1);
        assert!(!guard.is_quarantined(), "it was merely down");

        link.kill();
        assert_eq!(guard.get(id(1)).await, Err(SiteError::Unreachable));
        // It comes back without the last of what it had acknowledged.
        guard.set_known(guard.known().map(further));
        link.revive();
        assert_eq!(guard.list(RecordKind::Log, None, 9).await, Err(SiteError::Unreachable));
        assert!(guard.is_quarantined());
    }

    #[tokio::test]
    async fn a_site_that_went_back_unseen_is_found_by_the_next_look() {
        let (_dir, _, guard) = guarded().await;
        guard.set_known(guard.known().map(further));
        assert!(!guard.is_quarantined());
        guard.observe().await;
        assert!(guard.is_quarantined());
    }
}
