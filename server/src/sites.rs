//! The sites as the service sees them: reachable or not, and what reads found
//! wrong with them. A site whose directory is gone stays in the topology and
//! never answers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use coffer_model::{Execution, ResidencyPolicy, SiteDescription, SiteId, Timestamp, Topology};
use coffer_regions::{Receipt, Record, Site, SiteError, SiteState, Standing};
use coffer_site::{OpenSiteError, SimulatedSite};

use crate::fenced::{Fenced, Written};
use crate::guard::Guard;
use crate::kit::SiteAddress;
use crate::opener::OpenedSite;
use crate::owner::Owner;
use crate::refusals::Refusals;
use crate::service::Host;

/// An open site, and what everybody asks in its place.
#[derive(Clone)]
struct Guarded {
    opened: OpenedSite,
    guard: Arc<Guard>,
}

impl Guarded {
    fn new(opened: OpenedSite, owner: &Arc<Owner>, written: &Arc<Written>) -> Self {
        let fenced = Fenced::new(Arc::clone(&opened.site), Arc::clone(owner), Arc::clone(written));
        let guard = Arc::new(Guard::new(Arc::new(fenced)));
        Self { opened, guard }
    }
}

struct Reached {
    /// `None`: there is nothing that could be asked.
    opened: RwLock<Option<Guarded>>,
    /// Reads that brought damaged, wrong or no bytes.
    reported: AtomicU64,
    /// When it was last seen to answer; 0: not yet.
    seen: AtomicU64,
    /// What it acknowledged since the service started, whichever disk it has.
    written: Arc<Written>,
}

impl Reached {
    fn new(opened: Option<OpenedSite>, owner: &Arc<Owner>) -> Arc<Self> {
        let written = Arc::default();
        let opened = RwLock::new(opened.map(|opened| Guarded::new(opened, owner, &written)));
        Arc::new(Self { opened, reported: AtomicU64::new(0), seen: AtomicU64::new(0), written })
    }

    fn opened(&self) -> Option<Guarded> {
        self.opened.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// All sites of the deployment.
pub(crate) struct Sites {
    first: Shape,
    execution: Execution,
    /// Under which epoch they are changed.
    owner: Arc<Owner>,
    /// Where bad reads wait for their leaf, where the host keeps such a list.
    refusals: Option<Arc<Refusals>>,
}

/// The sites as they are from one change to the next. Changes are rare and
/// made by people; what was before stays, so that whoever looks at it may.
struct Shape {
    listed: Vec<ListedSite>,
    /// Without those that were retired.
    topology: Topology,
    /// Those that take new data.
    taking: Topology,
    reached: BTreeMap<SiteId, Arc<Reached>>,
    /// Sites whose directory is there and is not what it should be, and why.
    unopened: BTreeMap<SiteId, String>,
    next: OnceLock<Box<Shape>>,
}

/// A site and what is wanted of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListedSite {
    pub(crate) address: SiteAddress,
    pub(crate) standing: Standing,
}

impl Shape {
    fn new(
        listed: Vec<ListedSite>,
        reached: BTreeMap<SiteId, Arc<Reached>>,
        unopened: BTreeMap<SiteId, String>,
    ) -> Self {
        let with = |wanted: &dyn Fn(Standing) -> bool| Topology {
            sites: listed.iter().filter(|s| wanted(s.standing)).map(|s| s.address.site.clone()).collect(),
        };
        let topology = with(&|standing| standing != Standing::Retired);
        let taking = with(&|standing| standing == Standing::Active);
        Self { listed, topology, taking, reached, unopened, next: OnceLock::new() }
    }
}

impl Sites {
    /// Opens what is there; creates nothing. A directory that is missing or
    /// damaged makes its site unreachable: one lost site must not cost the
    /// others. A site that another process has open, or that a newer program
    /// wrote, is an error: nothing is lost there.
    pub(crate) async fn open(
        host: &Host,
        data_dir: &Path,
        addresses: &[SiteAddress],
    ) -> Result<Self, OpenSiteError> {
        let (mut reached, mut unopened) = (BTreeMap::new(), BTreeMap::new());
        let owner = Owner::of(host.owner.clone());
        for address in addresses {
            let opened = open_or_why(host, data_dir, address, &mut unopened).await?;
            reached.insert(address.site.id, Reached::new(opened, &owner));
        }
        let first = Shape::new(active(addresses), reached, unopened);
        Ok(Self { first, execution: host.catalogues, owner, refusals: host.sites.refusals() })
    }

