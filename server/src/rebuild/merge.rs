//! The listings of all sites as one, in order of id: what a rebuild walks
//! through with a page or two of each site in memory, however much there is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use coffer_model::{Digest, RecordId, SiteId};
use coffer_regions::{ListedRecord, RecordKind, Site, SiteError};
use tokio::task::JoinHandle;

use crate::listing::{is_credible_served, vouched};
use crate::sites::Sites;

/// So many times more a site is asked that did not answer.
pub(crate) const ASKED_AGAIN: usize = 2;

/// Records that one request for a listing asks for.
const PAGE: usize = 4096;

/// One record and the sites that list it, each with the digest of its copy.
pub(crate) struct Listed {
    pub(crate) id: RecordId,
    pub(crate) holders: Vec<(SiteId, Digest)>,
    /// Length of the longest copy's body, as its site says.
    pub(crate) body_bytes: usize,
}

/// Reads one site's listing of a kind, a page ahead.
struct Cursor {
    id: SiteId,
    site: Arc<dyn Site>,
    page: VecDeque<ListedRecord>,
    last: Option<RecordId>,
    /// Lines so far.
    listed: u64,
    next: Option<JoinHandle<Result<Vec<ListedRecord>, SiteError>>>,
}

impl Cursor {
    /// The next page. A call may fail once, and whoever is silent in a rebuild
    /// stays unheard for good: it is asked again.
    async fn answered(
        &self,
        next: JoinHandle<Result<Vec<ListedRecord>, SiteError>>,
        kind: RecordKind,
    ) -> Result<Vec<ListedRecord>, SiteError> {
        let mut page = next.await.unwrap_or(Err(SiteError::Unreachable));
        for _ in 0..ASKED_AGAIN {
            if !matches!(page, Err(SiteError::Unreachable)) {
                break;
            }
            page = self.site.list(kind, self.last, PAGE).await;
        }
        page
    }
}

/// The merged listing of one kind.
pub(crate) struct Merge<'a> {
    sites: &'a Sites,
    kind: RecordKind,
    cursors: Vec<Cursor>,
    silent: BTreeSet<SiteId>,
    /// How many records catalogues account for that are not rebuilt.
    known: u64,
    opened: Arc<Opened>,
}

/// How many of the records that each site listed turned out to be what is
/// looked for, and how many are somebody else's. Only others count against a
/// site: of the first it may have any number.
#[derive(Default)]
pub(crate) struct Opened(Mutex<BTreeMap<SiteId, Met>>);

#[derive(Clone, Copy, Default)]
struct Met {
    good: u64,
    foreign: u64,
}

impl Opened {
    /// A record opened that these sites list.
    pub(crate) fn note(&self, holders: &[SiteId]) {
        self.met(holders, |met| met.good += 1);
    }

    /// A record was served that these sites list, and nobody here can open it.
    pub(crate) fn note_foreign(&self, holders: &[SiteId]) {
        self.met(holders, |met| met.foreign += 1);
    }

    fn met(&self, holders: &[SiteId], count: impl Fn(&mut Met)) {
        let mut met = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        holders.iter().for_each(|holder| count(met.entry(*holder).or_default()));
    }

    fn of(&self, site: SiteId) -> Met {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&site).copied().unwrap_or_default()
    }
}

impl<'a> Merge<'a> {
    /// Asks every site that is there for its first page. `known` records of
    /// the kind need not open.
    pub(crate) fn begin(sites: &'a Sites, kind: RecordKind, known: u64) -> Self {
        let (mut cursors, mut silent) = (Vec::new(), BTreeSet::new());
        for description in &sites.topology().sites {
            let id = description.id;
            match sites.get(id) {
                Some(site) => {
                    let next = Some(ask(&site, kind, None));
                    cursors.push(Cursor { id, site, page: VecDeque::new(), last: None, listed: 0, next });
                }
                None => drop(silent.insert(id)),
            }
        }
        Self { sites, kind, cursors, silent, known, opened: Arc::default() }
    }

    /// Where whoever opens what is listed notes what did.
    pub(crate) fn opened(&self) -> Arc<Opened> {
        Arc::clone(&self.opened)
    }

    /// The sites that did not answer, or broke off: what they alone know is
    /// not in the merged listing.
    pub(crate) fn silent(&self) -> &BTreeSet<SiteId> {
        &self.silent
    }

    /// The next records in order, at most `count` of them and about
    /// `bytes` of bodies; none at the end.
    pub(crate) async fn next(&mut self, count: usize, bytes: usize) -> Vec<Listed> {
        let (mut batch, mut held) = (Vec::new(), 0);
        while batch.len() < count && held < bytes {
            self.refill().await;
            let heads = self.cursors.iter().filter_map(|cursor| cursor.page.front());
            let Some(id) = heads.map(|line| line.id).min() else { break };
            let mut listed = Listed { id, holders: Vec::new(), body_bytes: 0 };
            for cursor in &mut self.cursors {
                if let Some(line) = cursor.page.pop_front_if(|line| line.id == id) {
                    cursor.listed += 1;
                    listed.holders.push((cursor.id, line.digest));
                    listed.body_bytes =
                        listed.body_bytes.max(usize::try_from(line.body_bytes).unwrap_or(usize::MAX));
                }
            }
            held = held.saturating_add(listed.body_bytes);
            batch.push(listed);
        }
        batch
    }

    /// Waits until every site has a record at hand, or has no more.
    async fn refill(&mut self) {
        if !self.cursors.iter().any(|cursor| cursor.page.is_empty() && cursor.next.is_some()) {
            return;
        }
        let listed: Vec<_> = self.cursors.iter().map(|cursor| (cursor.id, cursor.listed)).collect();
        for cursor in self.cursors.iter_mut().filter(|cursor| cursor.page.is_empty()) {
            let Some(next) = cursor.next.take() else { continue };
            let met = self.opened.of(cursor.id);
            let strange = cursor.listed.saturating_sub(met.good);
            let elsewhere = listed.iter().filter(|(id, _)| *id != cursor.id).map(|(_, listed)| *listed);
            let credible =
                is_credible_served(self.kind, strange, met.foreign, self.known, vouched(elsewhere));
            match cursor.answered(next, self.kind).await {
                Ok(page) if page.is_empty() => {}
                Ok(page) if credible && in_order(&page, cursor.last, self.kind) => {
                    cursor.last = page.last().map(|line| line.id);
                    cursor.next = Some(ask(&cursor.site, self.kind, cursor.last));
                    cursor.page = page.into();
                }
                Ok(_) => {
                    // A listing that goes in circles, or on and on with what
                    // nobody wrote, would never end.
                    self.sites.report(cursor.id);
                    self.silent.insert(cursor.id);
                }
                Err(_) => drop(self.silent.insert(cursor.id)),
            }
        }
    }
}

fn ask(
    site: &Arc<dyn Site>,
    kind: RecordKind,
    after: Option<RecordId>,
) -> JoinHandle<Result<Vec<ListedRecord>, SiteError>> {
    let site = Arc::clone(site);
    tokio::spawn(async move { site.list(kind, after, PAGE).await })
}

/// Whether a page is what was asked for: its ids rise, above all earlier ones.
fn in_order(page: &[ListedRecord], after: Option<RecordId>, kind: RecordKind) -> bool {
    let above = page.first().is_some_and(|first| after.is_none_or(|after| first.id > after));
    above
        && page.len() <= PAGE
        && page.is_sorted_by(|a, b| a.id < b.id)
        && page.iter().all(|line| line.kind == kind)
}