    /// Creates every site; refuses one that exists.
    pub(crate) async fn create(
        host: &Host,
        data_dir: &Path,
        addresses: &[SiteAddress],
    ) -> Result<Self, OpenSiteError> {
        let mut reached = BTreeMap::new();
        let owner = Owner::of(host.owner.clone());
        for address in addresses {
            let opened = host.sites.create(data_dir, address).await?;
            reached.insert(address.site.id, Reached::new(Some(opened), &owner));
        }
        let first = Shape::new(active(addresses), reached, BTreeMap::new());
        Ok(Self { first, execution: host.catalogues, owner, refusals: host.sites.refusals() })
    }

    /// Under which epoch they are changed.
    pub(crate) fn owner(&self) -> &Owner {
        &self.owner
    }

    /// Where work that fills a core runs.
    pub(crate) fn execution(&self) -> Execution {
        self.execution
    }

    fn shape(&self) -> &Shape {
        let mut shape = &self.first;
        while let Some(next) = shape.next.get() {
            shape = next;
        }
        shape
    }

    /// Takes another list of sites: opens those that are new, lets go of those
    /// that are retired; `new` is one that was just made. One change at a time:
    /// whoever calls holds the lock of the topology.
    pub(crate) async fn change(
        &self,
        host: &Host,
        data_dir: &Path,
        listed: Vec<ListedSite>,
        new: Option<(SiteId, OpenedSite)>,
    ) -> Result<(), OpenSiteError> {
        let shape = self.shape();
        let (mut reached, mut unopened) = (shape.reached.clone(), shape.unopened.clone());
        for site in &listed {
            let id = site.address.site.id;
            if site.standing == Standing::Retired {
                if let Some(gone) = reached.remove(&id) {
                    *gone.opened.write().unwrap_or_else(PoisonError::into_inner) = None;
                }
            } else if let std::collections::btree_map::Entry::Vacant(place) = reached.entry(id) {
                let opened = match &new {
                    Some((new, opened)) if *new == id => Some(opened.clone()),
                    _ => open_or_why(host, data_dir, &site.address, &mut unopened).await?,
                };
                place.insert(Reached::new(opened, &self.owner));
            }
        }
        // Two changes at once would be a defect of the caller; the first stands.
        let _ = shape.next.set(Box::new(Shape::new(listed, reached, unopened)));
        Ok(())
    }

    /// Puts a new, empty store in the place of a site's lost one.
    pub(crate) async fn replace_store(
        &self,
        host: &Host,
        data_dir: &Path,
        id: SiteId,
    ) -> Result<(), OpenSiteError> {
        let shape = self.shape();
        let Some(listed) = shape.listed.iter().find(|site| site.address.site.id == id) else { return Ok(()) };
        let opened = host.sites.create(data_dir, &listed.address).await?;
        if let Some(reached) = shape.reached.get(&id) {
            *reached.opened.write().unwrap_or_else(PoisonError::into_inner) =
                Some(Guarded::new(opened, &self.owner, &reached.written));
            reached.reported.store(0, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The sites that are not retired.
    pub(crate) fn topology(&self) -> &Topology {
        &self.shape().topology
    }

    /// The sites that take new data, dead or alive.
    pub(crate) fn taking(&self) -> &Topology {
        &self.shape().taking
    }

    /// Every site that there ever was, with its standing.
    pub(crate) fn listed(&self) -> &[ListedSite] {
        &self.shape().listed
    }

    /// Where the sites that are not retired are found.
    pub(crate) fn addresses(&self) -> Vec<SiteAddress> {
        let kept = self.shape().listed.iter().filter(|site| site.standing != Standing::Retired);
        kept.map(|site| site.address.clone()).collect()
    }

    /// What is wanted of a site; one that nobody knows is gone.
    pub(crate) fn standing(&self, id: SiteId) -> Standing {
        let listed = self.shape().listed.iter().find(|site| site.address.site.id == id);
        listed.map_or(Standing::Retired, |site| site.standing)
    }

    fn opened(&self, id: SiteId) -> Option<Guarded> {
        self.shape().reached.get(&id)?.opened()
    }

    /// The site, if it could be opened. It may still be dead, or quarantined.
    pub(crate) fn get(&self, id: SiteId) -> Option<Arc<dyn Site>> {
        Some(self.guard(id)? as Arc<dyn Site>)
    }

    /// The site as repair sees it: one that is quarantined is compared record
    /// by record, and brought what it lacks.
    pub(crate) fn for_repair(&self, id: SiteId) -> Option<Arc<dyn Site>> {
        let guard = self.guard(id)?;
        Some(if guard.is_quarantined() { guard.inner() } else { guard })
    }

    /// The sites that answer, the quarantined among them.
    pub(crate) fn alive_for_repair(&self) -> Vec<SiteId> {
        let answers = |id: &SiteId| self.for_repair(*id).is_some_and(|site| site.answers());
        self.topology().sites.iter().map(|site| site.id).filter(answers).collect()
    }

    /// What stands before a site that could be opened.
    pub(crate) fn guard(&self, id: SiteId) -> Option<Arc<Guard>> {
        self.opened(id).map(|opened| opened.guard)
    }

    /// What stands before each site that could be opened.
    pub(crate) fn guards(&self) -> Vec<(SiteId, Arc<Guard>)> {
        let all = self.shape().reached.iter();
        all.filter_map(|(id, reached)| Some((*id, reached.opened()?.guard))).collect()
    }

    /// Whether a site is older than it was, and has not been refilled yet.
    pub(crate) fn is_quarantined(&self, id: SiteId) -> bool {
        self.guard(id).is_some_and(|guard| guard.is_quarantined())
    }

    /// Whether a site has a new disk, on which what the old one held is not yet.
    pub(crate) fn is_refilling(&self, id: SiteId) -> bool {
        self.listed().iter().any(|site| site.address.site.id == id && site.address.refilling)
    }

    /// The simulated site of that name, for killing and reviving.
    pub(crate) fn simulated(&self, name: &str) -> Option<(&SiteDescription, Arc<SimulatedSite>)> {
        let description = self.topology().sites.iter().find(|site| site.name == name)?;
        Some((description, self.opened(description.id)?.opened.link?))
    }

    /// The sites that answered when last heard of.
    pub(crate) fn alive(&self) -> Vec<SiteId> {
        let answers = |id: &SiteId| self.get(*id).is_some_and(|site| site.answers());
        self.topology().sites.iter().map(|site| site.id).filter(answers).collect()
    }

    /// The sites that a policy admits, dead or alive.
    pub(crate) fn admitted(&self, policy: &ResidencyPolicy) -> Vec<SiteId> {
        self.topology().sites.iter().filter(|site| policy.admits(site)).map(|site| site.id).collect()
    }

    /// How many of the sites that a policy admits answer.
    pub(crate) fn answering(&self, policy: &ResidencyPolicy) -> usize {
        let alive = self.alive();
        self.admitted(policy).iter().filter(|id| alive.contains(id)).count()
    }

    /// The name of a site, for people.
    pub(crate) fn name(&self, id: SiteId) -> &str {
        let listed = self.shape().listed.iter().find(|site| site.address.site.id == id);
        listed.map_or("unknown", |site| site.address.site.name.as_str())
    }

    /// Puts a good record in the place of one that a read found damaged, wrong
    /// or missing; whether the site gives it back. What does not succeed is
    /// tried again by the next reader; it never holds this one up with an error.
    /// Written before anything is deleted: what the site has may be good, and
    /// the site may take nothing new.
    pub(crate) async fn replace(&self, id: SiteId, good: Record) -> bool {
        let Some(site) = self.get(id) else { return false };
        match put_verified(Some(Arc::clone(&site)), id, good.clone()).await {
            Ok(()) if site.get(good.id()).await.as_ref() == Ok(&good) => return true,
            // What is there is wrong, or acknowledged without being written anew.
            Ok(()) | Err(SiteError::Conflict | SiteError::Damaged) => {}
            Err(_) => return false,
        }
        site.delete(vec![good.id()]).await.is_ok() && put_verified(Some(site), id, good).await.is_ok()
    }

    /// Notes that a read from `site` brought damaged, wrong or no bytes.
    pub(crate) fn report(&self, site: SiteId) {
        if let Some(reached) = self.shape().reached.get(&site) {
            reached.reported.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(refusals) = &self.refusals {
            refusals.note(site, "bad-read");
        }
    }

    /// Reads that were reported against a site; one that is there and does not
    /// open, or is older than it was, counts as one.
    pub(crate) fn reported(&self, site: SiteId) -> u64 {
        let unopened = u64::from(self.shape().unopened.contains_key(&site) && self.get(site).is_none());
        let reported = |reached: &Arc<Reached>| reached.reported.load(Ordering::Relaxed);
        let found =
            self.shape().reached.get(&site).map_or(unopened, |reached| unopened.max(reported(reached)));
        found + u64::from(self.is_quarantined(site))
    }

    /// Notes that a site answered.
    pub(crate) fn saw(&self, site: SiteId, now: Timestamp) {
        if let Some(reached) = self.shape().reached.get(&site) {
            reached.seen.store(now.0, Ordering::Relaxed);
        }
    }

    /// When a site was last seen to answer.
    pub(crate) fn last_seen(&self, site: SiteId) -> Option<Timestamp> {
        let seen = self.shape().reached.get(&site)?.seen.load(Ordering::Relaxed);
        (seen > 0).then_some(Timestamp(seen))
    }

    /// What a site acknowledged since the service started; nothing of one that is retired.
    pub(crate) fn written(&self, site: SiteId) -> Arc<Written> {
        let reached = self.shape().reached.get(&site);
        reached.map_or_else(Arc::default, |reached| Arc::clone(&reached.written))
    }

    /// Names of the sites that are there and do not open, and why.
    pub(crate) fn unopened(&self) -> Vec<(String, String)> {
        let in_order = self.topology().sites.iter().filter(|site| self.get(site.id).is_none());
        in_order
            .filter_map(|site| Some((site.name.clone(), self.shape().unopened.get(&site.id)?.clone())))
            .collect()
    }

    /// How a site is doing; a site without a directory is dead.
    pub(crate) async fn state(&self, site: SiteId) -> SiteState {
        match self.get(site) {
            Some(site) => site.state().await,
            None => SiteState::DEAD,
        }
    }

    /// Writes one record to each of `sites` at once. Which sites answered
    /// with a receipt for exactly these bytes, and which did not.
    pub(crate) async fn put_everywhere(&self, sites: &[SiteId], record: &Record) -> Acknowledged {
        let calls = sites.iter().map(|id| async {
            let stored = put_verified(self.get(*id), *id, record.clone()).await;
            (*id, stored)
        });
        let mut answer = Acknowledged::default();
        for (id, stored) in futures::future::join_all(calls).await {
            match stored {
                Ok(()) => answer.by.push(id),
                Err(error) => {
                    answer.missing.push(id);
                    if error == SiteError::Unreachable {
                        answer.silent.push(id);
                    }
                }
            }
        }
        answer
    }
}

/// Who has fsynced a record, and who has not.
#[derive(Default)]
pub(crate) struct Acknowledged {
    pub(crate) by: Vec<SiteId>,
    pub(crate) missing: Vec<SiteId>,
    /// Those of the missing that did not answer: they may have it, or get it yet.
    pub(crate) silent: Vec<SiteId>,
}

/// Puts one record at one site and checks that the receipt is for it.
pub(crate) async fn put_verified(
    site: Option<Arc<dyn Site>>,
    id: SiteId,
    record: Record,
) -> Result<(), SiteError> {
    let site = site.ok_or(SiteError::Unreachable)?;
    let expected = Receipt::of(id, &record);
    match site.put(vec![record]).await?.as_slice() {
        [receipt] if *receipt == expected => Ok(()),
        _ => Err(SiteError::Conflict),
    }
}

/// A list in which every site is as it should be.
fn active(addresses: &[SiteAddress]) -> Vec<ListedSite> {
    let listed = |address: &SiteAddress| ListedSite { address: address.clone(), standing: Standing::Active };
    addresses.iter().map(listed).collect()
}

/// Opens one site, or notes why it does not open; see [`Sites::open`].
async fn open_or_why(
    host: &Host,
    data_dir: &Path,
    address: &SiteAddress,
    unopened: &mut BTreeMap<SiteId, String>,
) -> Result<Option<OpenedSite>, OpenSiteError> {
    match host.sites.open(data_dir, address).await {
        Ok(opened) => Ok(opened),
        Err(error @ (OpenSiteError::Locked { .. } | OpenSiteError::Format { .. })) => Err(error),
        Err(error) => {
            unopened.insert(address.site.id, error.to_string());
            Ok(None)
        }
    }
}
